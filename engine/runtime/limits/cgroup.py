"""The control groups of Linux that this process belongs to, as far as they bound memory and cores."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from engine.machine.cores import cores


def memory_groups(root: Path = Path("/")) -> list[tuple[Path, bool]]:
    """The folders of the groups that account for this process's memory, its own first and the outermost last,
    each with whether it is of version 2; none where there are none. `root` holds `proc` and `sys`."""
    return _groups("memory", root)


def usable_cores(root: Path = Path("/")) -> float:
    """The cores that this process and its children may use together: those that it may run on or that its job
    was given, or what the groups' quotas leave of them, which may be a fraction."""
    found = [float(cores())]
    for folder, new in _groups("cpu", root):
        with suppress(OSError, ValueError, ZeroDivisionError):  # no quota there
            if new:
                quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
                period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
            if int(quota) > 0:  # "max" and -1 are none
                found.append(int(quota) / int(period))
    return min(found)


def _groups(controller: str, root: Path) -> list[tuple[Path, bool]]:
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / (f"sys/fs/cgroup/{controller}" if controllers else "sys/fs/cgroup")
        folder = top / name.lstrip("/")
        while folder != top:
            found.append((folder, not controllers))
            folder = folder.parent
        found.append((top, not controllers))
    return found
