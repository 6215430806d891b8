"""A child's side: its connection to the supervisor, its clock, and the frame of every child's main."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path

from engine.errors import DeviceLostError, EngineError, IndexLostError, UsageError
from engine.runtime.limits.lock import hold_as_child
from engine.runtime.process import messages as m
from engine.runtime.process.shared_pictures import PlacedPicture, SharedPictureBuffer
from engine.runtime.process.stats import Clock, Side
from engine.runtime.router import Router
from engine.stages.segment import Segment

#: Exit codes of a child whose supervisor is gone; of one that has no memory left to go on.
ORPHANED, OUT_OF_MEMORY = 70, 71

#: Signals of the terminal and of batch systems: the supervisor's business, not its children's.
IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

#: Seconds between two heartbeats of a process.
HEARTBEAT_INTERVAL_S = 1.0

#: Seconds that a message may wait for others to go with; bytes of segments from which they are sent, because
#: each message has its price.
SOON_S, TOGETHER_BYTES = 0.02, 128 * 2**10

#: Seconds beyond which a process takes its own pause for one of the whole process.
AWAY_S = 5.0

#: Stack of a thread that only sends.
SMALL_STACK_BYTES = 512 * 2**10

#: `prctl` option: the signal that a process gets when its parent dies (linux/prctl.h).
PR_SET_PDEATHSIG = 1


class Mailbox:
    """A child's side of its control connection.

    A thread of its own reads it, so that the supervisor is never blocked by a busy child, and ends the
    process when the supervisor is gone. Another one tells the supervisor each second that the process runs, a
    third one what has waited for company, or does what is to be done soon.
    """

    def __init__(self, control: Connection) -> None:
        self._control = control
        self._lock = threading.Lock()
        #: Messages that wait for company, and whether there are any.
        self._soon: list[object] = []
        self._some_wait = threading.Event()
        #: What else is to be done soon.
        self._call: Callable[[], None] | None = None
        #: Messages from the supervisor and segments from the channels, each sender's in order.
        self.inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._stepped = time.monotonic()
        self._clock = Clock()
        self._picture_buffers: dict[str, SharedPictureBuffer] = {}
        self._picture_buffer_came = threading.Condition()
        #: What is not for the work itself, and handled at once.
        self._router: Router[[]] = Router()
        self._router.on(m.OpenChannel, self._open_channel)
        self._router.on(m.OpenPictureBuffer, self._open_picture_buffer)
        self._router.on(m.Account, self._account)
        threading.Thread(target=self._read, name="mailbox", daemon=True).start()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        # A parser's limit of memory counts its threads' stacks in full.
        before = threading.stack_size(SMALL_STACK_BYTES)
        threading.Thread(target=self._take_along, name="soon", daemon=True).start()
        threading.stack_size(before)

    def send(self, message: object) -> None:
        """Tell the supervisor, after what waits to be told; one that is gone ends this process."""
        self.send_all([message])

    def send_all(self, messages: list[object]) -> None:
        """Tell the supervisor several things at once, at the cost of one."""
        try:
            with self._lock:
                together = [*self._soon, *messages]
                if together:
                    self._control.send(together if len(together) > 1 else together[0])
                # Only now: where there is no memory for a message, what waits goes with a later one.
                self._soon.clear()
        except OSError:
            os._exit(ORPHANED)

    def send_soon(self, messages: list[object]) -> None:
        """Tell the supervisor with whatever is told next, in `SOON_S` at the latest.

        The order stays. A process that is killed meanwhile has not told it.
        """
        with self._lock:
            self._soon.extend(messages)
        if not self._some_wait.is_set():
            self._some_wait.set()

    def soon(self, call: Callable[[], None]) -> None:
        """Have this done in `SOON_S`, in a thread of its own; the last of several calls is, once."""
        self._call = call
        if not self._some_wait.is_set():
            self._some_wait.set()

    def _take_along(self) -> None:
        while True:
            self._some_wait.wait()
            time.sleep(SOON_S)
            self._some_wait.clear()
            call, self._call = self._call, None
            if call is not None:
                call()
            if self._soon:
                with suppress(MemoryError):  # as for the heartbeat, which takes them along
                    self.send_all([])

    def step(self) -> None:
        """The work at hand is coming along."""
        self._stepped = time.monotonic()

    @contextmanager
    def waiting(self, side: Side, on: str) -> Iterator[None]:
        """The block waits for `on`, which is no work: `in` for input, `out` for room."""
        try:
            with self._clock.waiting(side, on):
                yield
        finally:
            self.step()

    @contextmanager
    def calling(self, name: str) -> Iterator[None]:
        """The block does what the process is there for; see `Stats.calls`."""
        with self._clock.calling(name):
            yield

    @contextmanager
    def moving(self) -> Iterator[None]:
        """The block moves messages in a thread of its own, which is no part of the work."""
        with self._clock.moving():
            yield

    def start_clock(self) -> None:
        """Count busy and waiting time from now on."""
        self.step()
        self._clock.start()

    def heartbeat(self) -> m.Heartbeat:
        """How the process stands now."""
        stuck = 0.0 if self._clock.waits else time.monotonic() - self._stepped
        return m.Heartbeat(self._clock.read(), stuck)

    def _beat(self) -> None:
        while True:
            before, worked = time.monotonic(), time.process_time()
            time.sleep(HEARTBEAT_INTERVAL_S)
            if was_stopped(time.monotonic() - before, time.process_time() - worked):
                self.step()
            with suppress(MemoryError):  # the work will meet it too, and say so
                self.send(self.heartbeat())

    def _read(self) -> None:
        try:
            while True:
                message = self._control.recv()
                if self._router.takes(message):
                    self._router(message)
                else:
                    self.inbox.put(message)
        except (EOFError, OSError):
            os._exit(ORPHANED)
        except MemoryError:
            # Without this thread the process would be deaf, and nobody would know.
            os._exit(OUT_OF_MEMORY)

    def _open_channel(self, message: m.OpenChannel) -> None:
        channel = Connection(self._descriptor(), writable=False)
        threading.Thread(target=self._receive, args=(message, channel), daemon=True).start()

    def _open_picture_buffer(self, message: m.OpenPictureBuffer) -> None:
        picture_buffer = SharedPictureBuffer(self._descriptor(), message.picture_bytes)
        with self._picture_buffer_came:
            self._picture_buffers[message.name] = picture_buffer
            self._picture_buffer_came.notify_all()

    def _account(self, message: m.Account) -> None:
        self.send(self.heartbeat())

    def _descriptor(self) -> int:
        """The one that follows a message."""
        with socket.socket(fileno=os.dup(self._control.fileno())) as wire:
            return int(reduction.recvfds(wire, 1)[0])

    def picture_buffer(self, name: str, wait: bool = False) -> SharedPictureBuffer | None:
        """The buffer for a parser's pictures; None, unless it is waited for, where there is none yet.

        A picture may overtake the news of its picture_buffer, because another thread reads it.
        """
        with self._picture_buffer_came:
            if wait:
                self._picture_buffer_came.wait_for(lambda: name in self._picture_buffers)
            return self._picture_buffers.get(name)

    def _receive(self, opened: m.OpenChannel, channel: Connection) -> None:
        """Read one producer's channel to its end; a producer that is stuck holds up this thread alone."""
        name = opened.name
        try:
            with channel, suppress(EOFError, OSError):
                while True:
                    with self.moving():
                        self._arrive(channel.recv(), opened)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except Exception as error:
            self.send(m.Failed(1, f"channel of {name}: {type(error).__name__}: {error}"))
        with self._picture_buffer_came:
            self._picture_buffers.pop(name, None)
        if opened.received:
            self.send(m.ChannelClosed(name))
        else:
            # Behind the segments, so that whoever takes it has taken them all.
            self.inbox.put(m.ChannelClosed(name))

    def _arrive(self, sent: list[Segment], opened: m.OpenChannel) -> None:
        """Segments that were sent together are here; none is kept here until the next ones come."""
        name = opened.name
        arrived: list[Segment] = []
        for segment in sent:
            if isinstance(segment, PlacedPicture) and (buffer := self.picture_buffer(name, wait=True)):
                arrived.append(segment.arrived(buffer))
            else:
                arrived.append(segment)
        if opened.received:
            self.send_soon(
                [m.Received(each.attempt, each.ordinal, each.size, len(each.ids), name) for each in arrived]
            )
        for segment in arrived:
            self.inbox.put(segment)


def was_stopped(passed_s: float, worked_s: float) -> bool:
    """Whether all of this process was stopped, which says nothing of its work, in so many seconds, of which
    it had the processor for `worked_s`. A library that lets no other thread run keeps the processor."""
    return passed_s > AWAY_S and worked_s < passed_s / 2


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
        mailbox.send(m.Failed(2, str(error), index_lost=isinstance(error, IndexLostError)))
    except DeviceLostError as error:
        mailbox.send(m.Failed(1, str(error), again=True))
    except EngineError as error:
        mailbox.send(m.Failed(1, str(error)))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except Exception as error:
        mailbox.send(m.Failed(1, f"{type(error).__name__}: {error}", traceback.format_exc()))
    else:
        mailbox.send(mailbox.heartbeat())
    # All is closed and told by now. To take interpreter and libraries apart, a model among them, takes longer
    # than many a short run can spare, and the system frees it all at once.
    os._exit(0)
