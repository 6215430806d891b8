"""What processes tell each other, besides the segments themselves. All of it is small and frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from engine.models.spec import ImageSpec
from engine.records import IndexSchema, Kind, SectionFailure
from engine.runtime.process.stats import Stats
from engine.stages.parse import FileEnd, FileJob

#: When a new generation of the index is begun.
Renew: TypeAlias = Literal["never", "misfit", "always"]

# From the supervisor


@dataclass(frozen=True, slots=True)
class Parse:
    """To a parser: these files next."""

    jobs: tuple[FileJob, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """To a parser: so many bytes more may leave it."""

    size: int


@dataclass(frozen=True, slots=True)
class UseImages:
    """To the parsers and the inference process: the image model (None: pictures are left out)."""

    spec: ImageSpec | None


@dataclass(frozen=True, slots=True)
class Load:
    """To the inference process: load the text model now and try it, so that its memory is known.

    It may take `room` bytes for it.
    """

    room: int


@dataclass(frozen=True, slots=True)
class Spare:
    """To the inference process: so many bytes of `--max-ram` are planned for nothing. Another form of a model
    may be made in them, beside the one that is at work."""

    size: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """To a parser: leave the file at hand, forget those that wait."""


@dataclass(frozen=True, slots=True)
class OpenChannel:
    """To a consumer: a producer's new channel, whose descriptor follows on the same connection.

    `received`: the consumer reports each segment by a `Received`, and the channel's end when it is read. Else
    it reports the end alone, by `ChannelClosed`, once it has answered for all that came.
    """

    name: str
    received: bool = True


@dataclass(frozen=True, slots=True)
class OpenPictureBuffer:
    """To a parser and to the inference process: the buffer for that parser's pictures, of so many bytes
    each; its descriptor follows on the same connection."""

    name: str
    picture_bytes: int


@dataclass(frozen=True, slots=True)
class Prepare:
    """To the indexer: make the index, or check and extend it.

    `renew`: begin a new generation of it, `always` or where it doesn't fit the schema (`misfit`).
    """

    schema: IndexSchema
    renew: Renew = "never"


@dataclass(frozen=True, slots=True)
class Delete:
    """To the indexer: delete these records; `request` comes back in `Deleted`."""

    request: int
    ids: list[str]


@dataclass(frozen=True, slots=True)
class Sweep:
    """To the indexer: name some records of this file that any of these chunkers made; `Found` answers.

    Asked again for the same file, it names the next ones.
    """

    request: int
    source: str
    chunkers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flush:
    """To the indexer: write what waits, someone is blocked."""


@dataclass(frozen=True, slots=True)
class Publish:
    """To the indexer: everything is written; the ledger knows of so many records."""

    expected: int


@dataclass(frozen=True, slots=True)
class Account:
    """To any process: say at once, by a `Heartbeat`, how your time was spent so far."""


@dataclass(frozen=True, slots=True)
class Stop:
    """To any process: end when your work at hand is done."""


# To the supervisor


@dataclass(frozen=True, slots=True)
class NeedCredit:
    """From a parser: it waits for so many bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class NeedImageModel:
    """From a parser: the first picture is here."""


@dataclass(frozen=True, slots=True)
class SectionFailed:
    """From a parser: a page of this attempt's file can't be parsed."""

    attempt: int
    failure: SectionFailure


@dataclass(frozen=True, slots=True)
class FileParsed:
    """From a parser: the parse call has ended and everything it made has left before this.

    It took so many `seconds`, without what it waited for room, with what it waited for the image model; its
    segments have `emitted` bytes.
    """

    attempt: int
    end: FileEnd
    seconds: float = 0.0
    emitted: int = 0


@dataclass(frozen=True, slots=True)
class Idle:
    """From a parser: it has no file any more."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """From a parser: nothing of the cancelled files follows any more."""


@dataclass(frozen=True, slots=True)
class Received:
    """From the inference process: a segment has arrived whole by that parser's channel."""

    attempt: int
    ordinal: int
    size: int
    chunks: int
    channel: str


@dataclass(frozen=True, slots=True)
class ChannelClosed:
    """From a consumer: nothing more can come by that channel, and nothing that came is still unreported."""

    name: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """From the inference process: the model for this kind is loaded and has embedded its first batch.

    `device` computes it (`cpu`: the cores that parse as well; `stand-in`: at a fixed rate); `growth` is the
    bytes that it may still come to take.
    """

    kind: Kind
    device: str
    growth: int = 0


@dataclass(frozen=True, slots=True)
class Calibrating:
    """From the inference process: a model is to be timed with the first chunks that come, and shall have the
    machine for itself until `Calibrated`."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """From the inference process: the model alone embeds so many tokens or pictures a second (None: that
    could not be found out, or was not to be); doing so took so many seconds."""

    kind: Kind
    rate: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class FirstBatch:
    """From the inference process: it began with the first segments at this time of the monotonic clock, which
    all processes of a machine share."""

    at: float


@dataclass(frozen=True, slots=True)
class Embedded:
    """From the inference process: a segment has its vectors and has gone on to the indexer.

    `repeated` of its vectors were at hand, because the same content had been embedded before. Since the last
    such message `padding` tokens were computed beside the `tokens`, and `spared` of these were not.
    """

    attempt: int
    ordinal: int
    vectors: int
    tokens: int
    kind: Kind
    size: int
    repeated: int = 0
    padding: int = 0
    spared: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """From the indexer: the database as it was found; `resumed`: by a load that was never published."""

    identity: str | None
    state: str | None
    schema: IndexSchema | None
    count: int
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """From the indexer: the index fits. It holds nothing where it is a `new` generation."""

    identity: str | None
    new: bool = False


@dataclass(frozen=True, slots=True)
class SegmentWritten:
    """From the indexer: the database's answer for a segment. `ids` packs the acknowledged ones, 16 bytes
    each; `refused` maps the position of every other chunk to the reason, `refused_by` names the stage."""

    attempt: int
    ordinal: int
    after: int
    checkpoint: str
    kind: Kind
    page: int | None
    size: int
    ids: bytes
    refused: dict[int, str]
    refused_by: str = "index"
    document: str | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """From the indexer: the answer to `Delete`."""

    request: int
    records: int


@dataclass(frozen=True, slots=True)
class Found:
    """From the indexer: the answer to `Sweep`; `last`: there are no more."""

    request: int
    ids: list[str]
    last: bool


@dataclass(frozen=True, slots=True)
class Published:
    """From the indexer: the answer to `Publish`, with the index's state after it."""

    state: str | None


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """From the indexer: the database doesn't answer (the reason), or does again (None).

    `disk_full`: it has no space left, which waiting seldom mends.
    """

    trouble: str | None
    disk_full: bool = False


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """From any process, each second: it runs. `stuck_s` is how long its work has shown no progress; 0 while
    it waits for others."""

    stats: Stats
    stuck_s: float


@dataclass(frozen=True, slots=True)
class Note:
    """From any process: one line for the user; a `detail` is left out where `--quiet` is asked for."""

    text: str
    detail: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """From any process, its last word: one line, the exit code it asks for, and a traceback as text.

    `again`: a new process in its place may well succeed. `index_lost`: the index is gone, or another one.
    """

    exit_code: int
    message: str
    traceback: str = field(default="")
    again: bool = False
    index_lost: bool = False


#: What the supervisor may read a moment later, along with more of it: nobody waits for an answer.
PATIENT = (FileParsed, Received, Embedded, SegmentWritten, Heartbeat)
