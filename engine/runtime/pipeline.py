"""The processes of a run and the channels between them: parsers → inference → indexer."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import connection

from engine.config import Config
from engine.models.spec import ImageSpec, TextSpec
from engine.runtime import indexer, inference, parser
from engine.runtime import messages as m
from engine.runtime.child import Child, pipe
from engine.stages.parse import FileJob

#: Files that wait in a parser's own queue, while they are small: enough to hide a round trip.
QUEUED_FILES, QUEUED_FILE_BYTES = 4, 256 * 2**10

#: Seconds that a child has to end by itself after `Stop`.
STOP_DEADLINE_S = 30.0

log = logging.getLogger("engine")


@dataclass(eq=False)
class ParserSlot:
    """A parser process and the files it was given, the one at hand first."""

    child: Child
    jobs: deque[FileJob] = field(default_factory=deque)
    current: FileJob | None = None
    began: bool = False
    #: When it last gave a sign, by the monotonic clock; `waiting`: for the supervisor, not for the file.
    progressed: float = 0.0
    waiting: bool = False
    cancelled: bool = False
    dead: bool = False
    #: Why the supervisor killed it.
    verdict: str | None = None


class Pipeline:
    """Starts each process when it is first needed, and ends them all. Keeps no books."""

    def __init__(self, config: Config, text_spec: TextSpec) -> None:
        self._config = config
        self._text_spec = text_spec
        self._images: m.UseImages | None = None if config.images else m.UseImages(None)
        self._started = 0
        self._past = m.Stats(0.0, 0.0, 0.0)
        self.indexer: Child | None = None
        self.inference: Child | None = None
        self.parsers: dict[str, ParserSlot] = {}

    def start_indexer(self, patient: bool, identity: str | None) -> Child:
        """The first process: it opens the database and says what it found."""
        options = indexer.IndexerOptions(
            self._config.adapter, self._config.fields, self._config.adapter_options, patient, identity
        )
        self.indexer = Child("indexer", indexer.main, str(self._config.run_dir), options)
        return self.indexer

    def start_parser(self) -> ParserSlot:
        """One more parser, and the inference process before the first."""
        config = self._config
        if self.inference is None:
            self.inference = self._start_inference()
        name = f"parser-{self._started}"
        self._started += 1
        reader, writer = pipe()
        child = Child(
            name,
            parser.main,
            str(config.run_dir),
            writer,
            self._text_spec,
            config.chunk_size,
            config.chunk_overlap,
            config.exact_images,
            config.parser_memory,
        )
        writer.close()
        self.inference.send_descriptor(m.OpenChannel(name), reader)
        if self._images is not None:
            child.send(self._images)
        log.info("%s started, process %d", name, child.pid)
        slot = self.parsers[name] = ParserSlot(child)
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
            config.device,
            config.dtype,
        )
        writer.close()
        if self.indexer is not None:
            self.indexer.send_descriptor(m.OpenChannel("inference"), reader)
        if self._images is not None:
            child.send(self._images)
        log.info("inference started, process %d", child.pid)
        return child

    def use_images(self, spec: ImageSpec | None) -> None:
        """Tell every process, also those to come, the image model: the inference process before the rest."""
        self._images = m.UseImages(spec)
        for child in self.children():
            if child is not self.indexer:
                child.send(self._images)

    def _living(self) -> list[ParserSlot]:
        """The parsers that can still be given files."""
        return [slot for slot in self.parsers.values() if not slot.dead and not slot.cancelled]

    def roomy_parser(self, size: int) -> ParserSlot | None:
        """The parser that shall get a file of that many bytes next, started where there are too few."""
        living = self._living()
        slot = min(living, key=lambda slot: len(slot.jobs), default=None)
        if slot is not None and not slot.jobs:
            return slot
        if slot is None or len(living) < self._config.workers:
            return self.start_parser()
        small = all(each <= QUEUED_FILE_BYTES for each in [size, *(job.size for job in slot.jobs)])
        return slot if small and len(slot.jobs) < QUEUED_FILES else None

    def heir(self) -> ParserSlot:
        """The parser that shall get a dead one's files: a new one unless there are enough."""
        living = self._living()
        if len(living) < self._config.workers:
            return self.start_parser()
        return min(living, key=lambda slot: len(slot.jobs))

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
        return found

    def remove(self, slot: ParserSlot) -> None:
        """A parser is gone; its times stay."""
        del self.parsers[slot.child.name]
        self._past = _sum([self._past, slot.child.stats])

    def stats(self) -> dict[str, m.Stats]:
        """Busy and waiting seconds by stage, those of dead parsers included."""
        return {
            "parse": _sum([self._past, *(slot.child.stats for slot in self.parsers.values())]),
            "infer": _sum([self.inference.stats] if self.inference else []),
            "index": _sum([self.indexer.stats] if self.indexer else []),
        }

    def stop(self) -> Iterator[tuple[Child, object]]:
        """End every process, the first of the chain first; yields what they say until then."""
        parsers = [slot.child for slot in self.parsers.values()]
        for child in [*parsers, *(c for c in (self.inference, self.indexer) if c is not None)]:
            child.send(m.Stop())
            deadline = time.monotonic() + STOP_DEADLINE_S
            while child.process.exitcode is None and time.monotonic() < deadline:
                if connection.wait([child.control, child.process.sentinel], 0.1):
                    for message in child.receive():
                        yield child, message
            if child.process.exitcode is None:
                log.warning("%s did not end in %g s and is killed", child.name, STOP_DEADLINE_S)
                child.kill()

    def kill(self) -> None:
        """End every process at once."""
        for child in self.children():
            child.kill()


def _sum(stats: list[m.Stats]) -> m.Stats:
    return m.Stats(
        round(sum(each.busy_s for each in stats), 3),
        round(sum(each.wait_in_s for each in stats), 3),
        round(sum(each.wait_out_s for each in stats), 3),
    )
