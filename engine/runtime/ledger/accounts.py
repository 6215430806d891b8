"""The accounts: what becomes of every file, from discovery to the ledger's last word. No processes here.

A file is *active* from its dispatch until its parse call has ended and each of its segments is answered by
the database. Only then does it get its state; what the run counts and what the ledger holds change
in one place.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import IO

from engine.errors import EngineError, HandOverError
from engine.records import Kind, SectionFailure
from engine.runtime.ledger.store import (
    DOUBTFUL,
    ID_BYTES,
    Acknowledged,
    FailureRow,
    FileRow,
    FileState,
    Ledger,
)
from engine.runtime.process import messages as m
from engine.stages.discover import Found, FoundFile, LeftOut, modified_ns
from engine.stages.parse import FileEnd, FileJob

#: Dispatches of a file that changes each time while it is read, before it has failed.
CHANGED_ATTEMPTS = 3

#: Skip rules that depend on the command's options, so that another run has to look again.
OPTIONAL_RULES = ("no-images",)

WHOLE_FILE = -1


@dataclass
class Counts:
    """What this invocation did; `summary.json` takes it from here."""

    discovered: int = 0
    indexed: int = 0
    partial: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0
    removed: int = 0
    text_chunks: int = 0
    image_chunks: int = 0
    #: Of both, those whose vector was at hand, because the same content had been embedded before.
    deduplicated: int = 0
    records: int = 0
    deleted: int = 0
    tokens: int = 0
    padding: int = 0
    #: Tokens and pictures that were not computed, because the same content had been embedded before.
    spared_tokens: int = 0
    spared_pictures: int = 0
    bytes_read: int = 0
    #: Characters that could not be decoded, and pictures that end early, taken all the same.
    replaced_characters: int = 0
    truncated_images: int = 0
    #: How many files each skip rule left out.
    rules: dict[str, int] = field(default_factory=dict)

    @property
    def pending(self) -> int:
        """Files that were found and not brought to an end."""
        done = self.indexed + self.partial + self.unchanged + self.skipped + self.failed
        return self.discovered - done


@dataclass(eq=False)
class Active:
    """A file on its way. Segments are counted once each, whichever attempt made them."""

    row: FileRow
    path: str
    size: int
    mtime_ns: int
    version: int
    started: bool
    kind: Kind | None = None
    end: FileEnd | None = None
    expected: int = 0
    expected_chunks: int = 0
    written: int = 0
    written_chunks: int = 0
    failures: int = 0
    crashes: int = 0
    #: A process died that had to do with it, so that its records may be in the database.
    may_have_unbooked_records: bool = False
    #: An attempt before this dispatch never came to its end; and it may have been at other content, or with
    #: other chunks or another model.
    unended: bool = False
    doubtful: bool = False
    attempts: list[int] = field(default_factory=list)
    #: Chunks of the segments that the inference process has received and the database hasn't answered; and
    #: of those that were answered before that news came in.
    in_flight: dict[int, int] = field(default_factory=dict)
    early: dict[int, int] = field(default_factory=dict)
    #: Segments and chunks that arrived from the attempt at hand.
    arrived: int = 0
    arrived_chunks: int = 0

    @property
    def settled(self) -> bool:
        """Whether parsing has ended and every segment is answered."""
        on_its_way = self.written < self.expected or self.in_flight or self.early
        return self.end is not None and not on_its_way


class Accounts:
    """Decides what is done with each file, and books what came of it.

    `generation` gives all that shapes the records of a kind besides the file's content, chunks and model, as
    one word; None for a kind that this run leaves out. `run` is this invocation's number in the ledger. A
    file that has crashed its parser `file_attempts` times is tried once more alone.
    """

    def __init__(
        self,
        ledger: Ledger,
        run: int,
        generation: Callable[[str], str | None],
        skipped_log: IO[str],
        skip_failed: bool = False,
        file_attempts: int = 2,
    ) -> None:
        self._ledger = ledger
        self._run = run
        self._generation = generation
        self._skipped_log = skipped_log
        self._skip_failed = skip_failed
        self._file_attempts = file_attempts
        self._attempts: dict[int, Active] = {}
        self._next_attempt = 1
        self._acknowledged: list[Acknowledged] = []
        self.counts = Counts()
        #: The index holds records that the ledger doesn't know: any record may be there already.
        self.shared = False
        #: Files on their way.
        self.active = 0
        #: Files that changed while they were read, to be dispatched once more.
        self.again: deque[FoundFile] = deque()
        self._changes: dict[str, int] = {}

    # Discovery

    def admit(self, found: Found) -> FoundFile | None:
        """Book a path that discovery met; the file itself where there is work to do on it."""
        if isinstance(found, LeftOut):
            self.counts.discovered += 1
            self._skip(found.source, found.rule, found.detail)
            return None
        if not isinstance(found, FoundFile):
            known = self._ledger.find(found.source)
            if known is not None and known.seen == self._run:
                return None
            self.counts.discovered += 1
            file = (known or self._ledger.add(found.source, found.source, 0, 0, self._run)).id
            self._ledger.mark_seen(file, self._run)
            self._ledger.fail(FailureRow(file, WHOLE_FILE, None, "discover", "unreadable", found.message))
            self._finish(file, "failed")
            return None
        row = self._ledger.find(found.source)
        if row is None:
            self._ledger.add(found.source, found.path, found.size, found.mtime_ns, self._run)
        elif row.seen == self._run:
            if row.path != found.path:
                # Bytes that are not UTF-8 are escaped, so two names can come out as one.
                self.counts.discovered += 1
                self._skip(found.source, "name-collision", f"the same source as {row.path!r}")
            return None
        else:
            self._ledger.mark_seen(row.id, self._run)
            if self._as_before(row, found):
                return None
        self.counts.discovered += 1
        return found

    def _as_before(self, row: FileRow, found: FoundFile) -> bool:
        """Book a file with which nothing has to be done."""
        if not self._current(row, found) or row.state in ("pending", "removed"):
            return False
        if row.state == "indexed":
            self.counts.unchanged += 1
        elif row.state == "skipped" and (row.rule not in OPTIONAL_RULES or self._generation("image") is None):
            self._skip(row.source, row.rule or "")
        elif row.state in ("failed", "partial") and self._skip_failed:
            self._count(row.state)
        else:
            return False
        self.counts.discovered += 1
        if row.state in ("indexed", "skipped"):
            # It may have had other content for a while, in a run that was killed.
            self._ledger.sweep(row.id, DOUBTFUL)
        return True

    def _current(self, row: FileRow, found: FoundFile) -> bool:
        """Whether the newest version in the ledger is of this very content, chunker and model."""
        if (row.size, row.mtime_ns) != (found.size, found.mtime_ns):
            return False
        return row.kind is None or self._generation(row.kind) in (None, row.generation)

    # Dispatch

    def dispatch(self, found: FoundFile) -> FileJob | None:
        """A job for the file. Commit the ledger before it is sent. None: it was settled without one."""
        row = self._ledger.find(found.source)
        if row is None:
            raise KeyError(found.source)
        current = self._current(row, found)
        if current:
            self._ledger.clear_failures(row.id)
            self._ledger.start_attempt(row.id)
        # A changed file's new version starts with its first acknowledgement: it may prove to be unchanged.
        version = row.version if current else row.version + 1
        doubt = self._ledger.open_attempt(row.id, known=current)
        active = Active(row, found.path, found.size, found.mtime_ns, version, started=current)
        active.unended, active.doubtful = doubt is not None, doubt == DOUBTFUL
        self.active += 1
        if found.size == 0:
            active.end = FileEnd("skipped", rule="empty")
            self._settle(active)
            return None
        return self._job(active)

    def _job(self, active: Active) -> FileJob:
        attempt, self._next_attempt = self._next_attempt, self._next_attempt + 1
        self._attempts[attempt] = active
        active.attempts.append(attempt)
        active.end, active.arrived, active.arrived_chunks = None, 0, 0
        self.flush()
        row = active.row
        if active.failures:
            # What failed is not done, so that it is made again, and fails again where it must.
            active.failures = 0
            self._ledger.clear_failures(row.id)
        progress = self._ledger.progress(row.id, active.version)
        same_plan = row.kind is not None and self._generation(row.kind) == row.generation
        touched = not active.started and row.state == "indexed" and same_plan
        return FileJob(
            attempt=attempt,
            path=active.path,
            source=row.source,
            size=active.size,
            mtime_ns=active.mtime_ns,
            known_hash=row.content_hash if touched else None,
            checkpoint=progress.checkpoint,
            last=progress.last,
            done=frozenset(progress.done) | active.in_flight.keys(),
            maybe_present=self.shared
            or active.may_have_unbooked_records
            or row.attempts + active.version > 0,
            alone=active.crashes >= self._file_attempts,
        )

    # What the processes report

    def embedded(self, message: m.Embedded) -> None:
        """A segment has its vectors."""
        if message.kind == "text":
            self.counts.text_chunks += message.vectors
        else:
            self.counts.image_chunks += message.vectors
        self.counts.deduplicated += message.repeated
        self.counts.tokens += message.tokens
        self.counts.padding += message.padding
        self.counts.spared_tokens += message.spared
        if message.kind == "image":
            self.counts.spared_pictures += message.repeated

    def received(self, message: m.Received) -> None:
        """A segment has arrived at the inference process."""
        active = self._attempts[message.attempt]
        active.arrived += 1
        active.arrived_chunks += message.chunks
        if message.ordinal in active.early:
            _compare(active, message.chunks, active.early.pop(message.ordinal))
        else:
            active.in_flight[message.ordinal] = message.chunks
        self._settle_if_done(active)

    def written(self, message: m.SegmentWritten) -> None:
        """The database has answered for a segment."""
        active = self._attempts[message.attempt]
        chunks = len(message.ids) // ID_BYTES + len(message.refused)
        if message.ordinal in active.in_flight:
            _compare(active, active.in_flight.pop(message.ordinal), chunks)
        else:
            active.early[message.ordinal] = chunks
        self._start(active)
        active.kind = message.kind
        active.written += 1
        active.written_chunks += chunks
        self.counts.records += len(message.ids) // ID_BYTES
        if message.refused:
            active.failures += 1
            position, reason = next(iter(message.refused.items()))
            text = f"{len(message.refused)} of {chunks} records, the first at position {position}: {reason}"
            self._fail(active, message.ordinal, message.page, message.refused_by, "refused", text)
        self._acknowledged.append(
            Acknowledged(
                file=active.row.id,
                version=active.version,
                ordinal=message.ordinal,
                after=message.after,
                page=message.page,
                checkpoint=message.checkpoint,
                ids=message.ids,
                complete=not message.refused,
            )
        )
        end = active.end
        # Where the file comes to its end with this, it is described for good in a moment.
        last = active.settled and end is not None and end.kind is not None and end.outcome != "skipped"
        if not last and (active.row.kind is None or not active.row.generation):
            self._describe(active, message.kind, "", "")
        self._settle_if_done(active)

    def section_failed(self, attempt: int, failure: SectionFailure, ordinal: int) -> None:
        """A page can't be parsed."""
        active = self._attempts[attempt]
        self._start(active)
        active.failures += 1
        self._fail(active, ordinal, failure.page, "parse", failure.error_type, failure.message)

    def parsed(self, attempt: int, end: FileEnd) -> None:
        """The parse call of an attempt has ended."""
        active = self._attempts[attempt]
        active.end = end
        active.expected += end.segments
        active.expected_chunks += end.chunks
        self.counts.bytes_read += end.bytes_read
        self.counts.replaced_characters += end.replaced
        self.counts.truncated_images += end.truncated
        self._settle_if_done(active)

    def lost(self, attempt: int, begun: bool, crashed: str | None = None) -> FileJob | None:
        """The attempt's parser died and nothing more of it will come. A new job, unless the file is poison.

        `begun`: it had begun with the file. `crashed` says how it died, where the file is to blame.
        """
        active = self._attempts[attempt]
        active.expected += active.arrived
        active.expected_chunks += active.arrived_chunks
        active.arrived = active.arrived_chunks = 0
        active.may_have_unbooked_records |= begun
        active.crashes += crashed is not None
        if crashed is not None and active.crashes > self._file_attempts:
            message = f"{crashed}; {active.crashes} times, the last time with no other file at work"
            active.end = FileEnd("failed", rule="poison", message=message)
            self._settle_if_done(active)
            return None
        return self._job(active)

    def lost_all(self) -> list[FileJob]:
        """Every process died: all that is not answered is lost. New jobs for the files on their way."""
        jobs = []
        for active in dict.fromkeys(self._attempts.values()):
            active.in_flight.clear()
            active.early.clear()
            active.expected, active.expected_chunks = active.written, active.written_chunks
            active.may_have_unbooked_records = True
            jobs.append(self._job(active))
        return jobs

    # Settling

    def _start(self, active: Active) -> None:
        if not active.started:
            active.started = True
            self._ledger.start_version(active.row.id, active.size, active.mtime_ns)
            self._ledger.start_attempt(active.row.id)
            active.row = self._ledger.file(active.row.id)

    def _describe(self, active: Active, kind: Kind, media_type: str, content_hash: str) -> None:
        generation = self._generation(kind) or ""
        self._ledger.describe(active.row.id, kind, media_type, generation, content_hash)
        active.row = replace(
            active.row, kind=kind, media_type=media_type, generation=generation, content_hash=content_hash
        )

    def _settle_if_done(self, active: Active) -> None:
        if active.settled:
            self._settle(active)

    def _settle(self, active: Active) -> None:
        end = active.end
        if end is None:
            raise EngineError(f"{active.row.source}: settled before it was parsed")
        left, came = (end.segments, end.chunks), (active.arrived, active.arrived_chunks)
        _compare_all(active, "from the parser to the inference process", left, came, "arrived")
        left, came = (active.expected, active.expected_chunks), (active.written, active.written_chunks)
        _compare_all(active, "from the inference process to the database", left, came, "were answered")
        self.flush()
        for attempt in active.attempts:
            del self._attempts[attempt]
        self.active -= 1
        row = active.row
        if end.outcome == "unchanged":
            self._ledger.touch(row.id, active.size, active.mtime_ns)
            self.counts.unchanged += 1
            self._close(active, True)
            return
        if end.rule in OPTIONAL_RULES and self._ledger.has_records(row.id):
            # Left out by an option of this run, which says nothing of the records that are there.
            self._skip(row.source, end.rule, end.message)
            self._close(active, False)
            return
        self._start(active)
        if end.kind is not None and end.outcome != "skipped":
            self._describe(active, end.kind, end.media_type, end.content_hash)
        if end.outcome == "changed" and self._again(active):
            self._close(active, False)
            return
        if end.outcome == "skipped" and not active.failures:
            self._ledger.replace_all(row.id)
            self._ledger.finish(row.id, "skipped", end.rule)
            self._skip(row.source, end.rule, end.message)
            self._close(active, True)
            return
        if end.outcome in ("failed", "changed"):
            self._fail(active, WHOLE_FILE, None, "parse", end.rule, end.message)
        whole = end.outcome == "parsed" and not active.failures
        # Nothing depends on it for a first version that came through.
        told = whole and not active.version and not active.doubtful
        has_new = not told and self._ledger.progress(row.id, active.version).chunks > 0
        self._finish(row.id, "indexed" if whole else "partial" if has_new else "failed")
        if has_new:
            self._ledger.replace(row.id)
        if whole and not active.doubtful:
            # The same again as in every attempt, whatever became of those.
            self._ledger.close_attempts(row.id)
        else:
            self._close(active, active.doubtful and has_new)

    def _close(self, active: Active, replaced: bool) -> None:
        """Book whether the database may hold records of the file that the ledger doesn't know.

        They are deleted where the file has been `replaced` by what the ledger does know; otherwise they stay,
        with the mark that they may be there, until an attempt comes to a better end.
        """
        if not active.unended and not active.may_have_unbooked_records:
            self._ledger.close_attempts(active.row.id)
        elif replaced:
            self._ledger.sweep(active.row.id)

    def _again(self, active: Active) -> bool:
        """Whether a file that changed while it was read is tried once more, with its new size and time."""
        end = active.end
        source, path = active.row.source, active.path
        changes = self._changes.pop(source, 0) + 1
        try:
            status = os.stat(path)
        except OSError as error:
            if end is not None:
                end.rule, end.message = "unreadable", (error.strerror or str(error)).lower()
            return False
        if changes < CHANGED_ATTEMPTS:
            self._changes[source] = changes
            self.again.append(FoundFile(path, source, status.st_size, modified_ns(status)))
            return True
        if end is not None:
            end.rule, end.message = "changed-while-read", f"it changed during each of {changes} attempts"
        return False

    def _finish(self, file: int, state: FileState) -> None:
        self._ledger.finish(file, state)
        self._count(state)

    def _count(self, state: str) -> None:
        setattr(self.counts, state, getattr(self.counts, state) + 1)

    def _skip(self, source: str, rule: str, detail: str = "") -> None:
        self.counts.skipped += 1
        self.counts.rules[rule] = self.counts.rules.get(rule, 0) + 1
        # A name that is not UTF-8 may be quoted in the detail.
        detail = detail.encode("utf-8", "backslashreplace").decode()
        line = {"source": source, "rule": rule} | ({"detail": detail} if detail else {})
        self._skipped_log.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _fail(
        self, active: Active, ordinal: int, page: int | None, stage: str, error_type: str, message: str
    ) -> None:
        self._ledger.fail(FailureRow(active.row.id, ordinal, page, stage, error_type, message))

    # The ledger

    def flush(self) -> None:
        """Book the acknowledgements that came in; `Ledger.commit` makes them durable."""
        self._ledger.acknowledge(self._acknowledged)
        self._acknowledged.clear()

    def close(self) -> None:
        """Book what is left, and have everything that was skipped in its file. Raises `OSError`."""
        self.flush()
        self._skipped_log.flush()

    def prune(self, under: tuple[str, ...]) -> Iterator[None]:
        """Mark the files below these folders that discovery did not meet; one a step."""
        after = 0
        while row := self._ledger.unseen(self._run, after):
            after = row.id
            if row.state != "removed" and row.source.startswith(under):
                self.counts.removed += 1
                self._ledger.remove(row.id)
            yield


def _compare_all(active: Active, border: str, left: tuple[int, int], came: tuple[int, int], how: str) -> None:
    """Raises `HandOverError` where the (segments, chunks) that left one stage are not those that came."""
    if left != came:
        raise HandOverError(
            border,
            f"{left[1]} chunks in {left[0]} segments left, {came[1]} in {came[0]} {how}"
            f" ({active.row.source})",
        )


def _compare(active: Active, received: int, answered: int) -> None:
    """Raises `HandOverError` where the database answers for more or fewer chunks than were received."""
    if received != answered:
        raise HandOverError(
            "from the inference process to the database",
            f"{received} chunks of a segment left, {answered} were answered ({active.row.source})",
        )
