"""The bytes on their way never pass the limit, and none of them is lost or made up."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from engine.errors import EngineError, UsageError
from engine.runtime.flow.credits import LARGEST_SEGMENT_BYTES, Credits
from engine.runtime.workers.parser import CREDIT_BLOCK_BYTES
from engine.stages.segment import SEGMENT_BYTES

PARSERS = ("a", "b", "c")
LEAST = len(PARSERS) * CREDIT_BLOCK_BYTES + LARGEST_SEGMENT_BYTES

sizes = st.integers(1, SEGMENT_BYTES) | st.integers(1, CREDIT_BLOCK_BYTES // 4)


class Accounting(RuleBasedStateMachine):
    """Parsers ask as the real ones do, emit and die; the database answers; in any order."""

    segments = Bundle("segments")

    def __init__(self) -> None:
        super().__init__()
        self.limit = LEAST + 12_345
        self.credits = Credits(self.limit, len(PARSERS))
        self.credit = dict.fromkeys(PARSERS, 0)
        self.wanted: dict[str, int] = {}
        self.asked: list[tuple[str, int]] = []
        self.on_the_way: list[int] = []

    @rule(target=segments, parser=st.sampled_from(PARSERS), size=sizes)
    def want(self, parser: str, size: int) -> str:
        """A parser has a segment; it asks where its credit doesn't do."""
        if parser not in self.wanted:
            self.wanted[parser] = size
            missing = size - self.credit[parser]
            if missing > 0:
                asked = (parser, max(CREDIT_BLOCK_BYTES, missing))
                self.asked.append(asked)
                self.credits.ask(*asked)
        return parser

    @rule()
    def grant(self) -> None:
        for parser, size in self.credits.grants():
            assert (parser, size) == self.asked.pop(0), "first come, first served"
            self.credit[parser] += size

    @rule(parser=segments)
    def emit(self, parser: str) -> None:
        size = self.wanted.get(parser)
        if size is not None and size <= self.credit[parser]:
            self.credit[parser] -= size
            del self.wanted[parser]
            self.credits.emitted(parser, size)
            self.on_the_way.append(size)

    @rule(number=st.integers(0, 100))
    def acknowledge(self, number: int) -> None:
        if self.on_the_way:
            self.credits.acknowledged(self.on_the_way.pop(number % len(self.on_the_way)))

    @rule(parser=consumes(segments))
    def die(self, parser: str) -> None:
        self.credits.forget(parser)
        self.credit[parser] = 0
        self.wanted.pop(parser, None)
        self.asked = [item for item in self.asked if item[0] != parser]

    @invariant()
    def nothing_is_lost_or_made_up(self) -> None:
        assert self.credits.in_flight == sum(self.on_the_way)
        assert sum(self.credit.values()) + self.credits.in_flight + self.credits._free == self.limit
        assert self.credits._free >= 0
        assert self.credits.in_flight <= self.credits.peak_in_flight <= self.limit
        assert self.credits.blocked is bool(self.asked)

    @invariant()
    def somebody_can_always_go_on(self) -> None:
        """With everything answered, who asked first gets it: nobody waits for ever."""
        if self.asked:
            assert self.asked[0][1] <= self.credits._free + self.credits.in_flight


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(deadline=None, database=None, max_examples=60, stateful_step_count=40)


def test_credits_are_granted_in_the_order_in_which_they_were_asked_for() -> None:
    account = Credits(LEAST, 3)
    account.ask("a", LARGEST_SEGMENT_BYTES)
    account.ask("b", LARGEST_SEGMENT_BYTES)
    account.ask("c", 1)  # would fit at once, and would starve b if it could pass
    assert list(account.grants()) == [("a", LARGEST_SEGMENT_BYTES)]
    assert account.blocked
    account.emitted("a", LARGEST_SEGMENT_BYTES)
    assert list(account.grants()) == []
    account.acknowledged(LARGEST_SEGMENT_BYTES)
    assert list(account.grants()) == [("b", LARGEST_SEGMENT_BYTES), ("c", 1)]
    assert not account.blocked


def test_a_dead_parser_gives_back_what_it_held_and_what_it_asked_for() -> None:
    account = Credits(LEAST, 3)
    account.ask("a", 100)
    list(account.grants())
    account.emitted("a", 60)
    account.ask("a", LEAST - CREDIT_BLOCK_BYTES * 3)
    account.ask("b", 5)
    account.forget("a")
    assert list(account.grants()) == [("b", 5)]
    assert account.in_flight == 60
    account.acknowledged(60)
    account.ask("c", LARGEST_SEGMENT_BYTES)
    assert list(account.grants()) == [("c", LARGEST_SEGMENT_BYTES)]


def test_a_parser_that_emits_more_than_it_was_granted_is_an_error() -> None:
    account = Credits(LEAST, 3)
    account.ask("a", 100)
    list(account.grants())
    account.emitted("a", 60)
    with pytest.raises(EngineError, match="a emitted 50 bytes, 10 more than it was granted"):
        account.emitted("a", 50)


def test_an_acknowledgement_of_what_was_never_granted_is_an_error() -> None:
    account = Credits(LEAST, 3)
    with pytest.raises(EngineError, match="7 bytes were acknowledged that were never granted"):
        account.acknowledged(7)


def test_the_peak_stays_when_the_bytes_have_come_home() -> None:
    account = Credits(LEAST, 3)
    account.ask("a", 100)
    list(account.grants())
    account.emitted("a", 100)
    account.acknowledged(100)
    assert (account.in_flight, account.peak_in_flight) == (0, 100)


def test_a_buffer_in_which_parsers_could_block_each_other_is_refused_with_what_would_do() -> None:
    Credits(LEAST, 3)
    with pytest.raises(UsageError) as refused:
        Credits(LEAST - 1, 3)
    expected = f"--buffer {LEAST - 1}: 3 parsers and one segment need at least {LEAST} (8MiB)"
    assert str(refused.value) == expected


def test_a_segment_that_could_never_pass_is_refused_with_what_would_do() -> None:
    account = Credits(LEAST, 3)
    account.ask("a", LARGEST_SEGMENT_BYTES)
    with pytest.raises(UsageError) as refused:
        account.ask("a", LARGEST_SEGMENT_BYTES + 1)
    assert str(refused.value) == (
        f"--buffer {LEAST}: a segment of {LARGEST_SEGMENT_BYTES + 1} bytes needs at least {LEAST + 1} (9MiB)"
    )


# Scarce memory


def test_while_memory_is_scarce_a_share_of_the_bytes_is_kept_back() -> None:
    block, size = 2**20, 100 * 2**20
    credit = Credits(size, 2)
    for _ in range(100):
        credit.ask("parser-0", block)
    assert sum(granted for _, granted in credit.grants(0.25)) == size // 4
    assert list(credit.grants(0.25)) == []
    assert list(credit.grants(0.0)) == []
    assert sum(granted for _, granted in credit.grants()) == size * 3 // 4


def test_a_segment_that_is_alone_passes_however_scarce_memory_is() -> None:
    credit = Credits(100 * 2**20, 2)
    credit.ask("parser-0", 5 * 2**20)
    assert list(credit.grants(0.01)) == [("parser-0", 5 * 2**20)]


def test_another_limit_holds_what_is_in_use_and_gives_out_no_more_until_it_is_back() -> None:
    block = 2**20
    credit = Credits(20 * block, 1)
    credit.ask("parser-0", 16 * block)
    assert list(credit.grants()) == [("parser-0", 16 * block)]
    credit.emitted("parser-0", 16 * block)
    credit.resize(10 * block, 1)
    credit.ask("parser-0", block)
    assert list(credit.grants()) == []
    credit.acknowledged(16 * block)
    assert list(credit.grants()) == [("parser-0", block)]


def on_the_way(*emitted: int, limit: int = LEAST) -> Credits:
    """Segments of these sizes have left their parser, and it waits for more than there is."""
    account = Credits(limit, 3)
    for size in emitted:
        account.ask("a", size)
    account.ask("a", LARGEST_SEGMENT_BYTES)
    list(account.grants())
    for size in emitted:
        account.emitted("a", size)
    return account


def test_the_indexer_is_to_write_once_nothing_is_left_before_it_and_a_parser_waits() -> None:
    account = on_the_way(LEAST - SEGMENT_BYTES, 100)
    assert account.blocked
    assert not account.wants_flush(idle=False)
    account.embedded(100)
    assert not account.wants_flush(idle=False), "the model has work, and what it makes may go along"
    account.embedded(LEAST - SEGMENT_BYTES)
    assert account.wants_flush(idle=False)
    account.acknowledged(LEAST - SEGMENT_BYTES)
    account.acknowledged(100)
    assert not account.wants_flush(idle=True), "nothing is left to write"


def test_the_indexer_is_to_write_a_quarter_of_all_bytes_though_the_model_has_work() -> None:
    limit = 4 * LARGEST_SEGMENT_BYTES + LEAST
    quarter = -(-limit // 4)
    account = on_the_way(quarter - 1, 1, limit - quarter - 1, limit=limit)
    account.embedded(quarter - 1)
    assert not account.wants_flush(idle=False)
    account.embedded(1)
    assert account.wants_flush(idle=False)


def test_while_no_parser_waits_the_indexer_gathers_until_all_is_parsed() -> None:
    account = Credits(LEAST, 3)
    account.ask("a", 100)
    list(account.grants())
    account.emitted("a", 100)
    account.embedded(100)
    assert not account.wants_flush(idle=False)
    assert account.wants_flush(idle=True)


def test_an_answer_that_overtakes_the_word_of_the_vectors_leaves_the_books_right() -> None:
    account = on_the_way(100, 200)
    account.acknowledged(100)
    account.embedded(100)
    assert not account.wants_flush(idle=True)
    account.embedded(200)
    assert account.wants_flush(idle=True)
