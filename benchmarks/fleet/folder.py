"""A shared folder in memory, for simulated tasks: its time is theirs, and it counts what a server sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

#: Requests to a file server that each operation takes (NFS: lookups are cached, opening and closing aren't).
REQUESTS = {"create": 7, "move": 2, "write": 3, "read": 3, "stamp": 3, "names": 1}

#: Names in one answer of a server that lists a folder.
NAMES_A_REQUEST = 250


class SimulatedFolder:
    """A `SharedFolder` whose operations take no time; `seconds` counts requests by second of `clock`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._files: dict[str, dict[str, tuple[int, str]]] = {}
        self._changes = 0
        self.seconds: Counter[int] = Counter()
        self.operations: Counter[str] = Counter()

    def create(self, name: str, text: str) -> bool:
        """As in `SharedFolder`."""
        self._count("create")
        folder, _, base = name.partition("/")
        files = self._files.setdefault(folder, {})
        if base in files:
            return False
        files[base] = (self._stamp(), text)
        return True

    def move(self, name: str, to: str) -> bool:
        """As in `SharedFolder`."""
        self._count("move")
        folder, _, base = name.partition("/")
        files = self._files.get(folder, {})
        if base not in files:
            return False
        files[to.partition("/")[2]] = files.pop(base)
        return True

    def write(self, name: str, text: str) -> bool:
        """As in `SharedFolder`."""
        self._count("write")
        folder, _, base = name.partition("/")
        files = self._files.get(folder, {})
        if base not in files:
            return False
        files[base] = (self._stamp(), text)
        return True

    def read(self, name: str) -> str | None:
        """As in `SharedFolder`."""
        self._count("read")
        found = self._find(name)
        return None if found is None else found[1]

    def stamp(self, name: str) -> int | None:
        """As in `SharedFolder`."""
        self._count("stamp")
        found = self._find(name)
        return None if found is None else found[0]

    def names(self, folder: str) -> list[str]:
        """As in `SharedFolder`."""
        names = list(self._files.get(folder, {}))
        self._count("names", 1 + len(names) // NAMES_A_REQUEST)
        return names

    def _find(self, name: str) -> tuple[int, str] | None:
        folder, _, base = name.partition("/")
        return self._files.get(folder, {}).get(base)

    def _stamp(self) -> int:
        self._changes += 1
        return self._changes

    def _count(self, operation: str, times: int = 1) -> None:
        self.operations[operation] += 1
        self.seconds[int(self._clock())] += REQUESTS[operation] * times
