"""Do two devices carry twice what one does, and four four times?

Each device is a stand-in of a fixed rate, so low that this machine's cores limit nothing, and each run has as
much text for each of its devices. A rate is that of all texts from the first batch to the database's last
acknowledgement; that a device gets its first batch later than another, or its last one earlier, is in it.
"""

from __future__ import annotations

import argparse
import random
import statistics
from pathlib import Path

from benchmarks.speed.bench import Outcome, spread
from benchmarks.speed.runs import Engine, folder_of

#: Times one device's throughput, by the number of devices.
GOALS = {2: 1.95, 4: 3.8}

#: Tokens of a file, least and most.
LEAST, MOST = 100, 1000

#: Letters of a word, which is one token of a stand-in.
WORD = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    parser.set_defaults(rounds=3)
    add = parser.add_argument
    add("--rate", type=int, default=4000, metavar="N", help="tokens/s of each device (default 4,000)")
    add("--seconds", type=float, default=60, metavar="S", help="of work for each device (default 60)")


def run(args: argparse.Namespace, work: Path) -> Outcome:
    """The case."""
    outcome = Outcome()
    engine = Engine(work)
    corpora = {count: folder_of(work, f"lanes-{count}") for count in (1, *GOALS)}
    for count, folder in corpora.items():
        _write(folder, round(count * args.rate * args.seconds))
    rates: dict[int, list[float]] = {count: [] for count in corpora}
    for _ in range(args.rounds):
        for count, folder in corpora.items():
            devices = ",".join(["cpu"] * count)
            found = engine.run(
                folder, "--device", devices, "--text-model", f"stand-in:64@{args.rate}", "--no-images",
                "--workers", str(count), "--no-dedupe",
            )  # fmt: skip
            rates[count].append(found.rate)
    for count, found_rates in rates.items():
        shares = [rate / (count * args.rate) for rate in found_rates]
        row = {"devices": count, "tokens/s": spread(found_rates), "of their rate": spread(shares, ".3f")}
        outcome.rows.append(row)
    alone = statistics.median(rates[1])
    for count, least in GOALS.items():
        outcome.goal(f"{count} devices ÷ 1", statistics.median(rates[count]) / alone, least)
    return outcome


def _write(folder: Path, tokens: int) -> None:
    """Files of about so many tokens together, no two alike."""
    chance, number = random.Random(1), 0
    while tokens > 0:
        count = min(tokens, chance.randint(LEAST, MOST))
        words = ("".join(chance.choices("abcdefghijklmnop", k=WORD)) for _ in range(count))
        (folder / f"{number}.txt").write_text(" ".join(words), encoding="ascii")
        tokens -= count
        number += 1
