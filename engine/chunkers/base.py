"""The contract between the parse stage and a chunker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, TypeAlias
from urllib.parse import quote

from engine.records import Chunk, ChunkerIdentity, OptionValue, TextSection, Vector

#: Vectors of some texts by the run's own text model: float32 [n, dimensions].
Embed: TypeAlias = Callable[[Sequence[str]], Vector]


#: Largest text of a chunk in bytes of UTF-8: a few tokens can cover very long text.
MAX_CHUNK_BYTES = 32 * 1024


class Chunker(ABC):
    """Cuts the text of sections into chunks for one text model.

    The promise, which `tests/chunkers/contract.py` proves for every implementation:

    - **Whole.** Every character of a section that isn't blank space is in a chunk. A chunk's `text` is
      `section.text[start:end]`, and not blank. `start` and `end` both grow from each chunk to the next;
      chunks may share text.
    - **Fits.** `tokens` counts the model's whole input, prompt and special tokens included, and is never more
      than `spec.max_tokens`. `token_ids` is that input where `spec.mode` is `ids`, else None. The text has at
      most `MAX_CHUNK_BYTES`.
    - **Deterministic.** Chunks depend on the section, the model and the options in force, on nothing else:
      not on sections before, the device or the time. A run that was killed cuts again and must find the
      same chunks, since their offsets are part of their records' ids.
    - **Identity.** `identity` is part of each record's id. Equal identities cut equally, so that what changes
      a cut is an option or a new `version`. `make` with its name and options gives an equal one.
    - **Lazy.** `chunks` may read a whole section (some 256 Ki characters) and yields a chunk at a time.

    The constructor takes a `TextSpec`, then the options by keyword: parameters with a default that are
    annotated `int`, `float`, `str` or `bool`, or one of these or None. `--chunk-size` is the option `size`,
    `--chunk-overlap` is `overlap`, and `--chunker-option` sets any. The constructor raises `UsageError` for a
    value that can't work. Each parser process makes its own chunker.

    `chunks` raises `ParseError` for a section that can't be cut: the item fails, and the run goes on.
    """

    #: Whether it embeds texts to find its cuts. The constructor then takes an `Embed` behind the `TextSpec`.
    #: Served where the stages run in one process (`engine.embed_file` and its like). The parsers of
    #: `engine.run` hold no model: there it is refused with a line that says so.
    needs_vectors: ClassVar[bool] = False

    #: Whether a chunk's vector is pooled from a larger input than its own `token_ids`. No inference stage can
    #: do that yet: such a chunker is refused with a line that says so. What is there for it: `Chunk.context`,
    #: the digest of all that a vector depends on besides the chunk's text, is part of the record's id and of
    #: the key by which equal contents are embedded once.
    pooled: ClassVar[bool] = False

    #: The registered name, the options in force with their defaults filled in, and the algorithm's version.
    identity: ChunkerIdentity

    @abstractmethod
    def chunks(self, section: TextSection) -> Iterator[Chunk]:
        """The chunks of one section in order; `start` and `end` are offsets in `section.text`."""


def identity(name: str, version: str, **options: OptionValue) -> ChunkerIdentity:
    """The identity of a chunker, with the key `name:option=value,…,version` for ids and the ledger."""
    words = [f"{option}={quote(str(value))}" for option, value in options.items()]
    return ChunkerIdentity(name, tuple(options.items()), version, f"{name}:{','.join([*words, version])}")
