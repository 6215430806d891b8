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
from collections.abc import Iterable, Iterator
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
from engine.runtime.flow.lanes import Lane, LaneState, ParserSlot, devices_of, make_lanes, share_out
from engine.runtime.generation import Generation
from engine.runtime.ledger.accounts import Accounts
from engine.runtime.ledger.cleanup import Cleaner
from engine.runtime.ledger.in_flight import InFlight
from engine.runtime.ledger.store import Ledger
from engine.runtime.limits.deaths import LANE_DEATHS, Away, Restarts, StageDiedError, verdict
from engine.runtime.limits.memory_plan import Costs, Plan, Requested, default_buffer, limit_of, plan
from engine.runtime.limits.stop import DatabaseWait, RamGuard, RunStoppedError, StopRequest
from engine.runtime.pipeline import STOP_DEADLINE_S, Pipeline
from engine.runtime.process import messages as m
from engine.runtime.process.background import Background
from engine.runtime.process.child import AWAY_S, Child
from engine.runtime.process.descriptors import open_many_files
from engine.runtime.report import run_directory as rundir
from engine.runtime.report import summary as report
from engine.runtime.report.reporter import Reporter
from engine.runtime.report.throughput import Speed
from engine.sources import check_inputs
from engine.sources.base import Found

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
    """One run, from preflight to summary. A `repair` makes these items instead of what the inputs
    hold, and leaves the options in the ledger as they are."""

    def __init__(self, config: Config, repair: Iterable[Found] | None = None) -> None:
        self._config = config
        self._repair = repair
        self._pruning: Iterator[None] | None = None
        self._lanes = make_lanes(devices_of(config.models))
        #: How many parsers there may be: one for each device at least.
        self._workers = max(config.memory.workers, len(self._lanes))
        buffer = config.memory.buffer or default_buffer(self._workers, len(self._lanes))
        self._in_flight = InFlight()
        self._credits = Credits(buffer, share_out(self._workers, self._lanes), self._in_flight)
        self._limit = limit_of(config.memory.max_ram, os.environ)
        #: What is granted before it is made could be more than there is room for.
        self._plan: Plan | None = None
        #: Bytes that each inference process may still come to take, by its lane.
        self._growth: dict[str, int] = {}
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
                self._in_flight,
            )
            self._intake = Intake(config, self._accounts, self._repair)
            self._cleaner = Cleaner(self._ledger)
            open_many_files()
            self._pipeline = Pipeline(config, self._generation.text, self._lanes)
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
        filled = ledger.get("identity") if ledger.segments.has_records() else None
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
        self._pipeline.room = (self._limit.size - taken) // len(self._pipeline.lanes)
        before = json.loads(ledger.get("config") or "{}").get("adapter")
        if config.database.adapter not in (index, before):
            # Its options are asked for now, so they are put into effect also where there is nothing to write.
            self._will_change_index()
        ledger.set("adapter", index)
        if self._repair is None:
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
        if self._plan is None:
            return
        held_back = self._speed.calibrating if self._credits.in_flight else ()
        total, limit = self._memory.total, self._limit.size
        share = self._ram.share(total, limit)
        self._ram.check(total, limit, self._credits.blocked and not self._credits.in_flight)
        for name, size in self._credits.grants(share, held_back):
            if (found := self._pipeline.find(name)) is not None:
                found[1].child.send(m.Grant(size))
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
        self._speed.note(message, child.name, self._pipeline)
        if isinstance(message, m.Failed):
            self._failed(child, message)
        elif isinstance(message, m.Received):
            self._credits.emitted(child.name, message.channel, message.size)
            accounts.received(message)
        elif isinstance(message, m.Embedded):
            accounts.embedded(message)
        elif isinstance(message, m.SegmentWritten):
            self._written(message)
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
            if (found := self._pipeline.find(message.name)) is not None:
                self._parser_gone(*found)
            for lane in self._pipeline.lanes:
                if lane.channel == message.name:
                    lane.closed = True
                    if lane.state is LaneState.ENDING:
                        self._lane_lost(lane)
        elif isinstance(message, m.Loaded):
            self._growth[child.name] = max(self._growth.get(child.name, 0), message.growth)
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
        elif (found := self._pipeline.find(child.name)) is not None:
            self._admission.handle(*found, message)

    def _written(self, message: m.SegmentWritten) -> None:
        """The database has answered for a segment; for one of an older attempt it no longer matters."""
        name = self._accounts.lane_of(message.attempt)
        if name is None:
            log.debug("segment %d of attempt %d is left out", message.ordinal, message.attempt)
            return
        self._credits.acknowledged(name, message.size)
        for lane in self._pipeline.lanes:
            lane.answered += lane.name == name
        self._accounts.written(message)

    def _failed(self, child: Child, message: m.Failed) -> None:
        """A process says why it ends: that is the end of the run, of its lane, or of a parser's file."""
        if not self._pipeline.has(child):
            return  # it was ended meanwhile, with its lane
        if message.traceback:
            log.error("%s: %s\n%s", child.name, message.message, message.traceback)
        if message.exit_code == EXIT_USAGE:
            raise UsageError(message.message)
        lane = self._pipeline.lane_of(child)
        if (found := self._pipeline.find(child.name)) is not None:
            self._admission.handle(*found, message)
        elif message.again and lane is not None:
            self._lane_died(lane, f"{child.name}: {message.message}")
        else:
            raise EngineError(f"{child.name}: {message.message}")

    def _make_plan(self) -> None:
        """Every process is there, the model is loaded: how much of everything else there may be.

        Once more when the model for pictures is loaded, too. Raises `UsageError` where nothing fits.
        """
        config, pipeline = self._config, self._pipeline
        indexer = 0 if pipeline.indexer is None else pss_bytes(pipeline.indexer.pid)
        models = [
            pss_bytes(lane.inference.pid)
            for lane in pipeline.lanes
            if lane.inference is not None and lane.name in self._growth
        ]
        lanes, growth = len(pipeline.lanes), [*self._growth.values()]
        # One that has not loaded its model yet will take as much as the largest that has.
        lacking = lanes - len(models)
        costs = Costs(
            pss_bytes(os.getpid()),
            indexer,
            sum(models) + lacking * max(models, default=0),
            sum(growth) + (lanes - len(growth)) * max(growth, default=0),
        )
        bulk, memory = config.database.bulk_bytes * config.database.bulk_concurrency, config.memory
        requested = Requested(self._workers, memory.parser_memory, memory.buffer, bulk, lanes)
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
        pipeline.limit(made.workers, made.parser_memory)
        self._credits.resize(made.buffer, {lane.name: lane.workers for lane in pipeline.lanes})
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
            elif self._pipeline.find(child.name) is None and (why := verdict(child, now)):
                child.kill()
                self._gone(child, f"{child.name} was ended: {why.reason}")
        self._wake_lanes(now)
        self._admission.watch(now, self._stop.draining_s, self._memory.processes)
        self._database.check()
        if name := self._stop.begins():
            log.info("%s: stopping", name)
            self._progress.say(f"{name}: finishing what is in flight, at most {self._stop.grace:g} s")
            self._admission.cancel()
        self._stop.check()

    def _died(self, child: Child) -> None:
        if not self._pipeline.has(child):
            return
        found = self._pipeline.find(child.name)
        if found is not None:
            found[1].dead = True
        for message in child.receive():
            self._handle(child, message)
        if found is not None:
            self._admission.died(found[1])
        else:
            self._gone(child, child.death())

    def _gone(self, child: Child, how: str) -> None:
        """An inference process or the indexer is gone, and `how`."""
        if (lane := self._pipeline.lane_of(child)) is not None:
            self._lane_died(lane, how)
        elif child is self._pipeline.indexer:
            raise StageDiedError("indexer", how)

    def _parser_gone(self, lane: Lane, slot: ParserSlot) -> None:
        """A parser's channel has ended, and so has the parser, or it is made to."""
        if not slot.dead:
            slot.child.kill()
            self._died(slot.child)
        self._admission.gone(lane, slot)

    def _lane_died(self, lane: Lane, how: str) -> None:
        """A lane's inference process is gone, and its parsers go too; the other lanes go on.

        What had reached the indexer is still written and answered; what had not is made again then.
        """
        log.warning("%s", how)
        self._restarts.counts["inference"] += 1
        child = lane.inference
        lane.state = LaneState.ENDING
        if child is not None:
            child.kill()
            if child.process.exitcode is None:
                raise EngineError(f"{how}; {child.name}, process {child.pid}, can't be ended")
            for message in child.receive():
                if isinstance(message, m.Received | m.Embedded):
                    self._handle(child, message)
        self._admission.cut_off(lane)
        self._pipeline.end_lane(lane)
        self._speed.forget(lane.name)
        others = [each for each in self._pipeline.lanes if each is not lane and each.back_at is not None]
        if self._stop.asked and not others:
            raise RunStoppedError(f"{self._stop.why}; {how} meanwhile")
        times = self._restarts.died(lane.name, lane.answered)
        if others and times >= LANE_DEATHS:
            lane.back_at = None
            go = "goes" if len(others) == 1 else "go"
            self._progress.say(
                f"{lane.label} died {times} times and is given up ({how});"
                f" {len(others)} of {len(self._lanes)} devices {go} on"
            )
        else:
            pause = self._restarts.pause(how, times)
            lane.back_at = time.monotonic() + pause
            self._progress.say(f"{how}; starting again in {pause:g} s")
        if lane.closed:
            self._lane_lost(lane)

    def _lane_lost(self, lane: Lane) -> None:
        """The database has answered all that it ever will of a dead lane."""
        self._admission.lane_lost(lane)
        self._ledger.commit()
        lane.state = LaneState.RESTING
        if lane.back_at is None:
            self._give_up(lane)
            if self._plan is not None:
                self._make_plan()

    def _give_up(self, lane: Lane) -> None:
        self._pipeline.drop(lane)
        self._growth.pop(lane.name, None)
        self._credits.resize(self._credits.limit, {each.name: each.workers for each in self._pipeline.lanes})

    def _wake_lanes(self, now: float) -> None:
        for lane in self._pipeline.lanes:
            if lane.state is LaneState.RESTING and lane.back_at is not None and now >= lane.back_at:
                lane.state = LaneState.READY

    def _recover(self, death: StageDiedError) -> None:
        """The indexer is gone. All others go too, and what was in flight is made again: that is what a new
        invocation would do, and needs no second procedure to be right."""
        log.warning("%s", death)
        self._restarts.counts[death.stage] += 1
        for child in self._pipeline.kill():
            if child.process.exitcode is None:
                # A second writer beside it could double what it still writes.
                raise EngineError(f"{death}; {child.name}, process {child.pid}, can't be ended")
            # What the database has acknowledged need not be made again, and what was embedded counts.
            for message in child.receive():
                if isinstance(message, m.Received | m.SegmentWritten | m.Deleted | m.Embedded):
                    self._handle(child, message)
        if self._stop.asked:
            raise RunStoppedError(f"{self._stop.why}; {death} meanwhile")
        counts = self._accounts.counts
        times = self._restarts.died(death.stage, counts.records + counts.deleted)
        pause = self._restarts.pause(str(death), times)
        self._progress.say(f"{death}; starting again in {pause:g} s")
        self._credits.reset()
        for lane in self._pipeline.lanes:
            self._speed.forget(lane.name)
            if lane.state is LaneState.ENDING:
                lane.state = LaneState.RESTING
        self._cleaner.reset()
        self._database.forget()
        self._admission.collapsed()
        for lane in [each for each in self._pipeline.lanes if each.back_at is None]:
            self._give_up(lane)
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
            left = all(slot.cancelled or slot.dead for _, slot in self._pipeline.slots)
            ending = any(lane.state is LaneState.ENDING for lane in self._pipeline.lanes)
            return left and not ending and self._credits.in_flight == 0
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
        ending = any(lane.state is LaneState.ENDING for lane in self._pipeline.lanes)
        moving = ending or not self._intake.listed or not self._admission.idle or self._credits.in_flight
        if silent or moving:
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
            self._tell_indexer(m.Publish(self._ledger.audit.distinct_records()))
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
            lines = ledger.items.failures(self._invocation if self._intake.whole else 0)
            failures = report.write_lines(config.run_dir / "failures.jsonl", lines)
            if code == EXIT_DONE and failures:
                status, code = "complete_with_failures", EXIT_FAILURES
            self._reporter.end(status, code, why, ledger.audit.totals(), failures, self._restarts.counts)
            return code
        except (sqlite3.DatabaseError, OSError) as error:
            self._progress.say(f"{status}: {why}; {config.run_dir} can't be written ({error})")
            return EXIT_STOPPED if code in (EXIT_DONE, EXIT_FAILURES) else code
