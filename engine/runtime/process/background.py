"""One call beside the supervisor's loop, which must never wait for the network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Background(Generic[Result]):
    """Runs `call` in a thread that doesn't outlive the process."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call = call
        self._answer: list[Result] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return not self._thread.is_alive()

    def result(self) -> Result:
        """What the call gave; waits for it. Raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._answer[0]

    def _run(self) -> None:
        try:
            self._answer.append(self._call())
        except BaseException as error:
            self._error = error
