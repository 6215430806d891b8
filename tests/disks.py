"""Small file systems for the tests, mounted where root runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _excused(reason: str) -> None:
    """Skip the test; there is no such excuse in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def small_disk(size: int) -> Iterator[Path]:
    """A folder, which any user may enter, on a file system of its own of so many bytes."""
    if os.geteuid() != 0:
        _excused("only root may mount a small file system")
    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        folder.rmdir()
        _excused(f"can't mount a small file system: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def fill(folder: Path, left: int = 0) -> Path:
    """Fill the file system up to so many bytes; the file to delete to make room again."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while (free := shutil.disk_usage(folder).free - left) > 0:
            try:
                file.write(bytes(min(free, 2**20)))
            except OSError:  # somebody else took the last of it
                break
    return ballast
