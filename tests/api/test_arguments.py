from __future__ import annotations

import pytest

from engine.api.arguments import arguments_named, in_python
from engine.errors import ParseError, UsageError


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("--max-ram 8GiB: too little", "max_ram=8GiB: too little"),
        ("give at least 5, or fewer --workers", "give at least 5, or fewer workers="),
        ("--dtype int8 needs --backend onnx", "dtype=int8 needs backend=onnx"),
        ("-k 0: give more", "k=0: give more"),
        ("--adapter x://: --exact: can't", "adapter=x://: exact=: can't"),
        ("the index was made with --field names a", "the index was made with fields= names a"),
        ("left out by --no-images", "left out by images=False"),
        ("no progress (--file-timeout)", "no progress (engine.run --file-timeout)"),
        ("gone; python -m engine.verify --run-dir r", "gone; python -m engine.verify --run-dir r"),
        ("/data/a--adapter and well-known - words", "/data/a--adapter and well-known - words"),
    ],
)
def test_a_message_names_the_argument(message: str, told: str) -> None:
    assert in_python(message) == told


def test_an_error_stays_what_it_is() -> None:
    with pytest.raises(ParseError, match="exact_images=") as raised, arguments_named():
        raise ParseError("too-many-pixels", "leave out --exact-images")
    assert raised.value.error_type == "too-many-pixels"
    with pytest.raises(UsageError, match=r"^$"), arguments_named():
        raise UsageError
