"""The memory of a run while it runs: the plan, made anew when a model is loaded, and what is left of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from engine.config import Config
from engine.errors import UsageError
from engine.machine.memory import MemorySampler, pss_bytes
from engine.runtime.flow.credits import Credits
from engine.runtime.limits.memory_plan import Costs, Limit, Plan, Requested, plan
from engine.runtime.limits.stop import SCARCE_SHARE, RamGuard
from engine.runtime.pipeline import Pipeline
from engine.runtime.process import messages as m

log = logging.getLogger("engine")


class MemoryBudget:
    """Applies a plan of memory to pipeline and credits. `workers` is how many parsers were asked for, `say`
    prints a line for the user."""

    def __init__(
        self,
        config: Config,
        workers: int,
        limit: Limit,
        pipeline: Pipeline,
        credit: Credits,
        say: Callable[[str], None],
    ) -> None:
        self._config = config
        self._workers = workers
        self.limit = limit
        self._pipeline = pipeline
        self._credits = credit
        self._say = say
        self._ram = RamGuard()
        #: Bytes that each inference process may still come to take, by its lane.
        self._growth: dict[str, int] = {}
        #: What is granted before it is made could be more than there is room for.
        self.plan: Plan | None = None

    def open(self) -> None:
        """The processes that need no model are there: the rest is for the inference processes to load."""
        taken = sum(pss_bytes(pid) for _, pid in self._pipeline.pids()) + pss_bytes(os.getpid())
        self._pipeline.room = (self.limit.size - taken) // len(self._pipeline.lanes)

    def loaded(self, lane: str, growth: int) -> None:
        """A lane has loaded a model, and may come to take so many bytes more.

        Raises `UsageError` where not even the smallest plan fits and there was none before.
        """
        self._growth[lane] = max(self._growth.get(lane, 0), growth)
        self._make()

    def give_up(self, lane: str) -> None:
        """A lane is gone for good; the pipeline has shared out its parsers."""
        self._growth.pop(lane, None)
        self._credits.resize(self._credits.limit, self._shares)
        if self.plan is not None:
            self._make()

    def share(self, memory: MemorySampler) -> float:
        """The share of the buffer that may be used now; see `RamGuard`."""
        stalled = self._credits.blocked and not self._credits.in_flight
        self._ram.check(memory.total, self.limit.size, stalled)
        return self._ram.share(memory.total, self.limit.size)

    @property
    def _shares(self) -> dict[str, int]:
        return {lane.name: lane.workers for lane in self._pipeline.lanes}

    def _make(self) -> None:
        database, memory = self._config.database, self._config.memory
        requested = Requested(
            self._workers, memory.parser_memory, memory.buffer,
            database.bulk_bytes * database.bulk_concurrency, len(self._pipeline.lanes),
        )  # fmt: skip
        try:
            made = plan(self.limit, self._costs(), requested)
        except UsageError as error:
            head, _, table = str(error).partition("\n")
            if self.plan is None:
                self._say(table)
                raise UsageError(head) from None
            # The plan leaves room for what may never be taken, and what is taken is looked at all the time.
            log.warning("%s", error)
            self._say(f"{head}; going on, with less in flight near the limit")
            self._spare(0)
            return
        first, self.plan = self.plan is None, made
        self._pipeline.limit(made.workers, made.parser_memory)
        self._credits.resize(made.buffer, self._shares)
        # Near the limit less is admitted, so that what is made beside the work leaves that alone.
        self._spare(int(SCARCE_SHARE * self.limit.size) - made.total)
        for line in made.lines(self.limit):
            log.info("%s", line)
            if first and self._config.run.verbose:
                self._say(line)

    def _spare(self, size: int) -> None:
        """So many bytes are left for what inference processes make beside the work."""
        for lane in self._pipeline.lanes:
            if lane.inference is not None:
                lane.inference.send(m.Spare(max(0, size) // len(self._pipeline.lanes)))

    def _costs(self) -> Costs:
        pipeline = self._pipeline
        models = [
            pss_bytes(lane.inference.pid)
            for lane in pipeline.lanes
            if lane.inference is not None and lane.name in self._growth
        ]
        growth = [self._growth[lane.name] for lane in pipeline.lanes if lane.name in self._growth]
        count = len(pipeline.lanes)
        return Costs(
            pss_bytes(os.getpid()),
            0 if pipeline.indexer is None else pss_bytes(pipeline.indexer.pid),
            # A lane that has not loaded its model yet will take as much as the largest that has.
            sum(models) + (count - len(models)) * max(models, default=0),
            sum(growth) + (count - len(growth)) * max(growth, default=0),
        )
