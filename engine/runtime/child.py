"""Child processes: how each is started, spoken to, and ended. All of them are children of the supervisor."""

from __future__ import annotations

import ctypes
import multiprocessing as mp
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path

from engine.errors import EngineError, UsageError
from engine.runtime import messages as m
from engine.runtime.lock import hold_as_child
from engine.stages.segment import Segment

#: Exit codes of a child whose supervisor is gone; of one that has no memory left to go on.
ORPHANED, OUT_OF_MEMORY = 70, 71

#: Signals of the terminal and of batch systems: the supervisor's business, not its children's.
IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

#: Least seconds between two `Stats` of a process.
STATS_INTERVAL_S = 1.0

#: `prctl` option: the signal that a process gets when its parent dies (linux/prctl.h).
PR_SET_PDEATHSIG = 1

_spawn = mp.get_context("spawn")


def pipe() -> tuple[Connection, Connection]:
    """A one-way channel, (reader, writer). Each end is for one process alone: close it once passed on."""
    return _spawn.Pipe(duplex=False)


class Child:
    """A child process as the supervisor sees it: its control connection, its sentinel, its last stats."""

    def __init__(self, name: str, target: Callable[..., None], *args: object) -> None:
        self.name = name
        self.control, far_end = _spawn.Pipe(duplex=True)
        self.process = _spawn.Process(target=target, name=name, args=(far_end, *args), daemon=True)
        # Signals to the whole group wait until the child ignores them; an early one would end it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED_SIGNALS)
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        # Only the child holds its end now, so that its death reads as the end of the stream here.
        far_end.close()
        self.stats = m.Stats(0.0, 0.0, 0.0)
        #: Its side of the control connection is closed and everything from it has been read.
        self.silent = False

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid or 0

    def send(self, message: object) -> None:
        """Tell the child; one that is dead is found by its sentinel, not here."""
        with suppress(OSError):
            self.control.send(message)

    def send_descriptor(self, message: object, connection: Connection) -> None:
        """Tell the child and hand it a connection, which is closed here."""
        with suppress(OSError), socket.socket(fileno=os.dup(self.control.fileno())) as wire:
            self.control.send(message)
            reduction.sendfds(wire, [connection.fileno()])
        connection.close()

    def receive(self) -> Iterator[object]:
        """What the child has said, as far as it is here; a child that died has its last words read."""
        try:
            while not self.silent and self.control.poll():
                yield self.control.recv()
        except (EOFError, OSError):
            self.silent = True

    def kill(self) -> None:
        """End the process at once and wait until it is gone."""
        self.process.kill()
        self.process.join()

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


class Mailbox:
    """A child's side of its control connection.

    A thread of its own reads it, so that the supervisor is never blocked by a busy child, and ends the
    process when the supervisor is gone.
    """

    def __init__(self, control: Connection) -> None:
        self._control = control
        self._lock = threading.Lock()
        #: Messages from the supervisor and segments from the channels, each sender's in order.
        self.inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._started = self._told = time.monotonic()
        self._waits = {"in": 0.0, "out": 0.0}
        threading.Thread(target=self._read, name="mailbox", daemon=True).start()

    def send(self, message: object) -> None:
        """Tell the supervisor; one that is gone ends this process."""
        try:
            with self._lock:
                self._control.send(message)
        except OSError:
            os._exit(ORPHANED)

    def waited(self, side: str, seconds: float) -> None:
        """Account for time spent waiting for input (`in`) or for room (`out`), and tell now and then."""
        self._waits[side] += seconds
        self.tell_stats()

    def tell_stats(self, final: bool = False) -> None:
        """Send `Stats` unless the last ones are fresh."""
        now = time.monotonic()
        if final or now - self._told >= STATS_INTERVAL_S:
            self._told = now
            busy = max(0.0, now - self._started - sum(self._waits.values()))
            self.send(m.Stats(busy, self._waits["in"], self._waits["out"]))

    def start_clock(self) -> None:
        """Count busy and waiting time from now on."""
        self._started = time.monotonic()
        self._waits = {"in": 0.0, "out": 0.0}

    def _read(self) -> None:
        try:
            while True:
                message = self._control.recv()
                if isinstance(message, m.OpenChannel):
                    with socket.socket(fileno=os.dup(self._control.fileno())) as wire:
                        (descriptor,) = reduction.recvfds(wire, 1)
                    channel = Connection(descriptor, writable=False)
                    threading.Thread(target=self._receive, args=(message.name, channel), daemon=True).start()
                else:
                    self.inbox.put(message)
        except (EOFError, OSError):
            os._exit(ORPHANED)
        except MemoryError:
            # Without this thread the process would be deaf, and nobody would know.
            os._exit(OUT_OF_MEMORY)

    def _receive(self, name: str, channel: Connection) -> None:
        """Read one producer's channel to its end; a producer that is stuck holds up this thread alone."""
        try:
            with channel, suppress(EOFError, OSError):
                while True:
                    segment: Segment = channel.recv()
                    chunks = len(segment.ids)
                    self.send(m.Received(segment.attempt, segment.ordinal, segment.size, chunks, name))
                    self.inbox.put(segment)
        except Exception as error:
            self.send(m.Failed(1, f"channel of {name}: {type(error).__name__}: {error}"))
        self.send(m.ChannelClosed(name))


def run_child(control: Connection, run_dir: str, body: Callable[[Mailbox], None], oom_score: int = 0) -> None:
    """The frame of every child's main: set the process up, run its body, report how it ended."""
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED_SIGNALS)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(str(oom_score), encoding="ascii")
    hold_as_child(run_dir)
    mailbox = Mailbox(control)
    try:
        body(mailbox)
    except UsageError as error:
        mailbox.send(m.Failed(2, str(error)))
    except EngineError as error:
        mailbox.send(m.Failed(1, str(error)))
    except Exception as error:
        mailbox.send(m.Failed(1, f"{type(error).__name__}: {error}", traceback.format_exc()))
    else:
        mailbox.tell_stats(final=True)
