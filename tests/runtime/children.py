"""What the processes of `test_child` do; a spawned child imports it, so it imports little itself."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

from engine.errors import EngineError, UsageError
from engine.runtime.process import mailbox as mailboxes
from engine.runtime.process import messages as m
from engine.runtime.process.child import Child
from engine.runtime.process.current_item import CurrentItem
from engine.runtime.process.mailbox import Mailbox, run_child
from engine.runtime.workers.parser import Parser
from engine.stages.parse import FileEnd, FileJob, Parsed
from tests.stages.made import make_segment


def echo(control: Connection, run_dir: str) -> None:
    """Say back what the supervisor says, until `Stop`."""

    def body(mailbox: Mailbox) -> None:
        mailbox.start_clock()
        while True:
            with mailbox.waiting("in", "messages"):
                message = mailbox.inbox.get()
            if isinstance(message, m.Stop):
                return
            mailbox.send(message)

    run_child(control, run_dir, body)


def last_words(control: Connection, run_dir: str, how: str) -> None:
    """Speak, then end in the way named."""

    def body(mailbox: Mailbox) -> None:
        for number in range(3):
            mailbox.send(m.Note(str(number)))
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "exited":
            os._exit(7)
        elif how == "usage":
            raise UsageError("give another")
        elif how == "engine":
            raise EngineError("counts differ")
        elif how == "bug":
            raise ZeroDivisionError("by nothing")

    run_child(control, run_dir, body)


def soon(control: Connection, run_dir: str, how: str) -> None:
    """Tell two things soon, and end in the way named: with another one told, without, or killed at once."""

    # So long that a busy machine doesn't tell them before the end.
    mailboxes.SOON_S = 0.5

    def body(mailbox: Mailbox) -> None:
        mailbox.send(m.Note("before"))
        mailbox.send_soon([m.Note("soon")])
        mailbox.send_soon([m.Note("soon, too")])
        if how == "company":
            mailbox.send(m.Note("now"))
        elif how == "alone":
            time.sleep(600)
        elif how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "bug":
            raise ZeroDivisionError("by nothing")

    run_child(control, run_dir, body)


class Deadly:
    """A parse stage: the file named `deadly` kills its process, others end well, one named `slow` late, one
    named `stuck` never. One named `text` has a segment, one named `endless` them without an end."""

    def parse(self, job: FileJob) -> Iterator[Parsed]:
        if job.item.location == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        if job.item.location == "slow":
            time.sleep(1)
        if job.item.location == "stuck":
            time.sleep(600)
        while job.item.location in ("text", "endless"):
            yield make_segment(1, size=100, attempt=job.attempt)
            if job.item.location == "text":
                break
            time.sleep(0.001)
        yield FileEnd("parsed")


def parses(control: Connection, run_dir: str, output: Connection, current_item: CurrentItem) -> None:
    """A parser with that stage."""
    run_child(control, run_dir, lambda mailbox: Parser(mailbox, output, current_item).run(Deadly()))


def at_work_on(
    control: Connection, run_dir: str, current_item: CurrentItem, attempt: int, ended: bool
) -> None:
    """Begin an attempt, perhaps end it, and be killed."""
    current_item.begin(attempt)
    if ended:
        current_item.end()
    os.kill(os.getpid(), signal.SIGKILL)


def busy(control: Connection, run_dir: str) -> None:
    """Never look at the inbox."""
    run_child(control, run_dir, lambda mailbox: time.sleep(600))


def exits(control: Connection, run_dir: str, code: int) -> None:
    """End at once with this exit code."""
    run_child(control, run_dir, lambda mailbox: os._exit(code))


def signals(control: Connection, run_dir: str) -> None:
    """Survive the signals that are for the supervisor, then say so."""

    def body(mailbox: Mailbox) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        mailbox.send(m.Note("alive"))

    run_child(control, run_dir, body)


def supervise(run_dir: str) -> None:
    """A supervisor with two children, one of which listens; it prints their ids and waits to be killed."""
    children = [Child("echo", echo, run_dir), Child("busy", busy, run_dir)]
    children[0].send(m.Note("up"))
    while not any(children[0].receive()):
        time.sleep(0.01)
    sys.stdout.write(" ".join(str(child.pid) for child in children) + "\n")
    sys.stdout.flush()
    time.sleep(600)


if __name__ == "__main__":
    supervise(sys.argv[1])
