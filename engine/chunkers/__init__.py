"""Cut sections into the chunks that are embedded: chunkers by name, a module imported on use."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

from engine.chunkers.base import Chunker, Embed
from engine.errors import UsageError
from engine.models.spec import TextSpec
from engine.records import ChunkerChoice, ChunkerIdentity, OptionValue
from engine.registry import Registry

#: Name → class. Each is constructed as `Chunker` says.
CHUNKERS = Registry("chunkers", {"tokens": "engine.chunkers.tokens:TokenChunker"}, base=Chunker)

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

_KINDS: Mapping[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def make(spec: TextSpec, choice: ChunkerChoice, embed: Embed | None = None) -> Chunker:
    """The chunker that was chosen, for this model; `embed` gives vectors where this process has a model.

    Raises `UsageError` for an unknown name, for an option that the chunker doesn't have or a value that can't
    work, and for a chunker that needs what isn't there.
    """
    name = choice.name
    if name not in CHUNKERS:
        raise UsageError(f"--chunker {name}: unknown; accepted are {', '.join(CHUNKERS.names())}")
    part: Any = CHUNKERS.get(name)
    if part.pooled:
        raise UsageError(
            f"--chunker {name}: pools a chunk's vector from a larger input, which this engine can't do yet"
        )
    if part.needs_vectors and embed is None:
        raise UsageError(
            f"--chunker {name}: embeds texts to find its cuts, and the parsers of a run hold no model; the"
            " Python interface without workers= can do that"
        )
    options = _converted(name, part, choice.given())
    chunker: Chunker = part(spec, embed, **options) if part.needs_vectors else part(spec, **options)
    return chunker


def remake(spec: TextSpec, identity: ChunkerIdentity) -> Chunker:
    """The chunker of that identity. Raises `UsageError` where this engine has none that cuts as it did."""
    options = tuple((name, str(value)) for name, value in identity.options)
    chunker = make(spec, ChunkerChoice(identity.name, options=options))
    if chunker.identity.key != identity.key:
        raise UsageError(
            f"cut by {identity.key}, but here {identity.name} cuts by {chunker.identity.key};"
            " index anew into another --run-dir"
        )
    return chunker


def _converted(name: str, part: Any, given: Mapping[str, str]) -> dict[str, OptionValue]:
    """The options as the chunker's constructor takes them, by its annotations."""
    accepted = _accepted(name, part)
    options: dict[str, OptionValue] = {}
    for option, text in given.items():
        if option not in accepted:
            raise UsageError(
                f"--chunker {name}: has no option {option!r}; accepted are {', '.join(accepted) or 'none'}"
            )
        kind = accepted[option]
        try:
            options[option] = _BOOLEANS[text.lower()] if kind is bool else kind(text)
        except (ValueError, KeyError):
            raise UsageError(f"--chunker {name}: {option} {text!r} is not {_KINDS[kind]}") from None
    return options


def _accepted(name: str, part: Any) -> dict[str, Any]:
    """The type of each option. Raises `UsageError` for a constructor that is not as `Chunker` says."""
    try:
        hints = typing.get_type_hints(part.__init__)
    except NameError as error:  # imported for a type checker alone
        raise UsageError(f"--chunker {name}: {part.__qualname__}'s annotations: {error}") from None
    accepted = {}
    for each in inspect.signature(part).parameters.values():
        if each.default is not each.empty:
            accepted[each.name] = kind = _kind_of(hints.get(each.name))
            if kind not in _KINDS:
                raise UsageError(
                    f"--chunker {name}: {part.__qualname__}'s parameter {each.name} is not annotated int,"
                    " float, str or bool, or one of these or None"
                )
    return accepted


def _kind_of(hint: object) -> Any:
    """`int` of `int`, `int | None` and `Optional[int]`."""
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)] if union else [hint]
    return kinds[0] if len(kinds) == 1 else None
