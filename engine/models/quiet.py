"""Suppresses what the model libraries print; errors are exceptions and are raised as usual."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator

#: Loggers of the libraries that load models; open_clip writes to the root logger.
LOGGERS = ("", "sentence_transformers", "transformers", "open_clip", "huggingface_hub", "timm", "torch")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides progress bars, warnings and log lines below an error of the model libraries."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    # logging.warning() on a root logger without a handler would install one that prints.
    silent = logging.NullHandler()
    loggers[0].addHandler(silent)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), _without_progress_bars():
            warnings.simplefilter("ignore")
            yield
    finally:
        loggers[0].removeHandler(silent)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    # transformers has its own switch; a process that didn't import it shows no bar of it.
    library = sys.modules.get("transformers.utils.logging")
    if library is None or not library.is_progress_bar_enabled():
        yield
        return
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.enable_progress_bar()


def one_line(error: Exception) -> str:
    """The error's type and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
