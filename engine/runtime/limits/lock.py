"""The lock of a run directory: one run at a time, after all children of the previous one have ended."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from engine.errors import UsageError

#: Seconds without a heartbeat after which a lock held on another host counts as abandoned.
FOREIGN_LOCK_EXPIRY_S = 120.0

#: Seconds without a heartbeat that this process must observe before it takes over another host's lock:
#: the clocks of two hosts may differ, so an old file time alone proves nothing. A run beats once a second.
CONFIRM_S = 10.0

#: Seconds between two looks at another host's lock.
LOOK_S = 0.5

#: Seconds that a new run waits for the children of a killed one.
CHILDREN_DEADLINE_S = 10.0

#: Largest error of a process's start time in seconds, because it is counted in ticks since the boot.
CLOCK_SLACK_S = 1.0


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that holds a run directory; `age_s` is the age of its last heartbeat in seconds."""

    host: str
    pid: int
    age_s: float


def owner_of(run_dir: Path) -> Owner | None:
    """The process that holds the directory, found without taking the lock, so that a run can start meanwhile.

    A process here counts by its number, unless it is younger than the lock's last sign; one elsewhere by that
    sign alone.
    """
    path = run_dir / "lock"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        touched = path.stat().st_mtime
        owner = Owner(str(told["host"]), int(told["pid"]), max(0.0, time.time() - touched))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if owner.host != socket.gethostname():
        return owner if owner.age_s < FOREIGN_LOCK_EXPIRY_S else None
    try:
        process = psutil.Process(owner.pid)
        lives = process.status() != psutil.STATUS_ZOMBIE
        return owner if lives and process.create_time() <= touched + CLOCK_SLACK_S else None
    except psutil.NoSuchProcess:
        return None


class RunLock:
    """Hold `DIR/lock` while the run lives: host, pid, boot id, and a heartbeat by the file's own time.

    On one host the kernel's lock on the file decides, and ends with its process. Hosts that share the
    directory without sharing kernel locks use the heartbeat: this waits until a beat shows that the holder
    on the other host is alive, or until there was none for `FOREIGN_LOCK_EXPIRY_S`, so that a task whose node
    was lost can continue on another one. `say` reports that wait; `check` is called meanwhile and ends it by
    raising. Raises `UsageError` where held.
    """

    def __init__(
        self,
        run_dir: Path,
        say: Callable[[str], object] = lambda _: None,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self._path = run_dir / "lock"
        self._file = open(self._path, "a+", encoding="utf-8")  # noqa: SIM115 - held as long as the run
        try:
            self._take(say, check)
        except BaseException:
            self._file.close()
            raise
        self._wait_for_children(run_dir)
        self._file.truncate(0)
        boot_id = Path("/proc/sys/kernel/random/boot_id")
        owner = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "boot_id": boot_id.read_text().strip() if boot_id.exists() else None,
        }
        self._file.write(json.dumps(owner))
        self._file.flush()

    def beat(self) -> None:
        """Give a heartbeat."""
        os.utime(self._path)

    def release(self) -> None:
        """Release the lock. Safe to call twice."""
        if not self._file.closed:
            self._file.truncate(0)
            self._file.close()

    def _take(self, say: Callable[[str], object], check: Callable[[], object]) -> None:
        """Return when the lock is free."""
        first: int | None = None
        while True:
            free = self._is_free()
            owner, stamp = self._look()
            if owner.get("host") in (None, socket.gethostname()):
                if free:
                    return
                raise self._held(owner)
            now = time.monotonic()
            if first is None:
                age = time.time() - stamp / 1e9
                first, ends = stamp, now + max(CONFIRM_S, FOREIGN_LOCK_EXPIRY_S - max(0.0, age))
                say(
                    f"waiting for the lock of process {owner.get('pid')} on {owner['host']}: it counts as"
                    f" abandoned after {ends - now:.0f} s without a heartbeat"
                )
            if stamp != first:
                raise self._held(owner)
            if now >= ends:
                if free:
                    return
                raise self._held(owner)
            check()
            time.sleep(LOOK_S)

    def _is_free(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _look(self) -> tuple[dict[str, object], int]:
        """What the file says of its holder, and when it was touched, in nanoseconds.

        It is opened anew each time: that is when network file systems ask their server.
        """
        with open(self._path, encoding="utf-8") as file:
            stamp = os.fstat(file.fileno()).st_mtime_ns
            try:
                owner = json.loads(file.read() or "{}")
            except ValueError:
                owner = {}
        return (owner if isinstance(owner, dict) else {}), stamp

    def _held(self, owner: dict[str, object]) -> UsageError:
        told = "pid" in owner and "host" in owner
        who = f"process {owner['pid']} on {owner['host']}" if told else "another process"
        return UsageError(
            f"--run-dir {self._path.parent}: locked by {who}; wait for it, stop it, or name another --run-dir"
        )

    def _wait_for_children(self, run_dir: Path) -> None:
        with open(run_dir / "children.lock", "a", encoding="utf-8") as file:
            deadline = time.monotonic() + CHILDREN_DEADLINE_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    if time.monotonic() > deadline:
                        self._file.close()
                        raise UsageError(
                            f"--run-dir {run_dir}: processes of a killed run are still alive after"
                            f" {CHILDREN_DEADLINE_S:.0f} s; end them, then run the same command again"
                        ) from None
                    time.sleep(0.1)
                else:
                    return


def hold_as_child(run_dir: str) -> int:
    """Called by each child: a new run waits until every holder is gone. Returns the descriptor to keep."""
    descriptor = os.open(os.path.join(run_dir, "children.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor
