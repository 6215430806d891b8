"""The few operations on a shared file system that leases are made of, each safe where several hosts race."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Protocol


class SharedFolder(Protocol):
    """A folder that all tasks see. Names are relative to it, with `/` between folder and file.

    `create` and `move` are atomic: of several tasks that call one at once, one gets True.
    """

    def create(self, name: str, text: str) -> bool:
        """Make the file with this content; False where it is there."""

    def move(self, name: str, to: str) -> bool:
        """Give the file another name, that nobody has; False where it is not there."""

    def write(self, name: str, text: str) -> bool:
        """Put this over a file's content, of the same length, which sets its time; False where there is no
        such file."""

    def read(self, name: str) -> str | None:
        """A file's content; None where it is not there."""

    def stamp(self, name: str) -> int | None:
        """The file's time in nanoseconds, by whatever clock; None where it is not there."""

    def names(self, folder: str) -> list[str]:
        """The names in a folder, in no order; none where there is no such folder."""


class RealFolder:
    """`SharedFolder` on a file system: a local one, NFS (3 or newer) or Lustre. Raises `OSError`.

    A file appears whole: it is written under a name of its own and linked to the one that is asked for, which
    is atomic also on servers where exclusive creation is not (open(2), O_EXCL). Where a server has answered
    and its answer got lost, the number of links tells (open(2) again). A time is read from an open file,
    which by close-to-open consistency (nfs(5)) is the server's and not a cached one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self, name: str, text: str) -> bool:
        """As in `SharedFolder`."""
        path = self._path / name
        own = path.with_name(f".{uuid.uuid4().hex}")
        try:
            own.write_text(text, encoding="utf-8")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            own.write_text(text, encoding="utf-8")
        try:
            with suppress(FileExistsError):
                os.link(own, path)
            return own.stat().st_nlink == 2
        finally:
            own.unlink()

    def move(self, name: str, to: str) -> bool:
        """As in `SharedFolder`. A True that is lost on its way becomes a False: that lease runs out."""
        try:
            os.rename(self._path / name, self._path / to)
        except FileNotFoundError:
            return False
        return True

    def write(self, name: str, text: str) -> bool:
        """As in `SharedFolder`. One system call, so that a reader sees the old content or the new one."""
        try:
            with open(self._path / name, "r+b", buffering=0) as file:
                file.write(text.encode())
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str) -> str | None:
        """As in `SharedFolder`."""
        try:
            return (self._path / name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def stamp(self, name: str) -> int | None:
        """As in `SharedFolder`."""
        try:
            with open(self._path / name, "rb") as file:
                return os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """As in `SharedFolder`."""
        try:
            return [name for name in os.listdir(self._path / folder) if not name.startswith(".")]
        except FileNotFoundError:
            return []
