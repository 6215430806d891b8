"""Checks that two ways of running a model give the same vectors. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from engine.models.spec import TextSpec
from engine.records import TokenIds, Vector

#: Halves of a UTF-16 pair, which a string may hold and a tokenizer refuses.
SURROGATES = re.compile("[\ud800-\udfff]")

#: Lowest accepted cosine between a backend's vectors and the reference library's.
FAITHFUL = 0.99999
FAITHFUL_IN_REDUCED_PRECISION = 0.999

#: Texts for which all backends must give the same ids and vectors; they hold what normalisers differ on.
PROBES = (
    "A probe.",
    "Ünïcödé, ﬁne ligatures, ＦＵＬＬ width, naïve, İstanbul, ǅ, 東京タワー, Привет, שלום, สวัสดี 👩\u200d🚀",
    "  Leading spaces,\ttabs\nand\r\nline ends;  double  spaces, «quotes» – dashes… 3.14 1,000 a@b.org\u00a0",
)


def whole_characters(text: str) -> str:
    """The text with U+FFFD for each lone surrogate."""
    return text if text.isascii() else SURROGATES.sub("\ufffd", text)


def ids_of(spec: TextSpec, texts: Sequence[str]) -> list[TokenIds]:
    """Whole inputs of the model, int32 [tokens] each, also those that are too long for it."""
    tokenizer = Tokenizer.from_file(str(spec.tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [np.array(each.ids, dtype=np.int32) for each in tokenizer.encode_batch(list(texts))]


def cosines(left: Vector, right: Vector) -> Vector:
    """The cosine of each row of `left` with the same row of `right`, float32 [n]."""
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray(np.einsum("ij,ij->i", left, right) / np.maximum(lengths, 1e-12), dtype=np.float32)
