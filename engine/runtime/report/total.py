"""How many bytes a corpus has: a listing that runs ahead of the run's own, and keeps nothing but the sum."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable

from engine.config import Config
from engine.runtime.flow.intake import corpus_of
from engine.sources.base import Found, Item

#: Seconds before it begins: short runs are listed by then.
DELAY_S = 1.0

#: Paths between two looks at the clock, and the most of one core that counting them may take on average.
STEP, CORE_SHARE = 128, 0.05

log = logging.getLogger("engine")


class CorpusTotal:
    """Counts the items of a listing in a thread of its own. `listing` None: there is nothing to count.

    `size` is the bytes found so far, and all there are once `ended`. A listing that fails never ends.
    """

    def __init__(self, listing: Callable[[], Iterable[Found]] | None, limit: int | None = None) -> None:
        self._listing = listing
        self._limit = limit
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="corpus total", daemon=True)
        self.size = self.paths = 0
        self.ended = False
        #: Core-seconds that counting took.
        self.cpu_s = 0.0

    def start(self) -> None:
        """Begin, after a while."""
        if self._listing is not None:
            self._thread.start()

    def stop(self) -> None:
        """Count no further. The thread may be within a slow listing; it is not waited for."""
        self._stop.set()

    def _run(self) -> None:
        if self._listing is None or self._stop.wait(DELAY_S):
            return
        began = time.monotonic()
        try:
            for found in self._listing():
                self.paths += 1
                if isinstance(found, Item):
                    self.size += found.size
                if self.paths == self._limit:
                    break
                if self.paths % STEP == 0:
                    self.cpu_s = time.thread_time()
                    if self._stop.wait(max(0.0, self.cpu_s / CORE_SHARE - (time.monotonic() - began))):
                        return
            self.ended = True
        except Exception as error:
            # The run's own listing will say what is wrong.
            log.info("the corpus could not be counted: %s", error)
        self.cpu_s = time.thread_time()
        log.info("counted %d paths, %d bytes, with %.2f core-seconds", self.paths, self.size, self.cpu_s)


def total_of(config: Config, narrowed: bool) -> CorpusTotal:
    """For the inputs of a run. Nothing is counted for one that does other items (`narrowed`), or whose list
    of files can be read only once."""
    corpus = config.corpus
    once = corpus.files_from is not None and not os.path.isfile(corpus.files_from)
    return CorpusTotal(None if narrowed or once else lambda: corpus_of(config), corpus.limit)
