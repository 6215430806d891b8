"""How many files a process may have open: a lock is one, and a child takes several."""

from __future__ import annotations

import resource
from contextlib import suppress


def open_many_files() -> None:
    """Let this process, and those that it starts, open as many as the system lets them.

    Many systems give a process 1,024 where it asks for no more.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a system whose real limit is another
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
