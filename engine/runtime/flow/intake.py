"""The intake: from the sources' listings to the items that wait for a parser."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain

import adapters
from engine.config import Config
from engine.errors import UsageError
from engine.models.cache import cache_folder
from engine.runtime.ledger.accounts import Accounts
from engine.sources import Corpus, check_inputs, prefixes
from engine.sources.base import Found, Item, Rules
from engine.sources.outputs import Outputs, shared_folder

#: Items looked at in one step, and items that wait at most.
STEP = 256

#: Items that are looked at before the database is opened, half a second; and the most seconds, since nothing
#: else is done meanwhile, not even for a signal or the lock's heartbeat.
LOOK_AHEAD, LOOK_AHEAD_S = 20_000, 5.0


def corpus_of(config: Config, shard: tuple[int, int] | None = None) -> Corpus:
    """What the run's inputs hold, in all shards or in its own. Raises `UsageError` for an unknown scheme."""
    corpus = config.corpus
    rules = Rules(
        corpus.include,
        corpus.exclude,
        corpus.hidden,
        shard or config.task.shard,
        corpus.gitignore,
        corpus.default_excludes,
        _outputs(config),
    )
    return Corpus(corpus.inputs, corpus.files_from, rules)


def is_narrowed(config: Config) -> bool:
    """Whether options leave out some of what the inputs hold, so that what is not met may be there all the
    same."""
    corpus = config.corpus
    narrowed = corpus.include or corpus.exclude or corpus.limit or corpus.files_from
    return bool(narrowed) or not config.parsing.images


def check_corpus(config: Config) -> None:
    """Raises `UsageError` where an input can't be read, or lies in the run directory or in that of all
    shards, of which nothing is ever indexed."""
    corpus, run_dir = config.corpus, os.path.abspath(shared_folder(config.run_dir))
    check_inputs(corpus.inputs, corpus.files_from)
    for name in corpus.inputs:
        if f"{name}/".startswith(f"{run_dir}/"):
            raise UsageError(
                f"--run-dir {run_dir}: INPUT {name} lies in it, and what is in a run directory is never"
                " indexed; name another --run-dir"
            )


def _outputs(config: Config) -> Outputs:
    """What this run writes; run directories and indexes of other runs are known by what is in them."""
    trace = config.run.memory_trace
    return Outputs(
        (
            os.path.abspath(config.run_dir),
            os.path.abspath(cache_folder()),
            *adapters.files(config.database.adapter),
            *((os.path.abspath(trace),) if trace else ()),
        )
    )


class Intake:
    """Lists the corpus lazily, or these `items` alone: a step at a time, and only while few of them wait."""

    def __init__(self, config: Config, accounts: Accounts, items: Iterable[Found] | None = None) -> None:
        self._config = config
        self._accounts = accounts
        self._corpus = corpus_of(config)
        self._listing: Iterator[Found] = iter(self._corpus if items is None else items)
        self._narrowed = items is not None
        self._admitted = 0
        #: Nothing more is to be found.
        self.listed = False
        #: Items with which there is something to do.
        self.waiting: deque[Item] = deque()

    @property
    def busy(self) -> bool:
        """Whether another step would find something to do."""
        return not self.listed and len(self.waiting) < STEP

    def step(self) -> None:
        """Look at the next items; those that changed while they were read wait again."""
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

    def nothing_to_do(self) -> bool:
        """Whether the ledger has all that the inputs hold, as far as a look ahead shows; then that is booked.

        False also where it would take long to say, and where something may have to be deleted.
        """
        corpus, ahead = self._config.corpus, list[Found]()
        if corpus.limit is not None or corpus.prune:
            return False
        ends = time.monotonic() + LOOK_AHEAD_S
        for found in self._listing:
            ahead.append(found)
            late = len(ahead) > LOOK_AHEAD or time.monotonic() > ends
            if late or self._accounts.has_work(found):
                self._listing = chain(ahead, self._listing)
                return False
        self._listing = iter(ahead)
        while not (self.listed or self.waiting):
            self.step()
        return not self.waiting

    @property
    def whole(self) -> bool:
        """Whether the listings met all that the inputs hold, so that what it lacks has left the corpus."""
        return self.listed and self._corpus.complete and not (self._narrowed or is_narrowed(self._config))

    def covered(self) -> tuple[str, ...]:
        """How the URIs begin of the ledger's items that have left the corpus where no listing met them."""
        return prefixes(self._config.corpus.inputs) if self.whole else ()
