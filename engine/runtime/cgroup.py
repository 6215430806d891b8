"""The control groups of Linux that this process belongs to, as far as they bound or count memory."""

from __future__ import annotations

from pathlib import Path


def memory_groups(root: Path = Path("/")) -> list[tuple[Path, bool]]:
    """The folders of the groups that account for this process's memory, its own first and the outermost last,
    each with whether it is of version 2; none where there are none. `root` holds `proc` and `sys`."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / ("sys/fs/cgroup/memory" if controllers else "sys/fs/cgroup")
        folder = top / name.lstrip("/")
        while folder != top:
            found.append((folder, not controllers))
            folder = folder.parent
        found.append((top, not controllers))
    return found
