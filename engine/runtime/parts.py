"""The parts of one run, put together once. The loop, and what stands beside it, work on them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from engine.config import Config
from engine.machine import batch_job as batch
from engine.machine.memory import MemorySampler
from engine.runtime.budget import MemoryBudget
from engine.runtime.flow.admission import Admission
from engine.runtime.flow.credits import Credits
from engine.runtime.flow.intake import Intake
from engine.runtime.flow.lanes import devices_of, make_lanes, share_out
from engine.runtime.generation import Generation
from engine.runtime.ledger.accounts import Accounts
from engine.runtime.ledger.cleanup import Cleaner
from engine.runtime.ledger.in_flight import InFlight
from engine.runtime.ledger.store import Ledger
from engine.runtime.limits.deaths import Restarts
from engine.runtime.limits.lock import RunLock
from engine.runtime.limits.memory_plan import default_buffer, limit_of
from engine.runtime.limits.stop import DatabaseWait, StopRequest
from engine.runtime.pipeline import Pipeline
from engine.runtime.process.descriptors import open_many_files
from engine.runtime.report import run_directory as rundir
from engine.runtime.report.gauge import Gauge
from engine.runtime.report.progress import ProgressLine
from engine.runtime.report.reporter import Reporter
from engine.runtime.report.throughput import Speed
from engine.runtime.report.total import total_of
from engine.sources.base import Found


@dataclass(frozen=True, eq=False)
class Parts:
    """What a run consists of. `say` prints a line for the user, `invocation` is its number in the ledger."""

    config: Config
    say: Callable[[str], None]
    generation: Generation
    lock: RunLock
    ledger: Ledger
    invocation: int
    accounts: Accounts
    intake: Intake
    cleaner: Cleaner
    pipeline: Pipeline
    credits: Credits
    admission: Admission
    restarts: Restarts
    memory: MemorySampler
    budget: MemoryBudget
    speed: Speed
    reporter: Reporter
    stop: StopRequest
    database: DatabaseWait

    @property
    def begun(self) -> bool:
        """Whether a model was loaded and memory planned, so that files may be on their way."""
        return self.budget.plan is not None

    def will_change_index(self) -> None:
        """Book, before the index is touched, that it has to be published; once, and durably."""
        if not self.ledger.get("unpublished"):
            self.ledger.set("unpublished", "1")
            self.ledger.commit()

    def clean(self) -> None:
        """Have deleted what replaced files left behind; what says so must be durable by now."""
        for request in self.cleaner.requests():
            self.will_change_index()
            self.pipeline.tell_indexer(request)


def put_together(
    config: Config, stack: ExitStack, repair: Iterable[Found] | None = None, command: str = ""
) -> Parts:
    """The parts of a run, each of which the stack takes apart again. A `repair` makes these items instead of
    what the inputs hold. `command` is the command line, where one began the run.

    Raises `UsageError` for options that can't work, `RunStoppedError` where a signal comes meanwhile.
    """
    started = time.monotonic()
    stop = StopRequest(config.run.grace, batch.ends_at(os.environ))
    lanes = make_lanes(devices_of(config.models))
    workers = max(config.memory.workers, len(lanes))
    buffer = config.memory.buffer or default_buffer(workers, len(lanes))
    in_flight = InFlight()
    credit = Credits(buffer, share_out(workers, lanes), in_flight)
    progress = ProgressLine(config.run.quiet)
    stack.callback(progress.close)
    generation = Generation(config, progress.say)
    # From here on a signal drains; before, while a model may be fetched, it simply ends the command.
    stack.callback(stop.catch())
    lock = rundir.claim(config.run_dir, progress.say, stop.check_asked)
    stack.callback(lock.release)
    stack.callback(rundir.remove_status, config.run_dir)
    if command:
        rundir.write_command(config.run_dir, command)
    stack.callback(rundir.log_to(config.run_dir, config.run.log_level))
    ledger = Ledger(config.run_dir)
    stack.callback(ledger.close)
    skipped = stack.enter_context(rundir.open_skipped(config.run_dir))
    invocation = ledger.next_run()
    accounts = Accounts(
        ledger,
        invocation,
        generation.name,
        skipped,
        config.corpus.skip_failed,
        config.parsing.file_attempts,
        in_flight,
    )
    intake = Intake(config, accounts, repair)
    open_many_files()
    pipeline = Pipeline(config, generation.text, lanes)
    stack.callback(pipeline.kill)
    restarts, speed = Restarts(), Speed()
    admission = Admission(config, pipeline, accounts, intake, credit, restarts)
    limit = limit_of(config.memory.max_ram, os.environ)
    trace = stack.enter_context(rundir.open_trace(config.run.memory_trace))
    memory = MemorySampler(pipeline.pids, limit.size, trace)
    budget = MemoryBudget(config, workers, limit, pipeline, credit, progress.say)
    total = total_of(config, narrowed=repair is not None)
    stack.callback(total.stop)
    total.start()
    gauge = Gauge(accounts, intake, pipeline, total)
    reporter = Reporter(
        config, invocation, progress, gauge, accounts, pipeline, credit, memory, budget, speed, started
    )
    memory.start()
    stack.callback(memory.stop)
    return Parts(
        config=config,
        say=progress.say,
        generation=generation,
        lock=lock,
        ledger=ledger,
        invocation=invocation,
        accounts=accounts,
        intake=intake,
        cleaner=Cleaner(ledger),
        pipeline=pipeline,
        credits=credit,
        admission=admission,
        restarts=restarts,
        memory=memory,
        budget=budget,
        speed=speed,
        reporter=reporter,
        stop=stop,
        database=DatabaseWait(config.database.database_deadline),
    )
