"""The plan stays within the limit, uses what there is, and says what would do where nothing fits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import LEAST_PARSER_MEMORY
from engine.errors import UsageError
from engine.runtime.flow.credits import Credits, least_buffer
from engine.runtime.ledger.in_flight import InFlight
from engine.runtime.limits.memory_plan import (
    MOST_BUFFER,
    MOST_PARSER_MEMORY,
    Costs,
    Limit,
    Requested,
    limit_of,
    plan,
)

MIB, GIB = 2**20, 2**30
COSTS = Costs(supervisor=60 * MIB, indexer=120 * MIB, inference=900 * MIB)
DEFAULTS = Requested(workers=3, parser_memory=None, buffer=None, bulk=16 * MIB)


@pytest.fixture(autouse=True)
def _sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total=16 * GIB, available=12 * GIB)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)


def cgroup(root: Path, line: str, limits: dict[str, str]) -> Path:
    """A file system that names a control group and its limits."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(line)
    for name, text in limits.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


# The plan


@settings(deadline=None)
@given(
    st.integers(1, 40 * 1024), st.integers(1, 64), st.sampled_from([None, 256 * MIB, GIB]),
    st.sampled_from([None, 80 * MIB, GIB]),
)  # fmt: skip
def test_whatever_is_planned_fits_and_is_no_more_than_was_wished(
    mebibytes: int, workers: int, memory: int | None, buffer: int | None
) -> None:
    requested = Requested(workers, memory, buffer, 16 * MIB)
    limit = Limit(mebibytes * MIB, "--max-ram")
    try:
        made = plan(limit, COSTS, requested)
    except UsageError as error:
        # What it names does fit, with a mebibyte's rounding.
        named = int(str(error).split("--max-ram ")[-1].split("MiB")[0])
        assert named > mebibytes
        assert plan(Limit(named * MIB, "--max-ram"), COSTS, requested).workers == 1
        return
    assert made.total <= limit.size
    assert 1 <= made.workers <= workers
    assert LEAST_PARSER_MEMORY <= made.parser_memory <= (memory or MOST_PARSER_MEMORY)
    assert memory is None or made.parser_memory == memory
    assert buffer is None or made.buffer == buffer
    assert made.buffer <= (buffer or max(MOST_BUFFER, least_buffer(workers)))
    assert made.buffer >= least_buffer(made.workers)
    Credits(made.buffer, {"inference": made.workers}, InFlight())


def test_with_room_everything_is_as_wished() -> None:
    made = plan(Limit(32 * GIB, "--max-ram"), COSTS, DEFAULTS)
    assert (made.workers, made.parser_memory, made.buffer) == (3, MOST_PARSER_MEMORY, MOST_BUFFER)


def test_less_room_lowers_the_buffer_then_the_parsers_memory_then_their_number() -> None:
    plans = [plan(Limit(size * MIB, "--max-ram"), COSTS, DEFAULTS) for size in (4750, 3000, 1600)]
    assert [made.workers for made in plans] == [3, 3, 1]
    assert plans[0].parser_memory == MOST_PARSER_MEMORY
    assert plans[0].buffer < MOST_BUFFER
    assert plans[1].parser_memory < MOST_PARSER_MEMORY


def test_the_refusal_names_the_smallest_limit_and_shows_where_it_goes() -> None:
    with pytest.raises(UsageError) as refused:
        plan(Limit(GIB, "--max-ram"), COSTS, DEFAULTS)
    head, *rows = str(refused.value).splitlines()
    assert head.startswith("--max-ram 1,024 MiB: even the smallest plan needs --max-ram ")
    assert [row.split()[0] for row in rows] == ["supervisor", "indexer", "inference", "parsers", "in"]
    # It does, also where the next run measures a little more.
    named = Limit(int(head.split()[-1].removesuffix("MiB")) * MIB, "--max-ram")
    more = Costs(*(int(1.02 * size) for size in (COSTS.supervisor, COSTS.indexer, COSTS.inference)))
    assert plan(named, more, DEFAULTS).workers == 1


def test_the_table_has_a_line_for_each_part_and_they_add_up() -> None:
    made = plan(Limit(32 * GIB, "--max-ram"), COSTS, DEFAULTS)
    head, *rows = made.lines(Limit(32 * GIB, "--max-ram"))
    assert head == f"memory: at most 32,768 MiB (--max-ram), planned {made.total / MIB:,.0f} MiB"
    assert len(rows) == len(made.parts) == 5
    assert sum(made.parts.values()) == made.total


def test_what_the_models_may_still_come_to_take_is_planned_for() -> None:
    grown = Costs(COSTS.supervisor, COSTS.indexer, COSTS.inference, 160 * MIB)
    limit = Limit(32 * GIB, "--max-ram")
    before, after = plan(limit, COSTS, DEFAULTS), plan(limit, grown, DEFAULTS)
    assert after.parts["inference"] - before.parts["inference"] == 160 * MIB


def test_all_devices_are_planned_for_and_each_keeps_a_parser() -> None:
    requested = Requested(workers=3, parser_memory=None, buffer=None, bulk=16 * MIB, lanes=2)
    small = plan(Limit(1900 * MIB, "--max-ram"), COSTS, requested)
    assert small.workers == 2
    Credits(small.buffer, {"inference-0": 1, "inference-1": 1}, InFlight())
    assert "900 MiB measured in 2 processes" in small.lines(Limit(1900 * MIB, "--max-ram"))[3]
    with pytest.raises(UsageError, match="even the smallest plan needs"):
        plan(Limit(GIB, "--max-ram"), COSTS, requested)


# The limit


def test_what_the_user_says_counts(tmp_path: Path) -> None:
    assert limit_of(5, {"SLURM_MEM_PER_NODE": "100"}, tmp_path) == Limit(5, "--max-ram")


def test_without_a_word_most_of_what_is_free(tmp_path: Path) -> None:
    assert limit_of(None, {}, tmp_path) == Limit(9 * GIB, "75% of what is free")


@pytest.mark.parametrize(
    ("line", "limits"),
    [
        ("0::/job/step\n", {"sys/fs/cgroup/job/memory.max": str(4 * GIB)}),
        (
            "0::/job/step\n",
            {"sys/fs/cgroup/job/memory.max": str(4 * GIB), "sys/fs/cgroup/job/step/memory.max": "max\n"},
        ),
        ("0::/\n", {"sys/fs/cgroup/memory.max": str(4 * GIB)}),
        ("5:memory:/job\n", {"sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(4 * GIB)}),
    ],
)
def test_a_container_s_limit_counts_whichever_group_has_it(
    tmp_path: Path, line: str, limits: dict[str, str]
) -> None:
    found = limit_of(None, {}, cgroup(tmp_path, line, limits))
    assert found == Limit(int(0.9 * 4 * GIB), "90% of the container's or job's limit")


def test_a_group_without_a_limit_or_with_more_than_the_machine_has_none(tmp_path: Path) -> None:
    root = cgroup(tmp_path, "5:memory:/\n", {"sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096)})
    assert limit_of(None, {}, root).source == "75% of what is free"


def test_a_batch_job_s_memory_counts(tmp_path: Path) -> None:
    found = limit_of(None, {"SLURM_MEM_PER_NODE": "2048"}, tmp_path)
    assert found.size == int(0.9 * 2 * GIB)
    assert limit_of(None, {"SLURM_MEM_PER_NODE": "0"}, tmp_path).source == "75% of what is free"


def test_a_batch_job_s_memory_by_the_core_counts_for_each_of_its_cores(tmp_path: Path) -> None:
    found = limit_of(None, {"SLURM_MEM_PER_CPU": "512", "SLURM_CPUS_ON_NODE": "4"}, tmp_path)
    assert found.size == int(0.9 * 2 * GIB)
