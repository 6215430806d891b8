"""A run without processes: queues in place of pipes, and a random order of all that may happen next.

What is kept of the real thing is causality. Each process's messages reach the supervisor in the order in
which they were sent; a segment is received before it is written, though the news may come in reverse; a
channel is closed after all that its parser sent has been received; a dead lane's channel to the indexer is
closed after all that had reached it has been answered.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from engine.records import SectionFailure
from engine.runtime.ledger.accounts import Accounts
from engine.runtime.ledger.cleanup import Cleaner
from engine.runtime.ledger.segments import ID_BYTES
from engine.runtime.ledger.store import Ledger
from engine.runtime.process import messages as m
from engine.sources.base import Found, Item
from engine.stages.parse import FileEnd, FileJob
from tests.items import item

#: Far more than any simulated run needs; a run that never ends fails instead of hanging.
MOST_ACTIONS = 20_000

#: Ids in one answer to a sweep: so few that one file takes several.
SWEEP_IDS = 2


@dataclass(frozen=True)
class Piece:
    """One segment of a file: its chunks by name (equal names give equal ids), and how many are refused."""

    chunks: tuple[str, ...]
    refused: int = 0


@dataclass(frozen=True)
class Content:
    """What a file holds: pieces, None for a page that can't be parsed, and how its parsing ends."""

    pieces: tuple[Piece | None, ...]
    mtime_ns: int = 1
    failed: bool = False
    size: int = 100

    @property
    def content_hash(self) -> str:
        return hashlib.sha256(repr((self.pieces, self.failed)).encode()).hexdigest()

    @property
    def state(self) -> str:
        """What has to become of a new file of this content."""
        pieces = [piece for piece in self.pieces if piece is not None]
        accepted = any(len(piece.chunks) > piece.refused for piece in pieces)
        whole = not self.failed and None not in self.pieces and not any(p.refused for p in pieces)
        if whole:
            return "indexed" if pieces else "skipped"
        return "partial" if accepted else "failed"

    def ids(self, path: str) -> set[str]:
        """The ids that the database accepts."""
        return {
            chunk_id(path, chunk)
            for piece in self.pieces
            if piece is not None
            for chunk in piece.chunks[piece.refused :]
        }


def chunk_id(path: str, chunk: str) -> str:
    return hashlib.sha256(f"{path} {chunk}".encode()).hexdigest()[: 2 * ID_BYTES]


@dataclass
class Database:
    """The ids that are there, and of which file each is or was; it outlives the runs."""

    ids: set[str] = field(default_factory=set)
    sources: dict[str, str] = field(default_factory=dict)

    def ids_of(self, source: str) -> list[str]:
        return [record for record in sorted(self.ids) if self.sources[record] == source]


@dataclass
class Segment:
    attempt: int
    ordinal: int
    after: int
    checkpoint: str
    path: str
    piece: Piece
    maybe_present: bool


def parse(job: FileJob, content: Content) -> Iterator[Segment | SectionFailure | FileEnd]:
    """As the parse stage does it: on from the checkpoint, without what is done."""
    end = FileEnd("parsed", "text", "text/plain", content.content_hash)
    if job.known_hash == end.content_hash:
        yield FileEnd("unchanged")
        return
    previous, found = job.last, job.last >= 0 or bool(job.done)
    start = int(job.checkpoint) if job.checkpoint else 0
    for ordinal, piece in itertools.islice(enumerate(content.pieces), start, None):
        found = True
        if piece is None:
            yield SectionFailure(ordinal, ordinal + 1, "damaged-page", "no such font")
        elif ordinal not in job.done:
            yield Segment(
                job.attempt, ordinal, previous, str(ordinal + 1), job.item.location, piece, job.maybe_present
            )
            end.segments += 1
            end.chunks += len(piece.chunks)
        previous = ordinal
    if content.failed:
        end.outcome, end.rule, end.message = "failed", "damaged", "it ends too early"
    elif not found:
        end.outcome, end.rule = "skipped", "no-text"
    yield end


@dataclass(eq=False)
class Lane:
    """An inference process: what it says to the supervisor, the segments that it has, and its channel to the
    indexer. `unbegun`: attempts that no parser had begun with when it died."""

    name: str
    news: deque[object] = field(default_factory=deque)
    model: deque[Segment] = field(default_factory=deque)
    channel: deque[Segment] = field(default_factory=deque)
    dead: bool = False
    closed: bool = False
    unbegun: set[int] = field(default_factory=set)


@dataclass
class Parser:
    """A parser process: what it was given, what it does, and its two wires."""

    lane: Lane
    jobs: deque[FileJob] = field(default_factory=deque)
    inbox: deque[FileJob] = field(default_factory=deque)
    output: Iterator[object] = field(default_factory=lambda: iter(()))
    current_item: FileJob | None = None
    #: All that were begun.
    begun: list[FileJob] = field(default_factory=list)
    #: Segments that have not left, and the news of the files that have ended with them.
    segments: list[Segment] = field(default_factory=list)
    ended: list[m.FileParsed] = field(default_factory=list)
    control: deque[object] = field(default_factory=deque)
    channel: deque[Segment] = field(default_factory=deque)
    dead: bool = False
    crashed: bool = False

    def flush(self) -> None:
        """Let it all leave."""
        self.channel.extend(self.segments)
        self.control.extend(self.ended)
        self.segments, self.ended = [], []


class Run:
    """One invocation of the engine over `corpus`, as far as the accounts can tell."""

    def __init__(
        self,
        folder: Path,
        corpus: Mapping[str, Content],
        database: Database,
        random: Random,
        plan: str = "plan",
        prune: bool = False,
        skip_failed: bool = False,
        changing: Collection[str] = (),
        beside: Sequence[Found] = (),
    ) -> None:
        """`changing` are files that change while they are read; `beside` is what else is listed."""
        self.ledger = Ledger(folder)
        # Nothing here survives a power cut, and nothing has to: what counts is what was committed.
        self.ledger._db.execute("COMMIT")
        self.ledger._db.execute("PRAGMA synchronous = OFF")
        self.ledger._db.execute("BEGIN")
        self.corpus, self.database, self.random = corpus, database, random
        self.skipped = io.StringIO()
        number = self.ledger.next_run()
        self.accounts = Accounts(
            self.ledger, number, lambda kind: f"{plan} of {kind}", self.skipped, skip_failed
        )
        self.changing, self.beside = changing, beside
        #: Of the deaths of parsers, the share for which a file is to blame.
        self.crashing = 0.3
        self.ledger.adopt_plan("text", f"{plan} of text")
        self.ledger.commit()
        self.prune = prune
        self.cleaner = Cleaner(self.ledger)
        self.parsers: list[Parser] = []
        self.lanes = [Lane("inference-0"), Lane("inference-1")]
        self.deaths = self.collapses = self.lane_deaths = 0
        #: How often each file was at work when its parser crashed.
        self.crashes: Counter[str] = Counter()
        self.indexer_in: deque[Segment | m.Delete | m.Sweep | Lane] = deque()
        #: The ids that the indexer is still to name of the file that is swept.
        self.sweep: Iterator[str] | None = None
        self.indexer: deque[object] = deque()
        self.waiting: deque[Item] = deque()

    def go(
        self, deaths: int = 0, actions: int | None = None, collapses: int = 0, lane_deaths: int = 0
    ) -> bool:
        """Run to the end, or be killed after so many actions; whether the end was reached.

        `deaths` of parsers, `lane_deaths` (an inference process dies) and `collapses` (the indexer dies) may
        happen on the way.
        """
        self.collapses, self.lane_deaths = collapses, lane_deaths
        for action in itertools.count():
            if actions is not None and action >= actions:
                self.ledger._db.close()
                return False
            if action > MOST_ACTIONS:
                raise RuntimeError("the run never ends")
            if action == 0:
                self._clean()
                self._admit()
            possible = self._possible(deaths)
            if not possible:
                break
            self.random.choice(possible)()
        if self.prune:
            for _ in self.accounts.prune(("/",)):
                pass
        self._clean()
        self.ledger.close()
        assert self.accounts.in_flight.bytes() == self.accounts.in_flight.indexing() == 0
        return True

    def _admit(self) -> None:
        items = [item(path, content.size, content.mtime_ns) for path, content in self.corpus.items()]
        for found in (*items, *self.beside):
            work = self.accounts.admit(found)
            if work is not None:
                self.waiting.append(work)

    def _clean(self) -> None:
        """What an earlier run left undone comes before the first file; this run's own, at its end."""
        while not self.cleaner.idle:
            self._ask_for_deletes()
            while self.indexer_in:
                self._write()
            while self.indexer:
                self._listen(self.indexer)

    def _possible(self, deaths: int) -> list[Callable[[], None]]:
        possible: list[Callable[[], None]] = []
        living = [parser for parser in self.parsers if not parser.dead]
        self.waiting.extend(self.accounts.again)
        self.accounts.again.clear()
        if self.waiting and any(not lane.dead for lane in self.lanes):
            possible.append(self._dispatch)
        for parser in living:
            if parser.current_item or parser.inbox or parser.ended:
                possible.append(partial(self._step, parser))
                if self.deaths < deaths:
                    possible.append(partial(self._die, parser))
        for parser in self.parsers:
            if parser.control:
                possible.append(partial(self._hear, parser))
            if parser.channel or parser.dead:
                possible.append(partial(self._receive, parser))
        for lane in self.lanes:
            if lane.news:
                possible.append(partial(self._listen, lane.news))
            if lane.model:
                possible.append(partial(self._embed, lane))
            if lane.channel or (lane.dead and not lane.closed):
                possible.append(partial(self._arrive, lane))
            busy = lane.model or any(parser.lane is lane for parser in self.parsers)
            if busy and not lane.dead and self.lane_deaths and not self.random.randrange(10):
                possible.append(partial(self._lane_dies, lane))
        if self.indexer_in:
            possible.append(self._write)
        if self.indexer:
            possible.append(partial(self._listen, self.indexer))
        if possible:
            possible.append(self._tick)
            if self.collapses and not self.random.randrange(20):
                possible.append(self._collapse)
        return possible

    # What the supervisor does

    def _dispatch(self) -> None:
        job = self.accounts.dispatch(self.waiting.popleft())
        self.ledger.commit()
        if job is not None:
            self._give(self._parser(), job)

    def _parser(self, fresh: bool = False, lane: str | None = None) -> Parser:
        """A parser of this lane, or of any that lives; a new one where there are few."""
        lanes = [each for each in self.lanes if not each.dead and lane in (None, each.name)]
        living = [parser for parser in self.parsers if not parser.dead and parser.lane in lanes]
        if fresh or len(living) < 2:
            self.parsers.append(Parser(self.random.choice(lanes)))
            living = [self.parsers[-1]] if fresh else [*living, self.parsers[-1]]
        return self.random.choice(living)

    def _give(self, parser: Parser, job: FileJob) -> None:
        self.accounts.place(job.attempt, parser.lane.name)
        parser.jobs.append(job)
        parser.inbox.append(job)

    def _give_again(self, jobs: list[FileJob]) -> None:
        """To one new parser of each lane that may have them."""
        parsers: dict[str | None, Parser] = {}
        for job in jobs:
            lane = self.accounts.lane_of(job.attempt)
            if lane not in parsers:
                parsers[lane] = self._parser(fresh=True, lane=lane)
            self._give(parsers[lane], job)

    def _hear(self, parser: Parser) -> None:
        message = parser.control.popleft()
        if isinstance(message, m.SectionFailed):
            self.accounts.section_failed(message.attempt, message.failure, message.failure.unit)
        elif isinstance(message, m.FileParsed):
            parser.jobs.popleft()
            self.accounts.parsed(message.attempt, message.end)

    def _listen(self, wire: deque[object]) -> None:
        message = wire.popleft()
        if isinstance(message, m.Received):
            self.accounts.received(message)
        elif isinstance(message, m.Embedded):
            self.accounts.embedded(message)
        elif isinstance(message, m.SegmentWritten):
            self.accounts.written(message)
        elif isinstance(message, m.Deleted):
            self.cleaner.deleted(message.request)
        elif isinstance(message, m.Found):
            self.cleaner.found(message)
        elif isinstance(message, Parser):
            self._bury(message)
        elif isinstance(message, Lane):
            self._lane_lost(message)

    def _bury(self, parser: Parser) -> None:
        while parser.control:
            self._hear(parser)
        self.parsers.remove(parser)
        jobs = []
        for job in parser.jobs:
            at_fault = job is parser.current_item
            crashed = "killed by SIGSEGV" if at_fault and parser.crashed else None
            self.crashes[job.item.location] += crashed is not None
            again = self.accounts.lost(job.attempt, job in parser.begun, crashed)
            if again is not None:
                jobs.append(again)
        self.ledger.commit()
        self._give_again(jobs)

    def _lane_dies(self, lane: Lane) -> None:
        """Of what the inference process has said, the supervisor still hears the beginning; its parsers are
        ended, whatever they were about to say."""
        self.lane_deaths -= 1
        for _ in range(self.random.randint(0, len(lane.news))):
            self._listen(lane.news)
        lane.dead, lane.closed = True, False
        lane.news.clear()
        lane.model.clear()
        for parser in [each for each in self.parsers if each.lane is lane]:
            self.parsers.remove(parser)
            lane.unbegun |= {job.attempt for job in parser.jobs if job not in parser.begun}

    def _lane_lost(self, lane: Lane) -> None:
        """All that had reached the indexer is answered."""
        jobs = self.accounts.lost_lane(lane.name, lane.unbegun)
        self.ledger.commit()
        lane.dead = False
        lane.unbegun.clear()
        self._give_again(jobs)

    def _collapse(self) -> None:
        """All processes are gone; of what the indexer has said, the supervisor still hears the beginning."""
        self.collapses -= 1
        for _ in range(self.random.randint(0, len(self.indexer))):
            self._listen(self.indexer)
        self.indexer_in.clear()
        self.indexer.clear()
        self.lanes = [Lane(lane.name) for lane in self.lanes]
        self.cleaner.reset()
        self.sweep = None
        self.parsers = []
        self._give_again(self.accounts.lost_all())
        self.ledger.commit()

    def _tick(self) -> None:
        self.accounts.flush()
        self.ledger.commit()
        self._ask_for_deletes()

    def _ask_for_deletes(self) -> None:
        self.ledger.commit()
        self.indexer_in.extend(self.cleaner.requests())

    # What the other processes do

    def _step(self, parser: Parser) -> None:
        if (parser.segments or parser.ended) and (not parser.inbox or self.random.random() < 0.5):
            parser.flush()
            return
        if parser.current_item is None:
            parser.current_item = parser.inbox.popleft()
            parser.begun.append(parser.current_item)
            parser.output = parse(parser.current_item, self.corpus[parser.current_item.item.uri])
            return
        item = next(parser.output)
        if isinstance(item, Segment):
            parser.segments.append(item)
        elif isinstance(item, SectionFailure):
            parser.control.append(m.SectionFailed(parser.current_item.attempt, item))
        elif isinstance(item, FileEnd):
            if parser.current_item.item.uri in self.changing:
                item.outcome = "changed"
            parser.ended.append(m.FileParsed(parser.current_item.attempt, item))
            parser.current_item = None

    def _die(self, parser: Parser) -> None:
        self.deaths += 1
        parser.dead = True
        parser.crashed = self.random.random() < self.crashing
        if self.random.random() < 0.3:
            # Just before the news of the files that have ended with them.
            parser.channel.extend(parser.segments)

    def _receive(self, parser: Parser) -> None:
        lane = parser.lane
        if parser.channel:
            segment = parser.channel.popleft()
            chunks = len(segment.piece.chunks)
            lane.news.append(m.Received(segment.attempt, segment.ordinal, chunks, chunks, "parser-0"))
            lane.model.append(segment)
        elif not any(message is parser for message in lane.news):
            lane.news.append(parser)

    def _embed(self, lane: Lane) -> None:
        segment = lane.model.popleft()
        chunks = len(segment.piece.chunks)
        lane.channel.append(segment)
        lane.news.append(m.Embedded(segment.attempt, segment.ordinal, chunks, chunks, "text", chunks))

    def _arrive(self, lane: Lane) -> None:
        """By a lane's channel at the indexer: a segment, or the end."""
        if lane.channel:
            self.indexer_in.append(lane.channel.popleft())
        else:
            lane.closed = True
            self.indexer_in.append(lane)

    def _write(self) -> None:
        item = self.indexer_in.popleft()
        if isinstance(item, Lane):
            self.indexer.append(item)
            return
        if isinstance(item, m.Delete):
            self.indexer.append(m.Deleted(item.request, len(self.database.ids & set(item.ids))))
            self.database.ids -= set(item.ids)
            return
        if isinstance(item, m.Sweep):
            self.sweep = self.sweep or iter(self.database.ids_of(item.source))
            ids = list(itertools.islice(self.sweep, SWEEP_IDS))
            last = len(ids) < SWEEP_IDS
            self.sweep = None if last else self.sweep
            self.indexer.append(m.Found(item.request, ids, last))
            return
        ids = [chunk_id(item.path, chunk) for chunk in item.piece.chunks]
        taken = ids[item.piece.refused :]
        if not item.maybe_present and self.database.ids & set(ids):
            raise RuntimeError(f"{item.path}: records that are there would be appended again")
        self.database.ids |= set(taken)
        self.database.sources |= dict.fromkeys(taken, item.path)
        self.indexer.append(
            m.SegmentWritten(
                attempt=item.attempt,
                ordinal=item.ordinal,
                after=item.after,
                checkpoint=item.checkpoint,
                kind="text",
                page=item.ordinal + 1,
                size=len(ids),
                ids=bytes.fromhex("".join(taken)),
                refused=dict.fromkeys(range(item.piece.refused), "mapping"),
            )
        )


def states(folder: Path) -> dict[str, str]:
    """Each file's state in the ledger."""
    ledger = Ledger(folder)
    found = dict(ledger._db.execute("SELECT uri, state FROM items"))
    ledger.close()
    return found


def acknowledged(folder: Path) -> set[str]:
    """Every id that the ledger holds, of whatever version."""
    ledger = Ledger(folder)
    packed: bytes = b"".join(row[0] for row in ledger._db.execute("SELECT ids FROM segments"))
    ledger.close()
    return {packed[i : i + ID_BYTES].hex() for i in range(0, len(packed), ID_BYTES)}
