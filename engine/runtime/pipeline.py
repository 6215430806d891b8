"""The processes of a run and the channels between them: parsers → inference → indexer."""

from __future__ import annotations

import logging
import os
import resource
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.config import Config
from engine.models.spec import ImageSpec, TextSpec
from engine.runtime.database import adapter_options
from engine.runtime.flow.pace import Pace, Room
from engine.runtime.flow.staffing import HELD_UP, LOOK_S, Staffing, look, staffed
from engine.runtime.limits.cgroup import usable_cores
from engine.runtime.limits.deaths import Verdict
from engine.runtime.limits.memory_plan import MOST_PARSER_MEMORY
from engine.runtime.process import messages as m
from engine.runtime.process.child import AWAY_S, Child, pipe
from engine.runtime.process.current_item import CurrentItem
from engine.runtime.process.shared_pictures import Descriptor, make_picture_buffer
from engine.runtime.process.stats import NOTHING, Clock, Stats
from engine.runtime.process.wake import WakeEvent
from engine.runtime.workers import indexer, inference, parser
from engine.stages.parse import FileJob

#: The stages that have processes of their own.
STAGES = ("parse", "infer", "index")

#: Seconds that the processes have to end by themselves when the run is over.
STOP_DEADLINE_S = 30.0

#: Seconds between two looks at what a process says that is to end.
STOP_LOOK_S = 0.05

log = logging.getLogger("engine")


@dataclass(eq=False)
class ParserSlot:
    """A parser process and the files whose end it hasn't told, in its order."""

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


class Pipeline:
    """Starts each process when it is first needed, and ends them all. Keeps no books.

    `wake` rings whenever one of them has said something.
    """

    def __init__(self, config: Config, text_spec: TextSpec) -> None:
        self._config = config
        self._text_spec = text_spec
        self._images: m.UseImages | None = None if config.parsing.images else m.UseImages(None)
        self._started = 0
        #: Bytes that the inference process may take while it loads its model.
        self.room = 2**63
        #: How many parsers there may be, and the bytes of each. One until the plan of memory is made.
        self.workers, self.parser_memory = 1, config.memory.parser_memory or MOST_PARSER_MEMORY
        #: How many of them there shall be; what their processes had spent at the last look, and when it was.
        self._staffing = Staffing()
        self._spent: dict[str, tuple[str, Stats]] = {}
        self._looked_at = 0.0
        self._cores = usable_cores()
        #: What processes that are gone had spent: in all, and since they were marked.
        self._past = dict.fromkeys(STAGES, (NOTHING, NOTHING))
        #: The supervisor's own time, and what it had spent when the others were marked.
        self._clock, self._clock_marked = Clock(), NOTHING
        self.wake = WakeEvent()
        #: How long files take to parse.
        self.pace = Pace()
        self.indexer: Child | None = None
        self.inference: Child | None = None
        self.parsers: dict[str, ParserSlot] = {}

    def start_indexer(self, patient: bool, identity: str | None) -> Child:
        """The first process: it opens the database and says what it found."""
        config = self._config
        options = indexer.IndexerOptions(
            config.database.adapter, config.database.fields, adapter_options(config), patient, identity
        )
        self.indexer = Child("indexer", indexer.main, str(config.run_dir), options, wake=self.wake)
        log.info("indexer started, process %d", self.indexer.pid)
        return self.indexer

    def start_parser(self) -> ParserSlot:
        """One more parser, and the inference process before the first."""
        config = self._config
        if self.inference is None:
            self.inference = self._start_inference()
            self.inference.send(m.Load(self.room))
        name = f"parser-{self._started}"
        self._started += 1
        reader, writer = pipe()
        current_item = CurrentItem()
        child = Child(
            name,
            parser.main,
            str(config.run_dir),
            writer,
            current_item,
            self._text_spec,
            config.parsing.chunker_choice,
            config.parsing.exact_images,
            config.parsing.tolerate_truncated,
            self.parser_memory,
            wake=self.wake,
        )
        writer.close()
        self.inference.send_descriptor(m.OpenChannel(name), reader)
        slot = self.parsers[name] = ParserSlot(child, current_item)
        if self._images is not None:
            self._tell_images(slot, self._images)
        log.info("%s started, process %d", name, child.pid)
        return slot

    def _start_inference(self) -> Child:
        config = self._config
        reader, writer = pipe()
        child = Child(
            "inference",
            inference.main,
            str(config.run_dir),
            writer,
            self._text_spec,
            (config.models.device, config.models.dtype, config.models.backend),
            config.parsing.dedupe,
            config.models.calibrate,
            wake=self.wake,
        )
        writer.close()
        if self.indexer is not None:
            self.indexer.send_descriptor(m.OpenChannel("inference", told=False), reader)
        if self._images is not None:
            child.send(self._images)
        log.info("inference started, process %d", child.pid)
        return child

    def use_images(self, spec: ImageSpec | None) -> None:
        """Tell every process, also those to come, the image model: the inference process before the rest."""
        self._images = m.UseImages(spec)
        if self.inference is not None:
            self.inference.send(self._images)
        for slot in self.parsers.values():
            self._tell_images(slot, self._images)

    def _tell_images(self, slot: ParserSlot, images: m.UseImages) -> None:
        """A parser learns the image model, and gets a picture buffer for its pictures before."""
        if (
            images.spec is not None
            and self.inference is not None
            and (memory := make_picture_buffer()) is not None
        ):
            height, width = images.spec.size
            message = m.OpenPictureBuffer(slot.child.name, 3 * height * width)
            self.inference.send_descriptor(message, Descriptor(os.dup(memory)))
            slot.child.send_descriptor(message, Descriptor(memory))
        slot.child.send(images)

    def _living(self) -> list[ParserSlot]:
        """The parsers that can still be given files."""
        return [slot for slot in self.parsers.values() if not (slot.dead or slot.cancelled or slot.retired)]

    def has_room(self, path: str, size: int) -> bool:
        """Whether a parser would take this file of that many bytes now."""
        return self._roomy(path, size) is not None or self._lacks_parser

    def roomy_parser(self, path: str, size: int) -> ParserSlot | None:
        """The parser that shall get this file of that many bytes next, started where there are too few."""
        slot = self._roomy(path, size)
        if (slot is None or slot.jobs) and self._lacks_parser:
            return self.start_parser()
        return slot

    @property
    def _lacks_parser(self) -> bool:
        """Whether one more is wanted, and has room: one that still ends takes its own."""
        there = sum(not slot.dead for slot in self.parsers.values())
        return len(self._living()) < self._staffing.wanted and there < self.workers

    def staff(self, waiting: bool) -> None:
        """Look, about each second, whether there are too few parsers or too many for the model.

        `waiting`: files wait that no parser takes.
        """
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        before, self._spent = self._spent, self._spending()
        held_up = {
            slot.child.name
            for slot in self._living()
            if slot.current is not None and now - slot.child.heard_at > AWAY_S
        }
        spent = [
            (stage, HELD_UP if name in held_up else stats - before.get(name, (stage, NOTHING))[1])
            for name, (stage, stats) in self._spent.items()
        ]
        if any(job.alone for slot in self.parsers.values() for job in slot.jobs):
            return  # nothing else may be begun beside it
        seen = look(spent, self.workers, waiting, self._cores)
        if seen is None:
            return
        wanted, self._staffing = self._staffing.wanted, staffed(self._staffing, seen)
        if self._staffing.wanted != wanted:
            log.info("%d parsers instead of %d: %s", self._staffing.wanted, wanted, seen)
        living = self._living()
        idle = [slot for slot in living if not slot.jobs]
        for slot in idle[: max(0, len(living) - self._staffing.wanted)]:
            self.retire(slot)

    def _spending(self) -> dict[str, tuple[str, Stats]]:
        """The stage of each process that is at work, by name, and what it has spent."""
        stages = {"inference": "infer", "indexer": "index"}
        children = {
            child.name: (stages[child.name], child.stats)
            for child in (self.inference, self.indexer)
            if child is not None
        }
        parsers = {slot.child.name: ("parse", slot.child.stats) for slot in self._living()}
        return {**children, **parsers, "supervisor": ("supervise", self._clock.read())}

    def give(self, slot: ParserSlot, job: FileJob) -> None:
        """Book that a parser gets this file."""
        if not slot.jobs:
            slot.room = self.pace.room([job])
        elif slot.room is not None:  # as it always is where `roomy_parser` has been asked
            slot.room.take(self.pace.expected(job.path, job.size), job.size)
        slot.jobs.append(job)

    def _roomy(self, path: str, size: int) -> ParserSlot | None:
        """The parser with the fewest files of those that can take one more."""
        living = self._living()
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

    def limit(self, workers: int, parser_memory: int) -> None:
        """From now on so many parsers, with so many bytes each; those that there are too many end."""
        self.workers, self.parser_memory = workers, parser_memory
        for slot in self._living()[workers:]:
            self.retire(slot)
        for slot in self._living():
            with suppress(OSError):  # it is dying, or a system without such limits
                hard = resource.prlimit(slot.child.pid, resource.RLIMIT_DATA)[1]
                resource.prlimit(slot.child.pid, resource.RLIMIT_DATA, (parser_memory, hard))

    def retire(self, slot: ParserSlot) -> None:
        """Let a parser end when it is done with the files that it has; another may take its place."""
        slot.retired = True
        slot.child.send(m.Stop())

    def fresh_parser(self) -> ParserSlot:
        """A new parser in place of all others: what they went through shall not count against its file."""
        for slot in self._living():
            self.retire(slot)
        return self.start_parser()

    @property
    def idle(self) -> bool:
        """Whether no parser has a file."""
        return not any(slot.jobs for slot in self.parsers.values())

    def wait(self, seconds: float, patience: float = 0.0) -> None:
        """Wait so long, or until a process has said something; what it said is to be read after this.

        What is not urgent may gather for `patience` seconds more.
        """
        with self._clock.waiting("in", "messages"):
            self.wake.wait(seconds, patience)

    def children(self) -> list[Child]:
        """The living processes, the last of the chain first but for the parsers."""
        others = [child for child in (self.inference, self.indexer) if child is not None]
        return others + [slot.child for slot in self.parsers.values() if not slot.dead]

    def pids(self) -> list[tuple[str, int]]:
        """The processes' ids by stage."""
        found = [("parsers", slot.child.pid) for slot in list(self.parsers.values())]
        for stage, child in (("inference", self.inference), ("indexer", self.indexer)):
            if child is not None:
                found.append((stage, child.pid))
        # An exporter of its model, while there is one.
        if self.inference is not None:
            found += [("inference", pid) for pid in _children_of(self.inference.pid)]
        return found

    def remove(self, slot: ParserSlot) -> None:
        """A parser is gone; its times stay."""
        del self.parsers[slot.child.name]
        slot.child.kill()  # which ends the thread that holds its connection
        self._keep("parse", slot.child)

    def _keep(self, stage: str, child: Child | None) -> None:
        if child is not None:
            whole, marked = self._past[stage]
            self._past[stage] = whole + child.stats, marked + child.since_mark

    def mark(self) -> None:
        """Count `stats(since_mark=True)` from now on."""
        self._past = {stage: (whole, NOTHING) for stage, (whole, _) in self._past.items()}
        self._clock_marked = self._clock.read()
        for child in self.children():
            child.mark()

    def stats(self, since_mark: bool = False) -> dict[str, Stats]:
        """What the processes of each stage have spent together, dead ones included; `supervise` is this
        process."""
        living: dict[str, list[Child | None]] = {
            "parse": [slot.child for slot in self.parsers.values()],
            "infer": [self.inference],
            "index": [self.indexer],
        }
        own = self._clock.read() - (self._clock_marked if since_mark else NOTHING)
        told = {
            stage: sum(
                (child.since_mark if since_mark else child.stats for child in children if child is not None),
                self._past[stage][since_mark],
            )
            for stage, children in living.items()
        }
        return {**told, "supervise": own}

    def stop(self, stages: str, seconds: float, urgent: Callable[[], bool]) -> Iterator[tuple[Child, object]]:
        """End the processes before the indexer (`parse`, in the order of the chain) or the indexer (`index`).

        Yields what they say until then. One that doesn't end by itself in `seconds`, or as soon as it is
        `urgent`, is killed.
        """
        ended = [self.indexer] if stages == "index" else [*self._parsing(), self.inference]
        deadline = time.monotonic() + seconds
        for child in ended:
            if child is None:
                continue
            child.send(m.Stop())
            while child.process.exitcode is None and time.monotonic() < deadline and not urgent():
                with self._clock.waiting("in", "messages"):
                    child.process.join(STOP_LOOK_S)
                yield from ((child, message) for message in child.receive())
            if child.process.exitcode is None:
                log.warning("%s did not end by itself and is killed", child.name)
                child.kill()
            yield from ((child, message) for message in child.receive())
        self._forget(ended)

    def _parsing(self) -> list[Child]:
        return [slot.child for slot in self.parsers.values()]

    def _forget(self, ended: list[Child | None]) -> None:
        """These processes are gone; their times stay."""
        for slot in [slot for slot in self.parsers.values() if slot.child in ended]:
            self.remove(slot)
        if self.inference in ended:
            self._keep("infer", self.inference)
            self.inference = None
            self._spent = {}  # another of that name begins at nothing
        if self.indexer in ended:
            self._keep("index", self.indexer)
            self.indexer = None

    def kill(self) -> list[Child]:
        """End every process at once, the last of the chain first; gives them back, for their last words."""
        children = [*self.children(), *(slot.child for slot in self.parsers.values() if slot.dead)]
        for child in children:
            child.process.kill()
        for child in children:
            child.kill()
        self._forget([*children])
        return children


def _children_of(pid: int) -> list[int]:
    """The processes that a process's main thread has started; none where the system doesn't tell."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (OSError, ValueError):
        return []
