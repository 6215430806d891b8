"""What a run tells of itself: a progress line, `status.json` and its series each second, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Mapping

from engine.config import Config
from engine.machine.memory import STAGES, MemorySampler
from engine.runtime.budget import MemoryBudget
from engine.runtime.flow.credits import Credits
from engine.runtime.ledger.accounts import Accounts
from engine.runtime.pipeline import Pipeline
from engine.runtime.report import closing
from engine.runtime.report import run_directory as rundir
from engine.runtime.report import summary as report
from engine.runtime.report.efficiency import UNITS, speed_of_light
from engine.runtime.report.series import Series
from engine.runtime.report.summary import ProgressLine
from engine.runtime.report.throughput import Speed


class Reporter:
    """Looks at all parts of one invocation, whose number is `run`, and changes none of them."""

    def __init__(
        self,
        config: Config,
        run: int,
        progress: ProgressLine,
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

    def tell(self, trouble: str | None) -> None:
        """Where the run stands now. `trouble`: why the database doesn't answer. Raises `OSError`."""
        in_flight = self._credits.in_flight
        self._progress.show(self._accounts.counts, in_flight, trouble)
        status = {"database": trouble, "in_flight_bytes": in_flight, **self._figures()}
        rundir.write_status(self._config.run_dir, status)
        self._add_point()

    def end(
        self,
        status: str,
        code: int,
        why: str,
        totals: Mapping[str, int],
        failures: int,
        restarts: Mapping[str, int],
    ) -> None:
        """How the run ended, and `why` where it stopped before its end: `summary.json` and the last lines.

        `totals` is what the index holds, `failures` how many files and pieces failed. Raises `OSError`.
        """
        config, counts, figures = self._config, self._accounts.counts, self._figures()
        spent, workers = self._pipeline.stats(since_mark=True), self._pipeline.workers
        seen = self._speed.observed(counts, spent, workers)
        light = speed_of_light(seen)
        self._add_point(last=True)
        summary = {
            "status": status,
            "exit_code": code,
            "run": self._run,
            **figures,
            "speed_of_light": light,
            "totals": totals,
            "peak_pss_bytes": self._memory.peaks,
            "memory": self._memory_figures(),
            "restarts": restarts,
            "config": config.as_dict(),
            "environment": report.environment(),
        }
        rundir.write_summary(config.run_dir, summary)
        self._progress.close()
        if not config.run.quiet:
            prune = "engine.merge --prune" if config.task.fleet else "--prune"
            where = (config.run_dir, prune)
            for line in closing.closing_lines(counts, self._seconds, totals, failures, *where):
                self._progress.say(line)
            for line in closing.speed_lines(seen, light):
                self._progress.say(line)
        nothing = "" if why else closing.nothing_indexed(counts)
        if why or nothing or not config.run.quiet:
            told = f"{status}: {why}; the same command goes on from here" if why else status
            told += f" after {self._seconds:.1f} s{': ' if nothing else ''}{nothing}"
            self._progress.say(f"{told}; summary in {config.run_dir / 'summary.json'}")

    def _add_point(self, last: bool = False) -> None:
        stages, counts, memory = self._pipeline.stats(), self._accounts.counts, self._memory.stages
        if self._budget.plan is not None:
            self._series.buffer = self._budget.plan.buffer
        self._series.add(
            {
                "seconds": round(self._seconds, 3),
                "tokens": counts.tokens,
                "images": counts.image_chunks,
                "records": counts.records,
                "parsers_s": stages["parse"].busy_s,
                "model_s": sum(stages["infer"].call(kind).seconds for kind in UNITS),
                "database_s": stages["index"].call("database").seconds,
                "in_flight": self._credits.in_flight,
                **{stage: memory.get(stage, 0) for stage in STAGES if stage != "total"},
            },
            last,
        )

    def _figures(self) -> dict[str, object]:
        figures = report.figures(self._accounts.counts, self._pipeline.stats(), self._seconds)
        return {**figures, "peak_in_flight_bytes": self._credits.peak_in_flight}

    def _memory_figures(self) -> dict[str, object]:
        """The limit of memory, the plan within it (None: nothing had to be parsed), what sampling costs."""
        made = self._budget.plan
        planned = (
            {
                "workers": made.workers,
                "parser_memory": made.parser_memory,
                "buffer": made.buffer,
                "parts": made.parts,
            }
            if made
            else None
        )
        return {
            "limit_bytes": self._budget.limit.size,
            "limit_source": self._budget.limit.source,
            "plan": planned,
            "sampler_cpu_share": round(self._memory.cpu_s / self._seconds, 5),
        }
