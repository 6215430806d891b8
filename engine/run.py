"""`python -m engine.run INPUT... --adapter URL`: parse, embed and index a corpus."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from engine.errors import EngineError, UsageError
from engine.machine import batch_job as job
from engine.runtime.limits.stop import STOP_SIGNALS, RunStoppedError

#: What every child process inherits: one thread for each library that would start one for each core (the
#: inference process sets torch's own), an allocator that doesn't keep an arena for each thread, and none of
#: multiprocessing's warnings about a semaphore of tqdm's that a killed process leaves to be cleaned up.
CHILD_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MALLOC_ARENA_MAX": "2",
    "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    # Imported late: the engine's processes import this module too, and need none of it.
    from engine.cli.options import parse

    try:
        config = parse(argv)
        for name, value in CHILD_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if config.run.dry_run:
            from engine.cli.dry_run import dry_run

            return dry_run(config)
        from engine.fleet.identity import check_fleet
        from engine.runtime.supervisor import Supervisor

        check_fleet(config)
        return Supervisor(config).run()
    except UsageError as error:
        print(f"engine.run: {error}", file=sys.stderr)
        return 2
    except RunStoppedError as error:
        print(f"engine.run: stopped: {error}; the same command goes on from here", file=sys.stderr)
        return 75
    except EngineError as error:
        print(f"engine.run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("engine.run: interrupted before the first file", file=sys.stderr)
        return 75


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGUSR1):
        # Until the supervisor listens to them, they end the command as Ctrl-C does.
        signal.signal(number, signal.default_int_handler)
    code = main()
    # The run is over and told of; who asks once more that it stop shall not change its exit code.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if code == job.REQUEUE_CODE:
        job.requeue(os.environ)
    sys.exit(code)
