"""A parser's outbox: what is parsed, on its way to the inference process and, as news, to the supervisor."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from multiprocessing.connection import Connection

from engine.runtime.process.mailbox import OUT_OF_MEMORY, TOGETHER_BYTES, Mailbox
from engine.runtime.process.shared_pictures import PlacedPicture
from engine.stages.segment import ParsedSegment


class Outbox:
    """Small segments leave together, and after them the news of the files that have ended with them: when
    there are `TOGETHER_BYTES`, in `SOON_S` at the latest, and at once when the parser has to wait.

    What a process that is killed has not sent is parsed again. Raises `OSError` where the inference process
    is gone; what was to be sent is then forgotten.
    """

    def __init__(self, mailbox: Mailbox, output: Connection) -> None:
        self._mailbox = mailbox
        self._output = output
        #: Of what is below; and of those who send, so that the order stays.
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._segments: list[ParsedSegment | PlacedPicture] = []
        self._news: list[object] = []
        #: Bytes of the segments; pictures in a picture buffer have none.
        self._size = 0

    def add(self, segment: ParsedSegment | PlacedPicture) -> None:
        """One more segment."""
        with self._lock:
            self._segments.append(segment)
            self._size += 0 if isinstance(segment, PlacedPicture) else segment.size
        self._soon()

    def report(self, news: object) -> None:
        """What the supervisor shall hear after the segments that were added before."""
        with self._lock:
            self._news.append(news)
        self._soon()

    def flush(self) -> None:
        """Send what is there."""
        with self._sending:
            with self._lock:
                segments, news = self._segments, self._news
                self._segments, self._news, self._size = [], [], 0
            if segments:
                self._output.send(segments)
            if news:
                self._mailbox.send_all(news)

    @property
    def full(self) -> bool:
        """Whether it should be flushed now."""
        return self._size >= TOGETHER_BYTES

    def _soon(self) -> None:
        self._mailbox.soon(self._flush_in_thread)

    def _flush_in_thread(self) -> None:
        """In a thread of its own, while the parser may be in a long call."""
        try:
            with self._mailbox.moving(), suppress(OSError):  # the parser will meet it, too
                self.flush()
        except MemoryError:
            # What was taken out would never be reported.
            os._exit(OUT_OF_MEMORY)
