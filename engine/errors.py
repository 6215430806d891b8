"""What can go wrong, as types: each says how far the trouble reaches (file, stage, run). And exit codes."""

from __future__ import annotations

import errno

#: Exit code of a command that has done all: each file is accounted for, and indexed.
EXIT_DONE = 0

#: The engine failed; of `engine.verify` also: ledger and database differ.
EXIT_ENGINE_FAILED = 1

#: Usage or configuration; or the database is down at the very first start.
EXIT_USAGE = 2

#: The run came to its end, but `failures.jsonl` is not empty.
EXIT_FAILURES = 3

#: Stopped early: the same command continues. EX_TEMPFAIL of sysexits.h; clusters may list it as RequeueExit.
EXIT_STOPPED = 75

#: What the system says of a disk, or a user's share of it, that has no room left.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class EngineError(Exception):
    """Base of every error that the engine raises on purpose; its text is meant for the user."""


class UsageError(EngineError):
    """The command, its configuration or its surroundings can't work as given (exit code 2)."""


class AccessError(UsageError):
    """The database answers, but not to this client: its credentials or certificates don't fit."""


class SchemaMismatchError(UsageError):
    """The index exists, but was made with another model, dimension or schema version."""


class IndexLostError(UsageError):
    """The index that this run has written to was deleted or replaced meanwhile."""


class ModelNotFoundError(UsageError):
    """No weights were found under the name given, anywhere that was looked."""


class DatabaseUnavailableError(EngineError):
    """The database does not answer now; the same call may succeed later."""


class DiskFullError(DatabaseUnavailableError):
    """The database has no room left on its disk: waiting helps only where somebody makes some."""


class DeviceLostError(EngineError):
    """The device that a model runs on is of no use to this process any more; a new one may have it back."""


class HandOverError(EngineError):
    """What left one stage is not what came to the next: a bug, which must never become a shift."""

    def __init__(self, border: str, what: str) -> None:
        super().__init__(f"hand-over {border}: {what}")


class ParseError(EngineError):
    """A file, or one page of it, can't be parsed. `error_type` is a short stable word for grouping."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type

    def __reduce__(self) -> tuple[type[ParseError], tuple[str, str]]:
        return (ParseError, (self.error_type, str(self)))


class SkipFileError(EngineError):
    """A file is left out by a rule (`empty`, `unknown-type`, …), which is not a failure."""

    def __init__(self, rule: str, detail: str = "") -> None:
        super().__init__(f"{rule}: {detail}" if detail else rule)
        self.rule = rule
        self.detail = detail

    def __reduce__(self) -> tuple[type[SkipFileError], tuple[str, str]]:
        return (SkipFileError, (self.rule, self.detail))
