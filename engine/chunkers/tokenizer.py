"""How a text model's tokens are counted without the model: by its tokenizer file, as a stand-in, or by bytes.

Everything here runs on the calling thread. The batch calls of `tokenizers` are left alone: they would start
a thread for each core in every parser process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from engine.chunkers.words import SPACES, Words, reads_words_alone
from engine.errors import UsageError
from engine.models.spec import TextSpec
from engine.models.stand_in import STAND_IN_TOKEN, stand_in_tokens
from engine.records import TokenIds

Offsets: TypeAlias = npt.NDArray[np.int64]

#: Characters of one pass of the tokenizer over a long text: bounds its memory, and keeps it in the cache.
WINDOW = 8_192

#: A text of one word, to see what stands around it.
PROBE = "a"

#: Special tokens allowed for where a model takes text and has no tokenizer file that would tell.
UNKNOWN_SPECIAL_TOKENS = 2

#: Halves of a UTF-16 pair, which a string may hold and UTF-8 can't.
SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Reading:
    """Where each token of a text begins, in ascending order, int64 [n]; special tokens are left out.

    A good estimate: a text is read in windows, and where one ends a token may differ from `encode`'s. Where
    there are `ids`, int32 [n], it is exact, and those of a part between two spaces are the part's own.
    """

    starts: Offsets
    ids: TokenIds | None = None


class Tokens(Protocol):
    """Counts one model's tokens."""

    def encode(self, text: str) -> TokenIds:
        """The whole input for `text`, special tokens included, int32 [n]."""

    def read(self, text: str) -> Reading:
        """Where the tokens of `text` begin, and where that can be told of its parts, their ids."""


def load_tokens(spec: TextSpec) -> Tokens:
    """The way to count tokens for this model. Raises `UsageError` where its tokenizer file can't be read."""
    if spec.tokenizer_file is not None:
        return FileTokens(spec.tokenizer_file)
    return StandInTokens() if spec.mode == "ids" else ByteTokens()


class FileTokens:
    """The tokens of a file in the JSON format of the `tokenizers` library."""

    def __init__(self, path: str) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(path)
        except Exception as error:  # the library raises nothing narrower
            raise UsageError(f"{path}: not a readable tokenizer file (tokenizer.json): {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._words = Words(self._tokenizer) if reads_words_alone(self._tokenizer) else None

    def encode(self, text: str) -> TokenIds:
        return np.array(self._tokenizer.encode(_whole_characters(text)).ids, dtype=np.int32)

    def frame(self, prompt: str) -> tuple[TokenIds, TokenIds] | None:
        """The ids before and behind those of a part of a `Reading` in the input for the prompt and that part.

        None where the tokenizer, or the prompt's end, makes one thing of prompt and text.
        """
        if self._words is None or not (prompt == "" or prompt[-1] in SPACES):
            return None
        probe = self._tokenizer.encode(prompt + PROBE)
        ids, special = np.array(probe.ids, dtype=np.int32), np.array(probe.special_tokens_mask)
        behind = int(special[::-1].argmin())
        end = len(ids) - behind
        return ids[: end - len(self._words.read(PROBE)[1])], ids[end:]

    def read(self, text: str) -> Reading:
        text = _whole_characters(text)
        return Reading(self._starts(text)) if self._words is None else self._read_words(self._words, text)

    def _read_words(self, words: Words, text: str) -> Reading:
        starts, ids, exact = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int32)], True
        for start, end in windows(text):
            begun, own = words.read(text[start:end])
            starts.append(begun.astype(np.int64) + start)
            ids.append(own)
            exact &= end == len(text) or text[end] in SPACES
        return Reading(np.concatenate(starts), np.concatenate(ids) if exact else None)

    def _starts(self, text: str) -> Offsets:
        parts = [np.empty(0, dtype=np.int64)]
        for start, end in windows(text):
            encoding = self._tokenizer.encode(text[start:end], add_special_tokens=False)
            offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
            parts.append(offsets[:, 0] + start)
        # A normaliser may reorder characters, and their offsets with them.
        return np.maximum.accumulate(np.concatenate(parts))


class StandInTokens:
    """The tokens of the stand-in models."""

    def encode(self, text: str) -> TokenIds:
        return stand_in_tokens(text)

    def read(self, text: str) -> Reading:
        starts = [token.start() for token in STAND_IN_TOKEN.finditer(text)]
        return Reading(np.array(starts, dtype=np.int64))


class ByteTokens:
    """The bytes of UTF-8: no tokenizer makes more tokens than that of a text it doesn't rewrite."""

    def encode(self, text: str) -> TokenIds:
        raw = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
        return np.pad(raw.astype(np.int32), (0, UNKNOWN_SPECIAL_TOKENS))

    def read(self, text: str) -> Reading:
        raw = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
        is_first_byte = (raw & 0xC0) != 0x80
        return Reading(np.cumsum(is_first_byte, dtype=np.int64) - 1)


def windows(text: str) -> Iterator[tuple[int, int]]:
    """Consecutive (start, end) of at most `WINDOW` characters, ended before a space where one is near."""
    start = 0
    while start < len(text):
        end = start + WINDOW
        if end < len(text):
            near = end - WINDOW // 8
            border = max(text.rfind(" ", near, end), text.rfind("\n", near, end))
            end = border if border > 0 else end
        yield start, min(end, len(text))
        start = end


def _whole_characters(text: str) -> str:
    """The text with lone surrogates, which `tokenizers` refuses, as U+FFFD: as many characters as before."""
    return text if text.isascii() else SURROGATES.sub("\ufffd", text)
