"""The processes of a run and the channels between them: in each lane parsers → inference; all → indexer."""

from __future__ import annotations

import logging
import os
import resource
import time
from collections.abc import Sequence
from contextlib import suppress

from engine.config import Config
from engine.machine.memory import descendants
from engine.models.spec import ImageSpec, TextSpec
from engine.runtime.database import adapter_options
from engine.runtime.flow.lanes import Lane, ParserSlot, share_out
from engine.runtime.flow.staffing import HELD_UP, LOOK_S, look, staffed
from engine.runtime.limits.cgroup import usable_cores
from engine.runtime.limits.memory_plan import MOST_PARSER_MEMORY
from engine.runtime.process import messages as m
from engine.runtime.process.child import Child, pipe
from engine.runtime.process.current_item import CurrentItem
from engine.runtime.process.mailbox import AWAY_S
from engine.runtime.process.shared_pictures import Descriptor, make_picture_buffer
from engine.runtime.process.stats import NOTHING, Clock, Stats
from engine.runtime.process.wake import WakeEvent
from engine.runtime.workers import indexer, inference, parser

#: The stages that have processes of their own.
STAGES = ("parse", "infer", "index")

log = logging.getLogger("engine")


class Pipeline:
    """Starts each process when it is first needed, and ends them all. Keeps no books.

    `wake` is set whenever one of them has said something.
    """

    def __init__(self, config: Config, text_spec: TextSpec, lanes: Sequence[Lane]) -> None:
        self._config = config
        self._text_spec = text_spec
        self._images: m.UseImages | None = None if config.parsing.images else m.UseImages(None)
        self._started = 0
        #: Bytes that each inference process may take while it loads its model.
        self.room = 2**63
        #: Bytes of each parser.
        self.parser_memory = config.memory.parser_memory or MOST_PARSER_MEMORY
        #: What the processes had spent at the last look at their number, and when it was.
        self._spent: dict[str, tuple[str, Stats]] = {}
        self._looked_at = 0.0
        self._cores = usable_cores()
        #: What processes that are gone had spent: in all, and since they were marked.
        self._past = dict.fromkeys(STAGES, (NOTHING, NOTHING))
        #: The supervisor's own time, and what it had spent when the others were marked.
        self._clock, self._clock_marked = Clock(), NOTHING
        self.wake = WakeEvent()
        #: How long files take to parse.
        self.pace = lanes[0].pace
        self.indexer: Child | None = None
        #: Those that are not given up.
        self.lanes = [*lanes]

    # Start

    def start_indexer(self, patient: bool, identity: str | None) -> Child:
        """The first process: it opens the database and says what it found."""
        config = self._config
        options = indexer.IndexerOptions(
            config.database.adapter, config.database.fields, adapter_options(config), patient, identity
        )
        self.indexer = Child("indexer", indexer.main, str(config.run_dir), options, wake=self.wake)
        log.info("indexer started, process %d", self.indexer.pid)
        return self.indexer

    def tell_indexer(self, message: object) -> None:
        """Send the indexer a message, where there is one."""
        if self.indexer is not None:
            self.indexer.send(message)

    def start_parser(self, lane: Lane) -> ParserSlot:
        """One more parser of a lane, and the lane's inference process before the first."""
        config = self._config
        model = lane.inference or self._start_inference(lane)
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
        slot = lane.parsers[name] = ParserSlot(child, current_item)
        model.send_descriptor(m.OpenChannel(name), reader)
        if self._images is not None:
            self._tell_images(lane, slot, self._images)
        log.info("%s started, process %d%s", name, child.pid, self._of(lane))
        return slot

    def _start_inference(self, lane: Lane) -> Child:
        config = self._config
        reader, writer = pipe()
        lane.starts, lane.closed = lane.starts + 1, False
        child = lane.inference = Child(
            lane.name,
            inference.main,
            str(config.run_dir),
            writer,
            self._text_spec,
            (lane.device, config.models.dtype, config.models.backend),
            config.parsing.dedupe,
            config.models.calibrate,
            wake=self.wake,
        )
        writer.close()
        if self.indexer is not None:
            self.indexer.send_descriptor(m.OpenChannel(lane.channel, received=False), reader)
        if self._images is not None:
            child.send(self._images)
        child.send(m.Load(self.room))
        log.info("%s started, process %d%s", lane.name, child.pid, self._of(lane))
        return child

    def _of(self, lane: Lane) -> str:
        """For the log: which device's, where there are several."""
        return f", for {lane.label}" if lane.name != "inference" else ""

    def use_images(self, spec: ImageSpec | None) -> None:
        """Tell every process, also those to come, the image model: inference processes before parsers."""
        self._images = m.UseImages(spec)
        for lane in self.lanes:
            if lane.inference is not None:
                lane.inference.send(self._images)
            for slot in lane.parsers.values():
                self._tell_images(lane, slot, self._images)

    def _tell_images(self, lane: Lane, slot: ParserSlot, images: m.UseImages) -> None:
        """A parser learns the image model, and gets a picture buffer for its pictures before."""
        if (
            images.spec is not None
            and lane.inference is not None
            and (memory := make_picture_buffer()) is not None
        ):
            height, width = images.spec.size
            message = m.OpenPictureBuffer(slot.child.name, 3 * height * width)
            lane.inference.send_descriptor(message, Descriptor(os.dup(memory)))
            slot.child.send_descriptor(message, Descriptor(memory))
        slot.child.send(images)

    # Who takes what

    def lane_of(self, child: Child) -> Lane | None:
        """The lane whose inference process this is."""
        return next((lane for lane in self.lanes if lane.inference is child), None)

    def find(self, parser: str) -> tuple[Lane, ParserSlot] | None:
        """A parser by its name, with its lane."""
        for lane in self.lanes:
            if (slot := lane.parsers.get(parser)) is not None:
                return lane, slot
        return None

    @property
    def slots(self) -> list[tuple[Lane, ParserSlot]]:
        """All parsers, with their lanes. Other threads may ask, too."""
        return [(lane, slot) for lane in list(self.lanes) for slot in list(lane.parsers.values())]

    def parser_for(self, lane: Lane, path: str, size: int) -> ParserSlot | None:
        """The lane's parser that shall get this file of that many bytes next, started where there are too
        few."""
        slot = lane.roomy(path, size)
        if (slot is None or slot.jobs) and lane.lacks_parser:
            return self.start_parser(lane)
        return slot

    def fresh_parser(self, lane: Lane) -> ParserSlot:
        """A new parser in place of all others: what they went through shall not count against its file."""
        for _, slot in self.slots:
            if slot.open:
                self.retire(slot)
        return self.start_parser(lane)

    def retire(self, slot: ParserSlot) -> None:
        """Let a parser end when it is done with the files that it has; another may take its place."""
        slot.retired = True
        slot.child.send(m.Stop())

    @property
    def idle(self) -> bool:
        """Whether no parser has a file."""
        return all(lane.idle for lane in self.lanes)

    @property
    def alone(self) -> bool:
        """Whether a file is at work beside which nothing else may be begun."""
        return any(slot.jobs[0].alone for _, slot in self.slots if slot.jobs)  # it has a parser of its own

    # How many parsers

    @property
    def workers(self) -> int:
        """How many parsers there may be."""
        return sum(lane.workers for lane in self.lanes)

    def limit(self, workers: int, parser_memory: int) -> None:
        """From now on so many parsers, with so many bytes each; those that there are too many end."""
        self.parser_memory = parser_memory
        shares = share_out(workers, self.lanes)
        for lane in self.lanes:
            lane.workers = shares[lane.name]
            for slot in lane.living[lane.workers :]:
                self.retire(slot)
            for slot in lane.living:
                with suppress(OSError):  # it is dying, or a system without such limits
                    hard = resource.prlimit(slot.child.pid, resource.RLIMIT_DATA)[1]
                    resource.prlimit(slot.child.pid, resource.RLIMIT_DATA, (parser_memory, hard))

    def staff(self, waiting: bool) -> None:
        """Look, about each second, whether a lane has too few parsers or too many for its model.

        `waiting`: files wait that no parser takes.
        """
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        before, self._spent = self._spent, self._spending()
        spent = {
            name: (stage, stats - before.get(name, (stage, NOTHING))[1])
            for name, (stage, stats) in self._spent.items()
        }
        for lane in self.lanes:
            for slot in lane.living:
                if slot.current is not None and now - slot.child.heard_at > AWAY_S:
                    spent[slot.child.name] = "parse", HELD_UP
        if self.alone:
            return  # nothing else may be begun beside it
        for lane in self.lanes:
            own = {lane.name, *(slot.child.name for slot in lane.living)}
            # Of the other lanes only the cores that they take matter.
            seen = [(stage if name in own else "other", stats) for name, (stage, stats) in spent.items()]
            self._staff(lane, seen, waiting)

    def _staff(self, lane: Lane, spent: list[tuple[str, Stats]], waiting: bool) -> None:
        seen = look(spent, lane.workers, waiting, self._cores)
        if seen is None:
            return
        wanted, lane.staffing = lane.staffing.wanted, staffed(lane.staffing, seen)
        if lane.staffing.wanted != wanted:
            log.info("%d parsers instead of %d%s: %s", lane.staffing.wanted, wanted, self._of(lane), seen)
        living = lane.living
        idle = [slot for slot in living if not slot.jobs]
        for slot in idle[: max(0, len(living) - lane.staffing.wanted)]:
            self.retire(slot)

    def _spending(self) -> dict[str, tuple[str, Stats]]:
        """The stage of each process that is at work, by name, and what it has spent."""
        found: dict[str, tuple[str, Stats]] = {"supervisor": ("supervise", self._clock.read())}
        if self.indexer is not None:
            found["indexer"] = "index", self.indexer.stats
        for lane in self.lanes:
            if lane.inference is not None:
                found[lane.name] = "infer", lane.inference.stats
            found |= {slot.child.name: ("parse", slot.child.stats) for slot in lane.living}
        return found

    # What there is

    def wait(self, seconds: float, patience: float = 0.0) -> None:
        """Wait so long, or until a process has said something; what it said is to be read after this.

        What is not urgent may gather for `patience` seconds more.
        """
        with self._clock.waiting("in", "messages"):
            self.wake.wait(seconds, patience)

    def children(self) -> list[Child]:
        """The living processes, the last of the chain first but for the parsers."""
        others = [*(lane.inference for lane in self.lanes), self.indexer]
        parsers = [slot.child for _, slot in self.slots if not slot.dead]
        return [child for child in others if child is not None] + parsers

    def pids(self) -> list[tuple[str, int]]:
        """The processes' ids by stage. Other threads may ask, too."""
        found = [("parsers", slot.child.pid) for _, slot in self.slots]
        for lane in list(self.lanes):
            if (child := lane.inference) is not None:
                # With an exporter of its model, while there is one.
                found += [("inference", pid) for pid in (child.pid, *descendants(child.pid))]
        if (child := self.indexer) is not None:
            found.append(("indexer", child.pid))
        return found

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
            "parse": [slot.child for _, slot in self.slots],
            "infer": [lane.inference for lane in self.lanes],
            "index": [self.indexer],
        }
        own = self._clock.read() - (self._clock_marked if since_mark else NOTHING)
        spent = {
            stage: sum(
                (child.since_mark if since_mark else child.stats for child in children if child is not None),
                self._past[stage][since_mark],
            )
            for stage, children in living.items()
        }
        return {**spent, "supervise": own}

    # End

    def remove(self, lane: Lane, slot: ParserSlot) -> None:
        """A parser is gone; its times stay."""
        slot.child.gone = True
        lane.remove(slot)
        slot.child.kill()  # which ends the thread that holds its connection
        self._keep("parse", slot.child)

    def end_lane(self, lane: Lane) -> None:
        """End the processes of a lane at once; their times stay. What its parsers have said is forgotten."""
        children = [slot.child for slot in lane.parsers.values()]
        if lane.inference is not None:
            children.append(lane.inference)
        _kill(children)
        self._forget(children)

    def drop(self, lane: Lane) -> None:
        """A lane without processes is given up; the others get its parsers."""
        workers = self.workers
        self.lanes = [each for each in self.lanes if each is not lane]
        self.limit(workers, self.parser_memory)

    def end_indexer(self) -> None:
        """End the indexer at once; its times stay."""
        if self.indexer is not None:
            self.indexer.kill()
            self._forget([self.indexer])

    def kill(self) -> list[Child]:
        """End every process at once, the last of the chain first; gives them back, for their last words."""
        children = [*self.children(), *(slot.child for _, slot in self.slots if slot.dead)]
        _kill(children)
        self._forget(children)
        return children

    def _forget(self, ended: Sequence[Child]) -> None:
        """These processes are gone; their times stay."""
        for child in ended:
            child.gone = True
        for lane, slot in self.slots:
            if slot.child in ended:
                self.remove(lane, slot)
        for lane in self.lanes:
            if lane.inference in ended:
                self._keep("infer", lane.inference)
                lane.inference = None
                self._spent.pop(lane.name, None)  # another of that name begins at nothing
        if self.indexer in ended:
            self._keep("index", self.indexer)
            self.indexer = None
            self._spent.pop("indexer", None)

    def _keep(self, stage: str, child: Child | None) -> None:
        if child is not None:
            whole, marked = self._past[stage]
            self._past[stage] = whole + child.stats, marked + child.since_mark


def _kill(children: Sequence[Child]) -> None:
    """All at once, and wait until they are gone."""
    for child in children:
        child.process.kill()
    for child in children:
        child.kill()
