"""Open files: how many a process may have (a lock is one, a child takes several), and such in memory."""

from __future__ import annotations

import os
import resource
from contextlib import suppress


def open_many_files() -> None:
    """Let this process, and those that it starts, open as many as the system lets them.

    Many systems give a process 1,024 where it asks for no more.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a system whose real limit is another
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def memory_file(name: str, size: int) -> int | None:
    """A descriptor of a new file in memory, of so many bytes; None where the system has no such files."""
    if not hasattr(os, "memfd_create"):  # of Linux, and not in every build of Python
        return None
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size)
    return descriptor
