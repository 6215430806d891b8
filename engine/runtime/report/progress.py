"""The line on standard error that says how far a run has come."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unicodedata import east_asian_width

#: Seconds between two lines where standard error is a file, a pipe or a terminal without a size.
LOG_INTERVAL_S = 30.0

#: Least columns that are worth having of an item's name.
LEAST_NAME = 8

#: Clears a terminal's line and goes to its start.
CLEAR = "\r\x1b[K"

#: What a terminal gets whose encoding lacks these characters.
PLAIN = str.maketrans({"·": "|", "≥": ">=", "≤": "<=", "…": "..."})


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Bytes are those of items that came to an end, and of the embedded part of the others;
    `bytes_total` is all there is once `total_known`, and before that what has been found. Rates are of the
    last seconds, of what the models computed; `starting` is before they have computed anything. `item` is the
    name of one that is at work.
    """

    bytes_done: int = 0
    bytes_total: int = 0
    total_known: bool = False
    starting: bool = False
    files: int = 0
    failed: int = 0
    tokens_per_s: float = 0.0
    images_per_s: float = 0.0
    eta_s: float | None = None
    item: str | None = None
    page: int | None = None
    trouble: str | None = None

    @property
    def parts(self) -> list[str]:
        """What the line says, without the item."""
        at_least, at_most = ("", "") if self.total_known else ("≥", "≤ ")
        parts = []
        if self.bytes_total:
            # Nothing is whole before its end.
            percent = (
                100 if self.bytes_done >= self.bytes_total else int(100 * self.bytes_done / self.bytes_total)
            )
            parts.append(f"{at_most}{percent} %")
        divisor, unit = _unit(self.bytes_total)
        parts.append(f"{self.bytes_done / divisor:.1f}/{at_least}{self.bytes_total / divisor:.1f} {unit}")
        parts.append(f"{self.files:,} files")
        if self.starting:
            parts.append("starting")
        if self.tokens_per_s:
            parts.append(f"{_short(self.tokens_per_s)} tok/s")
        if self.images_per_s:
            parts.append(f"{_short(self.images_per_s)} images/s")
        if self.eta_s is not None:
            parts.append(f"ETA {at_least}{_clock(self.eta_s)}")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        if self.trouble:
            parts.append(f"waiting for the database: {self.trouble}")
        return parts

    def line(self, columns: int | None = None) -> str:
        """All of it in one line; in so many columns of a terminal, by shortening the item's name."""
        text = " · ".join(_harmless(part) for part in self.parts)
        page = f" p. {self.page}" if self.page is not None else ""
        name = _harmless(self.item or "")
        if columns is None:
            return f"{text} · {name}{page}" if name else text
        room = columns - _width(f"{text} · {page}")
        if name and room >= min(LEAST_NAME, _width(name)):
            text += f" · {_end(name, room)}{page}"
        return text if _width(text) <= columns else _start(text, columns - 1) + "…"


class ProgressLine:
    """One line on standard error: redrawn on a terminal, else printed every `LOG_INTERVAL_S`, or nothing."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._printed = time.monotonic()
        self._drawn = False

    def show(self, progress: Progress) -> None:
        """Say how far the run has come."""
        if self._quiet:
            return
        # The last column stays free: some terminals go on to the next line when it is written to.
        columns = _columns() - 1
        if columns > 0:
            self._drawn = True
            self._write(CLEAR + progress.line(columns))
        elif time.monotonic() - self._printed > LOG_INTERVAL_S:
            self._printed = time.monotonic()
            self.say(progress.line())

    def say(self, text: str) -> None:
        """Print a line of its own, above the one that is redrawn."""
        self.close()
        self._write(text + "\n")

    def close(self) -> None:
        """Remove the line."""
        if self._drawn:
            self._drawn = False
            self._write(CLEAR)

    def _write(self, text: str) -> None:
        with self._reader_may_be_gone():
            try:
                text.encode(sys.stderr.encoding or "utf-8")
            except UnicodeEncodeError:
                text = text.translate(PLAIN)
            sys.stderr.write(text)
            sys.stderr.flush()

    @contextmanager
    def _reader_may_be_gone(self) -> Iterator[None]:
        """A terminal that was closed, or a pipe that nobody reads, is no reason to end a run."""
        try:
            yield
        except OSError:
            self._quiet, self._drawn = True, False
            # What is left in the buffer would fail once more at the interpreter's end.
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process


def _columns() -> int:
    """Columns of the terminal that standard error is; 0 where it is none, or has no size or no cursor."""
    try:
        if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            return 0
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 0


def _harmless(text: str) -> str:
    """The text with a `?` for each character that would act on a terminal instead of showing there."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _unit(size: int) -> tuple[float, str]:
    """The unit for sizes up to this one, and its bytes."""
    for divisor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= divisor:
            return divisor, unit
    return 1e3, "kB"


def _short(rate: float) -> str:
    """A rate in two or three digits: 0.4, 950, 5.8k, 58k, 1.2M."""
    for size, letter in ((1e6, "M"), (1e3, "k"), (1.0, "")):
        if rate >= size:
            return f"{rate / size:.{int(rate < 10 * size and size > 1)}f}{letter}"
    return f"{rate:.1f}"


def _clock(seconds: float) -> str:
    """`0:41`, `12:03`, `1:02:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _width(text: str) -> int:
    """Columns that the text takes in a terminal."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _start(text: str, columns: int) -> str:
    """The beginning of the text, in so many columns."""
    while _width(text) > columns:
        text = text[:-1]
    return text


def _end(text: str, columns: int) -> str:
    """The text, or `…` and its end, in so many columns."""
    if _width(text) <= columns:
        return text
    while _width(text) > columns - 1:
        text = text[1:]
    return f"…{text}"
