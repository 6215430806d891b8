"""Reports a run: a progress line, `status.json` and a sample each second, and at its end the summary."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace

from engine.config import Config
from engine.machine.memory import STAGES, MemorySampler
from engine.runtime.budget import MemoryBudget
from engine.runtime.flow.credits import Credits
from engine.runtime.ledger.accounts import Accounts
from engine.runtime.pipeline import Pipeline
from engine.runtime.report.closing import closing_lines, nothing_indexed, pruning, speed_lines
from engine.runtime.report.efficiency import UNITS, speed_of_light
from engine.runtime.report.gauge import Gauge
from engine.runtime.report.progress import ProgressLine
from engine.runtime.report.series import Sample, Series
from engine.runtime.report.summary import (
    Figures,
    Memory,
    PlannedMemory,
    Status,
    Summary,
    Totals,
    environment,
    figures,
    write_status,
    write_summary,
)
from engine.runtime.report.throughput import Speed


class Reporter:
    """Reads all parts of one invocation, whose number is `run`, and changes none of them."""

    def __init__(
        self,
        config: Config,
        run: int,
        progress: ProgressLine,
        gauge: Gauge,
        accounts: Accounts,
        pipeline: Pipeline,
        credit: Credits,
        memory: MemorySampler,
        budget: MemoryBudget,
        speed: Speed,
        started: float,
    ) -> None:
        self._config = config
        self._run = run
        self._progress = progress
        self._gauge = gauge
        self._accounts = accounts
        self._pipeline = pipeline
        self._credits = credit
        self._memory = memory
        self._budget = budget
        self._speed = speed
        #: By the monotonic clock.
        self._started = started
        self._series = Series(config.run_dir, run)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def tell(self, trouble: str | None, stopping: bool = False) -> None:
        """Report how far the run has come. `trouble`: why the database doesn't answer; `stopping`: no more
        files are begun, so that no time is left for all of them. Raises `OSError`."""
        in_flight, now = self._credits.in_flight, vars(self._figures())
        progress = self._gauge.look(trouble)
        if stopping:
            progress = replace(progress, eta_s=None)
        self._progress.show(progress)
        status = Status(
            pid=os.getpid(), database=trouble, in_flight_bytes=in_flight, progress=progress, **now
        )
        write_status(self._config.run_dir, status)
        self._add_sample()

    def end(
        self,
        status: str,
        code: int,
        why: str,
        totals: Totals,
        failures: int,
        restarts: Mapping[str, int],
        then: str = "",
    ) -> None:
        """Write `summary.json` and print the last lines; `why` the run stopped before its end.

        `failures` is how many files and pieces of files failed, `then` what a user can do after such an end.
        Raises `OSError`.
        """
        config, counts = self._config, self._accounts.counts
        spent, workers = self._pipeline.stats(since_mark=True), self._pipeline.workers
        seen = self._speed.observed(counts, spent, workers)
        self._add_sample(last=True)
        summary = Summary(
            status=status,
            exit_code=code,
            run=self._run,
            **vars(self._figures()),
            speed_of_light=speed_of_light(seen),
            totals=totals,
            peak_pss_bytes=self._memory.peaks,
            memory=self._memory_figures(),
            restarts=dict(restarts),
            config=config.as_dict(),
            environment=environment(),
        )
        write_summary(config.run_dir, summary)
        self._progress.close()
        if not config.run.quiet:
            prune = pruning(config.task.fleet)
            lines = closing_lines(summary, counts, failures, config.run_dir, prune)
            for line in [*lines, *speed_lines(seen, summary.speed_of_light)]:
                self._progress.say(line)
        nothing = "" if why else nothing_indexed(counts)
        if why or nothing or not config.run.quiet:
            took = f"{self._seconds:.1f} s"
            if why:
                ended = "; ".join(part for part in (f"{status}: {why}", then, f"it ran for {took}") if part)
            else:
                ended = f"{status} after {took}{': ' if nothing else ''}{nothing}"
            self._progress.say(f"{ended}; summary in {config.run_dir / 'summary.json'}")

    def _add_sample(self, last: bool = False) -> None:
        stages, counts, memory = self._pipeline.stats(), self._accounts.counts, self._memory.stages
        if self._budget.plan is not None:
            self._series.buffer = self._budget.plan.buffer
        sample = Sample(
            seconds=round(self._seconds, 3),
            tokens=counts.computed_tokens,
            images=counts.computed_images,
            records=counts.records,
            parsers_s=stages["parse"].busy_s,
            model_s=sum(stages["infer"].call(kind).seconds for kind in UNITS),
            database_s=stages["index"].call("database").seconds,
            in_flight=self._credits.in_flight,
            **{stage: memory.get(stage, 0) for stage in STAGES if stage != "total"},
        )
        self._series.add(sample, last)

    def _figures(self) -> Figures:
        stages, peak = self._pipeline.stats(), self._credits.peak_in_flight
        return figures(self._accounts.counts, stages, self._seconds, peak)

    def _memory_figures(self) -> Memory:
        made, limit = self._budget.plan, self._budget.limit
        plan = PlannedMemory(made.workers, made.parser_memory, made.buffer, made.parts) if made else None
        return Memory(limit.size, limit.source, plan, round(self._memory.cpu_s / self._seconds, 5))
