"""How many parsers there shall be: enough that the model never waits for them, and no more.

Numbers in, a number out; the pipeline measures and acts. A parser is added only while the model waits for
input, the parsers themselves are busy, files wait, and cores are left: where the model, the database or the
supervisor is the limit, another one would only take memory, and on a CPU the model's cores. One is let go
when the others could do its work as well.

The two rules can't answer each other: parsers that are added were busy to `BUSY_SHARE` at least, and one that
is let go leaves the others busy to `SURPLUS_SHARE` at most. Where the load itself comes and goes, each return
doubles the looks that a parser is kept for nothing, so that changes become rare.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from engine.runtime.process.mailbox import HEARTBEAT_INTERVAL_S
from engine.runtime.process.stats import NOTHING, Stats

#: Seconds between two looks: within them each process tells its numbers once at least.
LOOK_S = 1.5 * HEARTBEAT_INTERVAL_S

#: What a parser has spent that tells nothing, because its file lets no other thread of it run.
HELD_UP = Stats(LOOK_S, 0.0, 0.0, cpu_s=LOOK_S)

#: Share of a look that the model waits for input from which it is starved; of their time that parsers are
#: busy from which they are the reason; of all cores from which another parser would only take from others.
STARVED_SHARE, BUSY_SHARE, FULL_SHARE = 0.1, 0.8, 0.95

#: Looks in a row that must say so before parsers are added: one may be a single long page.
STARVED_LOOKS = 2

#: Most times as many parsers after one step: more is not known of a model that got next to nothing.
MOST_GROWTH = 4

#: How busy the others may be, at most, with one parser less.
SURPLUS_SHARE = 0.7

#: Looks in a row that must say so before a parser is let go: at first, and at most.
LEAST_PATIENCE, MOST_PATIENCE = 5, 320


@dataclass(frozen=True, slots=True)
class Look:
    """What a run did since the last look. `parsers` are at work, `most` may be; `waiting`: files wait
    that none of them takes. Shares: of the model's time without input (`starved`), of the parsers' time
    without a file (`idle`) or without room for what they made (`blocked`), of the machine's cores (`cores`).
    """

    parsers: int
    most: int
    waiting: bool
    starved: float
    idle: float
    blocked: float
    cores: float

    @property
    def busy(self) -> float:
        """Share of the parsers' time in which they parsed."""
        return max(0.0, 1 - self.idle - self.blocked)


@dataclass(frozen=True, slots=True)
class Staffing:
    """How many parsers are `wanted`; for how many looks more were needed, or fewer were enough; and how many
    looks the latter must last. `let_go`: the last change was to fewer."""

    wanted: int = 1
    starved: int = 0
    surplus: int = 0
    patience: int = LEAST_PATIENCE
    let_go: bool = False


def staffed(now: Staffing, look: Look) -> Staffing:
    """What this look changes."""
    lacking = (
        look.waiting
        and look.starved >= STARVED_SHARE
        and look.busy >= BUSY_SHARE
        and look.cores < FULL_SHARE
        and look.parsers < look.most
    )
    enough = look.parsers > 1 and look.busy * look.parsers <= SURPLUS_SHARE * (look.parsers - 1)
    now = replace(now, starved=now.starved + 1 if lacking else 0, surplus=now.surplus + 1 if enough else 0)
    if now.starved >= STARVED_LOOKS:
        patience = min(MOST_PATIENCE, 2 * now.patience) if now.let_go else now.patience
        return Staffing(_enough(look), patience=patience)
    if now.surplus >= now.patience:
        return Staffing(look.parsers - 1, patience=now.patience, let_go=True)
    return now


def _enough(look: Look) -> int:
    """With how many parsers the model would hardly wait, by how long it did with those that there are."""
    needed = math.ceil(look.parsers / max(1 - look.starved, 1 / MOST_GROWTH) - 1e-6)
    return min(look.most, max(look.parsers + 1, needed))


def look(spent: Iterable[tuple[str, Stats]], most: int, waiting: bool, cores: float) -> Look | None:
    """A look at what processes have spent since the last one, each with its stage, on a machine of `cores`.

    None where one that counts has told nothing new, as one that is still starting.
    """
    model, parsers, count, used = NOTHING, NOTHING, 0, 0.0
    for stage, stats in spent:
        if stats.seconds > 0:
            used += stats.cpu_s / stats.seconds
        elif stage in ("parse", "infer"):
            return None
        if stage == "parse":
            parsers, count = parsers + stats, count + 1
        elif stage == "infer":
            model = stats
    if not count or not model.seconds:
        return None
    blocked = parsers.waits.get("credits", 0.0) + parsers.waits.get("inference", 0.0)
    return Look(
        parsers=count,
        most=most,
        waiting=waiting,
        starved=model.wait_in_s / model.seconds,
        idle=parsers.wait_in_s / parsers.seconds,
        blocked=blocked / parsers.seconds,
        cores=used / cores,
    )
