"""One way to add a part: a name, a module that is imported on use, or a Python entry point.

Each kind of part (adapters, sources, parsers, chunkers, backends) has one `Registry`, a table of names in its
package. Packages that are installed beside the engine add names by entry points of the group
`vector_streaming_engine.<kind>`; a name of the engine's own can't be replaced by one of those.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from engine.errors import UsageError

#: Entry-point groups are this and the kind.
GROUP_PREFIX = "vector_streaming_engine."


class Registry:
    """The parts of one kind by name. A part is what `module:attribute` names, imported by `get`.

    `parts` are the engine's own; `install` says for a name how the package that it needs is installed; each
    part is an instance of `base`, or a subclass without abstract methods.
    """

    def __init__(
        self,
        kind: str,
        parts: Mapping[str, str],
        install: Mapping[str, str] | None = None,
        base: type = object,
    ) -> None:
        self.kind = kind
        self._parts = dict(parts)
        self._install = dict(install or {})
        self._base = base

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

        Raises `UsageError` for an unknown name, and for a part that can't be loaded: a package that it needs
        is not installed, its module fails, or the name stands for something else.
        """
        if name not in self:
            raise UsageError(f"{name}: unknown; {self.kind} are {', '.join(self.names())}")
        try:
            part = self._load(name)
        except ModuleNotFoundError as error:
            how = self._install.get(name, "install the package that brings it")
            raise UsageError(f"{name}: {error}; {how}") from None
        except Exception as error:  # a module may raise anything while it is imported
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise UsageError(f"{self._place(name)} can't be loaded: {what}") from error
        fits = issubclass(part, self._base) if isinstance(part, type) else isinstance(part, self._base)
        if not fits or inspect.isabstract(part):
            wanted = f"{self._base.__module__}.{self._base.__qualname__}"
            raise UsageError(f"{self._place(name)} is not a complete {wanted}")
        return part

    def _load(self, name: str) -> Any:
        if name not in self._parts:
            return self._entry_points[name].load()
        module, _, attribute = self._parts[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def _place(self, name: str) -> str:
        """Which object the name stands for, and of which package, for messages."""
        if name in self._parts:
            return f"{name} ({self._parts[name]})"
        point = self._entry_points[name]
        package = f" of the package {point.dist.name}" if point.dist is not None else ""
        return f"{name} (entry point {point.value!r} in {GROUP_PREFIX}{self.kind}{package})"
