"""How many parsers there shall be, from made-up histories of a run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from engine.runtime.flow.staffing import (
    LEAST_PATIENCE,
    MOST_PATIENCE,
    Look,
    Staffing,
    look,
    staffed,
)
from engine.runtime.process.stats import NOTHING, Stats

MOST = 15


def of(parsers: int, **shares: object) -> Look:
    """A look at a run whose model waits and whose parsers are busy, unless told otherwise."""
    told = {"most": MOST, "waiting": True, "starved": 0.5, "idle": 0.0, "blocked": 0.0, "cores": 0.3}
    return Look(parsers, **{**told, **shares})  # type: ignore[arg-type]


def need(work: float, model: float = 1.0, waiting: bool = True) -> Callable[[int], Look]:
    """A run whose model is kept busy by `work` parsers, as so many of them see it.

    With fewer the model waits; with more the parsers wait for room, and without files, for files.
    """

    def seen(parsers: int) -> Look:
        busy = min(1.0, work / parsers)
        starved = max(0.0, 1 - parsers / work) if work else 1.0
        free = 1 - busy
        idle, blocked = (0.0, free) if waiting else (free, 0.0)
        return of(parsers, waiting=waiting, starved=starved * model, idle=idle, blocked=blocked)

    return seen


def counts(looks: int, seen: Callable[[int], Look], now: Staffing | None = None) -> list[Staffing]:
    """What becomes of a run over so many looks, each with as many parsers as were wanted before."""
    history = [now or Staffing()]
    for _ in range(looks):
        history.append(staffed(history[-1], seen(history[-1].wanted)))
    return history


def changes(history: list[Staffing]) -> int:
    return sum(one.wanted != other.wanted for one, other in pairwise(history))


def test_a_starved_device_has_all_parsers_within_a_few_looks() -> None:
    wanted = [each.wanted for each in counts(6, need(100))]
    assert wanted == [1, 1, 4, 4, 15, 15, 15]


def test_there_are_as_many_as_the_model_needs_and_no_more() -> None:
    for work in (1.0, 2.6, 5.0, 9.4):
        wanted = counts(60, need(work))[-1].wanted
        assert work * 0.9 - 1 < wanted <= work + 1, work


@pytest.mark.parametrize(
    "limit",
    [
        {"starved": 0.02, "blocked": 0.9},  # the model is the limit
        {"starved": 0.9, "blocked": 0.8},  # the database is: nothing may leave the parsers
        {"starved": 0.9, "idle": 0.6},  # the supervisor is: it gives the parsers their files too late
        {"cores": 0.97},  # all cores are taken
        {"waiting": False},  # the last file is at work
        {"most": 1},  # there may be no other
    ],
    ids=["model", "database", "supervisor", "cores", "files", "plan"],
)
def test_where_another_parser_would_not_help_there_stays_one(limit: dict[str, object]) -> None:
    assert [each.wanted for each in counts(50, lambda n: of(n, **limit))] == [1] * 51


def test_one_look_alone_changes_nothing() -> None:
    state = Staffing()
    for starved in (1.0, 0.0) * 20:
        state = staffed(state, of(1, starved=starved))
    assert state.wanted == 1


def test_a_large_file_does_not_keep_a_second_parser_from_those_that_wait() -> None:
    # One parser, busy with a page that takes long, and a device with nothing to do.
    assert counts(2, lambda n: of(n, starved=1.0))[-1].wanted > 1


def test_a_burst_of_slow_files_is_met_and_its_parsers_go_when_it_is_over() -> None:
    met = counts(10, need(6))
    assert met[-1].wanted == 6
    over = counts(10 * LEAST_PATIENCE, need(0.5), met[-1])
    assert over[LEAST_PATIENCE - 1].wanted == 6  # not at once
    assert [each.wanted for each in over[LEAST_PATIENCE::LEAST_PATIENCE]][:5] == [5, 4, 3, 2, 1]
    assert over[-1].wanted == 1


def test_parsers_without_a_file_go_while_the_last_ones_are_at_work() -> None:
    ending = counts(100, need(1, waiting=False), Staffing(8))
    assert ending[-1].wanted == 2  # whether one would do, 0.7 of a parser's time can't tell


def test_a_steady_load_changes_the_number_a_few_times_and_never_again() -> None:
    for work in (0.3, 0.95, 1.05, 1.4, 2.0, 3.3, 7.7, 14.5):
        history = counts(400, need(work))
        assert changes(history) <= 6, work
        assert changes(history[100:]) == 0, work


def test_a_load_that_comes_and_goes_makes_the_changes_ever_rarer() -> None:
    state = Staffing()
    changed = [0, 0]
    for number in range(4000):
        busy = number // 20 % 2 == 0
        after = staffed(state, (need(4) if busy else need(0.5))(state.wanted))
        changed[number >= 2000] += after.wanted != state.wanted
        state = after
    assert changed[0] < 40
    assert changed[1] == 0
    assert LEAST_PATIENCE < state.patience <= MOST_PATIENCE


def spent(**given: object) -> Stats:
    told: dict[str, object] = {"busy_s": 1.0, "wait_in_s": 0.0, "wait_out_s": 0.0, "cpu_s": 0.0, "waits": {}}
    return Stats(**{**told, **given})  # type: ignore[arg-type]


def test_a_look_has_the_shares_of_the_model_s_and_of_all_parsers_time() -> None:
    seen = look(
        [
            ("infer", spent(busy_s=0.5, wait_in_s=1.5, cpu_s=1.0)),
            ("index", spent(cpu_s=0.5)),
            ("parse", spent(busy_s=1.0, cpu_s=1.0)),
            (
                "parse",
                spent(
                    busy_s=0.5,
                    wait_in_s=0.5,
                    wait_out_s=2.0,
                    waits={"files": 0.5, "credits": 0.75, "inference": 0.25, "image model": 1.0},
                ),
            ),
        ],
        most=3,
        waiting=True,
        cores=4,
    )
    # Who waits for the image model to be found can take no file meanwhile, and counts as busy.
    assert seen == Look(2, 3, True, starved=0.75, idle=0.125, blocked=0.25, cores=0.5)
    assert seen.busy == 0.625


def test_there_is_no_look_while_a_parser_starts_or_the_model_has_told_nothing() -> None:
    model, parser = ("infer", spent()), ("parse", spent())
    assert look([model, parser], 1, True, 1) is not None
    assert look([model, parser, ("parse", NOTHING)], 1, True, 1) is None
    assert look([("infer", NOTHING), parser], 1, True, 1) is None
    assert look([parser], 1, True, 1) is None
    assert look([model], 1, True, 1) is None
