"""Segments cross a channel as they are; a stream that is cut gives the whole groups before, then ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import fields
from itertools import chain
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.runtime.process import messages as m
from engine.runtime.process.child import Child, pipe
from engine.runtime.process.wake import WakeEvent
from engine.stages.segment import PictureSegment, Segment, TextSegment
from tests.runtime import children
from tests.stages.made import make_segment

#: Seconds after which a child that says nothing fails the test.
PATIENCE_S = 120.0

#: Set whenever the child has said something.
WAKE = WakeEvent()

few = settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])

#: Any text, halves of pairs included: a name or an extracted text may hold them.
texts = st.text(st.characters(), max_size=20)
numbers = st.integers(-(2**63), 2**63 - 1)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    """Any segment: text with or without ids, or a picture; before or after its vectors."""
    count = draw(st.integers(0, 4))

    def column(each: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(each, min_size=count, max_size=count))

    shared: dict[str, Any] = {
        "attempt": draw(numbers),
        "ordinal": draw(numbers),
        "after": draw(numbers),
        "checkpoint": draw(texts),
        "source": draw(texts),
        "media_type": draw(texts),
        "page": draw(st.none() | numbers),
        "mtime_ns": draw(numbers),
        "file_size": draw(numbers),
        "size": draw(numbers),
        "maybe_present": draw(st.booleans()),
        "ids": column(texts),
        "hashes": column(texts),
        "document": draw(st.none() | texts),
        "title": draw(st.none() | texts),
        "fields": draw(st.dictionaries(texts, texts | numbers, max_size=2)),
    }
    segment: TextSegment | PictureSegment
    if draw(st.booleans()):
        lengths = column(st.integers(0, 6))
        segment = TextSegment(
            **shared,
            starts=column(numbers),
            ends=column(numbers),
            texts=column(texts),
            lengths=lengths,
            token_ids=draw(st.none() | arrays.arrays(np.int32, sum(lengths))),
            headings=draw(st.sampled_from([[], column(st.none() | texts)])),
            contexts=draw(st.sampled_from([[], column(st.none() | texts)])),
        )
    else:
        segment = PictureSegment(**shared, pixels=draw(arrays.arrays(np.uint8, (3, 2, 3))))
    if draw(st.booleans()):
        return segment
    vectors = draw(arrays.arrays(np.float32, (count, draw(st.integers(1, 5)))))
    return segment.embedded(vectors, draw(st.dictionaries(st.integers(0, 3), texts, max_size=2)))


def same(one: Segment, other: Segment) -> bool:
    """Whether they are of one form and each field is the same, arrays to the last bit and by their type."""
    if type(one) is not type(other):
        return False
    for name in (each.name for each in fields(one)):
        left, right = getattr(one, name), getattr(other, name)
        if isinstance(left, np.ndarray):
            if not isinstance(right, np.ndarray) or (left.dtype, left.shape) != (right.dtype, right.shape):
                return False
            left, right = left.tobytes(), right.tobytes()
        if left != right:
            return False
    return True


#: Groups of segments that are sent together.
groups = st.lists(st.lists(segments(), min_size=1, max_size=3), max_size=3)


def frames(sent: list[list[Segment]]) -> list[bytes]:
    """What a producer writes for each group of segments."""
    found = []
    for together in sent:
        data = bytes(ForkingPickler.dumps(together))
        found.append(len(data).to_bytes(4, "big") + data)
    return found


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """A consumer that says back what its channels bring."""
    folder: Path = tmp_path_factory.mktemp("run")
    child = Child("echo", children.echo, str(folder), wake=WAKE)
    yield child
    child.kill()
    child.control.close()
    child.process.close()


def heard(child: Child, name: str, stream: bytes) -> tuple[list[Segment], list[object]]:
    """The segments that come out of a channel of this stream, and everything else that is told of it."""
    reader, writer = pipe()
    child.send_descriptor(m.OpenChannel(name), reader)
    os.write(writer.fileno(), stream)
    writer.close()
    found: list[Segment] = []
    told: list[object] = []
    deadline = time.monotonic() + PATIENCE_S
    while m.ChannelClosed(name) not in told or len(found) < sum(isinstance(one, m.Received) for one in told):
        assert time.monotonic() < deadline, "the channel's end was never told"
        WAKE.wait(1.0)
        for message in child.receive():
            if isinstance(message, Segment):
                found.append(message)
            else:
                told.append(message)
    return found, told


def test_what_a_producer_writes_is_a_length_and_a_pickle() -> None:
    segment = make_segment(0)
    reader, writer = pipe()
    writer.send([segment])
    writer.close()
    with open(reader.fileno(), "rb", closefd=False) as stream:
        assert stream.read() == frames([[segment]])[0]
    reader.close()


def test_any_segments_come_out_as_they_went_in_one_by_one(child: Child) -> None:
    @few
    @given(groups)
    def holds(sent: list[list[Segment]]) -> None:
        found, told = heard(child, "whole", b"".join(frames(sent)))
        flat = list(chain.from_iterable(sent))
        assert len(found) == len(flat)
        assert all(same(one, other) for one, other in zip(found, flat, strict=True))
        assert told == [
            *(m.Received(each.attempt, each.ordinal, each.size, len(each.ids), "whole") for each in flat),
            m.ChannelClosed("whole"),
        ]

    holds()


def test_a_stream_that_is_cut_at_any_byte_gives_the_whole_groups_before_it_and_ends(child: Child) -> None:
    @few
    @given(groups, st.floats(0, 1))
    def holds(sent: list[list[Segment]], share: float) -> None:
        parts = frames(sent)
        cut = int(share * sum(map(len, parts)))
        whole = [n for n in range(len(parts) + 1) if sum(map(len, parts[:n])) <= cut][-1]
        found, told = heard(child, "cut", b"".join(parts)[:cut])
        expected = list(chain.from_iterable(sent[:whole]))
        assert len(found) == len(expected)
        assert all(same(one, other) for one, other in zip(found, expected, strict=True))
        assert not [message for message in told if isinstance(message, m.Failed)]

    holds()
