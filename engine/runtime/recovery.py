"""What is done when a process dies: a parser's files are parsed again, a lane's are, or all are."""

from __future__ import annotations

import logging
import time

from engine.errors import EXIT_USAGE, EngineError, IndexLostError, UsageError
from engine.runtime.flow.lanes import Lane, LaneState, ParserSlot
from engine.runtime.limits.deaths import LANE_DEATHS, StageDiedError
from engine.runtime.limits.stop import RunStoppedError
from engine.runtime.parts import Parts
from engine.runtime.process import messages as m
from engine.runtime.process.child import Child
from engine.runtime.router import Router

#: Last messages that still count: of a dead inference process; and of every process, where the indexer died.
OF_A_LANE = (m.Received, m.Embedded)
OF_ALL = (m.Received, m.SegmentWritten, m.Deleted, m.Embedded)

log = logging.getLogger("engine")


class Recovery:
    """Deaths, from the smallest to the largest. Nothing is waited for but a killed process to be gone."""

    def __init__(self, parts: Parts, router: Router[[Child]]) -> None:
        self._parts = parts
        self._router = router
        self._devices = len(parts.pipeline.lanes)

    def register(self) -> None:
        """Have the router bring what this takes."""
        self._router.on(m.Failed, self._failed)
        self._router.on(m.ChannelClosed, self._channel_closed)

    def died(self, child: Child) -> None:
        """A process has ended. Raises `StageDiedError` where it is the indexer."""
        if child.gone:
            return
        found = self._parts.pipeline.find(child.name)
        if found is not None:
            found[1].dead = True
        for message in child.receive():
            self._router(message, child)
        if found is not None:
            self._parts.admission.died(found[1])
        else:
            self.lost(child, child.death())

    def lost(self, child: Child, how: str) -> None:
        """An inference process or the indexer is gone, and `how`."""
        if (lane := self._parts.pipeline.lane_of(child)) is not None:
            self._lane_died(lane, how)
        elif child is self._parts.pipeline.indexer:
            raise StageDiedError("indexer", how)

    def _failed(self, message: m.Failed, child: Child) -> None:
        """A process says why it ends: that is the end of the run, of its lane, or of a parser's file."""
        if message.traceback:
            log.error("%s: %s\n%s", child.name, message.message, message.traceback)
        if message.index_lost:
            raise IndexLostError(message.message)
        if message.exit_code == EXIT_USAGE:
            raise UsageError(message.message)
        lane = self._parts.pipeline.lane_of(child)
        if (found := self._parts.pipeline.find(child.name)) is not None:
            self._parts.admission.failed(found[1], message)
        elif message.again and lane is not None:
            self._lane_died(lane, f"{child.name}: {message.message}")
        else:
            raise EngineError(f"{child.name}: {message.message}")

    def _channel_closed(self, message: m.ChannelClosed, child: Child) -> None:
        if (found := self._parts.pipeline.find(message.name)) is not None:
            self._parser_gone(*found)
        for lane in self._parts.pipeline.lanes:
            if lane.channel == message.name:
                lane.closed = True
                if lane.state is LaneState.ENDING:
                    self._lane_lost(lane)

    # A parser

    def _parser_gone(self, lane: Lane, slot: ParserSlot) -> None:
        """A parser's channel has ended, and so has the parser, or it is made to."""
        if not slot.dead:
            slot.child.kill()
            self.died(slot.child)
        self._parts.admission.gone(lane, slot)

    # A lane

    def _lane_died(self, lane: Lane, how: str) -> None:
        """A lane's inference process is gone, and its parsers go too; the other lanes go on.

        What had reached the indexer is still written and answered; what had not is made again then.
        """
        parts, child = self._parts, lane.inference
        log.warning("%s", how)
        parts.restarts.counts["inference"] += 1
        lane.state = LaneState.ENDING
        if child is not None:
            child.kill()
            _check_gone(child, how)
            for message in child.receive():
                if isinstance(message, OF_A_LANE):
                    self._router(message, child)
        parts.admission.cut_off(lane)
        parts.pipeline.end_lane(lane)
        parts.speed.forget(lane.name)
        others = [each for each in parts.pipeline.lanes if each is not lane and each.back_at is not None]
        if parts.stop.asked and not others:
            raise RunStoppedError(f"{parts.stop.why}; {how} meanwhile")
        times = parts.restarts.died(lane.name, lane.answered)
        if others and times >= LANE_DEATHS:
            lane.back_at = None
            go = "goes" if len(others) == 1 else "go"
            parts.say(
                f"{lane.label} died {times} times and is given up ({how});"
                f" {len(others)} of {self._devices} devices {go} on"
            )
        else:
            pause = parts.restarts.pause(how, times)
            lane.back_at = time.monotonic() + pause
            parts.say(f"{how}; starting again in {pause:g} s")
        if lane.closed:
            self._lane_lost(lane)

    def _lane_lost(self, lane: Lane) -> None:
        """The database has answered all that it ever will of a dead lane."""
        self._parts.admission.lane_lost(lane)
        self._parts.ledger.commit()
        lane.state = LaneState.RESTING
        if lane.back_at is None:
            self._give_up(lane)

    def _give_up(self, lane: Lane) -> None:
        self._parts.pipeline.drop(lane)
        self._parts.budget.give_up(lane.name)

    def wake_lanes(self, now: float) -> None:
        """Let lanes be started again that have rested long enough."""
        for lane in self._parts.pipeline.lanes:
            if lane.state is LaneState.RESTING and lane.back_at is not None and now >= lane.back_at:
                lane.state = LaneState.READY

    # All

    def collapse(self, death: StageDiedError) -> float:
        """The indexer is gone. All others go too, and what was in flight is made again: that is what a new
        invocation would do, and needs no second procedure to be right.

        Returns the seconds to wait before the next start. Raises `EngineError` where that would be in vain,
        `RunStoppedError` where the run is to end anyway.
        """
        parts = self._parts
        log.warning("%s", death)
        parts.restarts.counts[death.stage] += 1
        for child in parts.pipeline.kill():
            # A second writer beside it could double what it still writes.
            _check_gone(child, str(death))
            # What the database has acknowledged need not be made again, and what was embedded counts.
            for message in child.receive():
                if isinstance(message, OF_ALL):
                    self._router(message, child)
        if parts.stop.asked:
            raise RunStoppedError(f"{parts.stop.why}; {death} meanwhile")
        counts = parts.accounts.counts
        times = parts.restarts.died(death.stage, counts.records + counts.deleted)
        pause = parts.restarts.pause(str(death), times)
        parts.say(f"{death}; starting again in {pause:g} s")
        parts.credits.reset()
        for lane in parts.pipeline.lanes:
            parts.speed.forget(lane.name)
            lane.state = LaneState.READY if lane.state is LaneState.READY else LaneState.RESTING
        parts.cleaner.reset()
        parts.database.forget()
        parts.admission.collapsed()
        for lane in [each for each in parts.pipeline.lanes if each.back_at is None]:
            self._give_up(lane)
        parts.ledger.commit()
        return pause


def _check_gone(child: Child, how: str) -> None:
    if child.process.exitcode is None:
        raise EngineError(f"{how}; {child.name}, process {child.pid}, can't be ended")
