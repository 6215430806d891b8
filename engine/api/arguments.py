"""Errors of the Python interface name its arguments, where the same mistake of a command names an option."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from engine.errors import EngineError

#: The options that have an argument of another name, by their names with `_` for `-`.
RENAMED = {
    "chunk_overlap": "overlap=",
    "chunker_option": "chunker_options=",
    "field": "fields=",
    "no_images": "images=False",
}

#: Those that have one of the same name.
ALIKE = frozenset({
    "adapter", "backend", "chunk_size", "chunker", "device", "dtype", "exact", "exact_images", "hybrid",
    "image_model", "k", "kind", "max_ram", "media_type", "run_dir", "source_prefix", "text_model",
    "trust_remote_code", "workers",
})  # fmt: skip

# A command that is to be typed stays as it is. A value that follows an option joins its argument.
_OPTION = re.compile(
    r"(python -m engine\.[^;()]*)|(?<![^\s(\"'`])--?([a-z][a-z0-9-]*)( (?!names\b)(?=[^\s(]))?"
)

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def in_python(message: str) -> str:
    """The message with `max_ram=` for `--max-ram`; options without an argument are the command's."""

    def renamed(found: re.Match[str]) -> str:
        command, option, space = found[1], found[2], found[3] or ""
        if command:
            return command
        name = option.replace("-", "_")
        if name in RENAMED:
            return RENAMED[name] + (space if name == "no_images" else "")
        if name in ALIKE:
            return f"{name}="
        return f"engine.run {found[0]}" if found[0].startswith("--") else found[0]

    return _OPTION.sub(renamed, message)


@contextmanager
def arguments_named() -> Iterator[None]:
    """What the engine raises within names arguments."""
    try:
        yield
    except EngineError as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (in_python(error.args[0]), *error.args[1:])
        raise


def naming_arguments(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """The function; what it raises names arguments."""

    @wraps(function)
    def named(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        with arguments_named():
            return function(*args, **kwargs)

    return named
