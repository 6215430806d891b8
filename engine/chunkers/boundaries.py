"""Where a text may be cut: after paragraphs, sentences, lines, words, and not inside a visible character.

A cut at `i` parts `text[:i]` from `text[i:]`. Blank space beside a cut belongs to neither side, so that a cut
may lie anywhere in it.
"""

from __future__ import annotations

import re
import unicodedata

#: Characters read past the last possible cut to see what follows it: a blank line, the space after a stop.
LOOK_AHEAD = 8

#: Characters of a sentence's end at most: its mark and the closing punctuation behind it.
SENTENCE_MARK = 5

#: Regional indicators counted back at most; even, so that the flags of a longer run are taken as whole.
LONGEST_RUN = 4_096

#: Characters around an overlap's start in which a word border is looked for; longer words are cut.
NEAR = 24

_INK = re.compile(r"\S")

# The group is atomic, or else the CR and the LF of one CRLF would pass for two line ends.
_BLANK_LINE = re.compile(r"(?>\r\n|[\n\r\x85\u2028])[^\S\n\r\x85\u2028]*[\n\r\x85\u2028]|[\f\u2029]")

# A full stop counts after two letters or other punctuation, so that "1.", "J." and "e.g." end no sentence.
# Repeats are bounded because a long run of punctuation is scanned once from each of its places.
_SENTENCE_END = re.compile(
    r"(?:(?<=[^\W\d_]{2})\.|(?<=[)\]}\"'»”’›.!?…])\.|[!?…‽؟۔])[)\]}\"'»”’›]{0,4}(?=\s)"
    r"|[。！？．｡।॥።፧။។᙮᠃᠉][)\]}）］｝」』】〉》”’]{0,4}"
)

_LINE_ENDS = "\n\r\v\f\x85\u2028\u2029"

_ZERO_WIDTH_JOINER = "\u200d"

#: Characters that extend the one before them though their category doesn't say so (Unicode Annex 29).
_EXTENDING = frozenset(
    [_ZERO_WIDTH_JOINER, "\u200c", "\u0e33", "\u0eb3", "\uff9e", "\uff9f"]
    + [chr(c) for c in range(0x1F3FB, 0x1F400)]  # skin tones
    + [chr(c) for c in range(0xE0020, 0xE0080)]  # tags, as in the flag of Wales
)

_REGIONAL = "".join(map(chr, range(0x1F1E6, 0x1F200)))

_HANGUL_LEAD = re.compile("[\u1100-\u115f\ua960-\ua97c]")
_HANGUL_VOWEL_OR_TAIL = re.compile("[\u1160-\u11ff\ud7b0-\ud7fb]")
_HANGUL = re.compile("[\u1100-\u11ff\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7fb]")

#: `unicodedata.combining` of a virama, which joins the consonants on its two sides.
_VIRAMA = 9


def skip_space(text: str, start: int) -> int:
    """The first place at or after `start` that isn't blank space, or `len(text)`."""
    found = _INK.search(text, start)
    return found.start() if found else len(text)


def best_cut(text: str, first: int, preferred: int, last: int) -> int:
    """The best cut from `first` to `last` (0 < first <= last < len(text)), the latest of its kind.

    From `preferred` on: the end of a paragraph, of a sentence, of a line, of a word. Where there is none, the
    last border between two characters from `first` on, or `last` itself inside a cluster that is longer.
    """
    low = max(first, preferred)
    for kind in (_paragraph_end, _sentence_end, _line_end, _word_end):
        if (cut := kind(text, low, last)) is not None:
            return cut
    return cluster_border(text, first, last)


def overlap_start(text: str, target: int, low: int, high: int) -> int:
    """Where an overlap that should start at `target` starts (0 < low <= target <= high < len(text)).

    The nearest start of a word before `target`, else one after it, else a border between characters.
    """
    for place in range(target, max(low, target - NEAR) - 1, -1):
        if text[place - 1].isspace() and not text[place].isspace():
            return place
    for place in range(target + 1, min(high, target + NEAR) + 1):
        if text[place - 1].isspace() and not text[place].isspace():
            return place
    return cluster_border(text, low, target)


def cluster_border(text: str, first: int, last: int) -> int:
    """The last border between two user-perceived characters from `first` to `last`, or `last` without one."""
    return next((place for place in range(last, first - 1, -1) if is_cluster_border(text, place)), last)


def is_cluster_border(text: str, place: int) -> bool:
    """Whether `place` lies between two user-perceived characters.

    A short form of the rules for extended grapheme clusters of Unicode Standard Annex 29, on the safe side:
    a zero width joiner joins whatever stands on its two sides.
    """
    if place <= 0 or place >= len(text):
        return True
    before, after = text[place - 1], text[place]
    if before == _ZERO_WIDTH_JOINER:
        return False
    if after < "\u0300":
        return not (before == "\r" and after == "\n")
    category = unicodedata.category(after)
    if category[0] == "M" or after in _EXTENDING:
        return False
    if category == "Lo" and unicodedata.combining(before) == _VIRAMA:
        return False
    if before in _REGIONAL and after in _REGIONAL:
        return _regional_run(text, place) % 2 == 0
    if "\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff":
        return False
    return not _is_one_syllable(before, after)


def _paragraph_end(text: str, low: int, last: int) -> int | None:
    cut = None
    for blank in _BLANK_LINE.finditer(text, low, last + LOOK_AHEAD):
        if blank.start() > last:
            break
        cut = blank.start()
    return cut


def _sentence_end(text: str, low: int, last: int) -> int | None:
    cut = None
    for mark in _SENTENCE_END.finditer(text, max(low - SENTENCE_MARK, 0), last + LOOK_AHEAD):
        if mark.end() > last:
            break
        if mark.end() >= low:
            cut = mark.end()
    return cut


def _line_end(text: str, low: int, last: int) -> int | None:
    cut = max(text.rfind(end, low, last + 1) for end in _LINE_ENDS)
    return None if cut < 0 else cut


def _word_end(text: str, low: int, last: int) -> int | None:
    return next((place for place in range(last, low - 1, -1) if text[place].isspace()), None)


def _regional_run(text: str, end: int) -> int:
    """How many regional indicators, two of which make a flag, stand before `end`, `LONGEST_RUN` at most."""
    before = text[max(0, end - LONGEST_RUN) : end]
    return len(before) - len(before.rstrip(_REGIONAL))


def _is_one_syllable(before: str, after: str) -> bool:
    """Whether two Hangul characters belong to one syllable, be it composed or spelt in its letters."""
    if _HANGUL_VOWEL_OR_TAIL.match(after):
        return _HANGUL.match(before) is not None
    return _HANGUL_LEAD.match(before) is not None and _HANGUL.match(after) is not None
