"""The speed of light: how far a run is from what its machine could do, what limits it, and what would help.

**The bound.** The window is from the first batch's beginning to the database's last acknowledgement. On a
device of its own (a GPU, or a stand-in with a rate) the bound is what the device does alone: its rate by
calibration or, where it was faster in the run, items ÷ seconds inside the model's calls. On the cores that
parse as well, it is cores ÷ core-seconds for each item, both measured in the window: processor time of the
inference process during the model's calls, less that of its threads which move messages, and of the parsers
while they parse (reading, chunking, tokenising and decoding count; handing over doesn't). Start-up of the
processes and all that the supervisor and the indexer take is overhead, so it is in no bound.

**The limit.** The stages work side by side, so the window lasts at least as long as each of them works:
T(model), seconds inside the calls of all inference processes ÷ their mean number; T(database), seconds inside
its calls; T(parsers), busy seconds of all parsers ÷ their mean number; T(supervisor), its busy seconds; and
T(cores), processor seconds of all processes ÷ cores. The stage with the largest T limits. With it relieved,
the window would shrink by T ÷ the largest that is then left, and end to end ÷ bound would grow by as much, at
most to 1: all predictions are made so. `w` more of `n` parsers make T(parsers) n ÷ (n + w) of what it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from engine.records import Kind
from engine.runtime.process.stats import NOTHING, Stats
from engine.runtime.report.summary import SpeedOfLight

#: Shares of the window: below the first the busiest stage limits nothing; above the second all cores are
#: in use; above the third a run can hardly be faster.
IDLE_SHARE, FULL_SHARE, GOOD_SHARE = 0.5, 0.9, 0.9

#: Share of the whole run above which start-up or the end is what limits it.
EDGE_SHARE = 0.5

#: Share of the parsers' time without a file above which more parsers would not help.
NO_FILES_SHARE = 0.25

#: Seconds of a window below which a rate means nothing.
LEAST_WINDOW_S = 0.2

#: Units by kind of chunk.
UNITS: dict[Kind, str] = {"text": "tokens/s", "image": "images/s"}


@dataclass(frozen=True, slots=True)
class Observed:
    """What was measured of a run.

    `seconds` is the whole run, `first_s` and `last_s` when the first batch began and the last acknowledgement
    came, counted from its start (None: neither did), all without what timing a model took in between.
    `stages` is what the processes have spent in the window, `items` the tokens and pictures that were
    embedded. `devices` names what computes each kind (`cpu`: the cores), `rates` what all devices do alone,
    in items a second. `workers` is how many parsers there might be (None: as many as there were).
    """

    seconds: float
    first_s: float | None
    last_s: float | None
    cores: float
    items: Mapping[Kind, int]
    stages: Mapping[str, Stats]
    devices: Mapping[Kind, str] = field(default_factory=dict)
    rates: Mapping[Kind, float] = field(default_factory=dict)
    files: int = 0
    others_share: float = 0.0
    workers: int | None = None

    def stage(self, name: str) -> Stats:
        """What this stage has spent in the window."""
        return self.stages.get(name, NOTHING)

    @property
    def window_s(self) -> float:
        """Seconds of the window; 0 where there was none."""
        return 0.0 if self.first_s is None or self.last_s is None else max(0.0, self.last_s - self.first_s)

    @property
    def parsers(self) -> int:
        """How many parsers there were, on average, in whole ones; at least one."""
        return max(1, round(self.stage("parse").seconds / self.window_s)) if self.window_s else 1

    def mean_number(self, stage: str) -> float:
        """How many processes the stage had, on average; at least one."""
        return max(1.0, self.stage(stage).seconds / self.window_s) if self.window_s else 1.0

    @property
    def on_device(self) -> bool:
        """Whether a device of its own computes any model that was used."""
        return any(self.devices.get(kind, "cpu") != "cpu" for kind in self.items if self.items[kind])

    @property
    def parsing_cpu_s(self) -> float:
        """Core-seconds of parsing."""
        return self.stage("parse").call("parse").cpu_s

    @property
    def busy(self) -> dict[str, float]:
        """T of each stage, in seconds of the window."""
        parse, infer, index = self.stage("parse"), self.stage("infer"), self.stage("index")
        return {
            # Not by the whole number: with 1.4 parsers they would seem to work longer than there was time.
            "parsers": parse.busy_s / self.mean_number("parse"),
            "model": sum(infer.call(kind).seconds for kind in UNITS) / self.mean_number("infer"),
            "database": index.call("database").seconds + index.waits.get("database", 0.0),
            "supervisor": self.stage("supervise").busy_s,
        }

    @property
    def cpu_s(self) -> float:
        """Core-seconds of all processes, without what the database does after the last acknowledgement."""
        return sum(stats.cpu_s for stats in self.stages.values()) - self.stage("index").call("publish").cpu_s


def device_rate(seen: Observed, kind: Kind) -> float:
    """Items a second of the devices alone: the better of what calibration and the run itself have shown."""
    seconds = seen.stage("infer").call(kind).seconds / seen.mean_number("infer")
    measured = seen.items.get(kind, 0) / seconds if seconds else 0.0
    known = seen.rates.get(kind, 0.0)
    # A stand-in's rate is what it is; its calls sleep a little longer or shorter.
    return known if known and seen.devices.get(kind) == "stand-in" else max(known, measured)


def least_seconds(seen: Observed) -> float:
    """Seconds that a perfect run of the window would have taken."""
    infer = seen.stage("infer")
    total = 0.0 if seen.on_device else seen.parsing_cpu_s / seen.cores
    for kind, count in seen.items.items():
        if not count:
            continue
        if seen.devices.get(kind, "cpu") == "cpu":
            total += infer.call(kind).cpu_s / seen.cores
        elif rate := device_rate(seen, kind):
            total += count / rate
    return total


def speed_of_light(seen: Observed) -> SpeedOfLight:
    """The figures for `summary.json`, with what limits the run and what would help."""
    kind = _dominant(seen)
    known = SpeedOfLight(
        unit=UNITS[kind],
        advice="nothing was embedded, so there is no speed to measure",
        calibrated=_rounded(seen.rates.get(kind)),
        window_s=round(seen.window_s, 3),
        start_s=_rounded(seen.first_s),
        cores=round(seen.cores, 2),
        device=seen.devices.get(kind),
        busy_s={name: round(seconds, 3) for name, seconds in seen.busy.items()},
    )
    least, count = least_seconds(seen), seen.items.get(kind, 0)
    if not count:
        return known
    if seen.window_s < LEAST_WINDOW_S or not least:
        short = f"the run was too short to measure its speed: {seen.window_s:.2f} s of embedding"
        return replace(known, advice=short)
    # What was reached is possible: a bound that is below it was measured a little wrong.
    least = min(least, seen.window_s)
    ratio = least / seen.window_s
    if seen.devices.get(kind, "cpu") == "cpu":
        forward_cpu_s = seen.stage("infer").call(kind).cpu_s
        alone = count * seen.cores / forward_cpu_s if forward_cpu_s else None
    else:
        alone = device_rate(seen, kind)
    if alone is not None:
        alone = max(alone, count / seen.window_s)
    bottleneck, advice = find_bottleneck(seen, ratio)
    return replace(
        known,
        forward_only=_rounded(alone),
        end_to_end=_rounded(count / seen.window_s),
        bound=_rounded(count / least),
        ratio=round(ratio, 4),
        bottleneck=bottleneck,
        advice=advice,
    )


def find_bottleneck(seen: Observed, ratio: float) -> tuple[str | None, str]:
    """What limits the run, and one sentence that says so with a number; see the module's text."""
    start, whole = seen.first_s or 0.0, seen.seconds
    # Not all that follows the last acknowledgement: unchanged files may be listed until the end.
    end = seen.stage("index").call("publish").seconds
    if start > EDGE_SHARE * whole:
        return "start-up", (
            f"start-up took {_of(start, whole)}: loading models, and files that need no embedding; it matters"
            " less with more new files"
        )
    if end > EDGE_SHARE * whole:
        return "end", f"the database took {_of(end, whole)} to build its index after all records were written"
    busy, window = seen.busy, seen.window_s
    limit = max(busy, key=lambda name: busy[name])
    if busy[limit] < IDLE_SHARE * window:
        share = _percent(busy[limit] / window)
        return None, f"no stage limits the speed: the busiest, the {limit}, worked {share} of the time"
    advice = {
        "parsers": _of_parsers, "model": _of_model, "database": _of_database, "supervisor": _of_supervisor,
    }[limit]  # fmt: skip
    return limit, f"the {limit} {'limit' if limit == 'parsers' else 'limits'} the speed{advice(seen, ratio)}"


def _of_parsers(seen: Observed, ratio: float) -> str:
    window, parsers, parse = seen.window_s, seen.parsers, seen.stage("parse")
    if parse.waits.get("files", 0.0) > NO_FILES_SHARE * parse.seconds:
        idle = _percent(parse.waits["files"] / parse.seconds)
        return (
            f", but had no file for {idle} of their time: one worker parses a file, so more workers need more"
            " files at once"
        )
    if seen.cpu_s > FULL_SHARE * seen.cores * window:
        used = _percent(seen.cpu_s / seen.cores / window)
        return f", and {used} of {_cores(seen)} are in use: more cores would help, more workers would not"
    if seen.workers is not None and parsers < seen.workers:
        return (
            f": on average {parsers} of at most {seen.workers} ran, because more start only while the model"
            f" waits; a longer run reaches more than {_percent(ratio)}"
        )
    others = _largest_without("parsers", seen)
    more = max(1, math.ceil(parse.busy_s / max(others, 1e-9) - 1e-6) - parsers)
    after = _after(ratio, seen, "parsers", parse.busy_s / (parsers + more))
    workers = "1 more worker" if more == 1 else f"{more} more workers"
    return f": {workers} would raise it from {_percent(ratio)} to {_percent(after)}"


def _of_model(seen: Observed, ratio: float) -> str:
    if seen.on_device:
        busy = _percent(seen.busy["model"] / seen.window_s)
        return f": it reached {_percent(ratio)} of what its device can do, and was busy {busy} of the time"
    reached = f": it reached {_percent(ratio)} of what this machine's {_cores(seen)} can do"
    if ratio >= GOOD_SHARE:
        return reached
    ours = seen.cpu_s / (seen.cores * seen.window_s)
    others = min(seen.others_share, max(0.0, 1 - ours))
    return (
        f"{reached}; other programs used {_percent(others)} of them, {_percent(max(0.0, 1 - ours - others))}"
        f" were idle, {_percent(max(0.0, ours - ratio))} passed data on and wrote it"
    )


def _of_database(seen: Observed, ratio: float) -> str:
    took = seen.busy["database"]
    after = _after(ratio, seen, "database", took / 2)
    return (
        f": it took {took:.0f} of {seen.window_s:.0f} s; one twice as fast would raise it from"
        f" {_percent(ratio)} to {_percent(after)}"
    )


def _of_supervisor(seen: Observed, ratio: float) -> str:
    each = 1000 * seen.busy["supervisor"] / max(1, seen.files)
    after = _after(ratio, seen, "supervisor", 0.0)
    return (
        f": it takes {each:.1f} ms for each of {seen.files:,} files; the same text in fewer, larger files"
        f" would raise it from {_percent(ratio)} to at most {_percent(after)}"
    )


def _largest_without(limit: str, seen: Observed) -> float:
    """The largest T beside that of the limit, the cores' included."""
    rest = [seconds for name, seconds in seen.busy.items() if name != limit]
    return max(*rest, seen.cpu_s / seen.cores)


def _after(ratio: float, seen: Observed, limit: str, relieved: float) -> float:
    """The ratio with the limit's T down to `relieved` seconds."""
    left = max(relieved, _largest_without(limit, seen))
    return min(1.0, ratio * max(1.0, seen.busy[limit] / left)) if left else 1.0


def _dominant(seen: Observed) -> Kind:
    """The kind of chunk that took the model's time."""
    infer = seen.stage("infer")
    return max(UNITS, key=lambda kind: (infer.call(kind).seconds, seen.items.get(kind, 0)))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _of(part: float, whole: float) -> str:
    digits = 0 if whole >= 10 else 1
    return f"{part:.{digits}f} of {whole:.{digits}f} s"


def _cores(seen: Observed) -> str:
    return "1 core" if seen.cores == 1 else f"{seen.cores:g} cores"
