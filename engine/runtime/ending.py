"""The end of a run: the processes before the indexer, then the index put in order, then the indexer."""

from __future__ import annotations

import logging
import time

from engine.runtime.flow.lanes import LaneState
from engine.runtime.parts import Parts
from engine.runtime.process import messages as m
from engine.runtime.process.child import Child
from engine.runtime.router import Router

#: Seconds that processes have to end by themselves.
STOP_DEADLINE_S = 30.0

log = logging.getLogger("engine")


class Ending:
    """Asks processes to end, and kills those that are late."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        #: Since when processes are asked to end, by the monotonic clock.
        self._since = 0.0
        #: Whether the index is in order, as far as this run does that.
        self.published = False

    def register(self, router: Router[[Child]]) -> None:
        """Have the router bring what this takes."""
        router.on(m.Published, self._published)

    def drain(self) -> None:
        """Have the parsers end, and then the inference processes.

        What the database needs to put its files in order is then not taken beside them.
        """
        self._since = time.monotonic()
        self._parts.accounts.flush()
        self._parts.ledger.commit()
        for _, slot in self._parts.pipeline.slots:
            self._parts.pipeline.retire(slot)

    def drained(self) -> bool:
        """Whether they all have ended, and the indexer has answered for all that they left. Late ones are
        killed."""
        for lane in self._parts.pipeline.lanes:
            if lane.inference is None:
                continue
            if self._late:
                log.warning("processes of %s did not end by themselves and are killed", lane.label)
                self._parts.pipeline.end_lane(lane)
            elif not lane.parsers and lane.state is not LaneState.STOPPING:
                lane.state = LaneState.STOPPING
                lane.inference.send(m.Stop())
        return self._late or not any(
            lane.inference is not None or (lane.state is LaneState.STOPPING and not lane.closed)
            for lane in self._parts.pipeline.lanes
        )

    def publish(self, complete: bool) -> None:
        """Have everything made searchable, where the run is `complete`.

        The tasks of a fleet leave that to its last job.
        """
        parts = self._parts
        if complete and parts.ledger.get("unpublished") and not parts.config.task.fleet:
            self.published = False
            parts.pipeline.tell_indexer(m.Publish(parts.ledger.audit.distinct_records()))
        else:
            self.published = True

    def _published(self, message: m.Published, child: Child) -> None:
        if message.state is not None:
            self._parts.ledger.set("state", message.state)
        self._parts.ledger.set("unpublished", "")
        self.published = True

    def stop_indexer(self) -> None:
        """Have the indexer end."""
        self._since = time.monotonic()
        self._parts.pipeline.tell_indexer(m.Stop())

    def closed(self) -> bool:
        """Whether the indexer has ended. A late one is killed."""
        pipeline = self._parts.pipeline
        if pipeline.indexer is not None and self._late:
            log.warning("%s did not end by itself and is killed", pipeline.indexer.name)
            pipeline.indexer.kill()
            if pipeline.indexer.process.exitcode is None:
                pipeline.end_indexer()  # the kernel holds it back
        return pipeline.indexer is None

    def ended(self, child: Child) -> None:
        """A process has ended as asked; with an inference process goes what is left of its lane."""
        lane = self._parts.pipeline.lane_of(child)
        if lane is not None:
            self._parts.pipeline.end_lane(lane)
        else:
            self._parts.pipeline.end_indexer()

    @property
    def _late(self) -> bool:
        """Whether the processes have had the time to end by themselves."""
        stop = self._parts.stop
        seconds = min(STOP_DEADLINE_S, stop.grace - stop.draining_s) if stop.asked else STOP_DEADLINE_S
        return stop.urgent or time.monotonic() - self._since > seconds
