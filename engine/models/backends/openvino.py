"""Runs an exported model on the CPU by OpenVINO, as `onnx.session` does by ONNX Runtime."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from engine.errors import UsageError
from engine.machine.cores import cores
from engine.models.backends.onnx.session import Feed, Session
from engine.models.quiet import one_line
from engine.records import Vector

#: OpenVINO's names of the numbers.
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}

#: Kernels, each for one shape, that a stream keeps. OpenVINO's own 5,000 are as fast, and with MiniLM take
#: 570 MB once inputs of all lengths have come, instead of 430.
KEPT_KERNELS = 200

#: Attention as products of matrices, each at the processor's peak, and not as one kernel of OpenVINO's code
#: generator ("snippets"): with MiniLM and 256 tokens in bfloat16 it takes 0.75 of the time (measured).
PLAIN_ATTENTION = {"SNIPPETS_MODE": "DISABLE"}


class OpenVinoSession(Session):
    """A thread of ours and a stream of one thread for each core."""

    # Kernels and buffers of ever new shapes: with MiniLM and two streams 90 MB (measured).
    growth = 112 << 20

    # Larger than ONNX Runtime's: bfloat16 takes half of the cache. Kernels are made for each shape.
    batch_tokens, bucket = 512, 16

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
            self._session: Any = _compiled(model, settings)
        except RuntimeError as error:
            raise UsageError(f"OpenVINO can't run {model}: {one_line(error)}") from error
        # Loads numpy's side of the library in one thread: two that did so at once waited for each other, the
        # one for Python's lock, the other for that of the loading, for ever.
        openvino.Type.f32.to_dtype()
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(cores(), thread_name_prefix="openvino")

    def _vectors(self, fed: Feed) -> Vector:
        if not hasattr(self._own, "request"):
            self._own.request = self._session.create_infer_request()
        request = self._own.request
        request.infer(dict(enumerate(fed)), share_inputs=True)
        # A copy, since the next call writes into the same memory.
        return np.array(request.get_output_tensor(0).data, dtype=np.float32)


def _compiled(model: Path, settings: dict[str, object]) -> Any:
    core = openvino.Core()
    try:
        return core.compile_model(str(model), "CPU", settings | PLAIN_ATTENTION)
    except RuntimeError:
        # A setting that is not among the documented ones; without it the same is computed, more slowly.
        return core.compile_model(str(model), "CPU", settings)
