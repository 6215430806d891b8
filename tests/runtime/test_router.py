"""A message goes to the one handler of its type, and one that nobody takes is an error."""

from __future__ import annotations

import inspect
from typing import Any, cast

import pytest

from engine.errors import EngineError
from engine.runtime.bookkeeping import Bookkeeping
from engine.runtime.ending import Ending
from engine.runtime.flow.admission import Admission
from engine.runtime.limits.deaths import Restarts
from engine.runtime.preflight import Preflight
from engine.runtime.process import messages as m
from engine.runtime.process.child import Child
from engine.runtime.recovery import Recovery
from engine.runtime.router import Router

#: What only children get, and what `Child` itself takes.
NOT_FOR_THE_SUPERVISOR = {
    m.Parse, m.Grant, m.UseImages, m.Load, m.Cancel, m.OpenChannel, m.OpenPictureBuffer, m.Prepare, m.Delete,
    m.Sweep, m.Flush, m.Publish, m.Account, m.Stop, m.Heartbeat, m.Spare,
}  # fmt: skip


def test_the_handler_gets_the_message_and_what_the_caller_adds() -> None:
    router: Router[[str]] = Router()
    got: list[tuple[object, str]] = []
    router.on(m.Grant, lambda message, sender: got.append((message, sender)))
    router(m.Grant(5), "parser-0")
    assert got == [(m.Grant(5), "parser-0")]
    assert router.takes(m.Grant(1))
    assert not router.takes(m.Stop())


def test_a_message_that_nobody_takes_is_an_error_that_names_it() -> None:
    with pytest.raises(EngineError, match="no handler for a message of type Flush"):
        Router[[]]()(m.Flush())


def test_the_supervisor_takes_every_message_that_children_send() -> None:
    router: Router[[Child]] = Router()
    nothing = cast(Any, None)
    Bookkeeping(nothing).register(router)
    Preflight(nothing, repair=False).register(router)
    Ending(nothing).register(router)
    Admission(nothing, nothing, nothing, nothing, nothing, Restarts()).register(router)
    recovery = Recovery.__new__(Recovery)
    recovery._router = router
    recovery.register()
    kinds = {kind for _, kind in inspect.getmembers(m, inspect.isclass) if kind.__module__ == m.__name__}
    assert set(router._handlers) == kinds - NOT_FOR_THE_SUPERVISOR
