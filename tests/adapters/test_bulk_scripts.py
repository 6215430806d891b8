"""Whatever a server does, every record is stored once, or is refused with a reason."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from adapters.elasticsearch.bulk import BulkSender, Item
from adapters.elasticsearch.documents import create_lines
from adapters.elasticsearch.flow import LONGEST_PAUSE
from adapters.elasticsearch.location import Location
from engine.errors import AccessError, DatabaseUnavailableError
from tests.adapters import scripted_server as plays
from tests.adapters.scripted_server import Play, ScriptedServer, scripted_server
from tests.records import make_records

#: Scripts altogether, and in one test.
SCRIPTS, SCRIPTS_PER_TEST = 600, 50

RECORDS = make_records(30, dim=4)
LINES = list(create_lines(RECORDS, base64=True))
IDS = [record.id for record in RECORDS]

#: Every fault that a server, or something in between, can play.
FAULTS: tuple[Play, ...] = (
    *(plays.status(code) for code in (408, 429, 429, 500, 502, 503, 504)),
    *(plays.every_second(code) for code in (429, 429, 500, 502, 503, 504)),
    *(plays.each(code) for code in (429, 503)),
    plays.every_second(403, "cluster_block_exception"),
    plays.each(403, "cluster_block_exception"),
    plays.reset, plays.cut, plays.lost_answer, plays.half, plays.slow, plays.garbage, plays.page,
    plays.other_json, plays.short, plays.redirect,
)  # fmt: skip

#: How an API key that has expired shows: for the whole request, or for each item.
EXPIRED: tuple[Play, ...] = (plays.status(401), plays.each(403, "security_exception"))


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Load:
    """One script played to its end."""

    items: list[Item]
    calls: int
    seconds: float


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


def write_script(server: ScriptedServer, chance: random.Random) -> int:
    """A new script for the server; returns how many faults it holds."""
    server.begin()
    server.refused = set(chance.sample(IDS, chance.choice((0, 0, 1, 3))))
    # From less than the longest line to more than any request.
    server.most_bytes = chance.choice((None, None, max(map(len, LINES)) - 1, 1500, 4000))
    faults = chance.choices(FAULTS, k=chance.randrange(12))
    if chance.random() < 0.2:  # what begins to work has its key expire later
        faults = [ScriptedServer.apply, *faults, *[chance.choice(EXPIRED)] * chance.randrange(1, 4)]
    server.script.extend(faults)
    return len(faults)


def play(server: ScriptedServer, chance: random.Random) -> Load:
    """Load all records as the indexer does: a call that ends in an error is made again."""
    time = FakeTime()
    location = Location.parse(f"elasticsearch://127.0.0.1:{server.port}/index")
    concurrency, request_bytes = chance.randrange(1, 4), chance.choice((1, 1000, 3000, 8 << 20))
    with location.client(connections=concurrency) as client:
        sender = BulkSender(
            client, location, lambda: None, request_bytes, concurrency, time.clock, time.sleep
        )
        try:
            for calls in range(1, 100):
                try:
                    return Load(sender.send(iter(LINES), require_alias=True), calls, time.now)
                except (DatabaseUnavailableError, AccessError):
                    time.sleep(LONGEST_PAUSE)
        finally:
            sender.close()
    raise AssertionError("a script without an end")


@pytest.mark.parametrize("first", range(0, SCRIPTS, SCRIPTS_PER_TEST))
def test_no_script_loses_or_doubles_a_record_or_goes_on_for_long(server: ScriptedServer, first: int) -> None:
    for seed in range(first, first + SCRIPTS_PER_TEST):
        chance = random.Random(seed)
        faults = write_script(server, chance)
        load = play(server, chance)
        too_large = {
            one for one, line in zip(IDS, LINES, strict=True) if len(line) > (server.most_bytes or 1 << 30)
        }
        dead = server.refused | too_large
        context = f"seed {seed}"
        assert len(load.items) == len(IDS), context
        for one, item in zip(IDS, load.items, strict=True):
            assert item.status in ((400, 413) if one in dead else (201, 409)), context
            assert item.reason or one not in dead, context
        assert server.documents == {one: 1 for one in IDS if one not in dead}, context
        assert server.strays == [], context
        # Each fault costs one request and a pause, each call that is made again one more.
        assert load.calls <= faults + 1, context
        assert load.seconds <= LONGEST_PAUSE * (faults + load.calls), context
        assert len(server.requests) <= faults + (2 * len(IDS) + 1) * load.calls, context


def test_the_scripts_play_every_fault() -> None:
    played: set[object] = set()
    state = ScriptedServer()
    for seed in range(SCRIPTS):
        write_script(state, random.Random(seed))
        played |= set(state.script)
    assert played >= {*FAULTS, *EXPIRED}
