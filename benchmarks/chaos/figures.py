"""The figures of a storm, and how they are printed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields

from benchmarks.chaos.outcome import Difference


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from a strike to the next newly acknowledged records; `alone`: nothing else struck before,
    and nothing was stopped or down."""

    victim: str
    signal: str
    seconds: float
    alone: bool


@dataclass
class Figures:
    """What is counted; see `table` for the words."""

    seed: int
    adapter: str
    landed: Counter[tuple[str, str]] = field(default_factory=Counter)
    missed: int = 0
    rounds: int = 0
    exit_codes: Counter[int] = field(default_factory=Counter)
    records: int = 0
    hangs: int = 0
    unprovoked: int = 0
    orphans: int = 0
    longest_orphan_s: float = 0.0
    recoveries: list[Recovery] = field(default_factory=list)
    differences: Difference = field(default_factory=Difference)
    seconds: float = 0.0
    #: Why the storm gave up before its end.
    gave_up: str | None = None
    story: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Signals that were SIGKILL and had somebody to kill."""
        return sum(count for (_, signal), count in self.landed.items() if signal == "SIGKILL")

    @property
    def reruns(self) -> int:
        """Times that the same command was run again."""
        return sum(self.exit_codes.values()) - self.rounds

    @property
    def faultless(self) -> bool:
        """Nothing lost, doubled, changed, stuck or left behind."""
        return not (self.differences or self.hangs or self.unprovoked or self.orphans or self.gave_up)

    def add(self, difference: Difference) -> None:
        """One more round was compared."""
        for each in fields(Difference):
            ours, theirs = getattr(self.differences, each.name), getattr(difference, each.name)
            setattr(self.differences, each.name, ours + theirs)

    def longest(self, alone: bool) -> Recovery | None:
        """The recovery from a kill that took longest."""
        return max(self._kills(alone), key=lambda each: each.seconds, default=None)

    def _kills(self, alone: bool) -> list[Recovery]:
        return [each for each in self.recoveries if each.signal == "SIGKILL" and each.alone >= alone]

    def as_dict(self) -> dict[str, object]:
        """For the JSON file."""
        values = asdict(self)
        values["landed"] = {f"{signal} {victim}": n for (victim, signal), n in sorted(self.landed.items())}
        values["exit_codes"] = {str(code): n for code, n in sorted(self.exit_codes.items())}
        return {"kills": self.kills, "reruns": self.reruns, "faultless": self.faultless, **values}

    def table(self) -> Iterator[str]:
        """The lines of the table, in Markdown."""
        signals = ("SIGKILL", "SIGSTOP", "SIGTERM")
        yield "| struck | " + " | ".join(signals) + " | median s from one kill to new records | longest |"
        yield "|---|---|---|---|---|---|"
        for victim in sorted({victim for victim, _ in self.landed}):
            counts = " | ".join(str(self.landed[victim, signal]) for signal in signals)
            times = [each.seconds for each in self._kills(alone=True) if each.victim == victim]
            spread = f"{statistics.median(times):.1f} | {max(times):.1f}" if times else "- | -"
            yield f"| {victim} | {counts} | {spread} |"
        yield ""
        yield "| figure | |"
        yield "|---|---|"
        yield f"| kills (SIGKILL) | {self.kills} |"
        codes = ", ".join(f"{n} × {code}" for code, n in sorted(self.exit_codes.items()))
        yield f"| reruns of the same command, exit codes of all | {self.reruns}; {codes} |"
        yield f"| loads, records of each | {self.rounds}, {self.records:,} |"
        differences = self.differences
        yield f"| records lost | {differences.lost} |"
        yield f"| records doubled | {differences.doubled} |"
        yield f"| records different, foreign | {differences.different}, {differences.foreign} |"
        told = differences.states, differences.failures, differences.skipped, differences.miscounted
        yield f"| states, failures, skipped files, totals that differ | {', '.join(map(str, told))} |"
        yield f"| hangs | {self.hangs} |"
        yield f"| failures that nothing provoked | {self.unprovoked} |"
        yield f"| processes left behind | {self.orphans} |"
        yield f"| longest life of a child after its supervisor | {self.longest_orphan_s:.1f} s |"
        for alone, words in ((True, "one kill"), (False, "any kill")):
            longest = self.longest(alone)
            if longest is not None:
                yield f"| longest recovery from {words} | {longest.seconds:.1f} s ({longest.victim}) |"
        yield f"| time | {self.seconds:.0f} s |"
        yield f"| seed, adapter | {self.seed}, {self.adapter} |"
