"""The bound, the limit and the advice follow from what was seen, by the model that `efficiency` states."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.runtime.process.stats import Calls, Stats
from engine.runtime.report.efficiency import Observed, device_rate, least_seconds, speed_of_light


def parse(busy: float, cpu: float, parsers: int = 1, window: float = 100.0, **waits: float) -> Stats:
    """So many parsers, of which each has lived for the window; what they were not busy they waited."""
    idle = parsers * window - busy
    waits = waits or {"inference": idle}
    return Stats(busy, 0.0, idle, cpu, waits, {"parse": Calls(busy, cpu)})


def infer(seconds: float, cpu: float, window: float = 100.0) -> Stats:
    return Stats(
        seconds, window - seconds, 0.0, cpu, {"parsers": window - seconds}, {"text": Calls(seconds, cpu)}
    )


def index(seconds: float, cpu: float = 1.0, window: float = 100.0) -> Stats:
    calls = {"database": Calls(seconds, cpu)}
    return Stats(seconds, window - seconds, 0.0, cpu, {"inference": window - seconds}, calls)


def supervise(busy: float, window: float = 100.0) -> Stats:
    return Stats(busy, window - busy, 0.0, busy, {"messages": window - busy})


#: 100 s of two cores, of which the model has had 185 core-seconds and parsing 5.
ON_CORES = Observed(
    seconds=110.0,
    first_s=8.0,
    last_s=108.0,
    cores=2.0,
    items={"text": 500_000, "image": 0},
    stages={
        "parse": parse(6.0, 5.0), "infer": infer(98.0, 185.0), "index": index(4.0),
        "supervise": supervise(2.0),
    },
    devices={"text": "cpu"},
)  # fmt: skip


def on_device(model_s: float, rate: float, **stages: Stats) -> Observed:
    """A device of its own that embeds `rate` tokens a second; 16 cores for the rest."""
    return replace(
        ON_CORES,
        cores=16.0,
        items={"text": round(model_s * rate), "image": 0},
        devices={"text": "cuda:0"},
        rates={"text": rate},
        stages={**ON_CORES.stages, "infer": infer(model_s, 10.0), **stages},
    )


# The bound


def test_on_cores_the_bound_is_cores_by_core_seconds_of_parsing_and_forward() -> None:
    told = speed_of_light(ON_CORES)
    assert told.end_to_end == pytest.approx(5_000)
    assert told.bound == pytest.approx(500_000 * 2 / (185 + 5), rel=1e-4)
    assert told.forward_only == pytest.approx(500_000 * 2 / 185, rel=1e-4)
    assert told.ratio == pytest.approx((185 + 5) / (2 * 100))
    assert (told.unit, told.device, told.window_s, told.start_s) == (
        "tokens/s",
        "cpu",
        100.0,
        8.0,
    )


def test_what_was_reached_is_possible() -> None:
    # A stand-in that slept a little too short, and cores that a burst gave more time than they have.
    stand_in = replace(on_device(70.0, 300_000), devices={"text": "stand-in"}, rates={"text": 200_000})
    cores = replace(ON_CORES, stages={**ON_CORES.stages, "infer": infer(98.0, 203.0)})
    for seen, reached in ((stand_in, 210_000), (cores, 5_000)):
        told = speed_of_light(seen)
        assert (told.ratio, told.end_to_end, told.bound) == (1.0, reached, reached)
        assert told.forward_only is not None
        assert told.forward_only >= reached


def test_half_a_core_is_half_of_one() -> None:
    half = replace(ON_CORES, cores=0.5, items={"text": 1000, "image": 0},
                   stages={"parse": parse(4.0, 5.0), "infer": infer(99.0, 40.0)})  # fmt: skip
    assert speed_of_light(half).ratio == pytest.approx(45 / 50)


def test_on_a_device_the_bound_is_what_it_does_alone_and_parsing_costs_nothing() -> None:
    told = speed_of_light(on_device(70.0, 300_000, parse=parse(95.0, 90.0)))
    assert (told.forward_only, told.bound) == (300_000, 300_000)
    assert told.ratio == pytest.approx(0.7)


def test_a_device_that_was_faster_in_the_run_than_alone_is_as_fast_as_in_the_run() -> None:
    seen = replace(on_device(50.0, 300_000), rates={"text": 200_000})
    assert device_rate(seen, "text") == pytest.approx(300_000)
    assert device_rate(replace(seen, rates={}), "text") == pytest.approx(300_000)
    assert device_rate(replace(seen, rates={"text": 400_000}), "text") == pytest.approx(400_000)


def test_a_stand_in_keeps_to_its_rate_however_long_its_calls_were() -> None:
    seen = replace(on_device(50.0, 300_000), devices={"text": "stand-in"}, rates={"text": 250_000})
    assert device_rate(seen, "text") == 250_000


def test_texts_and_pictures_share_the_bound_and_the_unit_is_that_of_what_took_longer() -> None:
    both = Stats(90.0, 10.0, 0.0, 180.0, {}, {"text": Calls(30.0, 60.0), "image": Calls(60.0, 120.0)})
    seen = replace(ON_CORES, items={"text": 100_000, "image": 900}, devices={"text": "cpu", "image": "cpu"},
                   stages={"parse": parse(6.0, 10.0), "infer": both})  # fmt: skip
    told = speed_of_light(seen)
    assert told.unit == "images/s"
    assert told.end_to_end == pytest.approx(9.0)
    assert told.forward_only == pytest.approx(900 * 2 / 120)
    assert told.ratio == pytest.approx((60 + 120 + 10) / 200)
    assert least_seconds(seen) == pytest.approx(95.0)


def test_what_the_database_does_at_the_end_is_outside_of_the_window() -> None:
    publishing = Stats(
        60.0, 40.0, 0.0, 55.0, {}, {"database": Calls(10.0, 5.0), "publish": Calls(50.0, 50.0)}
    )
    seen = replace(ON_CORES, stages={**ON_CORES.stages, "index": publishing})
    assert seen.cpu_s == pytest.approx(185 + 5 + 2 + 5)


# The limit and the advice


def test_a_run_that_is_as_fast_as_its_cores_says_so() -> None:
    told = speed_of_light(ON_CORES)
    assert told.bottleneck == "model"
    assert told.advice == "the model limits the speed: it reached 95 % of what this machine's 2 cores can do"


def test_where_the_model_limits_below_that_the_cores_times_are_told_apart() -> None:
    slower = {"infer": infer(98.0, 115.0), "index": index(4.0, 4.0)}
    seen = replace(ON_CORES, others_share=0.3, stages={**ON_CORES.stages, **slower})
    told = speed_of_light(seen)
    assert told.ratio == pytest.approx(0.6)
    # Of 200 core-seconds 120 were of use, 6 more the run's own, 60 other programs'.
    assert told.advice == (
        "the model limits the speed: it reached 60 % of what this machine's 2 cores can do; other programs"
        " used 30 % of them, 7 % were idle, 3 % passed data on and wrote it"
    )


def test_a_device_that_limits_is_told_with_how_long_it_was_at_work() -> None:
    told = speed_of_light(on_device(97.0, 300_000))
    assert told.bottleneck == "model"
    assert told.advice == (
        "the model limits the speed: it reached 97 % of what its device can do, and was busy 97 % of the time"
    )


def test_so_many_more_workers_as_make_the_next_stage_the_limit() -> None:
    # 4 parsers busy for 98 s each; the model works 61 s: 7 parsers take 56 s, 6 would take 65.
    told = speed_of_light(on_device(61.0, 300_000, parse=parse(392.0, 380.0, parsers=4)))
    assert told.bottleneck == "parsers"
    assert told.advice == "the parsers limit the speed: 3 more workers would raise it from 61 % to 98 %"


def test_a_second_parser_that_came_late_does_not_make_both_seem_busier_than_they_were() -> None:
    # One for 100 s and one for the last 45, each busy for 0.7 of its time.
    late = Stats(101.5, 0.0, 43.5, 90.0, {"inference": 43.5}, {"parse": Calls(101.5, 90.0)})
    told = speed_of_light(on_device(97.0, 300_000, parse=late))
    assert told.bottleneck == "model"
    assert told.busy_s["parsers"] == pytest.approx(70.0)


def test_workers_that_may_come_anyhow_are_not_asked_for() -> None:
    seen = on_device(20.0, 300_000, parse=parse(98.0, 90.0))
    assert speed_of_light(replace(seen, workers=1)).advice.startswith(
        "the parsers limit the speed: 4 more workers would raise"
    )
    assert speed_of_light(replace(seen, workers=15)).advice == (
        "the parsers limit the speed: on average 1 of at most 15 ran, because more start only while the model"
        " waits; a longer run reaches more than 20 %"
    )


def test_more_workers_help_only_as_far_as_there_are_cores() -> None:
    # One parser takes 95 of 100 s, of two cores; with two the cores themselves are the limit.
    stages = {"parse": parse(95.0, 93.0), "infer": infer(20.0, 20.0), "index": index(5.0),
              "supervise": supervise(2.0)}  # fmt: skip
    told = speed_of_light(replace(ON_CORES, stages=stages))
    # 113 of 200 core-seconds were of use; they, the database and the supervisor fill 58 s of both cores.
    assert told.advice == "the parsers limit the speed: 1 more worker would raise it from 56 % to 93 %"


def test_where_all_cores_are_taken_more_cores_are_advised_and_not_more_workers() -> None:
    stages = {"parse": parse(190.0, 170.0, parsers=2), "infer": infer(30.0, 20.0), "index": index(5.0)}
    told = speed_of_light(replace(ON_CORES, stages=stages))
    assert told.advice == (
        "the parsers limit the speed, and 96 % of 2 cores are in use: more cores would help, more workers"
        " would not"
    )


def test_parsers_without_a_file_are_not_to_be_more() -> None:
    seen = on_device(20.0, 300_000, parse=parse(120.0, 110.0, parsers=2, files=80.0))
    told = speed_of_light(seen)
    assert told.bottleneck == "parsers"
    assert "had no file for 40 % of their time" in told.advice


def test_a_database_that_limits_is_told_with_what_a_faster_one_would_bring() -> None:
    told = speed_of_light(on_device(40.0, 300_000, index=index(96.0)))
    assert told.bottleneck == "database"
    assert told.advice == (
        "the database limits the speed: it took 96 of 100 s; one twice as fast would raise it from 40 %"
        " to 80 %"
    )
    # No faster than the model that is then the limit.
    told = speed_of_light(on_device(80.0, 300_000, index=index(96.0)))
    assert told.advice.endswith("would raise it from 80 % to 96 %")


def test_the_time_between_two_tries_is_the_database_s_too() -> None:
    retried = replace(index(20.0), waits={"database": 70.0})
    assert speed_of_light(on_device(40.0, 300_000, index=retried)).busy_s["database"] == pytest.approx(90.0)


def test_a_supervisor_that_limits_is_told_by_the_file() -> None:
    told = speed_of_light(replace(on_device(40.0, 300_000, supervise=supervise(96.0)), files=48_000))
    assert told.bottleneck == "supervisor"
    assert told.advice == (
        "the supervisor limits the speed: it takes 2.0 ms for each of 48,000 files; the same text in fewer,"
        " larger files would raise it from 40 % to at most 96 %"
    )


def test_where_every_stage_is_idle_most_of_the_time_none_limits() -> None:
    told = speed_of_light(on_device(30.0, 300_000))
    assert told.bottleneck is None
    assert told.advice.startswith("no stage limits the speed: the busiest, the model, worked 30 %")


def test_a_tiny_run_is_told_that_it_was_starting_up() -> None:
    stages = {"parse": parse(0.2, 0.2, window=0.9), "infer": infer(0.8, 1.6, window=0.9)}
    told = speed_of_light(replace(ON_CORES, seconds=6.0, first_s=5.0, last_s=5.9, stages=stages))
    assert told.bottleneck == "start-up"
    assert told.advice == (
        "start-up took 5.0 of 6.0 s: loading models, and files that need no embedding; it matters less with"
        " more new files"
    )
    assert told.ratio == pytest.approx((1.6 + 0.2) / 1.8)


def test_a_long_end_is_told() -> None:
    publishing = index(4.0)
    publishing = replace(publishing, calls={**publishing.calls, "publish": Calls(192.0, 100.0)})
    told = speed_of_light(replace(ON_CORES, seconds=300.0, stages={**ON_CORES.stages, "index": publishing}))
    assert told.bottleneck == "end"
    assert told.advice == "the database took 192 of 300 s to build its index after all records were written"


def test_files_that_need_nothing_after_the_last_new_one_are_no_putting_in_order() -> None:
    assert speed_of_light(replace(ON_CORES, seconds=3000.0)).bottleneck == "model"


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (replace(ON_CORES, items={"text": 0, "image": 0}, stages={}), "nothing was embedded"),
        (replace(ON_CORES, first_s=None, last_s=None, items={}, stages={}), "nothing was embedded"),
        (replace(ON_CORES, last_s=8.1), "too short to measure its speed: 0.10 s"),
        (replace(ON_CORES, last_s=None), "too short"),
    ],
)
def test_without_a_window_there_are_words_and_no_figures(seen: Observed, words: str) -> None:
    told = speed_of_light(seen)
    assert [told.forward_only, told.bound, told.end_to_end, told.ratio, told.bottleneck] == [None] * 5
    assert words in told.advice
