"""The calibration: the engine itself over a sample, into an index of its own, for about as long as was asked.

`python -m engine.fleet.trial` is that run: its configuration comes as JSON on standard input. All that a real
run does takes part (parsing, the model, writing, its plan of memory), so that nothing is forgotten.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import adapters
from engine.chunkers.tokenizer import load_tokens
from engine.config import Config
from engine.errors import EngineError
from engine.fleet.census import SAMPLE_BYTES, Census
from engine.models.resolve import resolve_text
from engine.parsers import type_by_name
from engine.runtime.report.reading import read_only

#: Bytes of a text that are taken: of larger ones the head.
HEAD_BYTES = 2**20

#: Records of each type of which the tokens are counted again, to share out the run's among the types.
COUNTED_RECORDS = 300

#: Seconds between two looks at the run; after its end was asked for, until it is killed.
LOOK_S, DRAIN_S = 0.2, 120.0


@dataclass
class Yield:
    """What the files of one type gave: `files` of them, with `size` bytes, came to their end."""

    files: int = 0
    size: int = 0
    texts: int = 0
    pictures: int = 0
    #: Mean tokens of a text record.
    tokens_each: float = 0.0


@dataclass
class Trial:
    """What the run has shown; `summary` is its `summary.json`, `index_bytes` what its index takes."""

    summary: Mapping[str, Any]
    index_bytes: int
    yields: dict[str, Yield] = field(default_factory=dict)


def try_out(config: Config, census: Census, seconds: float, work: Path) -> Trial:
    """Run over the sample, `seconds` from the first chunk on, or until its end. Raises `EngineError`."""
    files = work / "sample.list"
    with open(files, "wb") as file:
        file.writelines(os.fsencode(path) + b"\n" for path in _sample(census, work))
    trial = config.changed(
        inputs=(),
        files_from=str(files),
        adapter=f"lancedb://{work}/index",
        run_dir=work / "run",
        shard=(0, 1),
        include=(),
        exclude=(),
        full=False,
        prune=False,
        skip_failed=False,
        limit=None,
        dry_run=False,
        fields=(),
        quiet=True,
        memory_trace=None,
    )
    _run(trial, seconds, work)
    summary = json.loads((trial.run_dir / "summary.json").read_text(encoding="utf-8"))
    if summary["status"] == "error":
        raise EngineError(f"the calibration failed; see {trial.run_dir / 'run.log'}")
    size = sum(path.stat().st_size for path in (work / "index").rglob("*") if path.is_file())
    made = Trial(summary, size)
    _count_files(trial.run_dir, made)
    _count_records(trial, made)
    return made


def _sample(census: Census, work: Path) -> Iterator[str]:
    """The drawn files in an order of which each beginning has the corpus's own mixture, by bytes."""
    left = {name: list(each.sample) for name, each in census.classes.items() if each.size}
    taken = dict.fromkeys(left, 0)
    heads = work / "heads"
    heads.mkdir()
    number = 0
    while left:
        name = min(left, key=lambda name: taken[name] / census.classes[name].size)
        path, size = left[name].pop()
        if not left[name]:
            del left[name]
        taken[name] += size
        if "\n" in path or path.endswith("\r"):
            continue
        if size > HEAD_BYTES and not name.startswith("image/") and name != "application/pdf":
            number += 1
            head = heads / f"{number}{os.path.splitext(path)[1]}"
            try:
                with open(path, "rb") as file:
                    head.write_bytes(file.read(HEAD_BYTES))
            except OSError:
                continue  # the real run will say so
            yield str(head)
        elif size <= SAMPLE_BYTES:
            yield path


def _run(config: Config, seconds: float, work: Path) -> None:
    with open(work / "output", "w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "engine.fleet.trial"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            text=True,
        )
        try:
            if process.stdin is not None:
                process.stdin.write(json.dumps(config.as_dict()))
                process.stdin.close()
            began = None
            while process.poll() is None:
                time.sleep(LOOK_S)
                now = time.monotonic()
                if began is None and _has_begun(config.run_dir):
                    began = now
                if began is not None and now - began > seconds:
                    process.send_signal(signal.SIGTERM)
                    process.wait(DRAIN_S)
        except subprocess.TimeoutExpired:
            raise EngineError("the calibration did not end when it was asked to") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        output.seek(0)
        if process.returncode not in (0, 3, 75):
            raise EngineError(f"the calibration failed: {output.read().strip() or process.returncode}")
    if not (config.run_dir / "summary.json").exists():
        raise EngineError("the calibration was stopped before it had begun")


def _has_begun(run_dir: Path) -> bool:
    try:
        status = json.loads((run_dir / "status.json").read_text(encoding="utf-8"))
        return bool(status["tokens"] or status["chunks"]["image"])
    except (OSError, ValueError, KeyError):
        return False


def _count_files(run_dir: Path, made: Trial) -> None:
    """By type, the files that came to their end, whatever that was, and the records of each kind."""
    query = (
        "SELECT source, size, kind, (SELECT coalesce(sum(length(ids)), 0) / 16 FROM segments"
        " WHERE file = files.id AND segments.version = files.version) FROM files WHERE state != 'pending'"
    )
    with closing(read_only(run_dir / "ledger.sqlite")) as ledger:
        try:
            for source, size, kind, records in ledger.execute(query):
                found = made.yields.setdefault(type_by_name(source), Yield())
                found.files += 1
                found.size += size
                if kind == "image":
                    found.pictures += records
                else:
                    found.texts += records
        except sqlite3.DatabaseError as error:
            raise EngineError(f"the calibration's ledger can't be read: {error}") from None


def _count_records(config: Config, made: Trial) -> None:
    """By type, the mean tokens of a text record."""
    models = config.models
    tokens = load_tokens(resolve_text(models.text_model, trust_remote_code=models.trust_remote_code))
    sums: dict[str, list[int]] = {}
    with closing(adapters.connect(config.database.adapter)) as adapter:
        for record in adapter.scan():
            text, counted = record["text"], sums.setdefault(type_by_name(str(record["source"])), [])
            if isinstance(text, str) and len(counted) < COUNTED_RECORDS:
                counted.append(len(tokens.encode(text)))
    for name, counted in sums.items():
        if counted and name in made.yields:
            made.yields[name].tokens_each = sum(counted) / len(counted)


def main() -> int:
    """The run itself; returns its exit code."""
    from engine.run import CHILD_ENVIRONMENT
    from engine.runtime.supervisor import Supervisor

    config = Config.from_dict(json.load(sys.stdin))
    for name, value in CHILD_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        return Supervisor(config).run()
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
