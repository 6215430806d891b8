"""What changed or removed files left behind is deleted in bounded requests, and forgotten only then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.runtime.ledger import cleanup as module
from engine.runtime.ledger.cleanup import Cleaner
from engine.runtime.ledger.leftovers import Doubt
from engine.runtime.ledger.segments import ID_BYTES, Acknowledged
from engine.runtime.ledger.store import Ledger
from engine.runtime.process import messages as m
from tests.items import item


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.close()


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE_IDS", 4)


def change(ledger: Ledger, name: str, old: int, shared: int = 0) -> int:
    """A file with so many old ids, of which the new version shares some; its number."""
    file = ledger.items.add(item(name), 1).id
    ids = [f"{name} {i}".encode().ljust(ID_BYTES)[:ID_BYTES] for i in range(old)]
    new = [*ids[:shared], f"{name} new".encode().ljust(ID_BYTES)[:ID_BYTES]]
    ledger.segments.acknowledge([Acknowledged(file, 0, 0, -1, None, "", b"".join(ids), True)])
    ledger.items.start_revision(file, item("/", 1, 2))
    ledger.segments.acknowledge([Acknowledged(file, 1, 0, -1, None, "", b"".join(new), True)])
    ledger.leftovers.replace(file)
    return file


def asked_for(cleaner: Cleaner) -> list[m.Delete]:
    """The next requests, none of which is a sweep."""
    requests = list(cleaner.requests())
    assert all(isinstance(request, m.Delete) for request in requests)
    return [request for request in requests if isinstance(request, m.Delete)]


def answer(cleaner: Cleaner, requests: list[m.Delete]) -> list[str]:
    for request in requests:
        cleaner.deleted(request.request)
    return [record for request in requests for record in request.ids]


def test_nothing_to_delete_is_idle(ledger: Ledger) -> None:
    cleaner = Cleaner(ledger)
    assert cleaner.idle
    assert list(cleaner.requests()) == []


def test_many_files_share_a_request_and_a_large_one_takes_several(ledger: Ledger) -> None:
    for number in range(3):
        change(ledger, f"/small {number}", 1)
    change(ledger, "/large", 9)
    cleaner = Cleaner(ledger)
    rounds = []
    while not cleaner.idle:
        requests = asked_for(cleaner)
        rounds.append([len(request.ids) for request in requests])
        answer(cleaner, requests)
    assert rounds == [[7, 4], [1]]
    assert ledger.audit.totals() == {"files": 4, "records": 4}


def test_no_more_requests_are_under_way_than_allowed(ledger: Ledger) -> None:
    change(ledger, "/large", 40)
    cleaner = Cleaner(ledger)
    first = asked_for(cleaner)
    assert len(first) == module.REQUESTS
    assert list(cleaner.requests()) == []
    answer(cleaner, first[:1])
    assert len(list(cleaner.requests())) == 1


def test_a_file_is_kept_in_the_ledger_until_its_last_request_is_answered(ledger: Ledger) -> None:
    change(ledger, "/a", 8)
    cleaner = Cleaner(ledger)
    requests = asked_for(cleaner)
    assert list(cleaner.requests()) == []
    answer(cleaner, requests[:1])
    list(cleaner.requests())
    assert (cleaner.idle, ledger.audit.totals()["records"]) == (False, 9)
    answer(cleaner, requests[1:])
    list(cleaner.requests())
    assert (cleaner.idle, ledger.audit.totals()["records"]) == (True, 1)


def test_a_file_whose_ids_are_all_shared_is_done_without_a_request(ledger: Ledger) -> None:
    for number in range(10):
        change(ledger, f"/{number}", 3, shared=3)
    cleaner = Cleaner(ledger)
    for _ in range(10):
        assert list(cleaner.requests()) == []
    assert cleaner.idle
    assert ledger.audit.totals() == {"files": 10, "records": 40}


def test_shared_ids_are_never_asked_for(ledger: Ledger) -> None:
    change(ledger, "/a", 5, shared=2)
    cleaner = Cleaner(ledger)
    asked = answer(cleaner, asked_for(cleaner))
    assert [bytes.fromhex(record).strip() for record in asked] == [b"/a 2", b"/a 3", b"/a 4"]


def test_requests_that_were_lost_with_the_process_are_made_again(ledger: Ledger, tmp_path: Path) -> None:
    change(ledger, "/a", 3)
    ledger.commit()
    asked = [set(request.ids) for request in asked_for(Cleaner(ledger))]
    ledger.close()
    reopened = Ledger(tmp_path)
    assert [set(request.ids) for request in asked_for(Cleaner(reopened))] == asked
    reopened.close()


def test_a_file_that_is_removed_while_it_is_cleaned_is_cleaned_once_more(ledger: Ledger) -> None:
    file = change(ledger, "/a", 3)
    cleaner = Cleaner(ledger)
    requests = asked_for(cleaner)
    ledger.leftovers.remove(file)
    answer(cleaner, requests)
    asked: list[str] = []
    while not cleaner.idle:
        asked += answer(cleaner, asked_for(cleaner))
    assert [bytes.fromhex(record).strip() for record in asked] == [b"/a new"]
    assert ledger.items.find("/a") is None


def test_files_that_are_replaced_later_are_found_too(ledger: Ledger) -> None:
    files = [change(ledger, f"/{number}", 2) for number in range(2)]
    ledger.leftovers.drop_older(ledger.items.get(files[0]))
    cleaner = Cleaner(ledger)
    answer(cleaner, asked_for(cleaner))
    ledger.items.start_revision(files[0], item("/", 1, 3))
    ledger.segments.acknowledge([Acknowledged(files[0], 2, 0, -1, None, "", bytes(ID_BYTES), True)])
    ledger.leftovers.replace(files[0])
    asked: list[str] = []
    while not cleaner.idle:
        asked += answer(cleaner, asked_for(cleaner))
    assert [bytes.fromhex(record).strip() for record in asked] == [b"/0 new"]


def doubtful(ledger: Ledger, name: str, *booked: str) -> int:
    """A file that is to be swept, with so many ids booked; its number."""
    file = ledger.items.add(item(name), 1).id
    ledger.leftovers.open_attempt(file, known=False)
    ledger.segments.acknowledge([Acknowledged(file, 0, 0, -1, None, "", b"".join(map(packed, booked)), True)])
    ledger.leftovers.sweep(file)
    return file


def packed(name: str) -> bytes:
    return name.encode().ljust(ID_BYTES)[:ID_BYTES]


def next_request(cleaner: Cleaner) -> m.Delete | m.Sweep:
    (request,) = cleaner.requests()
    return request


def test_a_sweep_deletes_slice_by_slice_what_no_segment_names(ledger: Ledger) -> None:
    ledger.adopt_plan("text", "tokens-256-0 model")
    ledger.adopt_plan("text", "tokens-64-0 model")
    doubtful(ledger, "/a", "one", "two")
    cleaner = Cleaner(ledger)
    told: list[object] = []
    for slice_ in (["one", "stray"], ["two"], ["another", "one"]):
        request = next_request(cleaner)
        assert isinstance(request, m.Sweep)
        assert (request.source, request.chunkers) == ("/a", ("tokens-256-0", "tokens-64-0"))
        assert list(cleaner.requests()) == []
        names = [packed(name).hex() for name in slice_]
        cleaner.found(m.Found(request.request, names, last="another" in slice_))
        if "two" not in slice_:
            deletion = next_request(cleaner)
            assert isinstance(deletion, m.Delete)
            told += deletion.ids
            assert not cleaner.idle
            cleaner.deleted(deletion.request)
    assert list(cleaner.requests()) == []
    assert cleaner.idle
    assert told == [packed("stray").hex(), packed("another").hex()]


def test_a_sweep_that_was_cut_off_begins_anew_and_takes_no_late_answer(
    ledger: Ledger, tmp_path: Path
) -> None:
    doubtful(ledger, "/a", "one")
    ledger.commit()
    cleaner = Cleaner(ledger)
    lost = next_request(cleaner)
    cleaner.reset()
    request = next_request(cleaner)
    cleaner.found(m.Found(lost.request, [packed("stray").hex()], last=True))
    assert list(cleaner.requests()) == []
    cleaner.found(m.Found(request.request, [packed("stray").hex()], last=True))
    deletion = next_request(cleaner)
    ledger.close()  # the answer never comes
    reopened = Ledger(tmp_path)
    after = Cleaner(reopened)
    assert isinstance(deletion, m.Delete)
    assert not after.idle
    assert isinstance(next_request(after), m.Sweep)
    reopened.close()


def test_a_removed_file_is_forgotten_when_it_is_both_cleaned_and_swept(ledger: Ledger) -> None:
    file = doubtful(ledger, "/a", "one")
    ledger.leftovers.remove(file)
    cleaner = Cleaner(ledger)
    deletion, sweep = cleaner.requests()
    cleaner.deleted(deletion.request)
    assert ledger.items.find("/a") is not None
    cleaner.found(m.Found(sweep.request, [], last=True))
    assert list(cleaner.requests()) == []
    assert cleaner.idle
    assert ledger.items.find("/a") is None


def test_a_file_that_is_parsed_once_more_before_it_was_swept_stays_doubtful(ledger: Ledger) -> None:
    file = doubtful(ledger, "/a", "one")
    assert ledger.leftovers.open_attempt(file, known=True) == Doubt.OTHER
    assert Cleaner(ledger).idle
    ledger.leftovers.end_sweep(file)
    ledger.leftovers.sweep(file)
    assert not Cleaner(ledger).idle
