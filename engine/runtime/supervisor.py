"""The supervisor: finds files, feeds the other processes, watches them, and keeps the ledger.

It is one thread. Everything that happens reaches it as a message on a child's control connection or as a
child's end; signals only leave a mark that the loop reads.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TypeVar

from engine import parsers
from engine.config import Config
from engine.errors import (
    EXIT_DONE,
    EXIT_ENGINE_FAILED,
    EXIT_FAILURES,
    EXIT_STOPPED,
    EXIT_USAGE,
    EngineError,
    HandOverError,
    UsageError,
)
from engine.machine import batch_job as batch
from engine.machine.memory import MemorySampler, pss_bytes
from engine.models.spec import ImageSpec
from engine.records import index_url
from engine.runtime.flow.admission import Admission
from engine.runtime.flow.credits import Credits
from engine.runtime.flow.intake import Intake
from engine.runtime.generation import Generation
from engine.runtime.ledger.accounts import Accounts
from engine.runtime.ledger.cleanup import Cleaner
from engine.runtime.ledger.store import Ledger
from engine.runtime.limits.deaths import Away, Restarts, StageDiedError, verdict
from engine.runtime.limits.memory_plan import Costs, Plan, Requested, default_buffer, limit_of, plan
from engine.runtime.limits.stop import DatabaseWait, RamGuard, RunStoppedError, StopRequest
from engine.runtime.pipeline import STOP_DEADLINE_S, ParserSlot, Pipeline
from engine.runtime.process import messages as m
from engine.runtime.process.background import Background
from engine.runtime.process.child import AWAY_S, Child
from engine.runtime.process.descriptors import open_many_files
from engine.runtime.report import run_directory as rundir
from engine.runtime.report import summary as report
from engine.runtime.report.reporter import Reporter
from engine.runtime.report.throughput import Speed
from engine.stages.discover import check_inputs

#: Files looked at for pruning before the loop turns to its children again.
PRUNE_STEP = 256

#: Seconds between two ledger commits; between two heartbeats, status files and progress lines.
COMMIT_INTERVAL_S, STATUS_INTERVAL_S = 0.25, 1.0

#: Seconds that the loop waits for a message where there is nothing else to do.
LISTEN_S = 0.05

#: Seconds that messages gather which nobody waits for: a turn of the loop has a price of its own.
PATIENCE_S = 0.03

#: Seconds between two requests to the indexer to write what it holds, while somebody waits for it.
FLUSH_INTERVAL_S = 0.1

#: Seconds that files may be on their way with nothing of them in any process.
IDLE_DEADLINE_S = 60.0

Wanted = TypeVar("Wanted")

log = logging.getLogger("engine")


class Supervisor:
    """One run, from preflight to summary. A `repair` leaves the options in the ledger as they are."""

    def __init__(self, config: Config, repair: bool = False) -> None:
        self._config = config
        self._repair = repair
        self._pruning: Iterator[None] | None = None
        buffer = config.memory.buffer or default_buffer(config.memory.workers)
        self._credits = Credits(buffer, config.memory.workers)
        self._limit = limit_of(config.memory.max_ram, os.environ)
        #: What is granted before it is made could be more than there is room for.
        self._plan: Plan | None = None
        #: Bytes that the inference process may still come to take.
        self._growth = 0
        self._published = self._complete = self._begun = False
        self._restarts = Restarts()
        self._away = Away()
        self._image_search: Background[ImageSpec | None] | None = None
        self._stop = StopRequest(config.run.grace, batch.ends_at(os.environ))
        self._database = DatabaseWait(config.database.database_deadline)
        self._ram = RamGuard()
        self._speed = Speed()
        self._last_commit = self._last_status = self._last_flush = 0.0
        self._started = self._idle_since = time.monotonic()

    def run(self) -> int:
        """The whole run; returns its exit code. Raises `UsageError` where it can't work as asked."""
        try:
            return self._run()
        except (sqlite3.DatabaseError, OSError) as error:
            # Before the first file; or at the very end, where files are closed on a disk that is full.
            raise RunStoppedError(f"{self._config.run_dir} can't be written ({error})") from error

    def _run(self) -> int:
        config = self._config
        with ExitStack() as stack:
            check_inputs(config.corpus.inputs, config.corpus.files_from)
            parsers.check()
            self._progress = report.ProgressLine(config.run.quiet)
            stack.callback(self._progress.close)
            self._generation = Generation(config, self._progress.say)
            # From here on a signal drains; before, while a model may be fetched, it simply ends the command.
            stack.callback(self._stop.catch())
            self._lock = rundir.claim(config.run_dir, self._progress.say, self._stop.check_asked)
            stack.callback(self._lock.release)
            stack.callback(rundir.remove_status, config.run_dir)
            stack.callback(rundir.log_to(config.run_dir, config.run.log_level))
            self._ledger = Ledger(config.run_dir)
            stack.callback(self._ledger.close)
            skipped = stack.enter_context(rundir.open_skipped(config.run_dir))
            self._invocation = self._ledger.next_run()
            self._accounts = Accounts(
                self._ledger,
                self._invocation,
                self._generation.name,
                skipped,
                config.corpus.skip_failed,
                config.parsing.file_attempts,
            )
            self._intake = Intake(config, self._accounts)
            self._cleaner = Cleaner(self._ledger)
            open_many_files()
            self._pipeline = Pipeline(config, self._generation.text)
            stack.callback(self._pipeline.kill)
            self._admission = Admission(
                config, self._pipeline, self._accounts, self._intake, self._credits, self._restarts
            )
            trace = stack.enter_context(rundir.open_trace(config.run.memory_trace))
            self._memory = MemorySampler(self._pipeline.pids, self._limit.size, trace)
            self._reporter = Reporter(
                config,
                self._invocation,
                self._progress,
                self._accounts,
                self._pipeline,
                self._credits,
                self._memory,
                self._limit,
                self._speed,
                self._started,
            )
            self._memory.start()
            stack.callback(self._memory.stop)
            return self._run_to_end()

    def _run_to_end(self) -> int:
        config = self._config
        try:
            while not self._published:
                try:
                    self._open()
                    while not self._finished():
                        self._admit()
                        self._grant()
                        self._listen()
                        self._watch()
                        self._tick()
                    self._drain()
                    break
                except StageDiedError as death:
                    self._recover(death)
        except RunStoppedError as error:
            return self._end("stopped", EXIT_STOPPED, str(error))
        except (sqlite3.DatabaseError, OSError) as error:
            log.exception("the run directory")
            return self._end("stopped", EXIT_STOPPED, f"{config.run_dir} can't be written ({error})")
        except EngineError as error:
            if isinstance(error, UsageError) and not self._begun:
                raise
            log.error("%s", error)
            return self._end("error", EXIT_ENGINE_FAILED, str(error))
        if not self._complete:
            return self._end("stopped", EXIT_STOPPED, self._stop.why)
        return self._end("complete", EXIT_DONE)

    # Before the first file

    def _open(self) -> None:
        """The database first: a model is not loaded for one that is not there or doesn't fit."""
        config, ledger = self._config, self._ledger
        known = ledger.get("adapter")
        index = index_url(config.database.adapter)
        if known not in (None, index):
            raise UsageError(
                f"--run-dir {config.run_dir}: its ledger is of {known}, not of {index};"
                " name another --run-dir"
            )
        # A job has waited for its place, and shall not lose it to a database that is away for a while.
        patient = known is not None or config.task.fleet or batch.name(os.environ) is not None
        self._pipeline.start_indexer(patient, identity=ledger.get("identity"))
        opened = self._await(m.Opened)
        renew = self._generation.check(ledger, opened)
        if self._begun:
            # Once more after a death: what this run has begun goes on.
            renew = "misfit" if opened.resumed else "never"
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
        taken = sum(pss_bytes(pid) for _, pid in self._pipeline.pids()) + pss_bytes(os.getpid())
        self._pipeline.room = self._limit.size - taken
        before = json.loads(ledger.get("config") or "{}").get("adapter")
        if config.database.adapter not in (index, before):
            # Its options are asked for now, so they are put into effect also where there is nothing to write.
            self._will_change_index()
        ledger.set("adapter", index)
        if not self._repair:
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
        for kind, name in self._generation.known().items():
            self._ledger.adopt_plan(kind, name)
        return prepared

    # Admission

    def _admit(self) -> None:
        """Give parsers their next files, their attempts durable before any of their records can be in the
        database."""
        if self._stop.asked:
            return
        self._use_images()
        jobs = self._admission.step()
        if jobs:
            self._will_change_index()
            self._ledger.commit()
        for slot in dict.fromkeys(slot for slot, _ in jobs):
            slot.child.send(m.Parse(tuple(job for owner, job in jobs if owner is slot)))

    def _will_change_index(self) -> None:
        """Book, before the index is touched, that it has to be published; once, and durably."""
        if not self._ledger.get("unpublished"):
            self._ledger.set("unpublished", "1")
            self._ledger.commit()

    def _grant(self) -> None:
        """Hand out credits; where somebody waits for them, the indexer writes what it holds."""
        if self._plan is None or (self._speed.calibrating and self._credits.in_flight):
            return
        total, limit = self._memory.total, self._limit.size
        share = self._ram.share(total, limit)
        self._ram.check(total, limit, self._credits.blocked and not self._credits.in_flight)
        for name, size in self._credits.grants(share):
            self._pipeline.parsers[name].child.send(m.Grant(size))
        if share < 1:
            self._admission.recycle(self._memory.processes)
        now = time.monotonic()
        wanted = self._credits.wants_flush(self._admission.idle)
        if wanted and now - self._last_flush > FLUSH_INTERVAL_S:
            self._last_flush = now
            self._tell_indexer(m.Flush())

    # Messages

    def _listen(self) -> None:
        """Handle what children said; wait a moment where none did and nothing else is to do."""
        if self._intake.busy and not self._stop.asked:
            self._pipeline.wait(0.0)
        else:
            # At the end of the corpus nothing more gathers.
            hurry = self._credits.blocked or self._admission.idle
            self._pipeline.wait(LISTEN_S, 0.0 if hurry else PATIENCE_S)
        for child in self._pipeline.children():
            for message in child.receive():
                self._handle(child, message)

    def _handle(self, child: Child, message: object) -> None:
        accounts = self._accounts
        slot = self._pipeline.parsers.get(child.name)
        self._speed.note(message, self._pipeline)
        if isinstance(message, m.Failed):
            self._failed(child, slot, message)
        elif isinstance(message, m.Received):
            if child is self._pipeline.inference:
                self._credits.emitted(message.channel, message.size)
                accounts.received(message)
        elif isinstance(message, m.Embedded):
            self._credits.embedded(message.size)
            accounts.embedded(message)
        elif isinstance(message, m.SegmentWritten):
            self._credits.acknowledged(message.size)
            accounts.written(message)
        elif isinstance(message, m.Deleted):
            accounts.counts.deleted += message.records
            self._cleaner.deleted(message.request)
            self._ledger.commit()
            self._clean()
        elif isinstance(message, m.Found):
            self._cleaner.found(message)
            self._ledger.commit()
            self._clean()
        elif isinstance(message, m.ChannelClosed):
            if message.name in self._pipeline.parsers:
                self._parser_gone(self._pipeline.parsers[message.name])
        elif isinstance(message, m.Loaded):
            self._growth = max(self._growth, message.growth)
            self._make_plan()
        elif isinstance(message, m.NeedImageModel):
            if self._image_search is None:
                # A model may have to be fetched first, and nothing else shall wait for that.
                self._image_search = Background(self._generation.image)
        elif isinstance(message, m.DatabaseState):
            self._database.note(message.trouble, message.disk_full)
        elif isinstance(message, m.Published):
            self._published = True
            if message.state is not None:
                self._ledger.set("state", message.state)
            self._ledger.set("unpublished", "")
        elif isinstance(message, m.Note):
            log.info("%s", message.text)
            if not (message.detail and self._config.run.quiet):
                self._progress.say(message.text)
        elif slot is not None:
            self._admission.handle(slot, message)

    def _failed(self, child: Child, slot: ParserSlot | None, message: m.Failed) -> None:
        """A process says why it ends: that is the end of the run, of its stage, or of a parser's file."""
        if message.traceback:
            log.error("%s: %s\n%s", child.name, message.message, message.traceback)
        if message.exit_code == EXIT_USAGE:
            raise UsageError(message.message)
        if slot is not None:
            self._admission.handle(slot, message)
        elif message.again:
            child.kill()
            raise StageDiedError(child.name, f"{child.name}: {message.message}")
        else:
            raise EngineError(f"{child.name}: {message.message}")

    def _make_plan(self) -> None:
        """Every process is there, the model is loaded: how much of everything else there may be.

        Once more when the model for pictures is loaded, too. Raises `UsageError` where nothing fits.
        """
        config, pipeline = self._config, self._pipeline
        sizes = {stage: pss_bytes(pid) for stage, pid in pipeline.pids() if stage != "parsers"}
        costs = Costs(
            pss_bytes(os.getpid()), sizes.get("indexer", 0), sizes.get("inference", 0), self._growth
        )
        bulk = config.database.bulk_bytes * config.database.bulk_concurrency
        requested = Requested(config.memory.workers, config.memory.parser_memory, config.memory.buffer, bulk)
        first = self._plan is None
        try:
            made = plan(self._limit, costs, requested)
        except UsageError as error:
            if first:
                raise
            # The plan leaves room for what may never be taken, and what is taken is looked at all the time.
            head = str(error).partition("\n")[0]
            log.warning("%s", error)
            self._progress.say(f"{head}; going on, with less on its way near the limit")
            return
        self._plan, self._begun = made, True
        self._reporter.planned(made)
        self._credits.resize(made.buffer, made.workers)
        pipeline.limit(made.workers, made.parser_memory)
        for line in made.lines(self._limit):
            log.info("%s", line)
            if first and not config.run.quiet:
                self._progress.say(line)

    def _use_images(self) -> None:
        """Once the image model is found, the index is made to hold its vectors; then the parsers go on."""
        if self._image_search is not None and self._image_search.done:
            search, self._image_search = self._image_search, None
            spec = search.result()
            if spec is not None:
                self._prepare()
                self._ledger.commit()
            self._pipeline.use_images(spec)

    def _tell_indexer(self, message: object) -> None:
        if self._pipeline.indexer is not None:
            self._pipeline.indexer.send(message)

    def _await(self, kind: type[Wanted]) -> Wanted:
        """Handle the indexer's messages until it says this."""
        child = self._pipeline.indexer
        if child is None:
            raise EngineError("the indexer was asked before it was started")
        while True:
            self._pipeline.wait(LISTEN_S)
            for message in child.receive():
                if isinstance(message, kind):
                    return message
                self._handle(child, message)
            if not self._begun:
                self._stop.check_asked()
            self._watch()
            self._tick()

    # Deaths, deadlines, signals

    def _watch(self) -> None:
        """Find what died, is stuck, has waited too long, or was asked for by a signal."""
        now = time.monotonic()
        if self._away.look(now):
            self._idle_since = now
            for child in self._pipeline.children():
                child.excuse()
        for child in self._pipeline.children():
            if child.process.exitcode is not None:
                self._died(child)
            elif child.name not in self._pipeline.parsers and (why := verdict(child, now)):
                child.kill()
                raise StageDiedError(child.name, f"{child.name} was ended: {why.reason}")
        self._admission.watch(now, self._stop.draining_s, self._memory.processes)
        self._database.check()
        if name := self._stop.begins():
            log.info("%s: stopping", name)
            self._progress.say(f"{name}: finishing what is in flight, at most {self._stop.grace:g} s")
            self._admission.cancel()
        self._stop.check()

    def _died(self, child: Child) -> None:
        slot = self._pipeline.parsers.get(child.name)
        if slot is not None:
            slot.dead = True
        for message in child.receive():
            self._handle(child, message)
        if slot is None:
            raise StageDiedError(child.name, child.death())
        self._admission.died(slot)

    def _parser_gone(self, slot: ParserSlot) -> None:
        """A parser's channel has ended, and so has the parser, or it is made to."""
        if not slot.dead:
            slot.child.kill()
            self._died(slot.child)
        self._admission.gone(slot)

    def _recover(self, death: StageDiedError) -> None:
        """The inference process or the indexer is gone. All others go too, and what was on its way is made
        again: that is what a new invocation would do, and needs no second way to be right."""
        log.warning("%s", death)
        self._restarts.counts[death.stage] += 1
        for child in self._pipeline.kill():
            if child.process.exitcode is None:
                # A second writer beside it could double what it still writes.
                raise EngineError(f"{death}; {child.name}, process {child.pid}, can't be ended")
            # What the database has acknowledged need not be made again, and what was embedded counts.
            for message in child.receive():
                if isinstance(message, m.SegmentWritten | m.Deleted | m.Embedded):
                    self._handle(child, message)
        if self._stop.asked:
            raise RunStoppedError(f"{self._stop.why}; {death} meanwhile")
        pause = self._restarts.again(
            str(death), self._accounts.counts.records + self._accounts.counts.deleted
        )
        self._progress.say(f"{death}; starting again in {pause:g} s")
        self._credits.reset()
        self._speed.forget()
        self._cleaner.reset()
        self._database.forget()
        self._admission.collapsed()
        self._ledger.commit()
        ends = time.monotonic() + pause
        while time.monotonic() < ends and not self._stop.asked:
            time.sleep(LISTEN_S)

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
            self._reporter.tell(self._database.trouble)

    def _clean(self) -> None:
        """Have deleted what replaced files left behind; what says so is durable by now."""
        for request in self._cleaner.requests():
            self._will_change_index()
            self._tell_indexer(request)

    def _finished(self) -> bool:
        """Whether nothing is left to do; or nothing may be begun and what was on its way is done."""
        if self._stop.asked and not self._complete:
            parsers = self._pipeline.parsers.values()
            return all(slot.cancelled or slot.dead for slot in parsers) and self._credits.in_flight == 0
        if not self._intake.listed or self._intake.waiting or self._accounts.again or self._accounts.active:
            self._check_moving()
            return False
        if self._pruning is None:
            self._pruning = self._accounts.prune(self._intake.prunable())
        for _ in range(PRUNE_STEP):
            if next(self._pruning, self) is self:
                self._complete = self._cleaner.idle
                return self._complete
        return False

    def _check_moving(self) -> None:
        """Raises `HandOverError` where files are on their way and nothing is: it must have got lost."""
        now = time.monotonic()
        # A process that is still starting has not read its channel yet.
        silent = any(now - child.heard_at > AWAY_S for child in self._pipeline.children())
        if silent or not self._intake.listed or not self._admission.idle or self._credits.in_flight:
            self._idle_since = now
        elif now - self._idle_since > IDLE_DEADLINE_S:
            raise HandOverError(
                "from the parsers to the database",
                f"{self._accounts.active} files are on their way, and no segment of theirs has arrived"
                f" for {IDLE_DEADLINE_S:g} s",
            )

    def _drain(self) -> None:
        """Make everything searchable, then let every process end by itself.

        Those that parsed and embedded end first: what the database needs to put its files in order is then
        not taken beside them.
        """
        self._accounts.flush()
        self._ledger.commit()
        self._end_processes("parse")
        # The tasks of a fleet leave that to its last job.
        if self._complete and self._ledger.get("unpublished") and not self._config.task.fleet:
            self._tell_indexer(m.Publish(self._ledger.distinct_records()))
            while not self._published:
                self._listen()
                self._watch()
                self._tick()
        self._end_processes("index")

    def _end_processes(self, stages: str) -> None:
        seconds = STOP_DEADLINE_S
        if self._stop.asked:
            seconds = max(0.0, min(seconds, self._stop.grace - self._stop.draining_s))
        for child, message in self._pipeline.stop(stages, seconds, lambda: self._stop.urgent):
            # A last segment may still have been on its way when its parser left the file.
            if isinstance(message, m.Received | m.Embedded | m.SegmentWritten):
                self._handle(child, message)

    def _end(self, status: str, code: int, why: str = "") -> int:
        """Book how the run ended and tell it; where it can't be written, on the last line alone."""
        config, ledger = self._config, self._ledger
        try:
            self._accounts.close()
            if self._intake.whole:
                ledger.set("listed", str(self._invocation))
            ledger.commit()
            # Failures of files that have left the corpus are told no more, where that can be known.
            lines = ledger.failures(self._invocation if self._intake.whole else 0)
            failures = report.write_lines(config.run_dir / "failures.jsonl", lines)
            if code == EXIT_DONE and failures:
                status, code = "complete_with_failures", EXIT_FAILURES
            self._reporter.end(status, code, why, ledger.totals(), failures, self._restarts.counts)
            return code
        except (sqlite3.DatabaseError, OSError) as error:
            self._progress.say(f"{status}: {why}; {config.run_dir} can't be written ({error})")
            return EXIT_STOPPED if code in (EXIT_DONE, EXIT_FAILURES) else code
