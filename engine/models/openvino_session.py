"""Runs an exported model on the CPU by OpenVINO, as `engine.models.onnx_session` does by ONNX Runtime."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from engine.cores import cores
from engine.errors import UsageError
from engine.models.onnx_session import Session
from engine.models.quiet import one_line
from engine.records import Vector

#: OpenVINO's names of the numbers.
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}

#: Kernels, each for one shape, that a stream keeps. OpenVINO's own 5,000 are as fast, and with MiniLM take
#: 570 MB once inputs of all lengths have come, instead of 430.
KEPT_KERNELS = 200


class OpenVinoSession(Session):
    """One input a call, without padding; a thread of ours and a stream of one thread for each core."""

    # Its kernels: of MiniLM's 256 lengths and two streams 130 MB (measured).
    growth = 160 << 20

    def __init__(self, model: Path, dtype: str = "float32") -> None:
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
            "NUM_STREAMS": cores(),
            "INFERENCE_NUM_THREADS": cores(),
            # Parsers want the cores too, and this process may not have all of them.
            "ENABLE_CPU_PINNING": False,
            "ENABLE_HYPER_THREADING": True,
            "CPU_RUNTIME_CACHE_CAPACITY": KEPT_KERNELS,
        }
        try:
            self._session: Any = openvino.Core().compile_model(str(model), "CPU", settings)
        except RuntimeError as error:
            raise UsageError(f"OpenVINO can't run {model}: {one_line(error)}") from error
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(cores(), thread_name_prefix="openvino")

    def _vector(self, one: npt.NDArray[Any]) -> Vector:
        if not hasattr(self._own, "request"):
            self._own.request = self._session.create_infer_request()
        request = self._own.request
        request.infer({0: one[None]}, share_inputs=True)
        # A copy, since the next call writes into the same memory.
        return np.array(request.get_output_tensor(0).data[0], dtype=np.float32)
