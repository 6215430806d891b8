"""How a command ends: the one place where an error becomes a line on standard error and an exit code.

The codes themselves are in `engine.errors`, because a run writes its own into `summary.json`.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import NoReturn, Protocol

from engine.cli.terminal import say
from engine.errors import (
    EXIT_ENGINE_FAILED,
    EXIT_STOPPED,
    EXIT_USAGE,
    DatabaseUnavailableError,
    EngineError,
    UsageError,
)
from engine.runtime.limits.stop import STOP_SIGNALS, RunStoppedError, what_goes_on, working_directory_is_gone


class Main(Protocol):
    """A command: takes its arguments, or those of the process, and returns its exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def command(name: str, *, resumes: bool = False) -> Callable[[Main], Main]:
    """Makes a `main` that may raise into one that ends in a line and a code.

    `resumes`: each step may be done again, so a database or a disk that fails stops the command (75) instead
    of ending it (2 and 1).
    """

    def decorate(main: Main) -> Main:
        @wraps(main)
        def ending(argv: Sequence[str] | None = None) -> int:
            if isinstance(sys.stdout, io.TextIOWrapper):
                # Names and texts may hold what the terminal's encoding has not.
                sys.stdout.reconfigure(errors="backslashreplace")
            try:
                code = main(argv)
                if sys.stdout is not None:
                    sys.stdout.flush()
                return code
            except BrokenPipeError:
                # A reader that has seen enough, such as `head`, is no error. What is left in the buffer is
                # written at exit once more, and must not fail there.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 0
            except RunStoppedError as error:
                return _told(name, f"stopped: {error}; {what_goes_on()}", EXIT_STOPPED)
            except DatabaseUnavailableError as error:
                line = f"{error}; {what_goes_on()}" if resumes else str(error)
                return _told(name, line, _code(resumes, EXIT_USAGE))
            except UsageError as error:
                return _told(name, str(error), EXIT_USAGE)
            except EngineError as error:
                return _told(name, str(error), EXIT_ENGINE_FAILED)
            except _file_errors() as error:
                if working_directory_is_gone():
                    line = "the working directory is gone; change into one that exists"
                    return _told(name, line, EXIT_USAGE)
                line = f"{error}; {what_goes_on()}" if resumes else str(error)
                return _told(name, line, _code(resumes, EXIT_ENGINE_FAILED))
            except KeyboardInterrupt:
                return _told(name, f"interrupted; {what_goes_on()}", EXIT_STOPPED)

        return ending

    return decorate


def _file_errors() -> tuple[type[Exception], ...]:
    # Asked for once something was raised: the engine's processes import this module, and most need no SQLite.
    import sqlite3

    return OSError, sqlite3.DatabaseError


def _code(resumes: bool, otherwise: int) -> int:
    return EXIT_STOPPED if resumes else otherwise


def _told(name: str, line: str, code: int) -> int:
    say(name, line)
    return code


def run_and_exit(main: Main, argv: Sequence[str] | None = None) -> NoReturn:
    """The command as the whole of this process, for `if __name__ == "__main__"`."""
    _open_standard_streams()
    for number in STOP_SIGNALS:
        # Until somebody listens to them, they end the command as Ctrl-C does.
        signal.signal(number, signal.default_int_handler)
    code = main(argv)
    # It is over and told of; who asks once more that it stop shall not change the exit code.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _open_standard_streams() -> None:
    """Open those that were closed (`2>&-`) on the null device: the next file that is opened would take their
    number, and get what is meant for a terminal."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            stream = os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)
            setattr(sys, name, stream)
