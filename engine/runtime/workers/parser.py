"""The parser process: the parse stage behind a channel, paced by credits."""

from __future__ import annotations

import os
import resource
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import current_process
from multiprocessing.connection import Connection
from typing import NoReturn, Protocol

from engine import chunkers
from engine.models.spec import ImageSpec, TextSpec
from engine.records import ChunkerChoice, SectionFailure
from engine.runtime.process import messages as m
from engine.runtime.process.current_item import CurrentItem
from engine.runtime.process.mailbox import OUT_OF_MEMORY, Mailbox, run_child
from engine.runtime.process.outbox import Outbox
from engine.runtime.process.shared_pictures import placed
from engine.runtime.process.stats import Side
from engine.runtime.router import Router
from engine.stages.parse import OUT_OF_MEMORY_RULE, FileEnd, FileJob, Parsed, ParseStage
from engine.stages.segment import ParsedSegment, PictureSegment, TextSegment

#: Bytes that a parser asks for at a time, so that small segments don't each cost a round trip.
CREDIT_BLOCK_BYTES = 2**20

#: The descriptor that libraries print to.
STANDARD_ERROR = 2

#: Of all processes the kernel should take a parser first: it holds nothing that can't be made again.
OOM_SCORE = 800


class Parses(Protocol):
    """The part of the parse stage that this process needs."""

    def parse(self, job: FileJob) -> Iterator[Parsed]:
        """As `ParseStage.parse`."""


class _CancelledError(Exception):
    """The supervisor took the files back."""


def main(
    control: Connection,
    run_dir: str,
    output: Connection,
    current_item: CurrentItem,
    text_spec: TextSpec,
    chunker: ChunkerChoice,
    exact_images: bool,
    tolerate_truncated: bool,
    memory: int,
) -> None:
    """Entry of the process."""

    def body(mailbox: Mailbox) -> None:
        # Libraries in C print what they think of a file; that belongs in the log, not on the terminal.
        with open(os.path.join(run_dir, "run.log"), "ab", buffering=0) as log:
            os.dup2(log.fileno(), STANDARD_ERROR)
        # The supervisor may have set a lower one by now.
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        least = memory if soft == resource.RLIM_INFINITY else min(memory, soft)
        resource.setrlimit(resource.RLIMIT_DATA, (least, hard))
        parser = Parser(mailbox, output, current_item)
        cutter = chunkers.make(text_spec, chunker)
        parser.run(
            ParseStage(
                text_spec, cutter, parser.image_spec, exact_images, tolerate_truncated, parser.came_along
            )
        )

    run_child(control, run_dir, body, OOM_SCORE)


class Parser:
    """Files in, segments out, for any stage that parses them."""

    def __init__(self, mailbox: Mailbox, output: Connection, current_item: CurrentItem) -> None:
        self._mailbox = mailbox
        self._outbox = Outbox(mailbox, output)
        self._at_work = current_item
        self._jobs: deque[FileJob] = deque()
        self._credit = 0
        self._images: ImageSpec | None = None
        self._images_known = False
        self._cancelled = False
        self._stopped = False
        self._router: Router[[]] = Router()
        self._router.on(m.Parse, self._parse_next)
        self._router.on(m.Grant, self._grant)
        self._router.on(m.UseImages, self._use_images)
        self._router.on(m.Cancel, self._cancel)
        self._router.on(m.Stop, self._stop)

    def run(self, stage: Parses) -> None:
        """Parse what the supervisor sends until it says stop."""
        self._mailbox.start_clock()
        while self._jobs or not self._stopped:
            try:
                if self._jobs:
                    self._parse(stage, self._jobs.popleft())
                else:
                    if self._at_work.last:
                        self._outbox.report(m.Idle())
                    self._take(block=True)
                    self._check_cancelled()
            except _CancelledError:
                self._at_work.end()
                self._answer_cancel()
            except MemoryError:
                # Outside of the parse call itself: what is left of this process can't be trusted.
                self._die()
        with suppress(_CancelledError):
            self._flush()

    def came_along(self, share: float | None = None) -> None:
        """Reading came along a little; this part of the file has been read, where that is known."""
        self._mailbox.step()
        if share is not None:
            self._at_work.came_to(share)

    def _parse(self, stage: Parses, job: FileJob) -> None:
        self._mailbox.step()
        self._at_work.begin(job.attempt)
        items, seconds, emitted = stage.parse(job), 0.0, 0
        while True:
            began = time.monotonic()
            with self._mailbox.calling("parse"):
                item = next(items, None)
            seconds += time.monotonic() - began
            if item is None:
                break
            self._take()
            self._check_cancelled()
            if isinstance(item, TextSegment | PictureSegment):
                self._emit(item)
                emitted += item.size
            elif isinstance(item, SectionFailure):
                self._mailbox.send(m.SectionFailed(job.attempt, item))
            elif isinstance(item, FileEnd):
                if item.rule == OUT_OF_MEMORY_RULE:
                    # It may be for what this process still holds of earlier files: another one shall tell.
                    self._die()
                self._outbox.report(m.FileParsed(job.attempt, item, seconds, emitted))
            self._mailbox.step()
        self._at_work.end()

    def _die(self) -> NoReturn:
        """There is no memory left for the file at hand; those before it have no part in that."""
        with suppress(MemoryError, OSError):
            self._outbox.flush()
        os._exit(OUT_OF_MEMORY)

    def _emit(self, segment: ParsedSegment) -> None:
        if self._credit < segment.size:
            asked = self._credit + max(CREDIT_BLOCK_BYTES, segment.size - self._credit)
            self._mailbox.send(m.NeedCredit(asked - self._credit))
            while self._credit < asked:
                self._take(block=True, side="out", on="credits")
                self._check_cancelled()
        self._credit -= segment.size
        self._at_work.emitted(segment.page)
        picture_buffer = self._mailbox.picture_buffer(current_process().name)
        if picture_buffer is not None and isinstance(segment, PictureSegment):
            self._outbox.add(placed(segment, picture_buffer))
        else:
            self._outbox.add(segment)
        if self._outbox.full:
            self._flush()

    def _flush(self) -> None:
        try:
            with self._mailbox.waiting("out", "inference"):
                self._outbox.flush()
        except OSError:
            # The inference process is gone; what happens to its files is for the supervisor to say.
            while not self._cancelled:
                self._take(block=True, side="out", on="inference")
            raise _CancelledError from None

    def image_spec(self) -> ImageSpec | None:
        """The image model; asks for it when the first picture is met."""
        if not self._images_known:
            self._mailbox.send(m.NeedImageModel())
        while not self._images_known:
            self._take(block=True, side="out", on="image model")
            self._check_cancelled()
        return self._images

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise _CancelledError

    def _answer_cancel(self) -> None:
        with suppress(_CancelledError):
            self._flush()
        self._jobs.clear()
        self._cancelled = False
        self._mailbox.send(m.Cancelled())

    def _take(self, block: bool = False, side: Side = "in", on: str = "files") -> None:
        """Read what the supervisor sent; wait for one message where asked to."""
        while block or not self._mailbox.inbox.empty():
            if block:
                self._flush()
                with self._mailbox.waiting(side, on):
                    message = self._mailbox.inbox.get()
            else:
                message = self._mailbox.inbox.get()
            block = False
            self._router(message)

    def _parse_next(self, message: m.Parse) -> None:
        self._jobs.extend(message.jobs)

    def _grant(self, message: m.Grant) -> None:
        self._credit += message.size

    def _use_images(self, message: m.UseImages) -> None:
        self._images, self._images_known = message.spec, True

    def _cancel(self, message: m.Cancel) -> None:
        self._cancelled = True

    def _stop(self, message: m.Stop) -> None:
        self._stopped = True
