"""The supervisor: finds files, feeds the other processes, watches them, and keeps the ledger.

It is one thread. Everything that happens reaches it as a message on a child's control connection or as a
child's end; signals only leave a mark that the loop reads.
"""

from __future__ import annotations

import json
import logging
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing import connection
from typing import TypeVar

from engine.config import Config
from engine.errors import EngineError, UsageError
from engine.metrics import MemorySampler
from engine.runtime import messages as m
from engine.runtime import report, rundir
from engine.runtime.accounts import Accounts
from engine.runtime.child import OUT_OF_MEMORY, Child
from engine.runtime.cleaner import Cleaner
from engine.runtime.credits import Credits
from engine.runtime.generation import Generation
from engine.runtime.intake import Intake
from engine.runtime.ledger import Ledger
from engine.runtime.limits import DatabaseWait, RamGuard, RunStoppedError, StopRequest
from engine.runtime.pipeline import ParserSlot, Pipeline
from engine.stages.discover import check_inputs
from engine.stages.parse import FileJob
from engine.stages.segment import SUBS_PER_UNIT

#: Exit codes of `engine.run`.
EXIT_DONE, EXIT_ENGINE_FAILED, EXIT_USAGE, EXIT_FAILURES, EXIT_STOPPED = 0, 1, 2, 3, 75

#: Files on their way at most, so that a corpus of tiny files doesn't fill the supervisor's memory.
ACTIVE_FILES = 4096

#: Files looked at for pruning before the loop turns to its children again.
PRUNE_STEP = 256

#: Seconds between two ledger commits; between two heartbeats, status files and progress lines.
COMMIT_INTERVAL_S, STATUS_INTERVAL_S = 0.25, 1.0

#: Seconds that the loop waits for a message where there is nothing else to do.
LISTEN_S = 0.05

#: Seconds between two requests to the indexer to write what it holds, while somebody waits for it.
FLUSH_INTERVAL_S = 0.1

#: Parsers that may die one after another before they begin a file: the fault is not in a file then.
STILLBORN_PARSERS = 8

#: Signals that mean the file at work crashed its parser.
CRASH_SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)

Wanted = TypeVar("Wanted")

log = logging.getLogger("engine")


class Supervisor:
    """One run, from preflight to summary."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._pruning: Iterator[None] | None = None
        self._credits = Credits(config.buffer, config.workers)
        self._published = self._complete = self._begun = False
        self._stillborn = 0
        self._restarts = {"parser": 0}
        self._stop = StopRequest(config.grace)
        self._database = DatabaseWait(config.database_deadline)
        self._ram = RamGuard(config.max_ram)
        self._last_commit = self._last_status = self._last_flush = 0.0
        self._started = time.monotonic()

    def run(self) -> int:
        """The whole run; returns its exit code. Raises `UsageError` where it can't work as asked."""
        config = self._config
        with ExitStack() as stack:
            check_inputs(config.inputs, config.files_from)
            self._progress = report.ProgressLine(config.quiet)
            stack.callback(self._progress.close)
            self._generation = Generation(config, self._progress.say)
            # From here on a signal drains; before, while a model may be fetched, it simply ends the command.
            stack.callback(self._stop.catch())
            self._lock = rundir.claim(config.run_dir)
            stack.callback(self._lock.release)
            stack.callback(rundir.remove_status, config.run_dir)
            stack.callback(rundir.log_to(config.run_dir, config.log_level))
            self._ledger = Ledger(config.run_dir)
            stack.callback(self._ledger.close)
            skipped = stack.enter_context(open(config.run_dir / "skipped.jsonl", "w", encoding="utf-8"))
            self._run = self._ledger.next_run()
            self._accounts = Accounts(
                self._ledger, self._run, self._generation.name, skipped, config.skip_failed
            )
            self._intake = Intake(config, self._accounts)
            self._cleaner = Cleaner(self._ledger)
            self._pipeline = Pipeline(config, self._generation.text)
            stack.callback(self._pipeline.kill)
            self._memory = MemorySampler(self._pipeline.pids)
            self._memory.start()
            stack.callback(self._memory.stop)
            return self._run_to_end()

    def _run_to_end(self) -> int:
        config = self._config
        try:
            self._preflight()
            self._begun = True
            while not self._finished():
                self._admit()
                self._grant()
                self._listen()
                self._watch()
                self._tick()
            self._drain()
        except RunStoppedError as error:
            return self._end("stopped", EXIT_STOPPED, str(error))
        except (sqlite3.OperationalError, OSError) as error:
            log.exception("the run directory")
            return self._end("stopped", EXIT_STOPPED, f"{config.run_dir} can't be written ({error})")
        except EngineError as error:
            if isinstance(error, UsageError) and not self._begun:
                raise
            log.error("%s", error)
            return self._end("error", EXIT_ENGINE_FAILED, str(error))
        if not self._complete:
            return self._end("stopped", EXIT_STOPPED, "by a signal")
        return self._end("complete", EXIT_DONE)

    # Before the first file

    def _preflight(self) -> None:
        """The database first: a model is not loaded for one that is not there or doesn't fit."""
        config, ledger = self._config, self._ledger
        known = ledger.get("adapter")
        if known not in (None, config.adapter):
            raise UsageError(
                f"--run-dir {config.run_dir}: its ledger is of {known}, not of {config.adapter};"
                " name another --run-dir"
            )
        self._pipeline.start_indexer(patient=known is not None, identity=ledger.get("identity"))
        opened = self._await(m.Opened)
        renew = self._generation.check(ledger, opened)
        self._accounts.shared = opened.count > 0 and opened.state != ledger.get("state")
        filled = ledger.get("identity") if ledger.has_records() else None
        prepared = self._prepare(renew)
        if prepared.new:
            self._progress.say("loading a new generation of the index; search goes on in the old one")
        if prepared.new or filled not in (None, prepared.identity):
            # What the old one holds stays as it is, whole: nothing is deleted from it file by file.
            ledger.begin_again()
        if prepared.new:
            # In one commit with the new identity and the ledger's new beginning.
            self._will_change_index()
        ledger.set("adapter", config.adapter)
        ledger.set("config", json.dumps(config.as_dict()))
        ledger.commit()
        # What an earlier run had left to delete goes first: a file may have turned back to what it was, and
        # would write the very ids that are still to be deleted.
        while not self._cleaner.idle:
            self._listen()
            self._watch()
            self._tick()

    def _prepare(self, renew: m.Renew = "never") -> m.Prepared:
        """Make the index, or check that it fits and add to it what it lacks; or begin it anew."""
        self._tell_indexer(m.Prepare(self._generation.schema(), renew))
        prepared = self._await(m.Prepared)
        if prepared.identity is not None:
            self._ledger.set("identity", prepared.identity)
        return prepared

    # Admission

    def _admit(self) -> None:
        """Look for files while there is room, and give parsers their next ones."""
        if self._stop.asked:
            return
        self._intake.step()
        waiting = self._intake.waiting
        jobs: list[tuple[ParserSlot, FileJob]] = []
        while waiting and self._accounts.active < ACTIVE_FILES:
            slot = self._pipeline.roomy_parser(waiting[0].size)
            if slot is None:
                break
            job = self._accounts.dispatch(waiting.popleft())
            if job is not None:
                slot.jobs.append(job)
                jobs.append((slot, job))
        self._send(jobs)

    def _send(self, jobs: list[tuple[ParserSlot, FileJob]]) -> None:
        """Send jobs out, their attempts durable before any of their records can be in the database."""
        if jobs:
            self._will_change_index()
            self._ledger.commit()
        for slot, job in jobs:
            slot.child.send(m.Parse(job))

    def _will_change_index(self) -> None:
        """Book, before the index is touched, that it has to be published; once, and durably."""
        if not self._ledger.get("unpublished"):
            self._ledger.set("unpublished", "1")
            self._ledger.commit()

    def _grant(self) -> None:
        """Hand out credits; where somebody waits for them, the indexer writes what it holds."""
        stalled = self._credits.blocked and not self._credits.in_flight
        if not self._ram.over(self._memory.total, stalled):
            for name, size in self._credits.grants():
                slot = self._pipeline.parsers[name]
                slot.waiting, slot.progressed = False, time.monotonic()
                slot.child.send(m.Grant(size))
        idle = not self._intake.waiting and not any(slot.jobs for slot in self._pipeline.parsers.values())
        now = time.monotonic()
        wanted = (self._credits.blocked or idle) and self._credits.in_flight
        if wanted and now - self._last_flush > FLUSH_INTERVAL_S:
            self._last_flush = now
            self._tell_indexer(m.Flush())

    # Messages

    def _listen(self) -> None:
        """Handle what children said; wait a moment where none did and nothing else is to do."""
        children = {child.control: child for child in self._pipeline.children() if not child.silent}
        listing = self._intake.busy and not self._stop.asked
        for ready in connection.wait(list(children), 0.0 if listing else LISTEN_S):
            child = children[ready]  # type: ignore[index]
            for message in child.receive():
                self._handle(child, message)

    def _handle(self, child: Child, message: object) -> None:
        accounts = self._accounts
        if isinstance(message, m.Stats):
            child.stats = message
        elif isinstance(message, m.Received):
            if child is self._pipeline.inference:
                self._credits.emitted(message.channel, message.size)
                accounts.received(message)
        elif isinstance(message, m.Embedded):
            accounts.embedded(message)
        elif isinstance(message, m.SegmentWritten):
            self._credits.acknowledged(message.size)
            accounts.written(message)
        elif isinstance(message, m.Deleted):
            accounts.counts.deleted += message.records
            self._cleaner.deleted(message.request)
            self._ledger.commit()
            self._clean()
        elif isinstance(message, m.ChannelClosed):
            if message.name in self._pipeline.parsers:
                self._parser_gone(self._pipeline.parsers[message.name])
        elif isinstance(message, m.DatabaseState):
            self._database.note(message.trouble)
        elif isinstance(message, m.Published):
            self._published = True
            if message.state is not None:
                self._ledger.set("state", message.state)
        elif isinstance(message, m.Note):
            log.info("%s", message.text)
            self._progress.say(message.text)
        elif isinstance(message, m.Failed):
            if message.traceback:
                log.error("%s: %s\n%s", child.name, message.message, message.traceback)
            if message.exit_code == EXIT_USAGE:
                raise UsageError(message.message)
            raise EngineError(f"{child.name}: {message.message}")
        elif child.name in self._pipeline.parsers:
            self._handle_parser(self._pipeline.parsers[child.name], message)

    def _handle_parser(self, slot: ParserSlot, message: object) -> None:
        slot.progressed = time.monotonic()
        if isinstance(message, m.Began):
            slot.current = slot.jobs[0]
            slot.began, self._stillborn = True, 0
        elif isinstance(message, m.NeedCredit):
            slot.waiting = True
            self._credits.ask(slot.child.name, message.size)
        elif isinstance(message, m.NeedImageModel):
            spec = self._generation.image()
            if spec is not None:
                self._prepare()
            self._pipeline.use_images(spec)
            # Finding a model may have taken long, and nobody could show progress meanwhile.
            for other in self._pipeline.parsers.values():
                other.progressed = time.monotonic()
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

    def _tell_indexer(self, message: object) -> None:
        if self._pipeline.indexer is not None:
            self._pipeline.indexer.send(message)

    def _await(self, kind: type[Wanted]) -> Wanted:
        """Handle the indexer's messages until it says this."""
        child = self._pipeline.indexer
        if child is None:
            raise EngineError("the indexer was asked before it was started")
        while True:
            answer: Wanted | None = None
            if connection.wait([child.control, child.process.sentinel], STATUS_INTERVAL_S):
                for message in child.receive():
                    if isinstance(message, kind):
                        answer = message
                    else:
                        self._handle(child, message)
            if answer is not None:
                return answer
            if self._stop.asked and not self._begun:
                raise RunStoppedError("by a signal")
            self._watch()
            self._tick()

    # Deaths, deadlines, signals

    def _watch(self) -> None:
        """Find what died, is stuck, has waited too long, or was asked for by a signal."""
        now = time.monotonic()
        for child in self._pipeline.children():
            if child.process.exitcode is not None:
                self._died(child)
        for slot in self._pipeline.parsers.values():
            at_work = slot.current is not None and not slot.waiting and not slot.dead
            if at_work and now - slot.progressed > self._config.file_timeout:
                slot.verdict = f"no progress for {self._config.file_timeout:g} s (--file-timeout)"
                slot.child.process.kill()
        self._database.check()
        if name := self._stop.begins():
            log.info("%s: stopping", name)
            self._progress.say(f"{name}: finishing what is in flight, at most {self._config.grace:g} s")
            for slot in self._pipeline.parsers.values():
                slot.child.send(m.Cancel())
        self._stop.check()

    def _died(self, child: Child) -> None:
        slot = self._pipeline.parsers.get(child.name)
        if slot is not None:
            slot.dead = True
        for message in child.receive():
            self._handle(child, message)
        if slot is None:
            raise EngineError(child.death())
        log.warning("%s", f"{child.name} was ended: {slot.verdict}" if slot.verdict else child.death())
        self._restarts["parser"] += 1
        if not slot.began:
            self._stillborn += 1
            if self._stillborn >= STILLBORN_PARSERS:
                raise EngineError(
                    f"{self._stillborn} parsers in a row died before they parsed anything: {child.death()};"
                    f" see the run's log, or give more than --parser-memory {self._config.parser_memory}"
                )

    def _parser_gone(self, slot: ParserSlot) -> None:
        """A parser is dead and all that it sent has arrived: its files are parsed again by another."""
        if not slot.dead:
            slot.child.kill()
            self._died(slot.child)
        self._pipeline.remove(slot)
        self._credits.forget(slot.child.name)
        code = slot.child.process.exitcode or 0
        at_fault = code == OUT_OF_MEMORY or -code in CRASH_SIGNALS
        crashed = slot.verdict or (slot.child.death() if at_fault else None)
        again: list[FileJob] = []
        for job in slot.jobs:
            at_work = job is slot.current
            replay = self._accounts.lost(
                job.attempt, crashed if at_work else None, killed=at_work and crashed is None
            )
            if replay is not None:
                again.append(replay)
        if again and not self._stop.asked:
            heir = self._pipeline.heir()
            heir.jobs.extend(again)
            self._send([(heir, job) for job in again])

    # Housekeeping

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._last_commit > COMMIT_INTERVAL_S:
            self._last_commit = now
            self._accounts.flush()
            self._ledger.commit()
            self._clean()
        if now - self._last_status > STATUS_INTERVAL_S:
            self._last_status = now
            self._lock.beat()
            self._progress.show(self._accounts.counts, self._credits.in_flight, self._database.trouble)
            status = {"database": self._database.trouble, **self._figures()}
            rundir.write_status(self._config.run_dir, status)

    def _clean(self) -> None:
        """Have deleted what replaced files left behind; what says so is durable by now."""
        for request in self._cleaner.requests():
            self._will_change_index()
            self._tell_indexer(request)

    def _figures(self) -> dict[str, object]:
        seconds = time.monotonic() - self._started
        figures = report.figures(self._accounts.counts, self._pipeline.stats(), seconds)
        return {**figures, "peak_in_flight_bytes": self._credits.peak_in_flight}

    def _finished(self) -> bool:
        """Whether nothing is left to do; or nothing may be begun and what was on its way is done."""
        if self._stop.asked and not self._complete:
            parsers = self._pipeline.parsers.values()
            return all(slot.cancelled or slot.dead for slot in parsers) and self._credits.in_flight == 0
        if not self._intake.listed or self._intake.waiting or self._accounts.again or self._accounts.active:
            return False
        if self._pruning is None:
            self._pruning = self._accounts.prune(self._intake.prunable())
        for _ in range(PRUNE_STEP):
            if next(self._pruning, self) is self:
                self._complete = self._cleaner.idle
                return self._complete
        return False

    def _drain(self) -> None:
        """Make everything searchable, then let every process end by itself."""
        self._accounts.flush()
        self._ledger.commit()
        if self._complete and self._ledger.get("unpublished"):
            self._tell_indexer(m.Publish(self._ledger.distinct_records()))
            while not self._published:
                self._listen()
                self._watch()
                self._tick()
            self._ledger.set("unpublished", "")
        for child, message in self._pipeline.stop():
            if isinstance(message, m.Stats | m.Embedded):
                self._handle(child, message)

    def _end(self, status: str, code: int, why: str = "") -> int:
        """Tell how the run ended, in files and on the last lines; where that can't be, on the last line."""
        try:
            return self._tell_end(status, code, why)
        except (sqlite3.OperationalError, OSError) as error:
            self._progress.say(f"{status}: {why}; {self._config.run_dir} can't be written ({error})")
            return EXIT_STOPPED if code in (EXIT_DONE, EXIT_FAILURES) else code

    def _tell_end(self, status: str, code: int, why: str) -> int:
        config = self._config
        self._accounts.flush()
        self._ledger.commit()
        # Failures of files that have left the corpus are told no more, where that can be known.
        lines = self._ledger.failures(self._run if self._intake.whole else 0)
        failures = report.write_lines(config.run_dir / "failures.jsonl", lines)
        if code == EXIT_DONE and failures:
            status, code = "complete_with_failures", EXIT_FAILURES
        figures, totals = self._figures(), self._ledger.totals()
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
        rundir.write_summary(config.run_dir, summary)
        self._progress.close()
        if not config.quiet:
            seconds = time.monotonic() - self._started
            counts = self._accounts.counts
            for line in report.closing_lines(counts, seconds, totals, failures, config.run_dir):
                self._progress.say(line)
        if why or not config.quiet:
            told = f"{status}: {why}; the same command goes on from here" if why else status
            told += f" after {time.monotonic() - self._started:.1f} s"
            self._progress.say(f"{told}; summary in {config.run_dir / 'summary.json'}")
        return code
