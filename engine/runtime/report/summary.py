"""`summary.json` and `status.json` as types: written and read here alone.

A run and a merge write them; the commands, the Python interface and the benchmarks read them. The names of
fields are the keys in the files.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from engine import __version__
from engine.runtime.process.stats import Stats
from engine.runtime.report.progress import Progress

if TYPE_CHECKING:
    from engine.runtime.ledger.counts import Counts

#: The files in a run directory.
SUMMARY_FILE, STATUS_FILE = "summary.json", "status.json"

#: Packages whose versions explain a run's speed and vectors.
PACKAGES = ("torch", "sentence-transformers", "open-clip-torch", "tokenizers")

Made = TypeVar("Made")


@dataclass(frozen=True)
class Files:
    """Items by state; `removed` ones are gone from the corpus, and not among those discovered."""

    discovered: int = 0
    indexed: int = 0
    partial: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0
    removed: int = 0
    pending: int = 0


@dataclass(frozen=True)
class Chunks:
    """Chunks embedded by kind, those of them whose vector was known, and records written and deleted."""

    text: int = 0
    image: int = 0
    deduplicated: int = 0
    indexed: int = 0
    deleted: int = 0


@dataclass(frozen=True)
class Padding:
    """Tokens of padding, and the share of all computed tokens that are no padding."""

    tokens: int = 0
    real_share: float = 0.0


@dataclass(frozen=True)
class Salvaged:
    """Damage that was repaired: characters that could not be decoded, pictures that end early."""

    replaced_characters: int = 0
    truncated_images: int = 0


@dataclass(frozen=True)
class Throughput:
    """What the models computed ÷ the seconds of the whole run, start-up included."""

    chunks_per_s: float = 0.0
    tokens_per_s: float = 0.0
    images_per_s: float = 0.0


@dataclass(frozen=True)
class SpeedOfLight:
    """How near a run came to what its machine can do; how each is computed is in `efficiency`.

    `forward_only`, `end_to_end`, `bound` and `calibrated` are in `unit`, `ratio` is `end_to_end` ÷ `bound`;
    all are None where the run was too short or embedded nothing. `bottleneck` is parsers, model, database,
    supervisor, start-up, end or None. `window_s` is from the first batch to the last acknowledgement,
    `start_s` what came before, `busy_s` the busy seconds by stage.
    """

    forward_only: float | None = None
    end_to_end: float | None = None
    ratio: float | None = None
    unit: str = ""
    bottleneck: str | None = None
    advice: str = ""
    bound: float | None = None
    calibrated: float | None = None
    window_s: float = 0.0
    start_s: float | None = None
    cores: float = 0.0
    device: str | None = None
    busy_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Totals:
    """What the index holds after the run."""

    files: int = 0
    records: int = 0


@dataclass(frozen=True)
class PlannedMemory:
    """The memory plan; sizes in bytes, `parts` by stage."""

    workers: int = 0
    parser_memory: int = 0
    buffer: int = 0
    parts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Memory:
    """The limit, where it comes from, the plan within it (None: nothing was parsed), and what share of one
    core sampling took."""

    limit_bytes: int = 0
    limit_source: str = ""
    plan: PlannedMemory | None = None
    sampler_cpu_share: float = 0.0


@dataclass(frozen=True)
class Environment:
    """What the run's figures depend on, beside its configuration."""

    engine: str = ""
    python: str = ""
    platform: str = ""
    cpus: int = 0
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Figures:
    """Counts and rates of a run, also while it is running. `stages` is the whole run's time by stage."""

    files: Files = Files()
    chunks: Chunks = Chunks()
    tokens: int = 0
    padding: Padding = Padding()
    bytes_read: int = 0
    salvaged: Salvaged = Salvaged()
    seconds: float = 0.0
    throughput: Throughput = Throughput()
    stages: Mapping[str, Stats] = field(default_factory=dict)
    peak_in_flight_bytes: int = 0

    def stage(self, name: str) -> Stats:
        """How the processes of a stage spent their time: parse, infer, index or supervise."""
        return self.stages.get(name, Stats())


# The keys that stand first in their files: the fields of a class's last base come first.


@dataclass(frozen=True)
class _Now:
    status: str = "running"
    pid: int = 0
    database: str | None = None
    in_flight_bytes: int | None = None
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True)
class _Outcome:
    status: str = ""
    exit_code: int | None = None
    run: int | None = None


@dataclass(frozen=True)
class Status(Figures, _Now):
    """`status.json` of a running run; `database` says why the database doesn't answer (None: it does)."""


@dataclass(frozen=True)
class Summary(Figures, _Outcome):
    """`summary.json` of a run; `run` is the number of this invocation of its run directory."""

    speed_of_light: SpeedOfLight = SpeedOfLight()
    totals: Totals = Totals()
    peak_pss_bytes: Mapping[str, int] = field(default_factory=dict)
    memory: Memory = Memory()
    restarts: Mapping[str, int] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Environment = Environment()


@dataclass(frozen=True)
class FleetSummary:
    """`summary.json` of a fleet after its merge; `verified` is the comparison of ledgers and database (None:
    tasks are `not_done`), `gathered` how many records came from tables of tasks."""

    status: str
    exit_code: int
    files: Files
    chunks: Chunks
    totals: Totals
    throughput: Throughput
    tokens: int
    bytes_read: int
    seconds: float
    restarts: Mapping[str, int]
    tasks: int
    environment: Environment
    verified: Mapping[str, object] | None = None
    not_done: tuple[str, ...] = ()
    gathered: int = 0
    merge_steps_s: Mapping[str, float] = field(default_factory=dict)


def figures(counts: Counts, stages: Mapping[str, Stats], seconds: float, peak_in_flight: int = 0) -> Figures:
    """The figures of a run after so many seconds."""
    computed = counts.computed_tokens
    return Figures(
        files=Files(**{each.name: getattr(counts, each.name) for each in fields(Files)}),
        chunks=Chunks(
            counts.text_chunks, counts.image_chunks, counts.deduplicated, counts.records, counts.deleted
        ),
        tokens=counts.tokens,
        padding=Padding(counts.padding, round(computed / max(1, computed + counts.padding), 4)),
        bytes_read=counts.bytes_read,
        salvaged=Salvaged(counts.replaced_characters, counts.truncated_images),
        seconds=round(seconds, 3),
        throughput=Throughput(
            round(counts.computed_chunks / seconds, 3),
            round(computed / seconds, 3),
            round(counts.computed_images / seconds, 3),
        ),
        stages=stages,
        peak_in_flight_bytes=peak_in_flight,
    )


def environment() -> Environment:
    """Of this machine and its packages."""
    # Imported here, so that reading a summary maps no library.
    import adapters

    packages = {}
    for name in (*PACKAGES, *adapters.packages()):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    # platform.platform() would start the program `uname`, for the name of a processor that isn't wanted here.
    system = f"{platform.system()}-{platform.release()}-{platform.machine()}"
    cpus = len(os.sched_getaffinity(0))
    return Environment(__version__, platform.python_version(), system, cpus, packages)


def write_status(run_dir: Path, status: Status) -> None:
    """Replace `status.json`: a reader sees the old or the new one whole."""
    temporary = run_dir / f"{STATUS_FILE}.new"
    temporary.write_text(json.dumps(asdict(status)), encoding="utf-8")
    temporary.replace(run_dir / STATUS_FILE)


def write_summary(run_dir: Path, summary: Summary | FleetSummary) -> None:
    """Replace `summary.json`: a reader sees the old or the new one whole, also after a power cut."""
    temporary = run_dir / f"{SUMMARY_FILE}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(json.dumps(asdict(summary), indent=2))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(run_dir / SUMMARY_FILE)


def read_summary(run_dir: Path) -> Summary | None:
    """The summary in a run directory, also of an older engine; None where there is none, or not in JSON."""
    return _read(Summary, run_dir / SUMMARY_FILE)


def read_status(run_dir: Path) -> Status | None:
    """The status in a run directory; None where there is none."""
    return _read(Status, run_dir / STATUS_FILE)


def _read(kind: type[Made], path: Path) -> Made | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return made_of(kind, value) if isinstance(value, dict) else None


def made_of(kind: type[Made], values: Mapping[str, Any]) -> Made:
    """A dataclass of a JSON object; what is missing there, or is of another type, keeps its default."""
    hints, given = _hints(kind), {}  # type: ignore[arg-type]
    for name in hints.keys() & values.keys():
        with suppress(TypeError):
            given[name] = _made(hints[name], values[name])
    return kind(**given)


@cache
def _hints(kind: type) -> dict[str, Any]:
    # A millisecond for each summary, of which a listing reads many.
    return get_type_hints(kind)


def _made(hint: Any, value: Any) -> Any:
    """The value as the type says. Raises `TypeError` for one of another type."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    for kind in kinds:
        if get_origin(kind) is Mapping and isinstance(value, dict):
            of = get_args(kind)[1]
            return {name: _made(of, each) for name, each in value.items()}
        if is_dataclass(kind) and isinstance(value, dict):
            return made_of(kind, value)  # type: ignore[arg-type]
        if kind is Any or isinstance(value, (int, float) if kind is float else get_origin(kind) or kind):
            return value
    raise TypeError(value)
