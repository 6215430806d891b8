"""Texts of known lengths in tokens, no two alike, so that nothing in them is embedded once for two places.

Words are of the default model's vocabulary, one token each and of two to six letters, which makes some four
and a half characters of a token as in English prose. They come as often as words do (Zipf 1949, with
Mandelbrot's constant of 1953): BERT's vocabulary has the frequent ones first. Sentences are short, so that a
cut at the end of one leaves chunks that are nearly full.
"""

from __future__ import annotations

import random
from itertools import accumulate
from pathlib import Path

#: Words of a sentence, fewest and most.
SENTENCE = (4, 8)

#: The constant of Mandelbrot's law: a word's frequency is inverse to its rank and this.
MANDELBROT = 2.7

#: Special tokens around the text of an input.
SPECIAL_TOKENS = 2

#: Least and most tokens of an input of mixed lengths.
LEAST, MOST = 16, 256

#: Files in one folder.
FOLDER_FILES = 1000


class Prose:
    """Endless sentences of random words; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        from tokenizers import Tokenizer

        from engine.models.resolve import resolve_text

        vocabulary = Tokenizer.from_file(str(resolve_text().tokenizer_file)).get_vocab()
        words = [word for word in vocabulary if word.isascii() and word.isalpha() and _short(word)]
        self._words = sorted(words, key=vocabulary.__getitem__)
        self._sums = list(accumulate(1 / (rank + MANDELBROT) for rank in range(1, len(words) + 1)))
        self._chance = random.Random(seed)

    def text(self, tokens: int) -> str:
        """Sentences of so many tokens together; a full stop is one of them."""
        sentences = []
        while tokens > 0:
            words = min(self._chance.randint(*SENTENCE), tokens - 1)
            if 0 < tokens - words - 1 <= SENTENCE[0]:
                words = tokens - 1  # what would be left is too little for a sentence
            sentences.append(
                " ".join(self._chance.choices(self._words, cum_weights=self._sums, k=words)).capitalize()
                + "."
            )
            tokens -= words + 1
        return " ".join(sentences)

    def length(self) -> int:
        """A length for an input of mixed lengths, special tokens included."""
        return self._chance.randint(LEAST, MOST)


def write_long(path: Path, characters: int, seed: int = 1) -> None:
    """One file of about so many characters without a paragraph's end, which is cut into full chunks."""
    prose, left = Prose(seed), characters
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="ascii") as file:
        while left > 0:
            left -= file.write(prose.text(MOST) + " ")


def write_mixed(folder: Path, characters: int, seed: int = 2) -> None:
    """Files of 16 to 256 tokens each, evenly, of about so many characters together."""
    prose, left, number = Prose(seed), characters, 0
    while left > 0:
        below = folder / f"{number // FOLDER_FILES:03d}"
        below.mkdir(parents=True, exist_ok=True)
        text = prose.text(prose.length() - SPECIAL_TOKENS)
        (below / f"{number}.txt").write_text(text, encoding="ascii")
        left -= len(text)
        number += 1


def _short(word: str) -> bool:
    return 2 <= len(word) <= 6
