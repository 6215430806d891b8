"""ONNX Runtime keeps the contract of a backend."""

from __future__ import annotations

from tests.models.backends.contract import BackendContract


class TestOnnx(BackendContract):
    name = "onnx"
