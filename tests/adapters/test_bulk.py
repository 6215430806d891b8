"""The bulk sender against a server that misbehaves by a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeAlias

import pytest

from adapters.elasticsearch import bulk, flow
from adapters.elasticsearch.bulk import BulkSender
from adapters.elasticsearch.documents import create_lines
from adapters.elasticsearch.location import Location
from engine.errors import DatabaseUnavailableError, UsageError
from tests.adapters import scripted_server as plays
from tests.adapters.scripted_server import Play, ScriptedServer, scripted_server
from tests.records import make_records

RECORDS = make_records(8)
LINES = list(create_lines(RECORDS, base64=False))
IDS = [record.id for record in RECORDS]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    monkeypatch.setattr(flow, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(flow, "LONGEST_PAUSE", 0.01)
    with scripted_server() as server:
        yield server


MakeSender: TypeAlias = Callable[[int, int], BulkSender]


@pytest.fixture
def make_sender(server: ScriptedServer) -> Iterator[MakeSender]:
    location = Location.parse(f"elasticsearch://127.0.0.1:{server.port}/index")
    with location.client(connections=4) as client, ExitStack() as stack:

        def make(request_bytes: int, concurrency: int) -> BulkSender:
            sender = BulkSender(client, location, lambda: None, request_bytes, concurrency)
            stack.callback(sender.close)
            return sender

        yield make


@pytest.fixture
def sender(make_sender: MakeSender) -> BulkSender:
    return make_sender(8 << 20, 1)


@pytest.mark.parametrize(
    "play",
    [
        plays.status(429),
        plays.status(503),
        plays.status(504),
        plays.every_second(429),
        plays.every_second(503),
        plays.cut,
        plays.lost_answer,
        plays.garbage,
        plays.short,
    ],
    ids=["429", "503", "504", "429 items", "503 items", "cut", "lost answer", "garbage", "short"],
)
def test_everything_is_stored_once_after_a_fault(
    server: ScriptedServer, sender: BulkSender, play: Play
) -> None:
    server.script.extend([play, play, play])
    items = sender.send(LINES, require_alias=True)
    assert len(items) == len(LINES)
    assert {item.status for item in items} <= {201, 409}
    assert server.documents == dict.fromkeys(IDS, 1)


def test_only_the_items_that_were_not_taken_are_sent_again(
    server: ScriptedServer, sender: BulkSender
) -> None:
    server.script.append(plays.every_second(429))
    sender.send(LINES, require_alias=True)
    assert server.requests == [IDS, IDS[1::2]]


def test_a_refused_item_is_answered_and_not_sent_again(server: ScriptedServer, sender: BulkSender) -> None:
    server.script.append(plays.every_second(400))
    items = sender.send(LINES, require_alias=True)
    assert [item.status for item in items] == [201, 400] * 4
    assert items[1].reason == "as written"
    assert len(server.requests) == 1


def test_a_body_that_is_too_large_is_split(server: ScriptedServer, sender: BulkSender) -> None:
    server.script.append(plays.at_most(3))
    items = sender.send(LINES, require_alias=True)
    assert {item.status for item in items} == {201}
    assert [len(ids) for ids in server.requests] == [8, 3, 3, 2]
    assert server.documents == dict.fromkeys(IDS, 1)


def test_a_record_that_is_too_large_alone_is_refused(server: ScriptedServer, sender: BulkSender) -> None:
    server.script.append(plays.at_most(0))
    items = sender.send(LINES[:2], require_alias=True)
    assert [item.status for item in items] == [413, 413]


def test_a_request_is_bounded_by_bytes(server: ScriptedServer, make_sender: MakeSender) -> None:
    make_sender(5 * len(LINES[0]) // 2, 1).send(LINES, require_alias=True)
    assert [len(ids) for ids in server.requests] == [2, 2, 2, 2]


@pytest.mark.parametrize("play", [plays.status(429), plays.cut], ids=["overload", "cut"])
def test_a_server_that_takes_nothing_is_given_up(
    server: ScriptedServer, sender: BulkSender, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "PATIENCE_SECONDS", 0.2)
    server.script.extend([play] * 1000)
    with pytest.raises(DatabaseUnavailableError, match=str(server.port)):
        sender.send(LINES, require_alias=True)
    assert len(server.requests) > 1


@pytest.mark.parametrize("code", [400, 401, 403])
def test_a_refused_request_is_the_users_to_mend(
    server: ScriptedServer, sender: BulkSender, code: int
) -> None:
    server.script.append(plays.status(code))
    with pytest.raises(UsageError, match=f"status {code}.*as written"):
        sender.send(LINES, require_alias=True)
    assert len(server.requests) == 1


def test_nothing_is_sent_for_no_lines(server: ScriptedServer, sender: BulkSender) -> None:
    assert sender.send([], require_alias=True) == []
    assert server.requests == []
