"""The supervisor: finds files, feeds the other processes, watches them, and keeps the ledger.

It is one thread. Everything that happens reaches it as a message on a child's control connection, which the
router brings to its handler, or as a child's end; signals only leave a mark that the loop reads.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from enum import Enum

from engine import parsers
from engine.config import Config
from engine.errors import (
    EXIT_DONE,
    EXIT_ENGINE_FAILED,
    EXIT_FAILURES,
    EXIT_STOPPED,
    EngineError,
    HandOverError,
    IndexLostError,
    UsageError,
)
from engine.runtime.bookkeeping import Bookkeeping
from engine.runtime.ending import Ending
from engine.runtime.flow.intake import check_corpus
from engine.runtime.flow.lanes import LaneState
from engine.runtime.generation import how_to_repair
from engine.runtime.limits.deaths import Away, StageDiedError, verdict
from engine.runtime.limits.stop import RunStoppedError, what_goes_on
from engine.runtime.parts import Parts, put_together
from engine.runtime.preflight import Preflight
from engine.runtime.process import messages as m
from engine.runtime.process.child import Child
from engine.runtime.process.mailbox import AWAY_S
from engine.runtime.recovery import Recovery
from engine.runtime.report.run_directory import write_lines
from engine.runtime.report.summary import Totals
from engine.runtime.router import Router
from engine.sources.base import Found

#: Files looked at for pruning before the loop turns to its children again.
PRUNE_STEP = 256

#: Seconds between two ledger commits; between two heartbeats, status files and progress lines.
COMMIT_INTERVAL_S, STATUS_INTERVAL_S = 0.25, 1.0

#: Seconds that the loop waits for a message where there is nothing else to do; and while processes end, which
#: send none then.
LISTEN_S, ENDS_LISTEN_S = 0.05, 0.01

#: Seconds that messages gather which nobody waits for: a turn of the loop has a price of its own.
PATIENCE_S = 0.03

#: Seconds between two requests to the indexer to write what it holds, while somebody waits for it.
FLUSH_INTERVAL_S = 0.1

#: Seconds that files may be on their way with nothing of them in any process.
IDLE_DEADLINE_S = 60.0

log = logging.getLogger("engine")


class Phase(Enum):
    """What the loop is at, in this order; a dead indexer takes it back to `RESTING`."""

    RESTING = "until the indexer may be started"
    OPENING = "the database is opened and made to fit"
    RUNNING = "files are parsed, embedded, written"
    DRAINING = "parsers and inference processes end by themselves"
    PUBLISHING = "the database puts the index in order"
    CLOSING = "the indexer ends by itself"
    OVER = "every process has ended"


#: The phases in which processes end.
ENDS = (Phase.DRAINING, Phase.CLOSING)


class Supervisor:
    """One run, from preflight to summary. A `repair` makes these items instead of what the inputs
    hold, and leaves the options in the ledger as they are. `command` is the command line, where one began
    the run."""

    def __init__(self, config: Config, repair: Iterable[Found] | None = None, command: str = "") -> None:
        self._config = config
        self._repair = repair
        self._command = command
        self._phase = Phase.RESTING
        #: When the indexer may be started, by the monotonic clock.
        self._begin_at = 0.0
        self._complete = False
        self._pruning: Iterator[None] | None = None
        self._away = Away()
        self._last_commit = self._last_status = self._last_flush = 0.0
        self._idle_since = time.monotonic()

    def run(self) -> int:
        """The whole run; returns its exit code. Raises `UsageError` where it can't work as asked."""
        try:
            with ExitStack() as stack:
                check_corpus(self._config)
                parsers.check()
                self._use(put_together(self._config, stack, self._repair, self._command))
                return self._run_to_end()
        except (sqlite3.DatabaseError, OSError) as error:
            # Before the first file; or at the very end, where files are closed on a disk that is full.
            raise RunStoppedError(f"{self._config.run_dir} can't be written ({error})") from error

    def _use(self, parts: Parts) -> None:
        self._parts = parts
        self._router: Router[[Child]] = Router()
        self._preflight = Preflight(parts, self._repair is not None)
        self._recovery = Recovery(parts, self._router)
        self._ending = Ending(parts)
        Bookkeeping(parts).register(self._router)
        self._preflight.register(self._router)
        self._recovery.register()
        self._ending.register(self._router)
        parts.admission.register(self._router)

    # The loop

    def _run_to_end(self) -> int:
        try:
            self._complete = self._preflight.is_needless()
            if not self._complete:
                self._loop()
        except RunStoppedError as error:
            return self._end("stopped", EXIT_STOPPED, str(error), what_goes_on())
        except (sqlite3.DatabaseError, OSError) as error:
            log.exception("the run directory")
            why = f"{self._config.run_dir} can't be written ({error})"
            return self._end("stopped", EXIT_STOPPED, why, what_goes_on())
        except EngineError as error:
            if isinstance(error, UsageError) and not self._parts.begun:
                raise
            log.error("%s", error)
            # What a user has to mend would only end the same command, too.
            then = "" if isinstance(error, UsageError) else what_goes_on()
            if isinstance(error, IndexLostError):
                then = how_to_repair(self._config)
            return self._end("error", EXIT_ENGINE_FAILED, str(error), then)
        if not self._complete:
            return self._end("stopped", EXIT_STOPPED, self._parts.stop.why, what_goes_on())
        return self._end("complete", EXIT_DONE)

    def _loop(self) -> None:
        while True:
            try:
                if self._step() is Phase.OVER:
                    return
                self._listen()
                self._watch()
                self._tick()
            except StageDiedError as death:
                self._begin_at = time.monotonic() + self._recovery.collapse(death)
                self._enter(Phase.RESTING)

    def _step(self) -> Phase:
        """Do what there is to do until the phase doesn't end with it."""
        while (following := self._advance()) is not self._phase:
            self._enter(following)
        return following

    def _advance(self) -> Phase:
        """Do what the phase has to do now; the phase that follows."""
        phase, ending = self._phase, self._ending
        if phase in (Phase.RESTING, Phase.OPENING) and not self._parts.begun:
            self._parts.stop.check_asked()
        if phase is Phase.RESTING:
            if self._parts.stop.asked:
                return Phase.OVER
            if time.monotonic() >= self._begin_at:
                self._preflight.begin()
                return Phase.OPENING
        elif phase is Phase.OPENING and self._preflight.done:
            return Phase.RUNNING
        elif phase is Phase.RUNNING:
            if self._finished():
                ending.drain()
                return Phase.DRAINING
            self._admit()
            self._grant()
        elif phase is Phase.DRAINING and ending.drained():
            ending.publish(self._complete)
            return Phase.PUBLISHING
        elif phase is Phase.PUBLISHING and ending.published:
            ending.stop_indexer()
            return Phase.CLOSING
        elif phase is Phase.CLOSING and ending.closed():
            return Phase.OVER
        return phase

    def _enter(self, phase: Phase) -> None:
        log.debug("%s", phase.value)
        self._phase = phase

    def _listen(self) -> None:
        """Handle what children said; wait a moment where none did and nothing else is to do."""
        parts = self._parts
        if self._phase is Phase.RUNNING and parts.intake.busy and not parts.stop.asked:
            parts.pipeline.wait(0.0)
        else:
            # At the end of the corpus nothing more gathers.
            hurry = self._phase is not Phase.RUNNING or parts.credits.blocked or parts.admission.idle
            seconds = ENDS_LISTEN_S if self._phase in ENDS else LISTEN_S
            parts.pipeline.wait(seconds, 0.0 if hurry else PATIENCE_S)
        for child in parts.pipeline.children():
            self._hear(child)

    def _hear(self, child: Child) -> None:
        """Handle what a child has said. That it failed is no longer of interest where it is to end anyway."""
        for message in child.receive():
            if child.gone:
                return  # it was ended with its lane, for a message before this
            if not (isinstance(message, m.Failed) and self._is_asked_to_end(child)):
                self._router(message, child)

    def _watch(self) -> None:
        """Find what died, is stuck, has waited too long, or was asked for by a signal."""
        parts, now = self._parts, time.monotonic()
        ends = self._phase in ENDS  # which have a deadline of their own
        if self._away.look(now):
            self._idle_since = now
            for child in parts.pipeline.children():
                child.excuse()
        for child in parts.pipeline.children():
            if child.process.exitcode is not None:
                if self._is_asked_to_end(child):
                    self._hear(child)
                    self._ending.ended(child)
                else:
                    self._recovery.died(child)
            elif not ends and parts.pipeline.find(child.name) is None and (why := verdict(child, now)):
                child.kill()
                self._recovery.lost(child, f"{child.name} was ended: {why.reason}")
        if ends:
            return
        self._recovery.wake_lanes(now)
        parts.admission.watch(now, parts.stop.draining_s, parts.memory.processes)
        parts.database.check()
        if name := parts.stop.begins():
            log.info("%s: stopping", name)
            parts.say(f"{name}: finishing what is in flight, at most {parts.stop.grace:g} s")
            parts.admission.cancel()
        parts.stop.check()

    def _is_asked_to_end(self, child: Child) -> bool:
        """Whether this is a process that the phase waits for to end; parsers end as they always do."""
        if self._phase is Phase.CLOSING:
            return child is self._parts.pipeline.indexer
        return self._phase is Phase.DRAINING and self._parts.pipeline.lane_of(child) is not None

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._last_commit > COMMIT_INTERVAL_S:
            self._last_commit = now
            self._parts.accounts.flush()
            self._parts.ledger.commit()
            if self._phase is Phase.RUNNING or (self._phase is Phase.OPENING and self._preflight.fits):
                self._parts.clean()
        if now - self._last_status > STATUS_INTERVAL_S:
            self._last_status = now
            self._parts.lock.beat()
            self._parts.reporter.tell(self._parts.database.trouble, self._parts.stop.asked)

    # While files are parsed

    def _admit(self) -> None:
        """Give parsers their next files, their attempts durable before any of their records can be in the
        database."""
        parts = self._parts
        if parts.stop.asked:
            return
        self._preflight.look_for_images()
        jobs = parts.admission.step()
        if jobs:
            parts.will_change_index()
            parts.ledger.commit()
        for slot in dict.fromkeys(slot for slot, _ in jobs):
            slot.child.send(m.Parse(tuple(job for owner, job in jobs if owner is slot)))

    def _grant(self) -> None:
        """Hand out credits; where somebody waits for them, the indexer writes what it holds."""
        parts = self._parts
        if not parts.begun:
            return
        share = parts.budget.share(parts.memory)
        held_back = parts.speed.calibrating if parts.credits.in_flight else ()
        for name, size in parts.credits.grants(share, held_back):
            if (found := parts.pipeline.find(name)) is not None:
                found[1].child.send(m.Grant(size))
        if share < 1:
            parts.admission.recycle(parts.memory.processes)
        now = time.monotonic()
        wanted = parts.admission.full or parts.credits.wants_flush(parts.admission.idle)
        if wanted and now - self._last_flush > FLUSH_INTERVAL_S:
            self._last_flush = now
            parts.pipeline.tell_indexer(m.Flush())

    def _finished(self) -> bool:
        """Whether nothing is left to do; or nothing may be begun and what was in flight is done."""
        parts = self._parts
        if parts.stop.asked and not self._complete:
            left = all(slot.cancelled or slot.dead for _, slot in parts.pipeline.slots)
            return left and not self._lanes_are_ending and parts.credits.in_flight == 0
        if not parts.intake.listed or parts.intake.waiting or parts.accounts.again or parts.accounts.active:
            self._check_moving()
            return False
        if self._pruning is None:
            prunes = self._config.corpus.prune
            self._pruning = parts.accounts.prune(parts.intake.covered() if prunes else ())
        for _ in range(PRUNE_STEP):
            if next(self._pruning, self) is self:
                self._complete = parts.cleaner.idle
                return self._complete
        return False

    @property
    def _lanes_are_ending(self) -> bool:
        return any(lane.state is LaneState.ENDING for lane in self._parts.pipeline.lanes)

    def _check_moving(self) -> None:
        """Raises `HandOverError` where files are on their way and nothing is: it must have got lost."""
        parts, now = self._parts, time.monotonic()
        # A process that is still starting has not read its channel yet.
        silent = any(now - child.heard_at > AWAY_S for child in parts.pipeline.children())
        at_rest = parts.intake.listed and parts.admission.idle and not parts.credits.in_flight
        if silent or self._lanes_are_ending or not at_rest:
            self._idle_since = now
        elif now - self._idle_since > IDLE_DEADLINE_S:
            raise HandOverError(
                "from the parsers to the database",
                f"{parts.accounts.active} files are on their way, and no segment of theirs has arrived"
                f" for {IDLE_DEADLINE_S:g} s",
            )

    # The end

    def _end(self, status: str, code: int, why: str = "", then: str = "") -> int:
        """Book how the run ended and tell it; where it can't be written, on the last line alone."""
        parts, run_dir = self._parts, self._config.run_dir
        try:
            parts.accounts.close()
            parts.accounts.count_gone(parts.intake.covered())
            if parts.intake.whole:
                parts.ledger.set("listed", str(parts.invocation))
            if self._complete:
                parts.ledger.set("left_as", self._preflight.left_as())
            parts.ledger.commit()
            # Failures of files that have left the corpus are told no more, where that can be known.
            lines = parts.ledger.items.failures(parts.invocation if parts.intake.whole else 0)
            failures = write_lines(run_dir / "failures.jsonl", lines)
            if code == EXIT_DONE and failures:
                status, code = "complete_with_failures", EXIT_FAILURES
            totals = Totals(**parts.ledger.audit.totals())
            parts.reporter.end(status, code, why, totals, failures, parts.restarts.counts, then)
            return code
        except (sqlite3.DatabaseError, OSError) as error:
            if not (run_dir / "ledger.sqlite").exists():
                parts.say(
                    f"error: {run_dir} was deleted during the run, and the ledger with it; what was written"
                    " stays in the index, and engine.verify --adopt makes a ledger of it"
                )
                return EXIT_ENGINE_FAILED
            parts.say(f"{status}: {why}; {run_dir} can't be written ({error})")
            return EXIT_STOPPED if code in (EXIT_DONE, EXIT_FAILURES) else code
