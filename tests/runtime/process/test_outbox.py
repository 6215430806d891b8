"""What is parsed leaves in its order, news of a file never before its segments, and soon."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.runtime.process import messages as m
from engine.runtime.process.mailbox import TOGETHER_BYTES
from engine.runtime.process.outbox import Outbox
from engine.runtime.process.shared_pictures import Place, PlacedPicture
from engine.stages.parse import FileEnd
from engine.stages.segment import Segment
from tests.stages.made import make_picture, make_segment


class Wires:
    """Both ways out, and what went by each, in the order of all."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[Any]]] = []
        self.later: list[Callable[[], None]] = []
        self.broken = False
        output = SimpleNamespace(send=self._segments)
        mailbox = SimpleNamespace(
            send_all=lambda news: self.sent.append(("news", news)), soon=self.later.append, moving=nullcontext
        )
        self.outbox = Outbox(cast(Any, mailbox), cast(Any, output))

    def _segments(self, segments: list[Segment]) -> None:
        if self.broken:
            raise BrokenPipeError
        self.sent.append(("segments", segments))


def test_the_news_of_files_follows_their_segments() -> None:
    wires, segments = Wires(), [make_segment(1), make_segment(2)]
    news = [m.FileParsed(1, FileEnd("parsed")), m.FileParsed(2, FileEnd("parsed"))]
    for segment, told in zip(segments, news, strict=True):
        wires.outbox.add(segment)
        wires.outbox.report(told)
    assert wires.sent == []
    wires.outbox.flush()
    assert wires.sent == [("segments", segments), ("news", news)]
    wires.outbox.flush()
    assert len(wires.sent) == 2


def test_it_is_full_by_the_bytes_that_would_travel() -> None:
    wires = Wires()
    shared = make_picture(size=2 * TOGETHER_BYTES).shared()
    wires.outbox.add(PlacedPicture(**shared, place=Place(1, (2, 2, 3))))
    wires.outbox.add(make_segment(1, size=TOGETHER_BYTES - 1))
    full = [wires.outbox.full]
    wires.outbox.add(make_segment(1, size=1))
    full.append(wires.outbox.full)
    wires.outbox.flush()
    assert [*full, wires.outbox.full] == [False, True, False]


@pytest.mark.parametrize("what", ["segment", "news"])
def test_whatever_comes_is_sent_soon_though_nobody_asks(what: str) -> None:
    wires = Wires()
    if what == "segment":
        wires.outbox.add(make_segment(1))
    else:
        wires.outbox.report(m.Idle())
    wires.later.pop()()
    assert len(wires.sent) == 1


def test_a_consumer_that_is_gone_is_for_the_parser_to_meet_and_no_news_is_told_of_what_it_lacks() -> None:
    wires = Wires()
    wires.broken = True
    for _ in range(2):
        wires.outbox.add(make_segment(1))
        wires.outbox.report(m.FileParsed(1, FileEnd("parsed")))
    wires.later.pop()()
    assert wires.sent == []
    wires.outbox.add(make_segment(1))
    with pytest.raises(OSError):
        wires.outbox.flush()
    assert wires.sent == []
