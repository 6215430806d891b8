"""OpenVINO runs the graphs that are exported for ONNX Runtime, in bfloat16 too. It is imported on use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import UsageError
from engine.machine.cores import cores
from engine.machine.processor import computes_in_bfloat16
from engine.models.backends.base import Cost, TextEmbedder
from engine.models.backends.onnx.backend import OnnxBackend
from engine.models.backends.onnx.session import Feed, Session
from engine.models.quiet import one_line
from engine.models.spec import TextSpec
from engine.records import Vector

#: OpenVINO's names of the number formats.
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}

#: Kernels, each for one shape, that a stream keeps. OpenVINO's own 5,000 are as fast, and with MiniLM take
#: 570 MB once inputs of all lengths have come, instead of 430.
KEPT_KERNELS = 200

#: Bytes of kernels and buffers of ever new shapes: with MiniLM and two streams 90 MB (measured).
GROWTH = 112 << 20

#: Inputs of different lengths that are embedded when a text model is loaded.
WARM_LENGTHS = 16

#: Attention as products of matrices, each at the processor's peak, and not as one kernel of OpenVINO's code
#: generator ("snippets"): with MiniLM and 256 tokens in bfloat16 it takes 0.75 of the time (measured).
PLAIN_ATTENTION = {"SNIPPETS_MODE": "DISABLE"}


class OpenVinoBackend(OnnxBackend):
    """ONNX graphs by OpenVINO."""

    name = "openvino"
    title = "OpenVINO"
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    packages = ("openvino",)
    install = "pip install 'vector-streaming-engine[openvino]'"
    distributions = ("openvino",)
    # Measured with MiniLM-L6.
    cost = Cost(memory=240 << 20, start_s=2.5, growth=GROWTH, exports=True)

    def auto_dtypes(self, device: str) -> tuple[str, ...]:
        """bfloat16 where the CPU computes in it: elsewhere it is four times slower."""
        return ("bfloat16", "float32") if computes_in_bfloat16() else ("float32",)

    def session(self, dtype: str) -> Callable[[Path], Session]:
        return partial(OpenVinoSession, dtype=dtype)

    def load_text(self, spec: TextSpec, device: str, dtype: str) -> TextEmbedder:
        model = super().load_text(spec, device, dtype)
        # It takes memory for each new length; these inputs show how much before memory is planned.
        longest = spec.max_tokens or WARM_LENGTHS
        lengths = np.linspace(1, longest, min(longest, WARM_LENGTHS), dtype=int)
        model.embed_ids([np.ones(length, dtype=np.int32) for length in lengths])
        return model


class OpenVinoSession(Session):
    """One Python thread and one single-threaded stream for each core."""

    backend = "openvino"

    growth = GROWTH

    # Larger than ONNX Runtime's: bfloat16 takes half of the cache. Kernels are made for each shape.
    batch_tokens, bucket = 512, 16

    def __init__(self, model: Path, dtype: str = "float32") -> None:
        super().__init__()
        import openvino

        self.dtype = dtype
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
            "NUM_STREAMS": cores(),
            "INFERENCE_NUM_THREADS": cores(),
            # Parsers need the cores too, and this process may not use all of them.
            "ENABLE_CPU_PINNING": False,
            "ENABLE_HYPER_THREADING": True,
            "CPU_RUNTIME_CACHE_CAPACITY": KEPT_KERNELS,
        }
        core = openvino.Core()
        try:
            try:
                self._compiled: Any = core.compile_model(str(model), "CPU", settings | PLAIN_ATTENTION)
            except RuntimeError:
                # An undocumented setting; without it results are the same, but slower.
                self._compiled = core.compile_model(str(model), "CPU", settings)
        except RuntimeError as error:
            raise UsageError(f"OpenVINO can't run {model}: {one_line(error)}") from error
        # Loads numpy's side of the library in one thread: two that did so at once waited for each other, the
        # one for Python's lock, the other for that of the loading, for ever.
        openvino.Type.f32.to_dtype()
        self._own = threading.local()

    def _vectors(self, fed: Feed) -> Vector:
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        request = self._own.request
        request.infer(dict(enumerate(fed)), share_inputs=True)
        # A copy, since the next call writes into the same memory.
        return np.array(request.get_output_tensor(0).data, dtype=np.float32)
