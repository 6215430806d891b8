"""One way to add a part: a name, a module that is imported on use, or a Python entry point.

Each kind of part (adapters, sources, parsers, chunkers, backends) has one `Registry`, a table of names in its
package. Packages that are installed beside the engine add names by entry points of the group
`vector_streaming_engine.<kind>`; a name of the engine's own can't be replaced by one of those.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from engine.errors import UsageError

#: Entry-point groups are this and the kind.
GROUP_PREFIX = "vector_streaming_engine."


class Registry:
    """The parts of one kind by name. A part is what `module:attribute` names, imported by `get`.

    `parts` are the engine's own; `install` says for a name how the package that it needs is installed.
    """

    def __init__(self, kind: str, parts: Mapping[str, str], install: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._parts = dict(parts)
        self._install = dict(install or {})

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        found = entry_points(group=GROUP_PREFIX + self.kind)
        return {point.name: point for point in found if point.name not in self._parts}

    def names(self) -> list[str]:
        """Every name, the engine's own first."""
        return [*self._parts, *sorted(self._entry_points)]

    def __contains__(self, name: object) -> bool:
        return name in self._parts or name in self._entry_points

    def get(self, name: str) -> Any:
        """The part of that name, its module imported.

        Raises `UsageError` for an unknown name, and where a package that the part needs is not installed.
        """
        if name not in self:
            raise UsageError(f"{name}: unknown; {self.kind} are {', '.join(self.names())}")
        try:
            if name in self._parts:
                module, _, attribute = self._parts[name].partition(":")
                return getattr(importlib.import_module(module), attribute)
            return self._entry_points[name].load()
        except ModuleNotFoundError as error:
            how = self._install.get(name, "install the package that brings it")
            raise UsageError(f"{name}: {error}; {how}") from None
