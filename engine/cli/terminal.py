"""Text from files and databases, made harmless for a terminal."""

from __future__ import annotations

import re
import sys

#: What acts on a terminal instead of showing there: controls, ends of lines, changes of direction, invisible
#: tags, halves of characters.
ACTING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)


def harmless(text: str) -> str:
    """The text with an escape for each character that would act on a terminal instead of showing there."""
    return ACTING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def say(command: str, text: str) -> None:
    """One line of a command on standard error, which may be closed."""
    if sys.stderr is not None:
        print(f"engine.{command}: {harmless(' '.join(text.split()))}", file=sys.stderr, flush=True)
