"""The supervisor: starts the other processes, feeds them, watches them, and keeps the ledger.

It is one thread. Everything that happens reaches it as a message on a child's control connection or as a
child's sentinel; signals only leave a mark that the loop reads.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from types import FrameType
from typing import TypeVar

from engine.config import Config
from engine.errors import EngineError, UsageError
from engine.metrics import MemorySampler
from engine.models.resolve import resolve_image, resolve_text
from engine.models.spec import ImageSpec
from engine.records import IndexSchema
from engine.runtime import indexer, inference, parser, report, rundir
from engine.runtime import messages as m
from engine.runtime.accounts import Accounts
from engine.runtime.child import Child, pipe
from engine.runtime.cleaner import Cleaner
from engine.runtime.credits import Credits
from engine.runtime.ledger import Ledger
from engine.stages.chunk import Chunker
from engine.stages.discover import Discovery, FoundFile
from engine.stages.parse import FileJob
from engine.stages.segment import SUBS_PER_UNIT

#: Exit codes of `engine.run`.
EXIT_DONE, EXIT_ENGINE_FAILED, EXIT_USAGE, EXIT_FAILURES, EXIT_STOPPED = 0, 1, 2, 3, 75

#: Files on their way at most, so that a corpus of tiny files doesn't fill the supervisor's memory.
ACTIVE_FILES = 4096

#: Files that wait in a parser's own queue, while they are small: enough to hide a round trip.
QUEUED_FILES, QUEUED_FILE_BYTES = 4, 256 * 2**10

#: Paths that discovery looks at before the loop turns to its children again.
DISCOVERY_STEP = 256

#: Seconds between two ledger commits, heartbeats and status files.
COMMIT_INTERVAL_S, STATUS_INTERVAL_S = 0.25, 1.0

#: Seconds between two requests to the indexer to write what it holds, while somebody waits for it.
FLUSH_INTERVAL_S = 0.1

#: Seconds that a child has to end by itself after `Stop`.
STOP_DEADLINE_S = 30.0

#: Share of `--max-ram` at which no more bytes are admitted, and seconds over it at rest before giving up.
RAM_ADMISSION_SHARE, RAM_REST_DEADLINE_S = 0.9, 20.0

#: Signals that mean the file at work crashed its parser.
CRASH_SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)

Wanted = TypeVar("Wanted")

log = logging.getLogger("engine")


class RunStoppedError(EngineError):
    """The run ends early in a state from which the same command goes on (exit code 75)."""


@dataclass(eq=False)
class ParserSlot:
    """A parser process and the files it was given. `waiting`: for the supervisor, not for the file."""

    child: Child
    jobs: deque[FileJob] = field(default_factory=deque)
    current: FileJob | None = None
    progressed: float = 0.0
    waiting: bool = False
    cancelled: bool = False
    #: Why the supervisor killed it.
    verdict: str | None = None
    dead: bool = False


class Supervisor:
    """One run, from preflight to summary."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._progress = report.ProgressLine(config.quiet)
        self._discovery = Discovery(
            config.inputs, config.files_from, config.include, config.exclude, config.hidden, config.shard
        )
        self._listing: Iterator[object] = iter(self._discovery)
        self._listed = False
        self._admitted = 0
        self._backlog: deque[FoundFile] = deque()
        self._credits = Credits(config.buffer, config.workers)
        self._parsers: dict[str, ParserSlot] = {}
        self._parser_count = 0
        self._indexer: Child | None = None
        self._inference: Child | None = None
        self._image_spec: ImageSpec | None = None
        self._images_resolved = not config.images
        self._prepared = False
        self._published: int | None = None
        self._signals: list[int] = []
        self._stop_since: float | None = None
        self._database_trouble: tuple[float, str] | None = None
        self._over_ram_since: float | None = None
        self._last_commit = self._last_status = self._last_flush = 0.0
        self._restarts: dict[str, int] = {"parser": 0}
        self._past_stats = m.Stats(0.0, 0.0, 0.0)
        self._memory = MemorySampler(self._pids)
        self._started = time.monotonic()
        self._pruning: Iterator[None] | None = None
        self._parser_of: dict[int, str] = {}

    def run(self) -> int:
        """The whole run; returns its exit code. Raises `UsageError` before anything was changed."""
        config = self._config
        with ExitStack() as stack:
            stack.callback(self._progress.close)
            self._discovery.check()
            self._text_spec = resolve_text(config.text_model, trust_remote_code=config.trust_remote_code)
            self._chunker = Chunker(self._text_spec, config.chunk_size, config.chunk_overlap)
            self._lock = rundir.claim(config.run_dir)
            stack.callback(self._lock.release)
            stack.callback(rundir.log_to(config.run_dir, config.log_level))
            self._ledger = Ledger(config.run_dir)
            stack.callback(self._ledger.close)
            skipped = stack.enter_context(open(config.run_dir / "skipped.jsonl", "w", encoding="utf-8"))
            self._run = self._ledger.next_run()
            self._accounts = Accounts(self._ledger, self._run, self._generation, skipped, config.skip_failed)
            self._cleaner = Cleaner(self._ledger)
            self._catch_signals(stack)
            stack.callback(self._kill_all)
            self._memory.start()
            stack.callback(self._memory.stop)
            return self._run_to_end()

    def _run_to_end(self) -> int:
        try:
            self._preflight()
            while not self._finished():
                self._admit()
                self._grant()
                self._listen()
                self._watch()
                self._tick()
            self._drain()
        except RunStoppedError as error:
            self._progress.say(f"stopped: {error}; the same command goes on from here")
            return self._end("stopped", EXIT_STOPPED)
        except UsageError:
            raise
        except EngineError as error:
            log.error("%s", error)
            self._progress.say(f"error: {error}; see {self._config.run_dir / 'run.log'}")
            return self._end("error", EXIT_ENGINE_FAILED)
        if self._stop_since is not None and (self._accounts.counts.pending or not self._listed):
            self._progress.say("stopped by a signal; the same command goes on from here")
            return self._end("stopped", EXIT_STOPPED)
        return self._end("complete", EXIT_DONE)

    # Before the first file

    def _preflight(self) -> None:
        """The database first: a model is not loaded for one that is not there or doesn't fit."""
        config, ledger = self._config, self._ledger
        known_adapter = ledger.get("adapter")
        if known_adapter not in (None, config.adapter):
            raise UsageError(
                f"--run-dir {config.run_dir}: its ledger is of {known_adapter}, not of {config.adapter};"
                " name another --run-dir"
            )
        options = indexer.IndexerOptions(config.adapter, config.fields, patient=known_adapter is not None)
        self._indexer = Child("indexer", indexer.main, str(config.run_dir), options)
        opened = self._await(m.Opened)
        if ledger.has_records() and (opened.identity != ledger.get("identity") or not opened.count):
            what = "is gone" if opened.identity is None else "holds nothing"
            if opened.identity is not None and opened.count:
                what = "was replaced"
            raise UsageError(
                f"--adapter {config.adapter}: the index that this run directory filled {what};"
                f" repair it with: python -m engine.verify --run-dir {config.run_dir}"
                f" --adapter {config.adapter} --repair (or index anew with another --run-dir)"
            )
        if opened.schema is not None and opened.schema.image_model is not None and config.images:
            # The pictures' model is checked now where that is possible, not at the first picture.
            self._resolve_images()
        self._prepare()
        ledger.set("adapter", config.adapter)
        ledger.commit()

    def _prepare(self) -> None:
        image = self._image_spec.info if self._image_spec else None
        names = tuple(name for name, _ in self._config.fields)
        schema = IndexSchema(self._text_spec.info, image, self._chunker.name, names)
        self._tell_indexer(m.Prepare(schema))
        prepared = self._await(m.Prepared)
        if prepared.identity is not None:
            self._ledger.set("identity", prepared.identity)

    def _resolve_images(self) -> ImageSpec | None:
        if not self._images_resolved:
            spec = resolve_image(self._config.image_model)
            for note in spec.notes:
                self._progress.say(note)
            self._image_spec, self._images_resolved = spec, True
        return self._image_spec

    def _generation(self, kind: str) -> str | None:
        if kind == "text":
            return f"{self._chunker.name} {self._text_spec.digest}"
        spec = self._resolve_images()
        return spec.digest if spec else None

    # Admission

    def _admit(self) -> None:
        """Look for files while there is room, and give parsers their next ones."""
        if self._stop_since is not None:
            return
        limit = self._config.limit
        for _ in range(DISCOVERY_STEP):
            if self._listed or len(self._backlog) >= DISCOVERY_STEP:
                break
            found = next(self._listing, None)
            if found is None or (limit is not None and self._admitted >= limit):
                self._listed = True
            else:
                before = self._accounts.counts.discovered
                work = self._accounts.admit(found)  # type: ignore[arg-type]
                self._admitted += self._accounts.counts.discovered - before
                if work is not None:
                    self._backlog.append(work)
        self._backlog.extend(self._accounts.again)
        self._accounts.again.clear()
        jobs: list[tuple[ParserSlot, FileJob]] = []
        while self._backlog and self._accounts.active < ACTIVE_FILES:
            slot = self._roomy_parser(self._backlog[0].size)
            if slot is None:
                break
            job = self._accounts.dispatch(self._backlog.popleft())
            if job is not None:
                slot.jobs.append(job)
                jobs.append((slot, job))
                self._parser_of[job.attempt] = slot.child.name
        if jobs:
            # The attempts are durable before any of their records can be in the database.
            self._ledger.commit()
        for slot, job in jobs:
            slot.child.send(m.Parse(job))

    def _roomy_parser(self, size: int) -> ParserSlot | None:
        living = [slot for slot in self._parsers.values() if not slot.dead and not slot.cancelled]
        if living:
            slot = min(living, key=lambda slot: len(slot.jobs))
            if not slot.jobs:
                return slot
            small = all(job.size <= QUEUED_FILE_BYTES for job in slot.jobs) and size <= QUEUED_FILE_BYTES
            if small and len(slot.jobs) < QUEUED_FILES and len(living) >= self._config.workers:
                return slot
        return self._start_parser() if len(living) < self._config.workers else None

    def _start_parser(self) -> ParserSlot:
        config = self._config
        if self._inference is None:
            self._inference = self._start_inference()
            self._ledger.set("unpublished", "1")
        name = f"parser-{self._parser_count}"
        self._parser_count += 1
        reader, writer = pipe()
        child = Child(
            name, parser.main, str(config.run_dir), writer, self._text_spec, config.chunk_size,
            config.chunk_overlap, config.exact_images, config.parser_memory,
        )  # fmt: skip
        writer.close()
        self._inference.send_descriptor(m.OpenChannel(name), reader)
        if self._images_resolved:
            child.send(m.UseImages(self._image_spec))
        slot = self._parsers[name] = ParserSlot(child)
        log.info("%s started, process %d", name, child.pid)
        return slot

    def _start_inference(self) -> Child:
        config = self._config
        reader, writer = pipe()
        child = Child(
            "inference", inference.main, str(config.run_dir), writer, self._text_spec, config.device,
            config.dtype,
        )  # fmt: skip
        writer.close()
        if self._indexer is not None:
            self._indexer.send_descriptor(m.OpenChannel("inference"), reader)
        if self._image_spec is not None:
            child.send(m.UseImages(self._image_spec))
        log.info("inference started, process %d", child.pid)
        return child

    def _grant(self) -> None:
        """Hand out credits; where somebody must wait, the indexer writes what it holds."""
        if not self._over_ram():
            for name, size in self._credits.grants():
                slot = self._parsers.get(name)
                if slot is not None:
                    slot.waiting, slot.progressed = False, time.monotonic()
                    slot.child.send(m.Grant(size))
        idle = not self._backlog and not any(slot.jobs for slot in self._parsers.values())
        now = time.monotonic()
        waited_for = (self._credits.blocked or idle) and self._credits.in_flight
        if waited_for and now - self._last_flush > FLUSH_INTERVAL_S:
            self._last_flush = now
            self._tell_indexer(m.Flush())

    def _over_ram(self) -> bool:
        limit = self._config.max_ram
        if limit is None or self._memory.total < RAM_ADMISSION_SHARE * limit:
            self._over_ram_since = None
            return False
        now = time.monotonic()
        if self._credits.in_flight or self._over_ram_since is None:
            self._over_ram_since = now
        if now - self._over_ram_since > RAM_REST_DEADLINE_S:
            raise EngineError(
                f"--max-ram {limit}: the processes take {self._memory.total} bytes with nothing in flight;"
                f" give at least {int(self._memory.total / RAM_ADMISSION_SHARE)}, or fewer --workers"
            )
        return True

    # Messages

    def _children(self) -> list[Child]:
        others = [child for child in (self._inference, self._indexer) if child is not None]
        return others + [slot.child for slot in self._parsers.values() if not slot.dead]

    def _listen(self, timeout: float = 0.05) -> None:
        """Handle what children said; wait a moment where none did."""
        children = {child.control: child for child in self._children() if not child.silent}
        listing = not self._listed and len(self._backlog) < DISCOVERY_STEP and self._stop_since is None
        for ready in connection.wait(list(children), 0.0 if listing else timeout):
            child = children[ready]  # type: ignore[index]
            for message in child.receive():
                self._handle(child, message)

    def _handle(self, child: Child, message: object) -> None:
        accounts = self._accounts
        if isinstance(message, m.Stats):
            child.stats = message
        elif isinstance(message, m.Received):
            if child is self._inference:
                self._credits.emitted(self._parser_of[message.attempt], message.size)
                accounts.received(message)
        elif isinstance(message, m.SegmentWritten):
            self._credits.acknowledged(message.size)
            accounts.written(message)
        elif isinstance(message, m.Embedded):
            accounts.embedded(message)
        elif isinstance(message, m.Deleted):
            accounts.counts.deleted += message.records
            self._cleaner.deleted(message.request)
        elif isinstance(message, m.DatabaseState):
            self._note_database(message.trouble)
        elif isinstance(message, m.ChannelClosed):
            if message.name in self._parsers:
                self._parser_gone(self._parsers[message.name])
        elif isinstance(message, m.Published):
            self._published = message.count
        elif isinstance(message, m.Note):
            log.info("%s", message.text)
            self._progress.say(message.text)
        elif isinstance(message, m.Failed):
            self._child_failed(child, message)
        elif child.name in self._parsers:
            self._handle_parser(self._parsers[child.name], message)

    def _handle_parser(self, slot: ParserSlot, message: object) -> None:
        slot.progressed = time.monotonic()
        if isinstance(message, m.Began):
            slot.current = slot.jobs[0]
        elif isinstance(message, m.NeedCredit):
            slot.waiting = True
            self._credits.ask(slot.child.name, message.size)
        elif isinstance(message, m.NeedImageModel):
            self._give_images()
        elif isinstance(message, m.SectionFailed):
            failure = message.failure
            self._accounts.section_failed(message.attempt, failure, failure.unit * SUBS_PER_UNIT)
        elif isinstance(message, m.FileParsed):
            slot.jobs.popleft()
            slot.current = None
            self._accounts.parsed(message.attempt, message.end)
        elif isinstance(message, m.Cancelled):
            slot.jobs.clear()
            slot.current = None
            slot.cancelled = True

    def _give_images(self) -> None:
        """The first picture is here: find its model, make room for its vectors, and tell everybody."""
        if self._resolve_images() is not None:
            self._prepare()
        for child in self._children():
            if child is not self._indexer:
                child.send(m.UseImages(self._image_spec))

    def _child_failed(self, child: Child, message: m.Failed) -> None:
        if message.traceback:
            log.error("%s: %s\n%s", child.name, message.message, message.traceback)
        if message.exit_code == EXIT_USAGE:
            raise UsageError(message.message)
        raise EngineError(f"{child.name}: {message.message}")

    def _note_database(self, trouble: str | None) -> None:
        if trouble is None:
            self._database_trouble = None
        elif self._database_trouble is None:
            log.warning("database: %s", trouble)
            self._database_trouble = (time.monotonic(), trouble)

    def _tell_indexer(self, message: object) -> None:
        if self._indexer is not None:
            self._indexer.send(message)

    def _await(self, kind: type[Wanted]) -> Wanted:
        """Handle messages until the indexer says this."""
        child = self._indexer
        if child is None:
            raise EngineError("no indexer")
        while True:
            if connection.wait([child.control, child.process.sentinel], STATUS_INTERVAL_S):
                answer = None
                for message in child.receive():
                    if isinstance(message, kind):
                        answer = message
                    else:
                        self._handle(child, message)
                if answer is not None:
                    return answer
            if self._signals:
                raise RunStoppedError("by a signal, before the first file")
            self._watch()
            self._tick()

    # Deaths, deadlines, signals

    def _watch(self) -> None:
        """Find what died, hangs, or was asked for by a signal."""
        now = time.monotonic()
        for child in self._children():
            if child.process.exitcode is not None:
                self._died(child)
        for slot in self._parsers.values():
            stuck = slot.current is not None and not slot.waiting and not slot.dead
            if stuck and now - slot.progressed > self._config.file_timeout:
                slot.verdict = f"no progress for {self._config.file_timeout:g} s (--file-timeout)"
                slot.child.process.kill()
        if self._database_trouble and now - self._database_trouble[0] > self._config.database_deadline:
            raise RunStoppedError(
                f"the database did not answer for {self._config.database_deadline:g} s"
                f" ({self._database_trouble[1]})"
            )
        if self._signals and self._stop_since is None:
            self._stop_since = now
            name = signal.Signals(self._signals[0]).name
            log.info("%s: stopping", name)
            self._progress.say(f"{name}: finishing what is in flight, at most {self._config.grace:g} s")
            for slot in self._parsers.values():
                slot.child.send(m.Cancel())
        if self._stop_since is not None:
            if self._signals.count(signal.SIGINT) > 1:
                raise RunStoppedError("interrupted twice")
            if now - self._stop_since > self._config.grace:
                raise RunStoppedError(f"what was in flight took longer than --grace {self._config.grace:g} s")

    def _died(self, child: Child) -> None:
        for message in child.receive():
            self._handle(child, message)
        slot = self._parsers.get(child.name)
        if slot is None:
            raise EngineError(f"{child.death()}; the same command goes on from here")
        log.warning("%s", child.death())
        slot.dead = True
        self._restarts["parser"] += 1
        self._past_stats = m.Stats(**_sum([self._past_stats, child.stats]))
        child.stats = m.Stats(0.0, 0.0, 0.0)

    def _parser_gone(self, slot: ParserSlot) -> None:
        """A parser is dead and all that it sent has arrived: its files are parsed again by others."""
        if not slot.dead:
            slot.child.kill()
            self._died(slot.child)
        del self._parsers[slot.child.name]
        self._credits.forget(slot.child.name)
        code = slot.child.process.exitcode or 0
        crashed = slot.verdict or (slot.child.death() if -code in CRASH_SIGNALS else None)
        jobs: list[FileJob] = []
        for job in slot.jobs:
            at_fault = job is slot.current
            again = self._accounts.lost(
                job.attempt, crashed if at_fault else None, at_fault and crashed is None
            )
            if again is not None and self._stop_since is None:
                jobs.append(again)
        if jobs:
            self._ledger.commit()
            heir = self._start_parser()
            for job in jobs:
                heir.jobs.append(job)
                self._parser_of[job.attempt] = heir.child.name
                heir.child.send(m.Parse(job))

    def _catch_signals(self, stack: ExitStack) -> None:
        def note(number: int, _frame: FrameType | None) -> None:
            self._signals.append(number)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            stack.callback(signal.signal, number, signal.signal(number, note))

    # Housekeeping

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._last_commit > COMMIT_INTERVAL_S:
            self._last_commit = now
            self._accounts.flush()
            for request in self._cleaner.requests():
                self._tell_indexer(request)
            self._ledger.commit()
        if now - self._last_status > STATUS_INTERVAL_S:
            self._last_status = now
            self._lock.beat()
            trouble = self._database_trouble[1] if self._database_trouble else None
            self._progress.show(self._accounts.counts, self._credits.in_flight, trouble)
            status = {"status": "running", "pid": os.getpid(), "database": trouble, **self._figures()}
            (self._config.run_dir / "status.json.new").write_text(json.dumps(status), encoding="utf-8")
            os.replace(self._config.run_dir / "status.json.new", self._config.run_dir / "status.json")

    def _finished(self) -> bool:
        """Whether nothing is left to do, or nothing more may be begun and what was on its way is done."""
        if self._stop_since is not None:
            parsing = any(not slot.cancelled and not slot.dead for slot in self._parsers.values())
            return not parsing and self._credits.in_flight == 0
        if not self._listed or self._backlog or self._accounts.again or self._accounts.active:
            return False
        if self._pruning is None:
            self._pruning = self._accounts.prune(self._prunable())
        for _ in range(DISCOVERY_STEP):
            if next(self._pruning, self) is self:
                return self._cleaner.idle
        return False

    @property
    def _whole(self) -> bool:
        """Whether discovery met all that the inputs hold, so that what it lacks has left the corpus."""
        config = self._config
        narrowed = config.include or config.exclude or config.limit or not config.images or config.files_from
        return self._discovery.complete and not narrowed

    def _prunable(self) -> tuple[str, ...]:
        """The folders below which the ledger's files are deleted that discovery did not meet."""
        config = self._config
        if not config.prune or not self._whole:
            return ()
        return tuple(name.rstrip("/") + "/" for name in config.inputs if Path(name).is_dir())

    def _drain(self) -> None:
        """Let every process end by itself, the first of the chain first."""
        self._accounts.flush()
        if self._stop_since is None and self._ledger.get("unpublished"):
            self._tell_indexer(m.Publish())
            while self._published is None:
                self._listen()
                self._watch()
                self._tick()
            self._ledger.set("unpublished", "")
        for slot in list(self._parsers.values()):
            self._stop(slot.child)
        for child in (self._inference, self._indexer):
            if child is not None:
                self._stop(child)

    def _stop(self, child: Child) -> None:
        child.send(m.Stop())
        deadline = time.monotonic() + STOP_DEADLINE_S
        while child.process.exitcode is None and time.monotonic() < deadline:
            if connection.wait([child.control, child.process.sentinel], 0.1):
                for message in child.receive():
                    if isinstance(message, m.Stats):
                        child.stats = message
                    elif isinstance(message, m.Embedded):
                        self._accounts.embedded(message)
        if child.process.exitcode is None:
            log.warning("%s did not end in %g s and is killed", child.name, STOP_DEADLINE_S)
            child.kill()

    def _kill_all(self) -> None:
        for child in self._children():
            child.kill()

    def _pids(self) -> list[tuple[str, int]]:
        found = [("parsers", slot.child.pid) for slot in list(self._parsers.values())]
        for stage, child in (("inference", self._inference), ("indexer", self._indexer)):
            if child is not None:
                found.append((stage, child.pid))
        return found

    # The end

    def _figures(self) -> dict[str, object]:
        counts, seconds = self._accounts.counts, time.monotonic() - self._started
        stages = {
            "parse": _sum([self._past_stats, *(slot.child.stats for slot in self._parsers.values())]),
            "infer": _sum([self._inference.stats] if self._inference else []),
            "index": _sum([self._indexer.stats] if self._indexer else []),
        }
        return {
            "files": report.file_counts(counts),
            "chunks": {
                "text": counts.text_chunks,
                "image": counts.image_chunks,
                "indexed": counts.records,
                "deleted": counts.deleted,
            },
            "tokens": counts.tokens,
            "bytes_read": counts.bytes_read,
            "seconds": round(seconds, 3),
            "throughput": {
                "chunks_per_s": round((counts.text_chunks + counts.image_chunks) / seconds, 3),
                "tokens_per_s": round(counts.tokens / seconds, 3),
                "images_per_s": round(counts.image_chunks / seconds, 3),
            },
            "peak_in_flight_bytes": self._credits.peak_in_flight,
            "stages": stages,
        }

    def _end(self, status: str, code: int) -> int:
        config, counts = self._config, self._accounts.counts
        self._accounts.flush()
        self._ledger.commit()
        self._progress.close()
        # Failures of files that have left the corpus are told no more, where that can be known.
        since = self._run if self._listed and self._whole else 0
        failures = report.write_lines(config.run_dir / "failures.jsonl", self._ledger.failures(since))
        if code == EXIT_DONE and failures:
            status, code = "complete_with_failures", EXIT_FAILURES
        figures = self._figures()
        totals = self._ledger.totals()
        summary = {
            "status": status,
            "exit_code": code,
            **figures,
            "totals": totals,
            "peak_pss_bytes": self._memory.peaks,
            "restarts": self._restarts,
            "config": config.as_dict(),
            "environment": report.environment(),
        }
        report.write_atomically(config.run_dir / "summary.json", json.dumps(summary, indent=2))
        (config.run_dir / "status.json").unlink(missing_ok=True)
        throughput = figures["throughput"]
        if not config.quiet and isinstance(throughput, dict):
            for line in report.closing_lines(counts, totals, throughput, failures, config.run_dir):
                self._progress.say(line)
            seconds = time.monotonic() - self._started
            self._progress.say(f"{status} in {seconds:.1f} s; summary in {config.run_dir / 'summary.json'}")
        return code


def _sum(stats: list[m.Stats]) -> dict[str, float]:
    names = ("busy_s", "wait_in_s", "wait_out_s")
    return {name: round(sum(getattr(each, name) for each in stats), 3) for name in names}
