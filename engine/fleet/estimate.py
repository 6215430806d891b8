"""What a corpus will take: tokens, time, memory and index, from its census and a trial run over its sample.

**Tokens and pictures.** For each type and size, what the sample's whole files gave for each byte (pictures:
for each file), times what the corpus has of it.

**Time.** The trial's window, from its first batch to its last acknowledgement, is shared out between texts
and pictures as their models' calls took; what a token and a picture cost then is the sum of all that a run
does for them. A task takes that, and what starting and ending took.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from engine.errors import EngineError
from engine.fleet.census import Census
from engine.fleet.trial import Trial, Yield
from engine.runtime.report.summary import Memory


@dataclass(frozen=True)
class TypeEstimate:
    """What the files of one type come to."""

    type: str
    files: int
    bytes: int
    tokens: float
    texts: float
    pictures: float


@dataclass(frozen=True)
class Estimate:
    """What the corpus comes to on machines like this one. Rates are items a second, a task's with all its
    cores or its device; `edge_s` is what a task takes besides its files."""

    types: Sequence[TypeEstimate]
    tokens_per_s: float
    pictures_per_s: float
    edge_s: float
    bytes_per_record: float
    memory: Memory
    peak_bytes: int
    measured_s: float
    measured_files: int
    measured_bytes: int
    device: str

    @property
    def tokens(self) -> float:
        """Of all types."""
        return sum(each.tokens for each in self.types)

    @property
    def pictures(self) -> float:
        """Of all types."""
        return sum(each.pictures for each in self.types)

    @property
    def records(self) -> float:
        """Texts and pictures."""
        return sum(each.texts + each.pictures for each in self.types)

    @property
    def index_bytes(self) -> float:
        """Of the whole index; 0 where the database doesn't say."""
        return self.records * self.bytes_per_record

    @property
    def work_s(self) -> float:
        """Seconds of one task for all files, without its start and its end."""
        seconds = self.tokens / self.tokens_per_s if self.tokens else 0.0
        return seconds + (self.pictures / self.pictures_per_s if self.pictures else 0.0)

    def task_s(self, tasks: int) -> float:
        """Seconds of each of so many tasks of equal work."""
        return self.work_s / tasks + self.edge_s

    def as_dict(self, tasks: int) -> dict[str, Any]:
        """For the plan's table and `--json`."""
        names = ("tokens", "pictures", "records", "index_bytes", "work_s")
        sums = {name: round(getattr(self, name), 3) for name in names}
        own = asdict(self) | {"types": [asdict(each) for each in self.types]}
        return {**sums, "task_s": round(self.task_s(tasks), 3), **own}


def estimate(census: Census, trial: Trial) -> Estimate:
    """Raises `EngineError` where the trial embedded too little to tell."""
    summary = trial.summary
    speed, calls = summary.speed_of_light, summary.stage("infer").call
    window, tokens, pictures = speed.window_s, summary.tokens, summary.chunks.image
    in_model = {"text": calls("text").seconds, "image": calls("image").seconds}
    if not window or not (tokens or pictures):
        raise EngineError(
            f"nothing of the sample's {summary.files.discovered:,} files could be embedded, so nothing can be"
            " estimated; engine.run --dry-run says what would be done with them"
        )
    # A stand-in without a rate takes no time at all: then by the number of chunks.
    if not sum(in_model.values()):
        in_model = {"text": summary.chunks.text, "image": pictures}
    shares = {kind: seconds / sum(in_model.values()) for kind, seconds in in_model.items()}
    records = summary.chunks.indexed
    return Estimate(
        types=_types(census, trial),
        tokens_per_s=tokens / (window * shares["text"]) if tokens and shares["text"] else 0.0,
        pictures_per_s=pictures / (window * shares["image"]) if pictures and shares["image"] else 0.0,
        edge_s=max(0.0, summary.seconds - window),
        bytes_per_record=(trial.index_bytes or 0) / max(1, records),
        memory=summary.memory,
        peak_bytes=summary.peak_pss_bytes.get("total", 0),
        measured_s=window,
        measured_files=sum(each.files for each in trial.yields.values()),
        measured_bytes=sum(each.size for each in trial.yields.values()),
        device=str(speed.device),
    )


def _types(census: Census, trial: Trial) -> list[TypeEstimate]:
    """By type, the largest first."""
    seen_classes = {key: each for key, each in trial.yields.items() if each.size}
    tokens = trial.summary.tokens / max(1, trial.summary.chunks.text)
    found: dict[str, TypeEstimate] = {}
    for key, there in census.classes.items():
        # A class of which no file came to its end gives what the next size of its type gives, or else the
        # mean of all.
        alike = [other for other in seen_classes if other[0] == key[0]]
        nearest = min(alike, key=lambda other: abs(other[1] - key[1]), default=None)
        seen = seen_classes[nearest] if nearest else _sum(seen_classes.values())
        texts = seen.texts / max(1, seen.size) * there.size
        pictures = seen.pictures / max(1, seen.files) * there.files
        before = found.get(key[0], TypeEstimate(key[0], 0, 0, 0.0, 0.0, 0.0))
        found[key[0]] = TypeEstimate(
            key[0],
            before.files + there.files,
            before.bytes + there.size,
            before.tokens + texts * trial.tokens_each.get(key[0], tokens),
            before.texts + texts,
            before.pictures + pictures,
        )
    return sorted(found.values(), key=lambda each: -each.bytes)


def _sum(yields: Iterable[Yield]) -> Yield:
    total = Yield()
    for each in yields:
        total.files += each.files
        total.size += each.size
        total.texts += each.texts
        total.pictures += each.pictures
    return total


def lines(census: Census, guess: Estimate | None, tasks: int) -> list[str]:
    """The lines that a person reads: the answers, what they rest on, and the corpus by type."""
    corpus = (
        f"corpus     {census.files:,} files, {_bytes(census.size)}; {census.left_out:,} paths left out,"
        f" {census.unreadable:,} unreadable"
    )
    if guess is None:
        return [corpus]
    return [*_answers(guess, tasks), *_basis(census, guess), corpus, *_table(guess)]


def _answers(guess: Estimate, tasks: int) -> Iterator[str]:
    edge = f"{_duration(guess.edge_s)} of it to start and end"
    whole = f"about {_duration(guess.task_s(1))} on this machine"
    each = f"about {_duration(guess.task_s(tasks))} for each of {tasks:,} tasks, {edge}"
    yield f"time       {each}; {whole} alone" if tasks > 1 else f"time       {whole}, {edge}"
    yield f"memory     {_memory(guess.memory)}; over the sample {_bytes(guess.peak_bytes)} were taken"
    records = f"{guess.records:,.0f} records"
    if guess.bytes_per_record:
        size = f"about {_bytes(guess.index_bytes)} in this database"
        yield f"index      {size}: {records} of {_bytes(guess.bytes_per_record)}"
    else:
        yield f"index      {records}; this database does not say how large it is"


def _basis(census: Census, guess: Estimate) -> Iterator[str]:
    rates = [f"{guess.tokens_per_s:,.0f} tokens/s"] if guess.tokens else []
    rates += [f"{guess.pictures_per_s:,.1f} pictures/s"] if guess.pictures else []
    share = 100 * guess.measured_bytes / max(1, census.size)
    yield (
        f"measured   files and bytes; over {guess.measured_files:,} of them, {min(100.0, share):.0f} % of the"
        f" bytes, in {guess.measured_s:.0f} s {', '.join(rates)} ({guess.device}), and memory"
    )
    yield "guessed    tokens, records, time, index: as if the rest were like the sample of its type and size"


def _table(guess: Estimate) -> Iterator[str]:
    yield (f"           {'type':<24}{'files':>12}{'size':>12}{'tokens':>16}{'pictures':>12}{'records':>14}")
    for each in guess.types:
        records = each.texts + each.pictures
        yield (
            f"           {each.type or '(by its content)':<24}{each.files:>12,}{_bytes(each.bytes):>12}"
            f"{each.tokens:>16,.0f}{each.pictures:>12,.0f}{records:>14,.0f}"
        )


def _memory(memory: Memory) -> str:
    plan = memory.plan
    if plan is None:
        return "nothing was parsed, so nothing was planned"
    parsers = f"{plan.workers} parser{'s' if plan.workers > 1 else ''}"
    return (
        f"{_bytes(sum(plan.parts.values()))} planned for a task, {parsers} with {_bytes(plan.parser_memory)}"
        f" each, of at most {_bytes(memory.limit_bytes)} ({memory.limit_source})"
    )


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"
