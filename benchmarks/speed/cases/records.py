"""Does LanceDB take the last of a million records as fast as the first, also when the run crashes on the way?

Ready chunks go through the engine (channels, a stand-in as the model, indexer, ledger) into LanceDB: once
undisturbed, and once with SIGKILLs of the indexer or of the whole run at seeded moments, after which the same
command goes on. Then a share of the files is changed and the command run again, the second time with kills
as well, and last once more with nothing changed. The ids in the table must each time be those of the corpus.

A tenth's rate is that of acknowledgements by the clock, the time from a kill to the next acknowledgement left
out, which is given by itself. The indexer's CPU for each record is disturbed less by other work.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lancedb
import numpy as np

from benchmarks.command import BenchError, summary_of
from benchmarks.memory.figures import megabytes
from benchmarks.speed.bench import Outcome
from benchmarks.speed.ready import CHARACTERS, first_id
from benchmarks.speed.traced import Sample
from engine.runtime.report.summary import Summary

#: Share of the first tenth's rate that the last one shall have.
GOAL = 0.9

DIMENSIONS = 384

#: Parts of a load that are told apart.
PARTS = 10

#: Seconds between two looks at the run, and the most without any progress.
TICK_S, PATIENCE_S = 0.05, 180.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    add = parser.add_argument
    add("--records", type=int, default=1_000_000, metavar="N", help="(default 1,000,000)")
    add("--files", type=int, default=200, metavar="N", help="that they come in (default 200)")
    add("--segment", type=int, default=224, metavar="N", help="chunks of a segment (default 224: 256 KiB)")
    add("--kills", type=int, default=10, metavar="N", help="in the disturbed load (default 10)")
    add("--changed", type=float, default=0.05, metavar="SHARE", help="of the files (default 0.05)")
    add("--seed", type=int, default=1, metavar="N", help="of the kills and of what is changed (default 1)")


@dataclass
class Load:
    """One command, run until it was done: what its trace has, when it was struck, and what it told."""

    samples: list[Sample] = field(default_factory=list)
    struck: list[tuple[float, str]] = field(default_factory=list)
    seconds: float = 0.0
    summary: Summary = field(default_factory=Summary)

    @property
    def publish_s(self) -> float:
        """Seconds that the database took to put everything in order."""
        return self.summary.stage("index").call("publish").seconds

    @property
    def last(self) -> float:
        """When the last acknowledgement was seen."""
        return next((b.at for a, b in self._pairs(reverse=True) if b.records > a.records), 0.0)

    def recoveries(self) -> list[tuple[float, float]]:
        """From each kill to the next acknowledgement."""
        found = []
        for at, _ in self.struck:
            before = max((s.records for s in self.samples if s.at <= at), default=0)
            after = (s.at for s in self.samples if s.at > at and s.records > before)
            found.append((at, next(after, self.samples[-1].at)))
        return found

    def parts(self, first: int, last: int) -> list[dict[str, float]]:
        """The load from so many records to so many, in ten parts: rate, µs of CPU a record, highest PSS."""
        gaps, size = self.recoveries(), (last - first) / PARTS
        sums = [{"records": 0.0, "seconds": 0.0, "cpu": 0.0, "pss": 0.0} for _ in range(PARTS)]
        for a, b in self._pairs():
            if not first < a.records < last or b.at > self.last:
                continue
            place = (a.records - first) / size
            sums[int(place)]["pss"] = max(sums[int(place)]["pss"], b.pss)
            if b.indexer != a.indexer or any(start <= b.at and a.at <= end for start, end in gaps):
                continue
            way = (b.records - a.records) / size
            for number in range(int(place), min(int(place + way), PARTS - 1) + 1):
                # What comes at once may belong to several parts.
                share = (min(place + way, number + 1) - max(place, number)) / way if way else 1.0
                sums[number]["records"] += share * (b.records - a.records)
                sums[number]["seconds"] += share * (b.at - a.at)
                sums[number]["cpu"] += share * (b.cpu - a.cpu)
        return [
            {
                "rate": part["records"] / max(part["seconds"], 1e-9),
                "cpu_us": 1e6 * part["cpu"] / max(part["records"], 1),
                "pss": part["pss"],
            }
            for part in sums
        ]

    def _pairs(self, reverse: bool = False) -> list[tuple[Sample, Sample]]:
        pairs = list(zip(self.samples, self.samples[1:], strict=False))
        return pairs[::-1] if reverse else pairs


def run(args: argparse.Namespace, work: Path) -> Outcome:
    """The case."""
    if args.records < PARTS * args.files:
        raise BenchError(f"--records {args.records}: give at least {PARTS} for each of {args.files} files")
    outcome, chance = Outcome(), random.Random(args.seed)
    loads = {}
    for name, kills in (("undisturbed", 0), ("crashes", args.kills)):
        bench = _Bench(args, work / name, chance)
        loads[name] = load = bench.load(kills)
        bench.check()
        _tell(outcome, name, load, bench, args.records)
        changed = bench.change()
        again = bench.load(-(-kills // 5))
        bench.check()
        _tell_change(outcome, name, load, again, changed)
        still = bench.load(0)
        bench.check()
        outcome.said.append(f"{name}, nothing changed: {still.seconds:.1f} s for the whole command")
        shutil.rmtree(bench.folder)
    parts = {name: load.parts(0, args.records) for name, load in loads.items()}
    for number in range(PARTS):
        row: dict[str, object] = {"tenth": number + 1}
        for name, found in parts.items():
            one = found[number]
            row[f"{name}, records/s"] = f"{one['rate']:,.0f}"
            row["µs of CPU" if name == "undisturbed" else "µs of CPU "] = f"{one['cpu_us']:.1f}"
            row["indexer, MB" if name == "undisturbed" else "indexer, MB "] = megabytes(one["pss"])
        outcome.rows.append(row)
    return outcome


def _tell(outcome: Outcome, name: str, load: Load, bench: _Bench, records: int) -> None:
    parts = load.parts(0, records)
    rates, cpu = [p["rate"] for p in parts], [p["cpu_us"] for p in parts]
    outcome.goal(f"{name}: last tenth's rate ÷ the first's", rates[-1] / max(rates[0], 1e-9), GOAL)
    published = max((s.pss for s in load.samples if s.at > load.last), default=0)
    outcome.said.append(
        f"  records per second of the indexer's CPU, last tenth ÷ first: {cpu[0] / max(cpu[-1], 1e-9):.2f};"
        f" indexer at most {megabytes(max(p['pss'] for p in parts))} MB while writing,"
        f" {megabytes(published)} MB in publish, {load.publish_s:.1f} s; {load.seconds:.1f} s in all"
    )
    disk, raw = bench.disk(), records * (CHARACTERS + 4 * DIMENSIONS)
    outcome.said.append(
        f"  {megabytes(disk)} MB on disk ÷ {megabytes(raw)} MB of text and vectors: {disk / raw:.2f}"
        " (with the files that are kept for readers of the versions of the last 10 minutes)"
    )
    if load.struck:
        gaps = [end - start for start, end in load.recoveries()]
        victims = [victim for _, victim in load.struck]
        outcome.said.append(
            f"  {len(victims)} kills ({victims.count('run')} of the whole run, the others of the indexer):"
            f" {statistics.median(gaps):.1f} s until the next acknowledgement, {max(gaps):.1f} at most"
        )


def _tell_change(outcome: Outcome, name: str, load: Load, again: Load, changed: int) -> None:
    first = next((s for s in again.samples if s.records > again.samples[0].records), again.samples[-1])
    gaps = sum(end - start for start, end in again.recoveries())
    rate = changed / max(again.last - first.at - gaps, 0.2)
    whole = load.parts(0, load.samples[-1].records)
    usual = statistics.median(part["rate"] for part in whole)
    compared = f" ({rate / usual:.2f} of the load's)" if usual else ""  # a tiny load has no rate
    outcome.said.append(
        f"{name}, {changed:,} records of changed files, {len(again.struck)} kills: {rate:,.0f} records/s"
        f"{compared}, {again.publish_s:.1f} s of publish,"
        f" {again.seconds:.1f} s in all; every id there once, and no other"
    )


class _Bench:
    """A corpus of ready files, a run directory and a LanceDB, in a folder of their own."""

    def __init__(self, args: argparse.Namespace, folder: Path, chance: random.Random) -> None:
        self.folder = folder
        self._args, self._chance = args, chance
        shutil.rmtree(folder, ignore_errors=True)
        self._corpus = folder / "corpus"
        self._corpus.mkdir(parents=True)
        self._files = [self._corpus / f"{number:05}.txt" for number in range(args.files)]
        share, rest = divmod(args.records, args.files)
        for number, file in enumerate(self._files):
            file.write_text(f"{share + (number < rest)} first", encoding="ascii")

    def change(self) -> int:
        """Change some of the files; how many records come of them."""
        count = max(1, round(self._args.changed * len(self._files)))
        records = 0
        for file in self._chance.sample(self._files, count):
            chunks = file.read_text(encoding="ascii").split()[0]
            file.write_text(f"{chunks} another", encoding="ascii")
            records += int(chunks)
        return records

    def load(self, kills: int) -> Load:
        """Run the command, and again after each kill of the whole of it, until it is done."""
        load, began = Load(), time.monotonic()
        trace = self.folder / "trace.jsonl"
        trace.unlink(missing_ok=True)
        # None near the end, where too little would be left to go by.
        plan = [0.95 * (i + self._chance.random()) / kills for i in range(kills)]
        victims = [("run", "indexer")[i % 2] for i in range(kills)]
        self._chance.shuffle(victims)
        process, read = self._start(), 0
        try:
            while (code := process.poll()) is None or (
                load.struck and load.struck[-1][1] == "run" and code < 0
            ):
                if code is not None:
                    process = self._start()
                read = self._read(trace, read, load)
                self._strike(process, plan, victims, load)
                newest = load.samples[-1].at if load.samples else began
                if time.monotonic() - newest > PATIENCE_S:
                    raise BenchError(f"no line in {trace} for {PATIENCE_S:g} s")
                time.sleep(TICK_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._read(trace, read, load)
        if code:
            raise BenchError(f"engine.run ended with {code}: {self._stderr.read_text()[-600:]}")
        load.seconds = time.monotonic() - began
        load.summary = summary_of(self.folder / "run")
        return load

    def check(self) -> None:
        """Raises `BenchError` unless the table holds each record of the corpus once, and no other."""
        expected = []
        for file in self._files:
            content = file.read_text(encoding="ascii")
            name = first_id(str(file), content)
            starts = range(0, int(content.split()[0]) * CHARACTERS, CHARACTERS)
            expected += [(name | start).to_bytes(16) for start in starts]
        found = [
            np.array([bytes.fromhex(one) for one in batch.column("id").to_pylist()], dtype="V16")
            for batch in self._table().search().select(["id"]).limit(None).to_batches(8192)
        ]
        there = np.sort(np.concatenate(found).view("S16"))
        wanted = np.sort(np.array(expected, dtype="V16").view("S16"))
        doubled = int((there[1:] == there[:-1]).sum())
        if len(there) != len(wanted) or doubled or not np.array_equal(there, wanted):
            missing = len(np.setdiff1d(wanted, there))
            raise BenchError(
                f"{self.folder.name}: {len(there):,} records instead of {len(wanted):,}, {doubled:,} doubled,"
                f" {missing:,} missing"
            )

    def disk(self) -> int:
        """Bytes of the database's files."""
        return sum(path.stat().st_size for path in (self.folder / "db").rglob("*") if path.is_file())

    @property
    def _stderr(self) -> Path:
        return self.folder / "stderr.txt"

    def _table(self) -> Any:
        return lancedb.connect(self.folder / "db").open_table("chunks")

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "benchmarks.speed.traced", str(self.folder / "trace.jsonl")]
        command += [str(self._args.segment), "--", str(self._corpus), "--run-dir", str(self.folder / "run")]
        command += ["--adapter", f"lancedb://{self.folder}/db", "--quiet", "--workers", "1"]
        # What waits for the indexer, waits in it: little, so that its own memory is seen.
        command += ["--buffer", "64MiB"]
        command += ["--text-model", f"stand-in:{DIMENSIONS}"]
        with open(self._stderr, "wb") as sink:
            return subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True)

    def _read(self, trace: Path, read: int, load: Load) -> int:
        """Take in the lines that came; returns how many bytes were read by now."""
        if trace.exists():
            with open(trace, "rb") as file:
                file.seek(read)
                # A kill may leave a part of a line, which the next one is then glued to.
                *lines, _ = file.read().split(b"\n")
            for line in lines:
                with suppress(ValueError, TypeError):
                    load.samples.append(Sample(*json.loads(line)))
            read += sum(len(line) + 1 for line in lines)
        return read

    def _strike(
        self, process: subprocess.Popen[bytes], plan: list[float], victims: list[str], load: Load
    ) -> None:
        """Kill the next victim, where its time has come and the run has recovered from the last one."""
        if not plan or not load.samples:
            return
        newest, first = load.samples[-1], load.samples[0].records
        if load.struck and newest.at <= max(end for _, end in load.recoveries()):
            return
        whole = self._args.records if not first else max(1, round(self._args.changed * self._args.records))
        if newest.records - first >= plan[0] * whole:
            plan.pop(0)
            victim = victims.pop(0)
            load.struck.append((time.monotonic(), victim))
            with suppress(ProcessLookupError):
                if victim == "run":
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    os.kill(newest.indexer, signal.SIGKILL)
