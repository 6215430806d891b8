"""Admission: which file is parsed next and by whom, and what becomes of the files of a parser that dies."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Mapping

from engine.config import Config
from engine.errors import EngineError
from engine.runtime.flow.credits import Credits
from engine.runtime.flow.intake import Intake
from engine.runtime.flow.lanes import Lane, LaneState, ParserSlot
from engine.runtime.ledger.accounts import Accounts
from engine.runtime.limits.deaths import OomKills, Restarts, Verdict, crash, verdict
from engine.runtime.limits.stop import CANCEL_DEADLINE_S, RETIRED_SHARE
from engine.runtime.pipeline import Pipeline
from engine.runtime.process import messages as m
from engine.runtime.process.child import Child
from engine.runtime.router import Router
from engine.stages.parse import FileJob
from engine.stages.segment import SUBS_PER_UNIT

#: Files on their way at most, so that a corpus of tiny files doesn't fill the supervisor's memory.
ACTIVE_FILES = 8192

#: Bytes beyond its limit that a parser may have mapped: libraries, a picture buffer, the file it reads.
MAPPED_ROOM = 256 * 2**20

#: Seconds of its work, and bytes, that a device has before it while its lane waits for one with less to do.
SPARE_S, SPARE_BYTES = 1.0, 16 * 2**10

#: Parsers that may die one after another before they begin a file: the fault is not in a file then.
STILLBORN_PARSERS = 8

log = logging.getLogger("engine")


class Admission:
    """Gives the parsers their files. What it hands out must be durable in the ledger before it is sent."""

    def __init__(
        self,
        config: Config,
        pipeline: Pipeline,
        accounts: Accounts,
        intake: Intake,
        credit: Credits,
        restarts: Restarts,
    ) -> None:
        self._config = config
        self._pipeline = pipeline
        self._accounts = accounts
        self._intake = intake
        self._credits = credit
        self._restarts = restarts
        self._oom_kills = OomKills()
        self._stillborn = 0
        #: Files whose process died, to be parsed again: beside others, and with no other file at work.
        self._again: deque[FileJob] = deque()
        self._suspects: deque[FileJob] = deque()
        #: By dead lane, the attempts that no parser had begun with.
        self._unbegun: dict[str, set[int]] = {}

    @property
    def idle(self) -> bool:
        """Whether no file waits for a parser or is with one."""
        return not self._intake.waiting and not self._again and not self._suspects and self._pipeline.idle

    @property
    def full(self) -> bool:
        """Whether so many files are on their way that no other may be begun before the database answers."""
        return self._accounts.active >= ACTIVE_FILES

    def step(self) -> list[tuple[ParserSlot, FileJob]]:
        """Look for files while there is room; the parsers' next ones."""
        self._intake.step()
        pipeline = self._pipeline
        jobs: list[tuple[ParserSlot, FileJob]] = []
        while (found := self._next()) is not None:
            lane, job = found
            if job.alone:
                slot = pipeline.fresh_parser(lane)
            elif (roomy := pipeline.parser_for(lane, job.item.location, job.item.size)) is None:
                self._again.appendleft(job)
                break
            else:
                slot = roomy
            lane.give(slot, job)
            self._accounts.place(job.attempt, lane.name)
            jobs.append((slot, job))
        pipeline.staff(waiting=bool(self._intake.waiting or self._again))
        return jobs

    def _next(self) -> tuple[Lane, FileJob] | None:
        """What is to be parsed next and where, if anything may be now: a suspect of crashing its parser only
        alone."""
        if self._pipeline.alone:
            return None
        if self._suspects:
            lane = self._lane(self._suspects[0]) if self._pipeline.idle else None
            return None if lane is None else (lane, self._suspects.popleft())
        # Lanes that drain for a file that has something in flight there: no other file may overtake it.
        drain: set[str] = set()
        for place, job in enumerate(self._again):
            if (lane := self._lane(job, drain)) is not None:
                del self._again[place]
                return lane, job
            name = self._accounts.lane_of(job.attempt)
            drain |= {name} if name else {each.name for each in self._pipeline.lanes}
            if len(drain) >= len(self._pipeline.lanes):
                return None
        waiting = self._intake.waiting
        while waiting and self._accounts.active < ACTIVE_FILES:
            lane = self._most_room(drain, waiting[0].location, waiting[0].size)
            if lane is None:
                break
            new = self._accounts.dispatch(waiting.popleft())
            if new is not None:
                return lane, new
        return None

    def _lane(self, job: FileJob, drain: Collection[str] = ()) -> Lane | None:
        """The lane for a file that is parsed again: the one that has something of it still, where one has."""
        name = self._accounts.lane_of(job.attempt)
        others = {lane.name for lane in self._pipeline.lanes if name not in (None, lane.name)}
        if job.alone:  # it gets a parser of its own
            ready = (lane for lane in self._pipeline.lanes if lane.state is LaneState.READY)
            return next((lane for lane in ready if lane.name not in others), None)
        return self._most_room({*drain, *others}, job.item.location, job.item.size)

    def _most_room(self, without: Collection[str], path: str, size: int) -> Lane | None:
        """The lane that gets this file now, `without` those of these names: the one with the least to do.

        None where that one takes none now: it will in a moment, or once it is started again. A lane with more
        to do is given one meanwhile only where its device would soon have nothing, so that at the end of the
        corpus no device has much left that another could do.
        """
        lanes = [lane for lane in self._pipeline.lanes if lane.name not in without]
        roomy = [lane for lane in lanes if lane.has_room(path, size)]
        if len(lanes) < 2 or not roomy:
            return roomy[0] if roomy else None
        loads = {
            lane.name: self._credits.load(lane.name, lane.queued)
            for lane in lanes
            if lane.back_at is not None
        }
        best = min(roomy, key=lambda lane: loads[lane.name])
        return best if loads[best.name] <= min(loads.values()) or self._has_little(best) else None

    def _has_little(self, lane: Lane) -> bool:
        """Whether a device would soon have nothing to do."""
        # What an idle parser makes of a file isn't there at once.
        coming = lane.queued if all(slot.jobs for slot in lane.living) else 0
        enough = max(SPARE_BYTES, SPARE_S * self._credits.speed(lane.name))
        return self._credits.waiting(lane.name) + coming < enough

    def register(self, router: Router[[Child]]) -> None:
        """Have the router bring what parsers say of their files."""
        router.on(m.NeedCredit, self.need_credit)
        router.on(m.SectionFailed, self.section_failed)
        router.on(m.FileParsed, self.file_parsed)
        router.on(m.Cancelled, self.cancelled)
        router.on(m.Idle, lambda message, child: None)  # it only wakes the loop

    def need_credit(self, message: m.NeedCredit, child: Child) -> None:
        """A parser waits for room."""
        if (found := self._pipeline.find(child.name)) is not None:
            self._credits.ask(found[0].name, child.name, message.size)

    def section_failed(self, message: m.SectionFailed, child: Child) -> None:
        """A section can't be parsed."""
        failure = message.failure
        self._accounts.section_failed(message.attempt, failure, failure.unit * SUBS_PER_UNIT)

    def file_parsed(self, message: m.FileParsed, child: Child) -> None:
        """A parser is done with its first file."""
        if (found := self._pipeline.find(child.name)) is not None:
            lane, slot = found
            job, self._stillborn = lane.done(slot), 0
            self._pipeline.pace.parsed(job.item.location, job.item.size, message.seconds, message.emitted)
            self._accounts.parsed(message.attempt, message.end)

    def cancelled(self, message: m.Cancelled, child: Child) -> None:
        """A parser has left its files."""
        if (found := self._pipeline.find(child.name)) is not None:
            lane, slot = found
            lane.empty(slot)
            slot.cancelled = True

    def failed(self, slot: ParserSlot, message: m.Failed) -> None:
        """A parser can't go on."""
        slot.verdict = Verdict(f"its parser failed: {message.message}", blames_file=True)

    def watch(self, now: float, draining_s: float, sizes: Mapping[int, int]) -> None:
        """Kill each parser that is stuck at the moment `now`, takes too much memory, or that a run which is
        to end waits for. `sizes` gives bytes by process id."""
        for _, slot in self._pipeline.slots:
            if slot.dead:
                continue
            if slot.verdict is None:
                file_timeout = self._config.parsing.file_timeout if slot.current else None
                slot.verdict = verdict(slot.child, now, file_timeout)
            size, most = sizes.get(slot.child.pid, 0), self._pipeline.parser_memory + MAPPED_ROOM
            if slot.verdict is None and size > most:
                # The limit of the process itself counts no memory that it shares or maps from files.
                reason = f"its parser took {size} bytes (--parser-memory {self._pipeline.parser_memory})"
                slot.verdict = Verdict(reason, blames_file=slot.current is not None)
            # One that has told its failure is killed as well: it may be stopped on its way out.
            if slot.verdict or (draining_s > CANCEL_DEADLINE_S and not slot.cancelled):
                slot.child.process.kill()

    def recycle(self, sizes: Mapping[int, int]) -> None:
        """Memory is scarce: let the largest idle parser end, whose allocator holds on to what it once took.

        `sizes` gives bytes by process id.
        """
        slots = [slot for _, slot in self._pipeline.slots if slot.current_item.last]
        idle = [slot for slot in slots if not (slot.jobs or slot.retired or slot.dead)]
        slot = max(idle, key=lambda slot: sizes.get(slot.child.pid, 0), default=None)
        if slot and sizes.get(slot.child.pid, 0) > RETIRED_SHARE * self._pipeline.parser_memory:
            log.info("%s holds on to %d bytes and is replaced", slot.child.name, sizes[slot.child.pid])
            self._pipeline.retire(slot)

    def cancel(self) -> None:
        """The run is to end: have the parsers leave their files."""
        for _, slot in self._pipeline.slots:
            slot.child.send(m.Cancel())

    def died(self, slot: ParserSlot) -> None:
        """A parser is dead; what it sent may still be on its way. Raises `EngineError` where all of them die
        before they begin a file."""
        child: Child = slot.child
        if slot.retired and not slot.jobs:
            return
        log.warning("%s", f"{child.name} was ended: {slot.verdict.reason}" if slot.verdict else child.death())
        self._restarts.counts["parser"] += 1
        self._stillborn = 0 if slot.current_item.last else self._stillborn + 1
        if self._stillborn >= STILLBORN_PARSERS:
            raise EngineError(
                f"{self._stillborn} parsers in a row died before they parsed anything: {child.death()};"
                f" see the run's log, or give more than --parser-memory {self._pipeline.parser_memory}"
            )

    def gone(self, lane: Lane, slot: ParserSlot) -> None:
        """All that a dead parser sent has arrived: its files are parsed again by others."""
        self._pipeline.remove(lane, slot)
        self._credits.forget(lane.name, slot.child.name)
        if slot.verdict is None:
            crashed = crash(slot.child, self._oom_kills)
        else:
            crashed = slot.verdict.reason if slot.verdict.blames_file else None
        current, begun = slot.current, slot.begun
        for place, job in enumerate(slot.jobs):
            how = crashed if job is current else None
            replay = self._accounts.lost(job.attempt, place < begun, how)
            if replay is not None:
                self._take_back(replay)

    def cut_off(self, lane: Lane) -> None:
        """A lane's inference process died, and its parsers are ended: none of its files can go on."""
        # The kernel may have shot that process; no parser shall answer for it later.
        self._oom_kills.settle()
        self._unbegun[lane.name] = {
            job.attempt for slot in lane.parsers.values() for job in list(slot.jobs)[slot.begun :]
        } | {job.attempt for job in (*self._again, *self._suspects)}
        self._credits.cut_off(lane.name)

    def lane_lost(self, lane: Lane) -> None:
        """All that a dead lane had brought to the indexer is answered: its files are parsed again, from what
        is acknowledged."""
        self._credits.forget_lane(lane.name)
        for queue in (self._again, self._suspects):
            kept = [job for job in queue if self._accounts.lane_of(job.attempt) != lane.name]
            queue.clear()
            queue.extend(kept)
        for job in self._accounts.lost_lane(lane.name, self._unbegun.pop(lane.name, set())):
            self._take_back(job)

    def collapsed(self) -> None:
        """Every process is gone: all files on their way are parsed again, from what is acknowledged."""
        self._oom_kills.settle()
        self._unbegun.clear()
        self._again.clear()
        self._suspects.clear()
        for job in self._accounts.lost_all():
            self._take_back(job)

    def _take_back(self, job: FileJob) -> None:
        (self._suspects if job.alone else self._again).append(job)
