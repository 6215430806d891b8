"""The whole of `engine.verify`: compare, repair, compare again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.errors import EXIT_ENGINE_FAILED, EXIT_STOPPED, EngineError
from engine.repair import repair as steps
from engine.repair.books import Books, with_ledger
from engine.repair.compare import Comparison, Difference, Repaired
from engine.runtime.limits.stop import RunStoppedError
from engine.runtime.supervisor import Supervisor


def verify(folders: Sequence[Path], url: str) -> Difference:
    """Compare the ledgers below these run directories with the database.

    Raises `UsageError` where there is no ledger, it is for another database, or a run is running, and
    `DatabaseUnavailableError` where the database doesn't answer.
    """
    with (
        Books(with_ledger(folders), url) as books,
        books.database(url) as adapter,
        Comparison(books, adapter) as comparison,
    ):
        return comparison.difference


def repair(folders: Sequence[Path], url: str) -> Repaired:
    """Delete extra and wrong records, and index missing ones again.

    Raises as `verify` does; `RunStoppedError` where a signal stopped the engine and `EngineError` where it
    failed: the same call then continues.
    """
    run_dirs = with_ledger(folders)
    with Books(run_dirs, url) as books, books.database(url) as adapter:
        with Comparison(books, adapter) as comparison:
            steps.check_repairable(list(folders), books, comparison, adapter)
            deleted = steps.clear(books, comparison, adapter)
            steps.mark(books, comparison, adapter)
        configs = list(steps.to_make(books))
    # The locks are released here: each run takes them, and the database may allow one writer only.
    for config in configs:
        code = Supervisor(config, repair=steps.listed(config.run_dir)).run()
        if code == EXIT_STOPPED:
            raise RunStoppedError(f"{config.run_dir}: the repair was stopped")
        if code == EXIT_ENGINE_FAILED:
            raise EngineError(f"{config.run_dir}: the repair failed; run the same command again to continue")
    with Books(run_dirs, url) as books:
        done = Repaired(deleted, steps.not_made(books))
        steps.finish(books)
    return done
