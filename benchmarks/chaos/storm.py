"""The storm: runs the command, strikes its processes, runs it again until it is done, watches for hangs."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.corpus import make
from benchmarks.chaos.database import Database
from benchmarks.chaos.figures import Figures, Recovery
from benchmarks.chaos.invocation import Invocation
from benchmarks.chaos.outcome import Outcome, difference, outcome, was_opened
from benchmarks.chaos.plan import Strike, strikes
from benchmarks.command import summary_of

#: Exit codes after which a load is over.
OVER = (0, 3)

#: The exit code of a usage error, which no strike may cause but one: the database is down at the first start.
USAGE = 2

#: Seconds between two looks at the run.
TICK_S = 0.05

#: Seconds for which a strike waits for its victim to exist.
VICTIM_PATIENCE_S = 5.0

#: Seconds that children may outlive their supervisor.
ORPHAN_DEADLINE_S = 5.0

#: Ends that nothing provoked, after which the storm gives up: the same command doesn't go on.
UNPROVOKED_LIMIT = 3

#: Seconds of a whole storm for each kill, and besides, after which it gives up.
SECONDS_PER_KILL, SECONDS_BESIDES = 30.0, 900.0


@dataclass(frozen=True)
class Settings:
    """A storm's size. `load_seconds`: what an undisturbed load of `megabytes` takes at the stand-in's rate.

    `patient`: share of the strikes that wait until the run has recovered from the last one; the others come
    at once, also while it starts. `delay`: most seconds until the next one. `file_timeout` and `grace` are
    the run's own options, in seconds. `long_pause`: seconds of a long stop (None: none). `hang_after`:
    seconds without progress, all processes at work and the database up, after which a run hangs; more than
    every deadline of the engine. `devices`: of every second load, the first among them; the others have one.
    """

    seed: int
    kills: int
    megabytes: float
    load_seconds: float
    workers: int = 2
    patient: float = 0.6
    delay: float = 2.5
    file_timeout: float = 20.0
    grace: float = 20.0
    long_pause: float | None = 45.0
    hang_after: float = 120.0
    devices: int = 2


class Storm:
    """One storm in a folder of its own. Nothing of it is left running at the end."""

    def __init__(self, settings: Settings, database: Database, folder: Path) -> None:
        self._settings, self._database, self._folder = settings, database, folder
        self._plan = strikes(
            settings.seed, database.strikable, settings.long_pause, settings.patient, settings.delay
        )
        self._strike = next(self._plan)
        self._corpus = folder / "corpus"
        self._began = time.monotonic()
        self.figures = Figures(settings.seed, database.url(0).partition(":")[0])
        self._rate = 0
        # Strikes that no new records have followed yet, and the clocks of the next one.
        self._open: list[tuple[Strike, float, bool]] = []
        self._last_strike = self._last_recovery = self._due_since = time.monotonic()
        self._past: list[Invocation] = []

    def run(self) -> Figures:
        """Load after load, until the kills have landed and the last load is done."""
        make(self._corpus, self._settings.megabytes)
        #: What the undisturbed run left, and every load must leave.
        self.wanted = self._undisturbed()
        self.figures.records = len(self.wanted.records)
        self._began = time.monotonic()
        while self.figures.kills < self._settings.kills and self.figures.gave_up is None:
            self._load(self.figures.rounds)
        self.figures.seconds = time.monotonic() - self._began
        return self.figures

    def _undisturbed(self) -> Outcome:
        """What must come out, and the rate at which the load takes as long as it shall."""
        url, run_dir = f"lancedb://{self._folder}/undisturbed", self._folder / "undisturbed-run"
        command = self._command(url, run_dir, "stand-in:16", "stand-in:8")
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode not in OVER:
            raise RuntimeError(f"the undisturbed run ended with {done.returncode}: {done.stderr}")
        summary = summary_of(run_dir)
        self._rate = max(1, round(summary.tokens / self._settings.load_seconds))
        self._tell(f"undisturbed: {summary.totals.records} records, {summary.tokens} tokens")
        return outcome(url, run_dir)

    def _command(
        self, url: str, run_dir: Path, text_model: str, image_model: str, devices: str = "cpu"
    ) -> list[str]:
        settings = self._settings
        return [
            sys.executable, "-m", "engine.run", str(self._corpus), "--adapter", url,
            "--run-dir", str(run_dir),
            "--text-model", text_model, "--image-model", image_model, "--workers", str(settings.workers),
            "--parser-memory", "512MiB", "--buffer", "16MiB", "--file-timeout", f"{settings.file_timeout:g}",
            "--grace", f"{settings.grace:g}", "--device", devices, "--quiet",
        ]  # fmt: skip

    # One load

    def _load(self, number: int) -> None:
        """Into a fresh index: the same command until it is done; then what is there is compared."""
        url, run_dir = self._database.url(number), self._folder / f"run-{number}"
        # By turns on several devices, of which a strike hits one, and on one.
        devices = 1 if number % 2 else self._settings.devices
        text, image = f"stand-in:16@{max(1, self._rate // devices)}", f"stand-in:8@{8 / devices:g}"
        command = self._command(url, run_dir, text, image, ",".join(["cpu"] * devices))
        self._tell(f"load {number} into {url} by {devices} of cpu")
        unprovoked = 0
        self._due_since = time.monotonic()
        while True:
            invocation = Invocation(command, run_dir, self._folder / f"stderr-{number}")
            code = self._watch(invocation)
            self.figures.exit_codes[code] += 1
            self._tell(f"exit {code}: {invocation.last_words()}")
            if code in OVER:
                break
            if not self._provoked(invocation, code, run_dir):
                self.figures.unprovoked += 1
                unprovoked += 1
                self._tell("nothing provoked that end")
            late = time.monotonic() - self._began > SECONDS_BESIDES + SECONDS_PER_KILL * self._settings.kills
            if unprovoked >= UNPROVOKED_LIMIT or late:
                self.figures.gave_up = "it takes too long" if late else "the same command does not go on"
                self._await_orphans()
                return
        self._recovered(time.monotonic())
        self._await_orphans()
        self._database.settle()
        self.figures.rounds += 1
        found = difference(outcome(url, run_dir), self.wanted)
        self.figures.add(found)
        for line in found.words:
            self._tell(line)
        if not found:
            self._database.forget(number)

    def _provoked(self, invocation: Invocation, code: int, run_dir: Path) -> bool:
        """Whether a strike explains that an invocation ended so."""
        database_down = self._database.down or self._database.changed > invocation.started
        if code == USAGE:
            return database_down and not was_opened(run_dir)
        return bool(invocation.strikes) or database_down

    def _watch(self, invocation: Invocation) -> int:
        """Strike a running invocation until it ends; its exit code."""
        self._past.append(invocation)
        seen: object = None
        moved, acknowledged = time.monotonic(), 0
        while (code := invocation.code()) is None:
            time.sleep(TICK_S)
            now = time.monotonic()
            for pid in invocation.resume_due():
                self._tell(f"SIGCONT {pid}")
                moved = now
            status = invocation.status()
            if status is not None:
                written = status["chunks"]["indexed"] + status["chunks"]["deleted"]
                progress = (status["files"], status["chunks"], status["tokens"])
                if progress != seen:
                    seen, moved = progress, now
                if written > acknowledged:
                    acknowledged = written
                    self._recovered(now)
            self._look_after_past(now)
            if self._strike_is_due(now) and self._try(invocation, now):
                moved = now
            if invocation.stopped or self._database.down:
                moved = now
            moved = max(moved, self._database.changed)
            if now - moved > self._settings.hang_after:
                self.figures.hangs += 1
                self._tell(f"hang: no progress for {now - moved:.0f} s")
                for line in invocation.dump():
                    self._tell("  " + line)
                invocation.strikes += 1
                invocation.kill()
        invocation.resume_due(all_of_them=True)
        return code

    # Strikes

    def _strike_is_due(self, now: float) -> bool:
        if self.figures.kills >= self._settings.kills:
            return False
        since = self._last_strike
        if self._strike.patient:
            if self._open:
                self._due_since = now
                return False
            since = max(since, self._last_recovery)
        if now - since < self._strike.delay:
            self._due_since = now
            return False
        return True

    def _try(self, invocation: Invocation, now: float) -> bool:
        """Let the next strike of the plan land. One that finds no victim for long is passed over."""
        strike = self._strike
        calm = not (self._open or invocation.stopped or self._database.down)
        if strike.victim == "database":
            landed = self._database.strike(strike)
            told = "database"
        else:
            victim = invocation.strike(strike)
            landed = victim is not None
            told = f"{strike.victim} {victim.pid}" if victim else ""
        if landed:
            pause = f" for {strike.pause:.1f} s" if strike.signal == "SIGSTOP" else ""
            self._tell(f"strike {strike.number}: {strike.signal} {told}{pause}")
            self.figures.landed[strike.victim, strike.signal] += 1
            self._open.append((strike, now, calm))
            self._last_strike = now
        elif now - self._due_since < VICTIM_PATIENCE_S:
            return False
        else:
            self.figures.missed += 1
            self._tell(f"strike {strike.number}: no {strike.victim} to send {strike.signal} to")
        self._strike = next(self._plan)
        self._due_since = now
        return landed

    def _recovered(self, now: float) -> None:
        """New records were acknowledged: every strike before has been got over."""
        if not self._open:
            return
        self._last_recovery = now
        self._tell(f"new records {now - self._open[-1][1]:.1f} s after strike {self._open[-1][0].number}")
        for strike, at, calm in self._open:
            alone = calm and len(self._open) == 1
            self.figures.recoveries.append(Recovery(strike.victim, strike.signal, now - at, alone))
        self._open.clear()

    # What is left behind

    def _look_after_past(self, now: float) -> None:
        """Measure how long children outlive their supervisors."""
        for invocation in [each for each in self._past if each.ended is not None]:
            age = now - (invocation.ended or now)
            survivors = invocation.survivors()
            if survivors and age > ORPHAN_DEADLINE_S:
                self.figures.orphans += len(survivors)
                for process in survivors:
                    self._tell(f"left behind: {process.pid}, {' '.join(process.cmdline())[-80:]}")
                invocation.kill()
            elif survivors:
                continue
            self.figures.longest_orphan_s = max(self.figures.longest_orphan_s, age)
            self._past.remove(invocation)

    def _await_orphans(self) -> None:
        while self._past:
            self._look_after_past(time.monotonic())
            time.sleep(TICK_S)

    def _tell(self, line: str) -> None:
        """Add to the story, which `story.txt` has while the storm goes on."""
        self.figures.story.append(f"{time.monotonic() - self._began:7.1f} s  {line}")
        with open(self._folder / "story.txt", "a", encoding="utf-8") as file:
            file.write(self.figures.story[-1] + "\n")
