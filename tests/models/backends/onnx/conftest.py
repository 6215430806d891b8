"""What several tests of the onnx backend need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.models.backends.onnx import cache as onnx_cache
from engine.models.backends.onnx import export as onnx_export
from engine.models.spec import ImageSpec, TextSpec


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Exports run in the test's own process, where torch is at hand; gives the names of what was exported."""
    names: list[str] = []

    def export(spec: TextSpec | ImageSpec, folder: Path) -> dict[str, Any]:
        names.append(spec.name)
        return onnx_export.answer(spec, folder)

    monkeypatch.setattr(onnx_cache, "_export", export)
    return names
