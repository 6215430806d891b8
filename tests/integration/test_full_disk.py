"""A disk that fills up under the run directory or under the database, and is given room again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disks import fill, small_disk
from tests.integration.runs import HANG_S, Corpus, Result, same_vectors, wait_until
from tests.integration.test_run import PROSE, wait_for_records

#: Bytes of the small file system.
DISK_BYTES = 64 * 2**20

#: Files of the corpus, and lines in each. Their vectors alone, which nothing compresses, are 900 kB: more
#: than any level that is tested leaves room for.
FILES, LINES = 300, 40
TEXT_MODEL = "stand-in:256"

#: Ends a run that waits for a database whose disk is full.
IMPATIENT = ("--database-deadline", "3")

#: How the reason of a full disk may be put: by the system, by SQLite, by this engine.
REASON = re.compile(r"no space left|disk is full|disk I/O error", re.IGNORECASE)

#: The other lines of a run: those at its end, and the one that a long run prints now and then.
ORDINARY = re.compile(r"^((files|skipped|chunks|index|failures|memory|speed|idle|advice): |  \w)| files( |$)")

Records = dict[str, dict[str, object]]


class Placed(Corpus):
    """A corpus whose run directory and database are where one likes."""

    def __init__(self, files: Path, run_dir: Path, database: Path) -> None:
        self.files = files
        self._run_dir, self._database = run_dir, database

    @property
    def run_dir(self) -> Path:
        """The run directory of this corpus."""
        return self._run_dir

    @property
    def url(self) -> str:
        """The database of this corpus."""
        return f"lancedb://{self._database}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records]:
    """Prose with a file that fails and one that is left out, and the records of an undisturbed run."""
    corpus = Corpus(tmp_path_factory.mktemp("whole"))
    for number in range(FILES):
        corpus.write(f"{number}.txt", "".join(f"{number}, {i}: {PROSE}" for i in range(LINES)))
    corpus.write(".hidden", "left out")
    (corpus.files / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes(8))
    assert corpus.run(text_model=TEXT_MODEL).code == 3
    return corpus.files, corpus.records()


@pytest.fixture
def disk() -> Iterator[Path]:
    with small_disk(DISK_BYTES) as folder:
        yield folder


def place(files: Path, disk: Path, tmp_path: Path, where: str) -> Placed:
    """What `where` names is on the small disk: the `run` directory, the `db`, or `both`."""
    run = disk if where in ("run", "both") else tmp_path
    database = disk if where in ("db", "both") else tmp_path
    return Placed(files, run / "run", database / "db")


def log_of(corpus: Placed) -> str:
    log = corpus.run_dir / "run.log"
    return log.read_text() if log.exists() else ""


def expect_stopped(code: int, err: str) -> None:
    """The run ended resumable, and told why in a line."""
    assert code == 75, err
    lines = err.splitlines()
    told = [line for line in lines if "stopped: " in line]
    assert told and all(REASON.search(line) for line in told), err
    assert not any("Traceback" in line or "Logging error" in line for line in lines), err
    assert [line for line in lines if line not in told and not ORDINARY.search(line)] == []


def expect_whole(corpus: Placed, expected: Records) -> None:
    """The same command finishes, with the records of an undisturbed run."""
    result = corpus.run(*IMPATIENT, text_model=TEXT_MODEL)
    assert result.code == 3, result.err
    assert [Path(str(line["source"])).name for line in result.lines("failures.jsonl")] == ["broken.png"]
    assert [line["rule"] for line in result.lines("skipped.jsonl")] == ["hidden"]
    assert result.summary["totals"]["records"] == len(expected)
    assert same_vectors(corpus.records(), expected)


@pytest.mark.parametrize("kib", [0, 4, 16, 40, 128, 300])
def test_a_disk_with_little_room_for_the_run_directory_stops_the_run(
    tmp_path: Path, disk: Path, whole: tuple[Path, Records], kib: int
) -> None:
    files, expected = whole
    corpus = place(files, disk, tmp_path, "run")
    ballast = fill(disk, kib * 1024)
    result = corpus.run(text_model=TEXT_MODEL)
    expect_stopped(result.code, result.err)
    ballast.unlink()
    expect_whole(corpus, expected)


@pytest.mark.parametrize("kib", [0, 8, 64, 400])
def test_a_disk_with_little_room_for_the_database_stops_the_run(
    tmp_path: Path, disk: Path, whole: tuple[Path, Records], kib: int
) -> None:
    files, expected = whole
    corpus = place(files, disk, tmp_path, "db")
    ballast = fill(disk, kib * 1024)
    result = corpus.run(*IMPATIENT, text_model=TEXT_MODEL)
    expect_stopped(result.code, result.err)
    assert result.summary["status"] == "stopped"
    ballast.unlink()
    expect_whole(corpus, expected)


@pytest.mark.parametrize("where", ["run", "db", "both"])
def test_a_disk_that_fills_up_in_mid_run_stops_the_run(
    tmp_path: Path, disk: Path, whole: tuple[Path, Records], where: str
) -> None:
    files, expected = whole
    corpus = place(files, disk, tmp_path, where)
    with corpus.started(*IMPATIENT, text_model=f"{TEXT_MODEL}@50000") as process:
        wait_for_records(corpus, 1)
        ballast = fill(disk)
        code = process.wait(HANG_S)
        expect_stopped(code, process.stderr.read())
    ballast.unlink()
    expect_whole(corpus, expected)


@pytest.mark.parametrize("kib", [0, 8, 64, 400])
def test_a_run_killed_while_the_database_has_no_room_goes_on_when_it_has(
    tmp_path: Path, disk: Path, whole: tuple[Path, Records], kib: int
) -> None:
    files, expected = whole
    corpus = place(files, disk, tmp_path, "db")
    ballast = fill(disk, kib * 1024)

    with corpus.started(text_model=TEXT_MODEL):
        wait_until(lambda: "the disk is full" in log_of(corpus))
    ballast.unlink()
    expect_whole(corpus, expected)


def test_a_database_that_gets_room_in_time_is_written_to_as_if_nothing_had_been(
    tmp_path: Path, disk: Path, whole: tuple[Path, Records]
) -> None:
    files, expected = whole
    corpus = place(files, disk, tmp_path, "db")
    ballast = fill(disk, 64 * 1024)
    with corpus.started(text_model=TEXT_MODEL) as process:
        wait_until(lambda: "the disk is full" in log_of(corpus))
        ballast.unlink()
        code = process.wait(HANG_S)
        result = Result(code, "", process.stderr.read(), corpus.run_dir)
    assert result.code == 3, result.err
    assert same_vectors(corpus.records(), expected)
