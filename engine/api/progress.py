"""Progress of one call in this process: a bar as tqdm's users know it, in notebooks a widget."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any

from engine.cli.terminal import harmless
from engine.errors import EngineError
from engine.sources.base import Found, Item

#: Seconds of a call before a bar that nobody asked for shows.
DELAY_S = 1.0

#: Characters of a source's name in the bar.
NAME_CHARACTERS = 30


class Progress:
    """A bar in bytes, with files, tokens a second and the present file; nothing where `shown` is False.

    `ahead` lists the same items once more in a thread, for the total, which is known when that has ended. A
    context manager.
    """

    def __init__(self, shown: bool, ahead: Iterable[Found] | None = None, delay: float = 0.0) -> None:
        self._shown, self._ahead, self._delay = shown, ahead, delay
        self._bar: Any = None
        #: Bytes of all items, once they are listed.
        self.total: int | None = None
        self._files = 0
        self._since = time.monotonic()
        self._ended = threading.Event()

    def __enter__(self) -> Progress:
        self._since = time.monotonic()
        if self._shown:
            with warnings.catch_warnings():
                # That there is no library for widgets; then it is a bar of text.
                warnings.simplefilter("ignore")
                from tqdm.auto import tqdm

            self._bar = tqdm(
                desc="embed",
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                delay=self._delay,
                dynamic_ncols=True,
            )
            if self._ahead is not None:
                threading.Thread(target=self._look_ahead, args=(self._ahead,), daemon=True).start()
        return self

    def on(self, item: Item, tokens: int) -> None:
        """That item comes next, when so many tokens have been embedded."""
        if self._bar is not None:
            rate = tokens / max(time.monotonic() - self._since, 1e-3)
            name = harmless(item.uri.rpartition("/")[2])[-NAME_CHARACTERS:]
            self._bar.set_postfix_str(f"{self._files:,} files, {rate:,.0f} tok/s, {name}", refresh=False)

    def done(self, item: Item) -> None:
        """That item is parsed."""
        self._files += 1
        if self._bar is not None:
            if self.total is not None and self._bar.total is None:
                self._show_total(self.total)
            self._bar.update(item.size)

    def _show_total(self, total: int) -> None:
        self._bar.total = total
        if container := getattr(self._bar, "container", None):
            # tqdm gives a widget the total that it begins with, and 1 where that is none.
            widget = container.children[1]
            widget.max, widget.bar_style = max(total, 1), ""

    def _look_ahead(self, found: Iterable[Found]) -> None:
        size = 0
        with suppress(EngineError, OSError):  # the call itself meets them, too
            for each in found:
                if self._ended.is_set():
                    return
                size += each.size if isinstance(each, Item) else 0
        self.total = size

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._files:,} files", refresh=False)
            self._bar.close()


def watched() -> bool:
    """Whether somebody watches this process: in a notebook, or at a terminal."""
    return in_notebook() or (sys.stderr is not None and sys.stderr.isatty())


def in_notebook() -> bool:
    """Whether this is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config
