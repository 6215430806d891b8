"""`python -m engine.run INPUT... --adapter URL`: parse, embed and index a corpus."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Sequence

from engine.cli.exits import command, run_and_exit
from engine.errors import EXIT_STOPPED
from engine.machine import batch_job
from engine.machine.environment import set_child_environment
from engine.runtime.limits.stop import STOP_SIGNALS


@command("run")
def _run(argv: Sequence[str] | None = None) -> int:
    # Imported late: the engine's processes import this module too, and need none of it.
    from engine.cli.options import parse

    config = parse(argv)
    set_child_environment()
    if config.run.dry_run:
        from engine.cli.dry_run import dry_run

        return dry_run(config)
    from engine.fleet.identity import check_fleet
    from engine.runtime.supervisor import Supervisor

    check_fleet(config)
    arguments = sys.argv[1:] if argv is None else argv
    line = shlex.join(["python", "-m", "engine.run", *arguments])
    return Supervisor(config, command=f"cd {shlex.quote(os.getcwd())} && {line}").run()


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code. A batch job that was stopped early is put back into the queue."""
    code = _run(argv)
    if code == EXIT_STOPPED and batch_job.name(os.environ) is not None:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        batch_job.requeue(os.environ)
    return code


if __name__ == "__main__":
    run_and_exit(main)
