"""The intake: from discovery's paths to the files that wait for a parser."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from engine.config import Config
from engine.records import source_of
from engine.runtime.ledger.accounts import Accounts
from engine.stages.discover import Discovery, Found, FoundFile

#: Paths looked at in one step, and files that wait at most.
STEP = 256


class Intake:
    """Lists the corpus lazily: a step at a time, and only while few files wait."""

    def __init__(self, config: Config, accounts: Accounts) -> None:
        self._config = config
        self._accounts = accounts
        corpus = config.corpus
        self._discovery = Discovery(
            corpus.inputs, corpus.files_from, corpus.include, corpus.exclude, corpus.hidden, config.task.shard
        )
        self._listing: Iterator[Found] = iter(self._discovery)
        self._admitted = 0
        #: Nothing more is to be found.
        self.listed = False
        #: Files with which there is something to do.
        self.waiting: deque[FoundFile] = deque()

    @property
    def busy(self) -> bool:
        """Whether another step would find something to do."""
        return not self.listed and len(self.waiting) < STEP

    def step(self) -> None:
        """Look at the next paths; files that changed while they were read wait again."""
        limit = self._config.corpus.limit
        for _ in range(STEP):
            if self.listed or len(self.waiting) >= STEP:
                break
            found = None if limit is not None and self._admitted >= limit else next(self._listing, None)
            if found is None:
                self.listed = True
                break
            before = self._accounts.counts.discovered
            work = self._accounts.admit(found)
            self._admitted += self._accounts.counts.discovered - before
            if work is not None:
                self.waiting.append(work)
        while self._accounts.again:
            self.waiting.append(self._accounts.again.popleft())

    @property
    def whole(self) -> bool:
        """Whether discovery met all that the inputs hold, so that what it lacks has left the corpus."""
        corpus = self._config.corpus
        narrowed = corpus.include or corpus.exclude or corpus.limit or corpus.files_from
        narrowed = narrowed or not self._config.parsing.images
        return self.listed and self._discovery.complete and not narrowed

    def prunable(self) -> tuple[str, ...]:
        """The folders below which the ledger's files are deleted that discovery did not meet."""
        if not self._config.corpus.prune or not self.whole:
            return ()
        folders = (name for name in self._config.corpus.inputs if Path(name).is_dir())
        return tuple(source_of(name).rstrip("/") + "/" for name in folders)
