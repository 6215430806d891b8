"""Cuts a section's text into chunks that the text model can read whole.

A chunk's token ids are those of its prompt and text tokenised alone, always: a cut may change how the text
beside it is tokenised. A text is therefore tokenised about twice, once to choose the cuts and once chunk by
chunk, but for tokenizers that read each word alone: there a chunk between two spaces has the ids that it had
in its section.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from engine.chunkers.base import MAX_CHUNK_BYTES, Chunker
from engine.chunkers.boundaries import best_cut, overlap_start, skip_space
from engine.chunkers.tokenizer import FileTokens, Offsets, Reading, load_tokens
from engine.chunkers.words import SPACES
from engine.errors import ParseError, UsageError
from engine.models.spec import TextSpec
from engine.records import Chunk, ChunkerIdentity, TextSection, TokenIds

#: Version of the way texts are cut; part of every id, so a change that moves a cut needs a new one.
ALGORITHM = "v1"

#: Tokens of a chunk where neither the user nor the model says how many.
DEFAULT_SIZE = 512

#: Tokens that a chunk must have for text, besides prompt and special tokens.
LEAST_ROOM = 8

#: The characters that grow most under NFKC and under NFD (Unicode, UAX 15), and one that takes four bytes.
_DEAREST_CHARACTERS = ("\ufdfa", "\u1f82", "\U0001f3fb")


class TokenChunker(Chunker):
    """Cuts texts by the model's own tokens.

    `size` is in the model's tokens, special tokens and document prompt included; None takes the model's
    largest input. `overlap` is about how many tokens a chunk shares with the one before. Raises `UsageError`
    where the two don't fit the model, or its tokenizer file can't be read.
    """

    def __init__(self, spec: TextSpec, size: int | None = None, overlap: int = 0) -> None:
        self._tokens = load_tokens(spec)
        self._prompt = spec.document_prompt
        self._with_ids = spec.mode == "ids"
        self._frame = self._tokens.frame(self._prompt) if isinstance(self._tokens, FileTokens) else None
        taken = len(self._tokens.encode(self._prompt))
        least = max(taken + LEAST_ROOM, *(len(self._encode(dear)) for dear in _DEAREST_CHARACTERS))
        self._size = _checked_size(spec, size, least)
        self._room = self._size - taken
        if not 0 <= overlap < self._room:
            raise UsageError(
                f"chunk overlap {overlap}: must be 0 to {self._room - 1}, because a chunk of {self._size} "
                f"tokens has room for {self._room} tokens of text"
            )
        self._overlap = overlap
        # Ids of records hold this key; it is older than the form that `base.identity` gives to keys.
        key = f"tokens={self._size},overlap={overlap},{ALGORITHM}"
        options = (("size", self._size), ("overlap", overlap))
        self.identity = ChunkerIdentity("tokens", options, ALGORITHM, key)

    def chunks(self, section: TextSection) -> Iterator[Chunk]:
        """As `Chunker.chunks`. Raises `ParseError` for a character that alone takes more than a chunk."""
        text = section.text.rstrip()  # offsets stay as they are
        reading = self._tokens.read(text)
        previous_start, previous_end, fresh = -1, 0, skip_space(text, 0)
        while fresh < len(text):
            for start in self._beginnings(text, reading.starts, previous_start, previous_end, fresh):
                chunk = self._largest_chunk(text, reading, start, fresh)
                if chunk is not None:
                    break
            else:
                raise ParseError(
                    "chunk-size", f"U+{ord(text[fresh]):04X} alone takes more than {self._size} tokens"
                )
            yield chunk
            previous_start, previous_end = chunk.start, chunk.end
            fresh = skip_space(text, chunk.end)

    def _encode(self, text: str) -> TokenIds:
        return self._tokens.encode(self._prompt + text)

    def _beginnings(
        self, text: str, starts: Offsets, previous_start: int, previous_end: int, fresh: int
    ) -> Iterator[int]:
        """Where the next chunk may start, the largest overlap first, and at last without any.

        A smaller overlap is needed only where the wanted one fills the chunk, so that it ends where the
        previous one did.
        """
        tokens_before = int(np.searchsorted(starts, previous_end))
        shared = min(self._overlap, tokens_before)
        while shared:
            target = int(starts[tokens_before - shared])
            if target > previous_start:
                start = overlap_start(text, target, previous_start + 1, previous_end - 1)
                yield skip_space(text, start)
            shared //= 2
        yield fresh

    def _ids_of(self, text: str, reading: Reading, start: int, end: int) -> TokenIds:
        """The whole input for a part of the text."""
        if self._frame is None or reading.ids is None or not _between_spaces(text, start, end):
            return self._encode(text[start:end])
        first, last = np.searchsorted(reading.starts, [start, end])
        return np.concatenate([self._frame[0], reading.ids[first:last], self._frame[1]])

    def _largest_chunk(self, text: str, reading: Reading, start: int, fresh: int) -> Chunk | None:
        """The chunk at `start`, as large as fits, or None where it would not reach past `fresh`."""
        last = self._reach(text, reading.starts, start)
        tries = 0
        while last > fresh:
            end = last
            if end < len(text):
                end = best_cut(text, fresh + 1, start + (last - start) // 2, last)
                end = start + len(text[start:end].rstrip())
            piece = text[start:end]
            ids = self._ids_of(text, reading, start, end)
            excess = len(ids) - self._size
            if excess <= 0:
                return Chunk(start, end, piece, ids if self._with_ids else None, len(ids))
            if end == fresh + 1:
                break
            tries += 1
            last = max(fresh + 1, min(end - 1, start + self._last_tokens_start(piece, excess)))
            if tries > 2:  # the offsets are no help here: close in by halves
                last = min(last, fresh + 1 + (end - fresh - 1) // 2)
        return None

    def _reach(self, text: str, starts: Offsets, start: int) -> int:
        """Where a chunk from `start` ends at the latest, by its tokens and by its bytes."""
        too_far = int(np.searchsorted(starts, start)) + self._room
        reach = max(int(starts[too_far]), start + 1) if too_far < len(starts) else len(text)
        reach = min(reach, start + MAX_CHUNK_BYTES)
        if 4 * (reach - start) <= MAX_CHUNK_BYTES:
            return reach
        raw = text[start:reach].encode("utf-8", "surrogatepass")
        if len(raw) <= MAX_CHUNK_BYTES:
            return reach
        whole = MAX_CHUNK_BYTES
        while raw[whole] & 0xC0 == 0x80:  # inside a character
            whole -= 1
        return start + len(raw[:whole].decode("utf-8", "surrogatepass"))

    def _last_tokens_start(self, text: str, count: int) -> int:
        """Where the last `count` tokens of `text` begin."""
        starts = self._tokens.read(text).starts
        return int(starts[-count]) if count <= len(starts) else 0


def _between_spaces(text: str, start: int, end: int) -> bool:
    return (start == 0 or text[start - 1] in SPACES) and (end == len(text) or text[end] in SPACES)


def _checked_size(spec: TextSpec, size: int | None, least: int) -> int:
    """The size in tokens that was asked for, or else the model's own."""
    most = spec.max_tokens
    if most is not None and most < least:
        raise UsageError(
            f"{spec.name}: reads {most} tokens, of which prompt and special tokens leave too few for text; "
            f"{least} would do"
        )
    if size is None:
        return most if most is not None else max(DEFAULT_SIZE, least)
    if size < least or (most is not None and size > most):
        accepted = f"at least {least}" if most is None else f"{least} to {most}"
        raise UsageError(f"chunk size {size}: must be {accepted} tokens for {spec.name}")
    return size
