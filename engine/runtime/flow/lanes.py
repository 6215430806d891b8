"""Lanes: a lane is one device's inference process with the parsers that feed it.

A lane keeps what is known of its processes and decides which of its parsers takes a file; the pipeline starts
and ends the processes. An item stays in one lane while anything of it is in flight there, so that all that a
lane's end can take away is found by the lane's name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from engine.config import ModelConfig
from engine.models.devices import devices
from engine.runtime.flow.pace import Pace, Room
from engine.runtime.flow.staffing import Staffing
from engine.runtime.limits.deaths import Verdict
from engine.runtime.process.child import Child
from engine.runtime.process.current_item import CurrentItem
from engine.stages.parse import FileJob

#: How the name of a model begins that runs nowhere.
STAND_IN = "stand-in:"


@dataclass(eq=False)
class ParserSlot:
    """A parser process and the files whose end it hasn't reported, in its order."""

    child: Child
    current_item: CurrentItem
    jobs: deque[FileJob] = field(default_factory=deque)
    cancelled: bool = False
    dead: bool = False
    #: It gets no more files, and ends when it is done with those that it has.
    retired: bool = False
    #: What its queue still takes. None: nothing, until no more than `low` files are left.
    room: Room | None = None
    low: int = 0
    #: Why the supervisor killed it, or what it could not go on from.
    verdict: Verdict | None = None

    @property
    def current(self) -> FileJob | None:
        """The file that it is parsing."""
        attempt = self.current_item.current
        return next((job for job in self.jobs if job.attempt == attempt), None) if attempt else None

    @property
    def begun(self) -> int:
        """How many of its files it has begun with."""
        last = self.current_item.last
        return next((place for place, job in enumerate(self.jobs, 1) if job.attempt == last), 0)

    @property
    def open(self) -> bool:
        """Whether it can still be given files."""
        return not (self.dead or self.cancelled or self.retired)


class LaneState(Enum):
    """What a lane does.

    `READY`: it takes files; its processes are started with the first. `ENDING`: its inference process died,
    and the indexer has still to answer for the segments that had reached it. `RESTING`: it waits before it is
    started again. `STOPPING`: the run is over, and its inference process was asked to end.
    """

    READY = "ready"
    ENDING = "ending"
    RESTING = "resting"
    STOPPING = "stopping"


@dataclass(eq=False)
class Lane:
    """One device. `name` is that of its inference process; `label` names the device to the user."""

    name: str
    device: str
    label: str
    pace: Pace
    #: How many parsers it may have, and how many it shall have.
    workers: int = 1
    staffing: Staffing = field(default_factory=Staffing)
    state: LaneState = LaneState.READY
    inference: Child | None = None
    parsers: dict[str, ParserSlot] = field(default_factory=dict)
    #: Bytes of the segments that its parsers' files will become, by attempt and together.
    expected: dict[int, int] = field(default_factory=dict)
    queued: int = 0
    #: How often its inference process was started, and whether the newest one's channel to the indexer has
    #: ended.
    starts: int = 0
    closed: bool = False
    #: Segments of it that the database has answered.
    answered: int = 0
    #: When it ends resting, by the monotonic clock. None: never, it is given up.
    back_at: float | None = 0.0

    @property
    def channel(self) -> str:
        """The name of its inference process's channel to the indexer, another one after each start."""
        return f"{self.name}/{self.starts}"

    @property
    def living(self) -> list[ParserSlot]:
        """The parsers that can still be given files."""
        return [slot for slot in self.parsers.values() if slot.open]

    @property
    def idle(self) -> bool:
        """Whether no parser has a file."""
        return not any(slot.jobs for slot in self.parsers.values())

    @property
    def lacks_parser(self) -> bool:
        """Whether one more is wanted, and has room: one that still ends takes its own."""
        there = sum(not slot.dead for slot in self.parsers.values())
        return len(self.living) < self.staffing.wanted and there < self.workers

    def has_room(self, path: str, size: int) -> bool:
        """Whether a parser would take this file of that many bytes now."""
        if self.state is not LaneState.READY:
            return False
        return self.roomy(path, size) is not None or self.lacks_parser

    def roomy(self, path: str, size: int) -> ParserSlot | None:
        """The parser with the fewest files of those that can take one more."""
        living = self.living
        idle = next((slot for slot in living if not slot.jobs), None)
        if idle is not None:
            return idle
        seconds = self.pace.expected(path, size)
        open_to_it = [slot for slot in living if self._fits(slot, seconds, size)]
        return min(open_to_it, key=lambda slot: len(slot.jobs), default=None)

    def _fits(self, slot: ParserSlot, seconds: float, size: int) -> bool:
        """Whether a parser's queue takes a file: it is filled, left alone until half of it is done, and then
        filled again, so that files go in groups. The answer no begins the time in which it is left alone."""
        if slot.room is None and len(slot.jobs) <= slot.low:
            slot.room = self.pace.room(slot.jobs)
        if slot.room is not None and not slot.room.fits(seconds, size):
            slot.room, slot.low = None, len(slot.jobs) // 2
        return slot.room is not None

    def give(self, slot: ParserSlot, job: FileJob) -> None:
        """Book that a parser gets this file."""
        if not slot.jobs:
            slot.room = self.pace.room([job])
        elif slot.room is not None:  # as it always is where `roomy` has been asked
            slot.room.take(self.pace.expected(job.item.location, job.item.size), job.item.size)
        slot.jobs.append(job)
        self.expected[job.attempt] = self.pace.emits(job.item.location, job.item.size)
        self.queued += self.expected[job.attempt]

    def done(self, slot: ParserSlot) -> FileJob:
        """Book that a parser is done with its first file, and give it back."""
        job = slot.jobs.popleft()
        self._left(job)
        return job

    def remove(self, slot: ParserSlot) -> None:
        """A parser is gone. The files that it had stay in its slot."""
        del self.parsers[slot.child.name]
        for job in slot.jobs:
            self._left(job)

    def empty(self, slot: ParserSlot) -> None:
        """A parser has forgotten its files."""
        for job in slot.jobs:
            self._left(job)
        slot.jobs.clear()

    def _left(self, job: FileJob) -> None:
        self.queued -= self.expected.pop(job.attempt)


def devices_of(models: ModelConfig) -> list[str]:
    """The device of each lane. For texts that no device embeds `auto` is a single one."""
    found = devices(models.device, models.backend)
    return found[:1] if models.device == "auto" and models.text_model.startswith(STAND_IN) else found


def make_lanes(devices: Sequence[str]) -> list[Lane]:
    """A lane for each device; one that is named several times gets several."""
    lanes, pace = [], Pace()
    for number, device in enumerate(devices):
        name = "inference" if len(devices) == 1 else f"inference-{number}"
        label = device if devices.count(device) == 1 else f"{device} ({name})"
        lanes.append(Lane(name, device, label, pace))
    return lanes


def share_out(workers: int, lanes: Sequence[Lane]) -> dict[str, int]:
    """How many of so many parsers each lane may have, by its name; one at least."""
    each, rest = divmod(max(workers, len(lanes)), len(lanes))
    return {lane.name: each + (place < rest) for place, lane in enumerate(lanes)}
