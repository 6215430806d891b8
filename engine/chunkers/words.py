"""Tokens of a text word by word, for the tokenizers of BERT's kind, which read each word alone.

Their normaliser looks at characters, their model at what stands between spaces and punctuation, so that a
text's ids are those of its words one after another, and a chunk that begins and ends at a space has a part of
the ids of its section. And since most words of a text have come before, their ids are remembered: to look one
up takes a fraction of the time that the tokenizer takes.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from engine.records import TokenIds

#: What parts words for certain. Not all other blank space does: BERT's normaliser removes a form feed, and
#: joins what stands on its two sides.
SPACES = " \t\n\r"

#: Most bytes of remembered words, some 9,000; then they are forgotten, and learnt anew. With twice as many a
#: parser would be a tenth faster.
MEMORY_BYTES = 2 * 2**20

#: Bytes of a token as it is remembered: where it begins, and its id.
ENTRY_BYTES = 8

#: Bytes of a word in memory besides its characters and its tokens: two objects and their places.
WORD_BYTES = 200


def reads_words_alone(tokenizer: Tokenizer) -> bool:
    """Whether the ids of a text are those of its words, wherever they stand."""
    return (
        isinstance(tokenizer.normalizer, BertNormalizer)
        and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
        and isinstance(tokenizer.model, WordPiece)
        and not any(
            token.lstrip or token.rstrip or set(SPACES) & set(token.content)
            for token in tokenizer.get_added_tokens_decoder().values()
        )
    )


class Words:
    """The ids of words for a tokenizer that `reads_words_alone`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        #: By word its tokens: where each begins in it, and its id, as int32 [n, 2].
        self._known: dict[str, bytes] = {}
        self._size = 0

    def read(self, text: str) -> tuple[TokenIds, TokenIds]:
        """Where each token begins and its id, int32 [n] each, without special tokens."""
        for space in SPACES[1:]:
            text = text.replace(space, " ")
        words = text.split(" ")
        known = self._known
        if new := {word for word in words if word not in known}:
            if self._size > MEMORY_BYTES:
                known.clear()
                self._size = 0
                new = set(words)
            self._learn(new)
        found = [known[word] for word in words]
        tokens = np.frombuffer(b"".join(found), dtype=np.int32).reshape(-1, 2)
        lengths = np.fromiter(map(len, words), dtype=np.int32, count=len(words)) + 1
        counts = np.fromiter(map(len, found), dtype=np.int32, count=len(words)) // ENTRY_BYTES
        starts = np.repeat(np.cumsum(lengths, dtype=np.int32) - lengths, counts) + tokens[:, 0]
        return starts, tokens[:, 1]

    def _learn(self, words: Collection[str]) -> None:
        """Tokenise words in one call, which costs more than a word does."""
        encoding = self._tokenizer.encode(" ".join(words), add_special_tokens=False)
        offsets = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)[:, 0]
        # A normaliser may reorder characters of a word, and their offsets with them.
        starts = np.maximum.accumulate(offsets)
        places = np.cumsum([0, *(len(word) + 1 for word in words)], dtype=np.int32)
        borders = np.searchsorted(starts, places)
        starts -= np.repeat(places[:-1], np.diff(borders))
        packed = np.stack([starts, np.array(encoding.ids, dtype=np.int32)], axis=1).tobytes()
        ends = (borders * ENTRY_BYTES).tolist()
        for word, start, end in zip(words, ends, ends[1:], strict=False):
            self._known[word] = packed[start:end]
            self._size += WORD_BYTES + len(word) + end - start
