"""The memory that a run may take, and the plan that stays within it, made before the first file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from engine.config import LEAST_PARSER_MEMORY
from engine.errors import UsageError
from engine.runtime.flow.credits import least_buffer
from engine.runtime.limits.cgroup import memory_groups

#: Share of a container's or a job's limit, and of the memory that is free, that a run takes unless told.
CGROUP_SHARE, FREE_SHARE = 0.9, 0.75

#: What a parser's limit doesn't count, in bytes: its share of the pages of libraries (measured: 30 MiB with
#: one parser, less with more).
PARSER_SHARED = 40 * 2**20

#: Bytes that a byte on its way takes at most, as objects in one process and pickled between two (measured
#: 1.3 with text, less with pictures), and what allocators keep.
IN_FLIGHT_FACTOR = 1.5

#: Bytes beyond what is measured at the start that the supervisor (the ledger's cache, files on their way) and
#: the indexer (the client's buffers, compaction) come to take, and how often the indexer holds a request's
#: bytes: as records, as the client's columns or lines, and on the wire.
SUPERVISOR_ROOM, INDEXER_ROOM, INDEXER_COPIES = 32 * 2**20, 40 * 2**20, 3

#: Share of the inference process's measured bytes that batches may still add.
INFERENCE_ROOM = 0.05

#: How much more another run may measure of the same, by the pages that others share at that moment, so that
#: the figure that is named does when it is given.
MEASURED_APART = 1.03

#: A run's own choices where the user makes none: most bytes of a parser and on their way.
MOST_PARSER_MEMORY, MOST_BUFFER = 2**30, 256 * 2**20


def default_buffer(workers: int, lanes: int = 1) -> int:
    """Bytes in flight where the user names none and memory allows: enough for so many parsers."""
    return max(MOST_BUFFER, least_buffer(workers, lanes))


@dataclass(frozen=True, slots=True)
class Limit:
    """Bytes for the whole process tree, and in words where they come from."""

    size: int
    source: str


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured bytes: PSS of the processes that are there whatever is planned, the inference processes of
    all devices together; and `growth`, what those may still come to take."""

    supervisor: int
    indexer: int
    inference: int
    growth: int = 0


@dataclass(frozen=True, slots=True)
class Requested:
    """What the user asked for; None leaves a choice to the plan. `bulk` is all requests under way at once;
    `lanes` the devices, each of which has one parser at least."""

    workers: int
    parser_memory: int | None
    buffer: int | None
    bulk: int
    lanes: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """How many parsers, with how many bytes each, and how many bytes on their way."""

    workers: int
    parser_memory: int
    buffer: int
    costs: Costs
    bulk: int
    lanes: int = 1

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by part of the run."""
        return {
            "supervisor": self.costs.supervisor + SUPERVISOR_ROOM,
            "indexer": self.costs.indexer + INDEXER_ROOM + INDEXER_COPIES * min(self.bulk, self.buffer),
            "inference": int(self.costs.inference * (1 + INFERENCE_ROOM)) + self.costs.growth,
            "parsers": self.workers * (self.parser_memory + PARSER_SHARED),
            "in flight": int(self.buffer * IN_FLIGHT_FACTOR),
        }

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    def lines(self, limit: Limit) -> list[str]:
        """The plan as a table."""
        measured = f"{mebibytes(self.costs.inference)} measured"
        measured += f" in {self.lanes} processes" if self.lanes > 1 else " with its model"
        how = {
            "supervisor": f"{mebibytes(self.costs.supervisor)} measured, and room for the ledger's cache",
            "indexer": f"{mebibytes(self.costs.indexer)} measured, and room for requests of"
            f" {mebibytes(min(self.bulk, self.buffer))}",
            "inference": f"{measured}, and room for batches",
            "parsers": f"{self.workers} with at most {mebibytes(self.parser_memory)} each, and libraries",
            "in flight": f"--buffer {mebibytes(self.buffer)}, as objects and on the wire",
        }
        rows = [f"  {name:<11}{mebibytes(size):>12}  {how[name]}" for name, size in self.parts.items()]
        head = f"memory: at most {mebibytes(limit.size)} ({limit.source}), planned {mebibytes(self.total)}"
        return [head, *rows]


def plan(limit: Limit, costs: Costs, requested: Requested) -> Plan:
    """The largest plan that fits: the buffer is lowered first, then the parsers' memory, then their number.

    Raises `UsageError` that names the smallest limit that would do.
    """
    most = requested.parser_memory or MOST_PARSER_MEMORY
    least = requested.parser_memory or LEAST_PARSER_MEMORY
    made = Plan(
        requested.workers,
        most,
        requested.buffer or default_buffer(requested.workers, requested.lanes),
        costs,
        requested.bulk,
        requested.lanes,
    )
    lanes = requested.lanes
    for workers in range(requested.workers, lanes - 1, -1):
        enough = least_buffer(workers, lanes)
        smallest = enough if requested.buffer is None else requested.buffer
        made = replace(made, workers=workers)
        for memory in _halves(most, least):
            for buffer in _halves(made.buffer, smallest):
                tried = replace(made, parser_memory=memory, buffer=buffer)
                if tried.total <= limit.size:
                    return _filled(tried, limit, most, made.buffer)
    smallest = requested.buffer or least_buffer(lanes, lanes)
    smallest_plan = replace(made, workers=lanes, parser_memory=least, buffer=smallest)
    raise UsageError(
        "\n".join([
            f"{limit.source} {mebibytes(limit.size)}: even the smallest plan needs"
            f" --max-ram {-(-int(MEASURED_APART * smallest_plan.total) // 2**20)}MiB",
            *smallest_plan.lines(limit)[1:],
        ])
    )  # fmt: skip


def _halves(most: int, least: int) -> list[int]:
    """From the most to the least by halves."""
    sizes = [most]
    while sizes[-1] > least:
        sizes.append(max(least, sizes[-1] // 2))
    return sizes


def _filled(made: Plan, limit: Limit, most_memory: int, most_buffer: int) -> Plan:
    """The plan with what is left given to the parsers, then to the buffer, up to what was wished."""
    left = limit.size - made.total
    memory = min(most_memory, made.parser_memory + left // made.workers)
    made = replace(made, parser_memory=memory)
    left = limit.size - made.total
    return replace(made, buffer=min(most_buffer, made.buffer + int(max(0, left) / (IN_FLIGHT_FACTOR + 3))))


def limit_of(max_ram: int | None, environment: Mapping[str, str], root: Path = Path("/")) -> Limit:
    """The user's `--max-ram`; else most of what the container or the batch job has; else of what is free."""
    if max_ram is not None:
        return Limit(max_ram, "--max-ram")
    files = (
        folder / ("memory.max" if new else "memory.limit_in_bytes") for folder, new in memory_groups(root)
    )
    given = [size for path in files if (size := _read(path)) is not None]
    job = job_memory(environment)
    if job:
        given.append(job)
    free = psutil.virtual_memory().available
    if given and min(given) < free:
        return Limit(int(CGROUP_SHARE * min(given)), f"{CGROUP_SHARE:.0%} of the container's or job's limit")
    return Limit(int(FREE_SHARE * free), f"{FREE_SHARE:.0%} of what is free")


def job_memory(environment: Mapping[str, str]) -> int:
    """Bytes that SLURM has given to this job on its node; 0 outside of one, or where it has no limit."""
    names = ("MEM_PER_NODE", "MEM_PER_CPU", "CPUS_ON_NODE")
    told = (environment.get(f"SLURM_{name}", "") for name in names)
    whole, each, cores = (int(value) if value.isdigit() else 0 for value in told)
    return (whole or each * cores) * 2**20


def _read(path: Path) -> int | None:
    """The limit in a file; None where there is none, or it says that there is none."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    size = int(text) if text.isdigit() else 0
    return size if 0 < size < psutil.virtual_memory().total else None


def mebibytes(size: int) -> str:
    """Bytes for people."""
    return f"{size / 2**20:,.0f} MiB"
