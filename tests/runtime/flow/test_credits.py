"""The bytes in flight never pass the limit, none is lost or made up, and no lane starves another."""

from __future__ import annotations

from itertools import count
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from engine.errors import EngineError, UsageError
from engine.runtime.flow.credits import LARGEST_SEGMENT_BYTES, Credits, least_buffer
from engine.runtime.ledger.in_flight import InFlight
from engine.runtime.workers.parser import CREDIT_BLOCK_BYTES
from engine.stages.segment import SEGMENT_BYTES

LANE = "inference"
PARSERS = ("a", "b", "c")
LEAST = least_buffer(len(PARSERS))


class Account(Credits):
    """Credits with an account of segments of their own, in which each is told by its lane and size."""

    def __init__(self, limit: int, parsers: dict[str, int]) -> None:
        self.flights = InFlight()
        self._left: list[tuple[str, int, int, bool]] = []
        self._numbers = count()
        super().__init__(limit, parsers, self.flights)

    def emitted(self, lane: str, parser: str, size: int) -> None:
        super().emitted(lane, parser, size)
        number = next(self._numbers)
        self._left.append((lane, size, number, False))
        self.flights.arrived("/a", lane, 1, number, size, 1)

    def embedded(self, lane: str, size: int) -> None:
        place = next(i for i, each in enumerate(self._left) if each[:2] == (lane, size) and not each[3])
        number = self._left[place][2]
        self._left[place] = (lane, size, number, True)
        self.flights.embedded(1, number)

    def acknowledged(self, lane: str, size: int) -> None:
        """The word of its vectors may come later, so that it stays among those that left."""
        waiting = self.flights.unanswered([1])
        number = next(each[2] for each in self._left if each[:2] == (lane, size) and each[2] in waiting)
        self.flights.answered("/a", lane, 1, number, size, 1)
        super().acknowledged(lane, size)

    def forget_lane(self, lane: str) -> None:
        super().forget_lane(lane)
        self.flights.lose(lane)
        self._left = [each for each in self._left if each[0] != lane]


sizes = st.integers(1, SEGMENT_BYTES) | st.integers(1, CREDIT_BLOCK_BYTES // 4)


class Accounting(RuleBasedStateMachine):
    """Parsers ask as the real ones do, emit and die; the database answers; lanes end; in any order."""

    #: The lane of each parser.
    lanes: ClassVar[dict[str, str]] = dict.fromkeys(PARSERS, LANE)

    segments = Bundle("segments")

    def __init__(self) -> None:
        super().__init__()
        names = list(self.lanes.values())
        self.shares = {name: names.count(name) for name in dict.fromkeys(names)}
        self.limit = least_buffer(len(self.lanes), len(self.shares)) + 12_345
        self.credits = Account(self.limit, self.shares)
        self.credit = dict.fromkeys(self.lanes, 0)
        self.wanted: dict[str, int] = {}
        self.asked: list[tuple[str, int]] = []
        self.on_the_way: list[tuple[str, int]] = []

    @rule(target=segments, number=st.integers(0, 5), size=sizes)
    def want(self, number: int, size: int) -> str:
        """A parser has a segment; it asks where its credit doesn't do."""
        parser = [*self.lanes][number % len(self.lanes)]
        if parser not in self.wanted:
            self.wanted[parser] = size
            missing = size - self.credit[parser]
            if missing > 0:
                asked = (parser, max(CREDIT_BLOCK_BYTES, missing))
                self.asked.append(asked)
                self.credits.ask(self.lanes[parser], *asked)
        return parser

    @rule()
    def grant(self) -> None:
        for parser, size in self.credits.grants():
            lane = self.lanes[parser]
            first = next(item for item in self.asked if self.lanes[item[0]] == lane)
            assert (parser, size) == first, "first come, first served, in each lane"
            self.asked.remove(first)
            self.credit[parser] += size

    @rule(parser=segments)
    def emit(self, parser: str) -> None:
        size = self.wanted.get(parser)
        if size is not None and size <= self.credit[parser]:
            self.credit[parser] -= size
            del self.wanted[parser]
            self.credits.emitted(self.lanes[parser], parser, size)
            self.on_the_way.append((self.lanes[parser], size))

    @rule(number=st.integers(0, 100))
    def acknowledge(self, number: int) -> None:
        if self.on_the_way:
            self.credits.acknowledged(*self.on_the_way.pop(number % len(self.on_the_way)))

    @rule(parser=consumes(segments))
    def die(self, parser: str) -> None:
        self.credits.forget(self.lanes[parser], parser)
        self._ended({parser})

    @rule(number=st.integers(0, 100))
    def end_lane(self, number: int) -> None:
        """Its inference process dies: its parsers are ended, what it had is written or lost."""
        lane = [*self.shares][number % len(self.shares)]
        self.credits.cut_off(lane)
        gone = {parser for parser, of in self.lanes.items() if of == lane}
        mine = [item for item in self.on_the_way if item[0] == lane]
        for item in mine[: number % (len(mine) + 1)]:
            self.credits.acknowledged(*item)
        self.credits.forget_lane(lane)
        self.on_the_way = [item for item in self.on_the_way if item[0] != lane]
        self._ended(gone)

    def _ended(self, parsers: set[str]) -> None:
        for parser in parsers:
            self.credit[parser] = 0
            self.wanted.pop(parser, None)
        self.asked = [item for item in self.asked if item[0] not in parsers]

    @invariant()
    def nothing_is_lost_or_made_up(self) -> None:
        in_flight = sum(size for _, size in self.on_the_way)
        assert self.credits.in_flight == in_flight
        assert sum(self.credit.values()) + in_flight + self.credits.free == self.limit
        assert self.credits.free >= 0
        assert self.credits.in_flight <= self.credits.peak_in_flight <= self.limit
        assert self.credits.blocked is bool(self.asked)

    @invariant()
    def somebody_can_always_go_on(self) -> None:
        """With all of its own answered, who asked first in a lane gets it, whatever other lanes hold: nobody
        waits for ever."""
        for lane, parsers in self.shares.items():
            first = next((size for parser, size in self.asked if self.lanes[parser] == lane), None)
            own = sum(size for of, size in self.on_the_way if of == lane)
            others = sum(
                max(0, least_buffer(count) - self._used(name))
                for name, count in self.shares.items()
                if name != lane
            )
            assert parsers and (first is None or first <= self.credits.free + own - others)

    def _used(self, lane: str) -> int:
        held = sum(credit for parser, credit in self.credit.items() if self.lanes[parser] == lane)
        return held + sum(size for of, size in self.on_the_way if of == lane)


class AccountingOfLanes(Accounting):
    """The same with parsers of several devices."""

    lanes: ClassVar[dict[str, str]] = {
        "a": "inference-0",
        "b": "inference-0",
        "c": "inference-1",
        "d": "inference-2",
    }


TestAccounting = Accounting.TestCase
TestAccountingOfLanes = AccountingOfLanes.TestCase
TestAccounting.settings = TestAccountingOfLanes.settings = settings(
    deadline=None, database=None, max_examples=60, stateful_step_count=40
)


def test_credits_are_granted_in_the_order_in_which_they_were_asked_for() -> None:
    account = Account(LEAST, {LANE: 3})
    account.ask(LANE, "a", LARGEST_SEGMENT_BYTES)
    account.ask(LANE, "b", LARGEST_SEGMENT_BYTES)
    account.ask(LANE, "c", 1)  # would fit at once, and would starve b if it could pass
    assert list(account.grants()) == [("a", LARGEST_SEGMENT_BYTES)]
    assert account.blocked
    account.emitted(LANE, "a", LARGEST_SEGMENT_BYTES)
    assert list(account.grants()) == []
    account.acknowledged(LANE, LARGEST_SEGMENT_BYTES)
    assert list(account.grants()) == [("b", LARGEST_SEGMENT_BYTES), ("c", 1)]
    assert not account.blocked


def test_a_dead_parser_gives_back_what_it_held_and_what_it_asked_for() -> None:
    account = Account(LEAST, {LANE: 3})
    account.ask(LANE, "a", 100)
    list(account.grants())
    account.emitted(LANE, "a", 60)
    account.ask(LANE, "a", LEAST - CREDIT_BLOCK_BYTES * 3)
    account.ask(LANE, "b", 5)
    account.forget(LANE, "a")
    assert list(account.grants()) == [("b", 5)]
    assert account.in_flight == 60
    account.acknowledged(LANE, 60)
    account.ask(LANE, "c", LARGEST_SEGMENT_BYTES)
    assert list(account.grants()) == [("c", LARGEST_SEGMENT_BYTES)]


def test_a_parser_that_emits_more_than_it_was_granted_is_an_error() -> None:
    account = Account(LEAST, {LANE: 3})
    account.ask(LANE, "a", 100)
    list(account.grants())
    account.emitted(LANE, "a", 60)
    with pytest.raises(EngineError, match="a emitted 50 bytes, 10 more than it was granted"):
        account.emitted(LANE, "a", 50)


def test_the_peak_stays_when_the_bytes_have_come_home() -> None:
    account = Account(LEAST, {LANE: 3})
    account.ask(LANE, "a", 100)
    list(account.grants())
    account.emitted(LANE, "a", 100)
    account.acknowledged(LANE, 100)
    assert (account.in_flight, account.peak_in_flight) == (0, 100)


def test_a_buffer_in_which_parsers_could_block_each_other_is_refused_with_what_would_do() -> None:
    Account(LEAST, {LANE: 3})
    with pytest.raises(UsageError) as refused:
        Account(LEAST - 1, {LANE: 3})
    expected = f"--buffer {LEAST - 1}: 3 parsers and one segment need at least {LEAST} (8MiB)"
    assert str(refused.value) == expected


def test_a_segment_that_could_never_pass_is_refused_with_what_would_do() -> None:
    account = Account(LEAST, {LANE: 3})
    account.ask(LANE, "a", LARGEST_SEGMENT_BYTES)
    with pytest.raises(UsageError) as refused:
        account.ask(LANE, "a", LARGEST_SEGMENT_BYTES + 1)
    assert str(refused.value) == (
        f"--buffer {LEAST}: a segment of {LARGEST_SEGMENT_BYTES + 1} bytes needs at least {LEAST + 1} (9MiB)"
    )


# Scarce memory


def test_while_memory_is_scarce_a_share_of_the_bytes_is_kept_back() -> None:
    block, size = 2**20, 100 * 2**20
    credit = Account(size, {LANE: 2})
    for _ in range(100):
        credit.ask(LANE, "parser-0", block)
    assert sum(granted for _, granted in credit.grants(0.25)) == size // 4
    assert list(credit.grants(0.25)) == []
    assert list(credit.grants(0.0)) == []
    assert sum(granted for _, granted in credit.grants()) == size * 3 // 4


def test_a_segment_that_is_alone_passes_however_scarce_memory_is() -> None:
    credit = Account(100 * 2**20, {LANE: 2})
    credit.ask(LANE, "parser-0", 5 * 2**20)
    assert list(credit.grants(0.01)) == [("parser-0", 5 * 2**20)]


def test_another_limit_holds_what_is_in_use_and_gives_out_no_more_until_it_is_back() -> None:
    block = 2**20
    credit = Account(20 * block, {LANE: 1})
    credit.ask(LANE, "parser-0", 16 * block)
    assert list(credit.grants()) == [("parser-0", 16 * block)]
    credit.emitted(LANE, "parser-0", 16 * block)
    credit.resize(10 * block, {LANE: 1})
    credit.ask(LANE, "parser-0", block)
    assert list(credit.grants()) == []
    credit.acknowledged(LANE, 16 * block)
    assert list(credit.grants()) == [("parser-0", block)]


def on_the_way(*emitted: int, limit: int = LEAST) -> Account:
    """Segments of these sizes have left their parser, and it waits for more than there is."""
    account = Account(limit, {LANE: 3})
    for size in emitted:
        account.ask(LANE, "a", size)
    account.ask(LANE, "a", LARGEST_SEGMENT_BYTES)
    list(account.grants())
    for size in emitted:
        account.emitted(LANE, "a", size)
    return account


def test_the_indexer_is_to_write_once_nothing_is_left_before_it_and_a_parser_waits() -> None:
    account = on_the_way(LEAST - SEGMENT_BYTES, 100)
    assert account.blocked
    assert not account.wants_flush(idle=False)
    account.embedded(LANE, 100)
    assert not account.wants_flush(idle=False), "the model has work, and what it makes may go along"
    account.embedded(LANE, LEAST - SEGMENT_BYTES)
    assert account.wants_flush(idle=False)
    account.acknowledged(LANE, LEAST - SEGMENT_BYTES)
    account.acknowledged(LANE, 100)
    assert not account.wants_flush(idle=True), "nothing is left to write"


def test_the_indexer_is_to_write_a_quarter_of_all_bytes_though_the_model_has_work() -> None:
    limit = 4 * LARGEST_SEGMENT_BYTES + LEAST
    quarter = -(-limit // 4)
    account = on_the_way(quarter - 1, 1, limit - quarter - 1, limit=limit)
    account.embedded(LANE, quarter - 1)
    assert not account.wants_flush(idle=False)
    account.embedded(LANE, 1)
    assert account.wants_flush(idle=False)


def test_while_no_parser_waits_the_indexer_gathers_until_all_is_parsed() -> None:
    account = Account(LEAST, {LANE: 3})
    account.ask(LANE, "a", 100)
    list(account.grants())
    account.emitted(LANE, "a", 100)
    account.embedded(LANE, 100)
    assert not account.wants_flush(idle=False)
    assert account.wants_flush(idle=True)


def test_an_answer_that_overtakes_the_word_of_the_vectors_leaves_the_books_right() -> None:
    account = on_the_way(100, 200)
    account.acknowledged(LANE, 100)
    account.embedded(LANE, 100)
    assert not account.wants_flush(idle=True)
    account.embedded(LANE, 200)
    assert account.wants_flush(idle=True)


# Lanes


def two_lanes(limit: int = 64 * 2**20) -> Account:
    return Account(limit, {"slow": 1, "fast": 1})


def test_a_lane_that_is_stuck_leaves_room_for_another() -> None:
    account = two_lanes()
    for _ in range(100):
        account.ask("slow", "a", 2**20)
    taken = sum(size for _, size in account.grants())
    assert taken == account.limit - least_buffer(1)
    account.ask("fast", "b", LARGEST_SEGMENT_BYTES)
    assert list(account.grants()) == [("b", LARGEST_SEGMENT_BYTES)]


def test_what_comes_back_goes_to_the_lane_with_the_least_in_flight_for_its_speed() -> None:
    account, block, written = two_lanes(), 2**20, dict.fromkeys(("slow", "fast"), 0)
    in_flight = dict.fromkeys(("slow", "fast"), 0)
    for _ in range(64):
        account.ask("slow", "a", block)
        account.ask("fast", "b", block)
    for turn in range(600):
        for parser, size in account.grants():
            lane = {"a": "slow", "b": "fast"}[parser]
            account.emitted(lane, parser, size)
            account.ask(lane, parser, size)
            in_flight[lane] += 1
        for lane in ("slow", "fast") if turn % 4 == 0 else ("fast",):
            if in_flight[lane]:
                in_flight[lane] -= 1
                written[lane] += 1
                account.acknowledged(lane, block)
    assert written["fast"] >= 599, "it never waited for the slow one"
    assert written["slow"] >= 149
    assert in_flight["fast"] > 2 * in_flight["slow"]


def test_a_lane_s_load_is_what_has_no_vectors_yet_and_not_what_its_parsers_hold() -> None:
    account = two_lanes()
    for lane, parser in (("slow", "a"), ("fast", "b")):
        account.ask(lane, parser, 2**20)
        list(account.grants())
    account.emitted("slow", "a", 100)
    account.emitted("fast", "b", 300)
    assert (account.waiting("slow"), account.waiting("fast")) == (100, 300)
    assert account.load("slow", 200) == account.load("fast")
    account.embedded("fast", 300)
    assert account.waiting("fast") == 0
    assert account.load("fast", 100) == account.load("slow")
    assert account.speed("fast") == 0
    account.acknowledged("fast", 300)
    assert account.speed("fast") > 0
    assert account.load("fast", 100) < account.load("slow"), "it has done more"


def test_a_lane_whose_model_is_timed_gets_nothing_and_the_others_go_on() -> None:
    account = two_lanes()
    account.ask("slow", "a", 100)
    account.ask("fast", "b", 100)
    assert list(account.grants(held_back={"slow"})) == [("b", 100)]
    assert list(account.grants()) == [("a", 100)]


def test_a_lane_that_waits_for_the_indexer_alone_has_it_write() -> None:
    account = two_lanes()
    for lane, parser in (("slow", "a"), ("fast", "b")):
        account.ask(lane, parser, 100)
        list(account.grants())
        account.emitted(lane, parser, 100)
    account.embedded("fast", 100)
    assert not account.wants_flush(idle=False)
    account.ask("fast", "b", 100)
    assert account.wants_flush(idle=False)


def test_a_lane_that_is_given_up_leaves_all_to_the_others() -> None:
    account = two_lanes()
    account.resize(account.limit, {"fast": 2})
    account.ask("fast", "b", account.limit - 2 * CREDIT_BLOCK_BYTES)
    assert sum(size for _, size in account.grants()) == account.limit - 2 * CREDIT_BLOCK_BYTES


def test_a_buffer_too_small_for_all_devices_is_refused_with_what_would_do() -> None:
    with pytest.raises(UsageError) as refused:
        two_lanes(least_buffer(2, 2) - 1)
    assert str(refused.value).endswith(f"2 parsers of 2 devices need at least {least_buffer(2, 2)} (12MiB)")
