"""The trial run of a plan: the engine over a sample of the corpus, into an index of its own.

`python -m engine.fleet.trial` is that run: its configuration comes as JSON on standard input. It does all
that a real run does (parsing, the model, writing, the memory plan). Its index is beside the one that the user
named, on the same server or disk, and is deleted afterwards.
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
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from uuid import uuid4

import adapters
from engine.chunkers.tokenizer import load_tokens
from engine.config import Config, CorpusConfig, RunConfig, TaskConfig
from engine.errors import DatabaseUnavailableError, EngineError, UsageError
from engine.fleet.census import Census, Key
from engine.models.resolve import resolve_text
from engine.parsers import is_text, type_by_name
from engine.records import index_url, source_of
from engine.runtime.report.reading import read_only
from engine.runtime.report.summary import Summary, read_summary

#: The largest file in the sample; of larger texts the first bytes are taken.
SAMPLE_BYTES, HEAD_BYTES = 64 * 2**20, 2**20

#: Records of each type whose tokens are counted again, to divide the run's tokens among the types.
COUNTED_RECORDS = 2000

#: Seconds between two looks at the run; and from the request to stop until it is killed.
LOOK_S, DRAIN_S = 0.2, 120.0


@dataclass
class Yield:
    """What the files of one class gave: `files` of them, with `size` bytes, came to their end."""

    files: int = 0
    size: int = 0
    texts: int = 0
    pictures: int = 0


@dataclass
class Trial:
    """What the run has shown. `index_bytes` what its index takes (None: the
    database doesn't say); `tokens_each` are those of a text record, by media type."""

    summary: Summary
    index_bytes: int | None
    yields: dict[Key, Yield] = field(default_factory=dict)
    tokens_each: dict[str, float] = field(default_factory=dict)


def try_out(config: Config, census: Census, seconds: float, work: Path) -> Trial:
    """Run over the sample, `seconds` from the first chunk on, or until its end.

    Raises `EngineError`; `UsageError` where the database can't be reached, or has no way to delete an index.
    """
    named = config.database.adapter
    query = named[len(index_url(named)) :]
    url = f"{index_url(named).rstrip('/')}-plan-{uuid4().hex[:8]}{query}"
    _drop(url)  # What can't be done at the end is refused now.
    taken = dict(_sample(census, work))
    trial = replace(
        config,
        # Every listed file is wanted, whatever rule would leave it out.
        corpus=CorpusConfig(
            files_from=str(work / "sample.list"), hidden=True, gitignore=False, default_excludes=False
        ),
        database=replace(config.database, adapter=url, fields=(), full=False),
        task=TaskConfig(),
        run=RunConfig(quiet=True),
        run_dir=work / "run",
        models=replace(config.models, calibrate=True),  # as the models will run in the long run
    )
    try:
        _run(trial, seconds, work)
        summary = read_summary(trial.run_dir)
        if summary is None or summary.status == "error":
            raise EngineError(f"the trial run failed; see {trial.run_dir / 'run.log'}")
        made = Trial(summary, None)
        _count_files(trial.run_dir, taken, made)
        _look_at_index(trial, made)
    finally:
        with suppress(DatabaseUnavailableError):
            _drop(url)
    return made


def _drop(url: str) -> None:
    try:
        with closing(adapters.connect(url)) as adapter:
            adapter.drop()
    except DatabaseUnavailableError as error:
        raise DatabaseUnavailableError(
            f"{error}; a plan writes a sample beside the index of --adapter"
        ) from None


def _sample(census: Census, work: Path) -> Iterator[tuple[str, Key]]:
    """The drawn files' sources and classes, as they stand in the list that is written.

    They are in an order of which each beginning has the corpus's own mixture, by bytes. A file that is much
    of its class comes late, so that none takes the time of all others.
    """
    left = {key: list(each.sample) for key, each in census.classes.items() if each.size}
    given = dict.fromkeys(left, 0)
    heads = work / "heads"
    heads.mkdir()
    with open(work / "sample.list", "wb") as names:
        for number in count():
            if not left:
                return
            key = min(left, key=lambda key: (given[key] + left[key][-1].size) / census.classes[key].size)
            file = left[key].pop()
            if not left[key]:
                del left[key]
            given[key] += file.size
            path = file.location
            if "\n" in path or path.endswith("\r"):
                continue
            if file.size > HEAD_BYTES and is_text(key[0]):
                path = str(heads / f"{number}{os.path.splitext(path)[1]}")
                try:
                    with open(file.location, "rb") as whole:
                        Path(path).write_bytes(whole.read(HEAD_BYTES))
                except OSError:
                    continue  # the real run will say so
            elif file.size > SAMPLE_BYTES:
                continue
            names.write(os.fsencode(path) + b"\n")
            yield source_of(path), key


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
            raise EngineError("the trial run did not stop when asked to") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        output.seek(0)
        said = " ".join(output.read().split())
    if process.returncode == 2:
        raise UsageError(said)
    if process.returncode not in (0, 3, 75):
        raise EngineError(f"the calibration failed: {said or process.returncode}")
    if not (config.run_dir / "summary.json").exists():
        raise EngineError("the trial run was stopped before it embedded anything")


def _has_begun(run_dir: Path) -> bool:
    try:
        status = json.loads((run_dir / "status.json").read_text(encoding="utf-8"))
        return bool(status["tokens"] or status["chunks"]["image"])
    except (OSError, ValueError, KeyError):
        return False


def _count_files(run_dir: Path, taken: Mapping[str, Key], made: Trial) -> None:
    """By class, the files that came to their end, whatever that was, and the records of each kind."""
    query = (
        "SELECT uri, size, kind, (SELECT coalesce(sum(length(ids)), 0) / 16 FROM segments"
        " WHERE item = items.id AND segments.revision = items.revision) FROM items WHERE state != 'pending'"
    )
    with closing(read_only(run_dir / "ledger.sqlite")) as ledger:
        try:
            for source, size, kind, records in ledger.execute(query):
                found = made.yields.setdefault(taken[source], Yield())
                found.files += 1
                found.size += size
                found.pictures += records if kind == "image" else 0
                found.texts += records if kind != "image" else 0
        except sqlite3.DatabaseError as error:
            raise EngineError(f"the ledger of the trial run can't be read: {error}") from None


def _look_at_index(config: Config, made: Trial) -> None:
    """Put the index in order as a run does at its end; its bytes, and the tokens of a record by type.

    What a record's tokens cost is the run's own sum, in which content that came twice was embedded once.
    """
    models = config.models
    tokens = load_tokens(resolve_text(models.text_model, trust_remote_code=models.trust_remote_code))
    records: dict[str, int] = {}
    counted: dict[str, list[int]] = {}
    with closing(adapters.connect(config.database.adapter)) as adapter:
        if (identity := adapter.identity()) is None:
            return
        adapter.resume(identity)
        adapter.publish()
        made.index_bytes = adapter.size_bytes()
        for record in adapter.scan():
            if isinstance(text := record["text"], str):
                name = type_by_name(str(record["source"]))
                records[name] = records.get(name, 0) + 1
                if records[name] <= COUNTED_RECORDS:
                    counted.setdefault(name, []).append(len(tokens.encode(text)))
    means = {name: sum(each) / len(each) for name, each in counted.items()}
    sums = sum(records[name] * mean for name, mean in means.items())
    scale = made.summary.tokens / sums if sums else 1.0
    made.tokens_each = {name: mean * scale for name, mean in means.items()}


def main() -> int:
    """The run itself; returns its exit code."""
    from engine.machine.environment import set_child_environment
    from engine.runtime.supervisor import Supervisor

    config = Config.from_dict(json.load(sys.stdin))
    set_child_environment()
    try:
        return Supervisor(config).run()
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
