"""The decisions of a storm: drawn from its seed alone, so that the same seed gives the same sequence."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Victim: TypeAlias = Literal["supervisor", "parser", "inference", "indexer", "database", "other"]
Signal: TypeAlias = Literal["SIGKILL", "SIGSTOP", "SIGTERM"]

#: How often each process is struck. `other` is what the run has besides its own: multiprocessing's tracker.
VICTIMS: dict[Victim, int] = {
    "supervisor": 18,
    "parser": 36,
    "inference": 18,
    "indexer": 18,
    "database": 8,
    "other": 2,
}

#: How often each signal is sent.
SIGNALS: dict[Signal, int] = {"SIGKILL": 74, "SIGSTOP": 18, "SIGTERM": 8}

#: Share of the stops that last longer than the engine waits for a process that is stuck, and the longest of
#: the others in seconds.
LONG_SHARE, SHORT_PAUSE_S = 0.2, 3.0


@dataclass(frozen=True, slots=True)
class Strike:
    """One decision: after `delay` seconds from the last strike (`patient`: from the recovery after it), send
    `signal` to `victim`; `which`, 0 to 1, picks one of several. `pause` seconds later a stopped process goes
    on; a database is down for so long. `long`: longer than the engine's patience.
    """

    number: int
    victim: Victim
    which: float
    signal: Signal
    pause: float
    long: bool
    patient: bool
    delay: float


def strikes(
    seed: int, with_database: bool, long_pause: float | None, patient: float, delay: float
) -> Iterator[Strike]:
    """The decisions of a seed, without end. `long_pause`: seconds of a long stop; None for none of them.

    `patient`: share of the strikes that wait for the recovery from the last one. `delay`: most
    seconds between that, or the last strike itself, and the next one.
    """
    source = random.Random(seed)
    victims = {name: weight for name, weight in VICTIMS.items() if with_database or name != "database"}
    number = 0
    while True:
        victim = source.choices(list(victims), list(victims.values()))[0]
        signal = source.choices(list(SIGNALS), list(SIGNALS.values()))[0]
        is_long = signal == "SIGSTOP" and source.random() < LONG_SHARE and long_pause is not None
        pause = source.uniform(0.1, SHORT_PAUSE_S)
        if is_long and long_pause is not None:
            pause = long_pause
        yield Strike(
            number, victim, source.random(), signal, pause, is_long,
            patient=source.random() < patient,
            delay=source.uniform(0, delay),
        )  # fmt: skip
        number += 1
