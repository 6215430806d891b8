"""Keeps LanceDB from loading the client of remote catalogues until somebody uses a class of it.

`import lancedb` loads `lance_namespace_urllib3_client`: some 200 modules of pydantic models, 0.77 of the 1.29
CPU seconds of the whole import, and 20 MB. A table in a folder needs none of them: annotations alone use
them. Here each is a placeholder class. A call or an attribute loads the client and is passed on to the real
class, so a program that uses a catalogue works.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: The package whose import is deferred.
CLIENT = "lance_namespace_urllib3_client"


class _Placeholder(type):
    """The class of the placeholders: any use outside of an annotation loads the real class."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return _real(cls)(*args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):  # typing and inspect look for these
            raise AttributeError(name)
        return getattr(_real(cls), name)

    def __instancecheck__(cls, instance: object) -> bool:
        # An instance can only be of a class that was loaded.
        return not deferred() and isinstance(instance, _real(cls))


class _Module(ModuleType):
    """A module of the client, whose every name is a placeholder."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Placeholder(name, (), {"__module__": self.__name__})


class _Finder:
    """Finds placeholders for the client's modules."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """What the import system asks of a finder."""
        ours = name == CLIENT or name.startswith(CLIENT + ".")
        return ModuleSpec(name, _Finder, is_package=True) if ours else None  # type: ignore[arg-type] # a class

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        """What the import system asks of a loader."""
        return _Module(spec.name)

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Nothing is run."""


def defer() -> None:
    """Defer the client, where it is not loaded yet. Call it before the first import of LanceDB."""
    if CLIENT not in sys.modules:
        sys.meta_path.insert(0, _Finder)


def deferred() -> bool:
    """Whether the client is deferred and not loaded since."""
    return _Finder in sys.meta_path


def _real(placeholder: type) -> Any:
    """The class that a placeholder stands for, the client loaded."""
    if deferred():
        sys.meta_path.remove(_Finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _Module)]:
            del sys.modules[name]
    return getattr(importlib.import_module(placeholder.__module__), placeholder.__name__)
