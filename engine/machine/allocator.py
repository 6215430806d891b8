"""The resident memory of this process, and returning freed memory to the system.

The parameters of glibc's `mallopt` are described in its manual page, mallopt(3); other systems' allocators
have none of them.
"""

from __future__ import annotations

import ctypes

import psutil

#: Numbers of two of `mallopt`'s parameters in malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

#: Bytes from which an allocation has pages of its own: glibc's first value. By default glibc raises it with
#: each large block that is freed, up to 32 MiB, and then keeps freed memory between two blocks in use.
LARGE_BYTES = 128 << 10

_PROCESS = psutil.Process()
_LIBC = ctypes.CDLL(None)


def resident_bytes() -> int:
    """This process's resident memory."""
    return int(_PROCESS.memory_info().rss)


def release() -> None:
    """Return freed memory to the system; glibc keeps most of it for itself (elsewhere this does nothing)."""
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)


def return_large_blocks() -> None:
    """From now on every large block goes back to the system when it is freed.

    It costs some page faults, and saves a process with large buffers of short lives what they once took.
    """
    mallopt = getattr(_LIBC, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, LARGE_BYTES)
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
