"""Which handler takes a message: by its type, in one mapping for each process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from engine.errors import EngineError

Context = ParamSpec("Context")
Message = TypeVar("Message")


class Router(Generic[Context]):
    """Calls the handler of a message's type with the message and what the caller adds.

    A handler books, sends or raises; it never waits for another message, so that none is handled inside of
    another one's handler.
    """

    def __init__(self) -> None:
        self._handlers: dict[type, Callable[..., None]] = {}

    def on(self, kind: type[Message], handler: Callable[Concatenate[Message, Context], None]) -> None:
        """Have this handler take messages of this type."""
        self._handlers[kind] = handler

    def takes(self, message: object) -> bool:
        """Whether there is a handler for it."""
        return type(message) in self._handlers

    def __call__(self, message: Any, *context: Context.args, **named: Context.kwargs) -> None:
        """Handle a message. Raises `EngineError` for a type that nobody takes."""
        handler = self._handlers.get(type(message))
        if handler is None:
            raise EngineError(f"no handler for a message of type {type(message).__name__}")
        handler(message, *context, **named)
