"""The manifest: a corpus listed once, as JSON lines in one gzip file.

The file is a row of gzip members (RFC 1952, 2.2), so `zcat` reads it whole. The first member holds the header
alone, each of the others some lines that can be read without what stands before them: a task begins at the
place of its share, and a listing that was killed goes on after the last whole member.

A line is `{"path", "size", "mtime_ns", "type"}` for a file, `{"source", "rule", "detail"}` for a path that a
rule leaves out, `{"source", "error"}` for one that could not be looked at. `type` is what the name says:
files are not opened to list them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from engine.errors import UsageError
from engine.records import source_of
from engine.stages.discover import Found, FoundFile, LeftOut, Unreadable

#: Version of the format; another one is refused.
MANIFEST_VERSION = 1

#: Lines of a member: what a reader of one share unpacks in vain at most, and what it holds at once.
MEMBER_LINES = 1000

#: Seconds after which a member is closed though it has fewer lines, and what was written is made durable.
SYNC_S = 5.0

#: Bytes read at once; zlib's window for a gzip member with its own header.
READ_BYTES, GZIP_WINDOW = 2**16, 31


@dataclass(frozen=True, slots=True)
class Header:
    """What was listed, and by which options; the rest of a run's options plays no part in a listing."""

    inputs: tuple[str, ...]
    files_from: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = False

    @property
    def digest(self) -> str:
        """A word that is another one for other inputs or options."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Line:
    """A path of the corpus; `number` counts the lines from 0, `media_type` is by its name."""

    number: int
    found: Found
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """Lines of one gzip member, which begins at byte `offset`; `first` is the first line's number."""

    offset: int
    first: int
    lines: Sequence[bytes]


class Writer:
    """Append to a manifest in the making, `PATH.part`, which takes its name when it is finished.

    Goes on with what a killed listing of the same header has left there: `lines` are there already, and are
    told by `kept`. Raises `OSError`.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._pending: list[bytes] = []
        self._synced = time.monotonic()
        end, self.lines = self._sound(header)
        self._file = open(self._part, "r+b" if end else "wb")  # noqa: SIM115 - closed by `close`
        self._file.truncate(end)
        self._file.seek(end)
        if not end:
            content = {"manifest": MANIFEST_VERSION, **asdict(header), "digest": header.digest}
            self._file.write(gzip.compress(json.dumps(content).encode() + b"\n", 6, mtime=0))

    def kept(self) -> Iterator[Line]:
        """The lines of the earlier listing that this one goes on with."""
        return _parsed(_blocks(self._part)) if self.lines else iter(())

    def add(self, found: Found, media_type: str = "") -> None:
        """One more path."""
        self._pending.append(_line(found, media_type))
        self.lines += 1
        if len(self._pending) >= MEMBER_LINES or time.monotonic() - self._synced > SYNC_S:
            self._write()

    def finish(self) -> None:
        """The listing is whole: the manifest takes its name."""
        self._write()
        self._sync()
        self._file.close()
        self._part.replace(self._path)

    def close(self) -> None:
        """Leave it as it is, to be gone on with. Safe to call twice."""
        self._file.close()

    def _write(self) -> None:
        if self._pending:
            self._file.write(gzip.compress(b"".join(self._pending), 6, mtime=0))
            self._pending.clear()
        if time.monotonic() - self._synced > SYNC_S:
            self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def _sound(self, header: Header) -> tuple[int, int]:
        """How many bytes, and lines in them, of the earlier listing can be kept; 0 where it is another's."""
        end = lines = 0
        try:
            with open(self._part, "rb") as file:
                for offset, data, after in _members(file, 0):
                    if offset == 0:
                        if json.loads(data).get("digest") != header.digest:
                            return 0, 0
                    else:
                        lines += data.count(b"\n")
                    end = after
        except FileNotFoundError:
            return 0, 0
        except (ValueError, AttributeError, zlib.error, EOFError):
            pass  # the kill came in the middle of a member
        return end, lines


def read_header(path: Path) -> Header:
    """What the manifest is of. Raises `UsageError` where it is none, or one of another version."""
    try:
        with open(path, "rb") as file:
            _, data, _ = next(_members(file, 0))
        content = json.loads(data)
        if content["manifest"] != MANIFEST_VERSION:
            raise UsageError(
                f"{path}: manifest of version {content['manifest']}, this engine reads {MANIFEST_VERSION};"
                " make it again with python -m engine.plan"
            )
        tuples = {name: tuple(content[name]) for name in ("inputs", "include", "exclude")}
        return Header(**tuples, files_from=content["files_from"], hidden=content["hidden"])
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"manifest {path}: {reason}; make it with python -m engine.plan") from None
    except (StopIteration, ValueError, KeyError, TypeError, zlib.error, EOFError):
        raise UsageError(f"{path}: not a manifest; make one with python -m engine.plan") from None


def members(path: Path, offset: int = 0, first: int = 0) -> Iterator[Member]:
    """The manifest's lines, a member at a time, from the member at byte `offset`, whose first line has the
    number `first`. Raises `UsageError` where the file is damaged or can't be read."""
    try:
        yield from _blocks(path, offset, first)
    except OSError as error:
        raise UsageError(f"manifest {path}: {(error.strerror or str(error)).lower()}") from None
    except (zlib.error, EOFError) as error:
        raise UsageError(f"manifest {path}: damaged ({error}); make it with python -m engine.plan") from None


def read(path: Path, offset: int = 0, first: int = 0) -> Iterator[Line]:
    """The lines one by one, as `members` gives them."""
    return _parsed(members(path, offset, first))


def parse_line(number: int, line: bytes) -> Line:
    """One line of a manifest. Raises `UsageError` where it is none."""
    try:
        content: dict[str, Any] = json.loads(line)
        if "path" in content:
            path = content["path"]
            file = FoundFile(path, source_of(path), int(content["size"]), int(content["mtime_ns"]))
            return Line(number, file, content["type"])
        if "rule" in content:
            return Line(number, LeftOut(content["source"], content["rule"], content.get("detail", "")))
        return Line(number, Unreadable(content["source"], content["error"]))
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"manifest: line {number + 1} is not one of a manifest; make it again with python -m engine.plan"
        ) from None


def _line(found: Found, media_type: str) -> bytes:
    content: dict[str, object]
    if isinstance(found, FoundFile):
        content = {"path": found.path, "size": found.size, "mtime_ns": found.mtime_ns, "type": media_type}
    elif isinstance(found, LeftOut):
        content = {"source": found.source, "rule": found.rule}
        if found.detail:
            content["detail"] = found.detail
    else:
        content = {"source": found.source, "error": found.message}
    # Escaped, so that a path that is not UTF-8 comes back as it was.
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _parsed(blocks: Iterator[Member]) -> Iterator[Line]:
    for member in blocks:
        for number, line in enumerate(member.lines, member.first):
            yield parse_line(number, line)


def _blocks(path: Path, offset: int = 0, first: int = 0) -> Iterator[Member]:
    """As `members`; an end in the middle of a member is an `EOFError`."""
    with open(path, "rb") as file:
        for begin, data, _ in _members(file, offset):
            if begin == 0:
                continue  # the header
            lines = data.splitlines(keepends=True)
            yield Member(begin, first, lines)
            first += len(lines)


def _members(file: IO[bytes], offset: int) -> Iterator[tuple[int, bytes, int]]:
    """Each gzip member from that byte on: where it begins, its content, where it ends."""
    file.seek(offset)
    rest = b""
    while rest := rest or file.read(READ_BYTES):
        begin, inflate, parts = offset, zlib.decompressobj(GZIP_WINDOW), []
        while True:
            parts.append(inflate.decompress(rest))
            offset += len(rest) - len(inflate.unused_data)
            rest = inflate.unused_data
            if inflate.eof:
                break
            rest = file.read(READ_BYTES)
            if not rest:
                raise EOFError("it ends in the middle")
        yield begin, b"".join(parts), offset
