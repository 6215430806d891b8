"""Child processes as the supervisor sees them: how each is started, spoken to, and ended."""

from __future__ import annotations

import multiprocessing as mp
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import TypeAlias

import psutil

from engine.errors import EngineError
from engine.runtime.process import messages as m
from engine.runtime.process.mailbox import HEARTBEAT_INTERVAL_S, IGNORED_SIGNALS, OUT_OF_MEMORY
from engine.runtime.process.shared_pictures import Descriptor
from engine.runtime.process.stats import NOTHING, Stats
from engine.runtime.process.wake import WakeEvent

#: Seconds that a killed process has to be gone; that what a dead one said has to arrive.
KILL_DEADLINE_S, LAST_WORDS_S = 5.0, 5.0

_spawn = mp.get_context("spawn")

#: A message, and the open file that follows it; None ends the thread that sends.
_ToSay: TypeAlias = tuple[object, Connection | Descriptor | None] | None

#: Follows the last message of a child.
_END = object()


def pipe() -> tuple[Connection, Connection]:
    """A one-way channel, (reader, writer). Each end is for one process alone: close it once passed on."""
    return _spawn.Pipe(duplex=False)


class Child:
    """A child process as the supervisor sees it: its control connection, its sentinel, its last stats.

    Two threads hold the connection, so that a child that is stopped in the middle of a message, or doesn't
    read, never stops the supervisor. `wake` is set whenever the child has said something.
    """

    def __init__(
        self, name: str, target: Callable[..., None], *args: object, wake: WakeEvent | None = None
    ) -> None:
        self.name = name
        self.control, far_end = _spawn.Pipe(duplex=True)
        self.process = _spawn.Process(target=target, name=name, args=(far_end, *args), daemon=True)
        # Signals to the whole group wait until the child ignores them; an early one would end it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED_SIGNALS)
        try:
            self.process.start()
        except OSError as error:
            raise EngineError(f"{name} can't be started: {error.strerror or error}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            # Only the child holds its end now, so that its death reads as the end of the stream here.
            far_end.close()
        self.stats = NOTHING
        #: What it had spent when it was last marked; and whether the answer to that is still to come.
        self._marked, self._marking = NOTHING, False
        #: Nothing more can come from it, and everything that came has been read.
        self.silent = False
        #: It was ended, and what it says counts no more.
        self.gone = False
        #: When it last spoke, by the monotonic clock, and how long its work had been stuck then.
        self.heard_at = time.monotonic()
        self._stuck_s = 0.0
        self._wake = wake or WakeEvent()
        self._heard: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._to_say: queue.SimpleQueue[_ToSay] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=f"from {name}", daemon=True)
        self._reader.start()
        threading.Thread(target=self._write, name=f"to {name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid or 0

    def send(self, message: object) -> None:
        """Tell the child; one that is dead is found by its sentinel, not here."""
        self._to_say.put((message, None))

    def send_descriptor(self, message: object, opened: Connection | Descriptor) -> None:
        """Tell the child and hand it an open file, which is closed here once it is handed over."""
        self._to_say.put((message, opened))

    def receive(self) -> Iterator[object]:
        """What the child has said, as far as it is here; a child that died has its last words read."""
        if self.process.exitcode is not None:
            self._reader.join(LAST_WORDS_S)
        while not self.silent and not self._heard.empty():
            message = self._heard.get()
            if message is _END:
                self.silent = True
            elif isinstance(message, m.Heartbeat):
                self.stats, self._stuck_s = message.stats, message.stuck_s
                if self._marking:
                    self._marked, self._marking = message.stats, False
            else:
                yield message

    def mark(self) -> None:
        """Count `since_mark` from now on."""
        self._marking = True
        self.send(m.Account())

    @property
    def since_mark(self) -> Stats:
        """What it has spent since it was marked; all of it, if it never was."""
        return NOTHING if self._marking else self.stats - self._marked

    def stuck_s(self, now: float) -> float:
        """Seconds that its work has shown no progress, counting those in which nothing was heard of it."""
        return self._stuck_s + max(0.0, now - self.heard_at - HEARTBEAT_INTERVAL_S)

    def excuse(self) -> None:
        """Count its silence from now on: the supervisor itself was away."""
        self.heard_at, self._stuck_s = time.monotonic(), 0.0

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped the process (SIGSTOP), so that its silence says nothing of its work."""
        try:
            return psutil.Process(self.pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
        except psutil.Error:
            return False

    def kill(self) -> None:
        """End the process at once and wait until it is gone; one that the kernel holds back is left to it."""
        self.process.kill()
        self.process.join(KILL_DEADLINE_S)
        self._to_say.put(None)

    def death(self) -> str:
        """How the process died, in words."""
        code = self.process.exitcode
        if code == OUT_OF_MEMORY:
            return f"{self.name} ran out of memory"
        if code is None or code >= 0:
            return f"{self.name} exited with code {code}"
        name = signal.Signals(-code).name
        hint = ", possibly out of memory" if name == "SIGKILL" else ""
        return f"{self.name} was killed by {name}{hint}"

    def _read(self) -> None:
        try:
            while True:
                message = self.control.recv()
                self.heard_at = time.monotonic()
                messages = message if isinstance(message, list) else [message]
                for each in messages:
                    self._heard.put(each)
                # What came along was in no hurry.
                self._wake.set(urgent=not isinstance(messages[-1], m.PATIENT))
        except (EOFError, OSError):
            self._heard.put(_END)
            self._wake.set()

    def _write(self) -> None:
        while (item := self._to_say.get()) is not None:
            message, passed_on = item
            with suppress(OSError):
                self.control.send(message)
                if passed_on is not None:
                    with socket.socket(fileno=os.dup(self.control.fileno())) as wire:
                        reduction.sendfds(wire, [passed_on.fileno()])
            if passed_on is not None:
                passed_on.close()
