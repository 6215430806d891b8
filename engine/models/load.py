"""Loads what a specification describes, by the library that is to run it, and imports no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from engine.errors import UsageError
from engine.models.backend import NUMBERS, BackendChoice, check_backend, ways
from engine.models.backends.onnx.cache import NotExportedError, exported
from engine.models.devices import devices
from engine.models.measure.calibration import choose
from engine.models.spec import ImageSpec, TextSpec
from engine.models.stand_in import StandInImage, StandInText
from engine.records import Pixels, TokenIds, Vector

#: What the libraries are called.
LIBRARIES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}

#: Inputs of different lengths that OpenVINO embeds when it has loaded a text model.
WARM_LENGTHS = 16


@runtime_checkable
class TextEmbedder(Protocol):
    """A loaded text model. `effective_mode` says whether ids or texts are to be given to it.

    `notes` are lines that the user should see, beside those of the specification. `padding` counts the tokens
    that were computed beside those of the inputs, to make them equally long. `growth` is the bytes that it
    may come to take beside what it takes after its largest batch. `on_batch` is called after each batch, so
    that the caller can show that it is alive.
    """

    spec: TextSpec
    effective_mode: Literal["ids", "text"]
    notes: tuple[str, ...]
    padding: int
    growth: int

    def embed_ids(self, ids: Sequence[TokenIds], on_batch: Callable[[], None] | None = None) -> Vector:
        """Whole inputs, int32 [tokens] each, to float32 [n, dimensions]."""

    def embed_texts(self, texts: Sequence[str], on_batch: Callable[[], None] | None = None) -> Vector:
        """Documents without their prompt to float32 [n, dimensions]."""

    def embed_query(self, text: str) -> Vector:
        """A query without its prompt to float32 [dimensions]."""


class ImageEmbedder(Protocol):
    """A loaded image model."""

    spec: ImageSpec
    notes: tuple[str, ...]

    def embed_pixels(
        self, pixels: Pixels | Sequence[Pixels], on_batch: Callable[[], None] | None = None
    ) -> Vector:
        """Pictures of the model's own size, uint8 [height, width, 3] each, to float32 [n, dimensions]."""

    def embed_query(self, text: str) -> Vector:
        """A caption to float32 [dimensions]."""


def load_text(
    spec: TextSpec,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "auto",
    room: int | None = None,
    say: Callable[[str], None] | None = None,
    measure: bool = True,
) -> TextEmbedder:
    """The model of the specification, or a stand-in.

    `auto` takes torch on a GPU, and on a CPU what `measure.calibration` finds fastest there; without
    `measure`, as for one query, what is leanest. Where a model can't be exported torch runs it, and a note
    tells why. `room` is the bytes of memory that loading may take, and `say` is told what takes long, and
    what was chosen. Raises `UsageError` for what can't be had, and `DeviceLostError`.
    """
    check_backend(backend, device, dtype)
    if spec.folder is None:
        return StandInText(spec)
    if spec.int8:
        return _in_int8(spec, device, backend, room, say)
    device = devices(device, backend)[0]
    if backend == "torch" or not (backend in NUMBERS or device == "cpu"):
        return _by_torch(spec, device, dtype)
    way, notes = _way(spec, dtype, backend, room, say, measure)
    return open_text(spec, way, notes)


def load_image(
    spec: ImageSpec,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "auto",
    room: int | None = None,
    say: Callable[[str], None] | None = None,
    measure: bool = True,
) -> ImageEmbedder:
    """The model of the specification, as `load_text` does it; in float32 where that is in int8."""
    check_backend(backend, device, dtype)
    if spec.folder is None:
        return StandInImage(spec)
    dtype = "float32" if dtype == "int8" else dtype
    device = devices(device, backend)[0]
    if backend == "torch" or not (backend in NUMBERS or device == "cpu"):
        from engine.models.backends.torch.image import load_image_model

        return load_image_model(spec, device, dtype)
    way, notes = _way(spec, dtype, backend, room, say, measure)
    return open_image(spec, way, notes)


def open_text(spec: TextSpec, way: BackendChoice, notes: tuple[str, ...] = ()) -> TextEmbedder:
    """The model as it is run on the CPU in this way, exported where that is needed.

    Raises `NotExportedError`, and as `load_text`.
    """
    if way.backend == "torch":
        return _by_torch(spec, "cpu", way.dtype, notes)
    from engine.models.backends.onnx.text import OnnxText, text_graph

    model = OnnxText(spec, text_graph(spec), _session(way))
    if way.backend == "openvino":
        # It takes memory for each length that it meets, which shall be seen before a plan is made.
        longest = spec.max_tokens or WARM_LENGTHS
        lengths = np.linspace(1, longest, min(longest, WARM_LENGTHS), dtype=int)
        model.embed_ids([np.ones(length, dtype=np.int32) for length in lengths])
    model.notes += notes
    return model


def open_image(spec: ImageSpec, way: BackendChoice, notes: tuple[str, ...] = ()) -> ImageEmbedder:
    """As `open_text`, for an image model."""
    model: Any
    if way.backend == "torch":
        from engine.models.backends.torch.image import load_image_model

        model = load_image_model(spec, "cpu", way.dtype)
    else:
        from engine.models.backends.onnx.image import OnnxImage

        model = OnnxImage(spec, exported(spec), _session(way))
    model.notes += notes
    loaded: ImageEmbedder = model
    return loaded


def _by_torch(spec: TextSpec, device: str, dtype: str, notes: tuple[str, ...] = ()) -> TextEmbedder:
    from engine.models.backends.torch.text_load import load_text_model

    model = load_text_model(spec, device, dtype)
    model.notes += notes
    return model


def _way(
    spec: TextSpec | ImageSpec,
    dtype: str,
    backend: str,
    room: int | None,
    say: Callable[[str], None] | None,
    measure: bool,
) -> tuple[BackendChoice, tuple[str, ...]]:
    """How to run the model on the CPU, and a note where that isn't what was asked for."""
    possible = ways(backend, dtype)
    notes: tuple[str, ...] = ()
    if possible[0].backend != "torch":
        try:
            _export(spec, room, say)
        except (NotExportedError, ImportError) as error:
            kind = "text" if isinstance(spec, TextSpec) else "image"
            library = LIBRARIES[possible[0].backend]
            notes = (f"{kind} model {spec.name} is run by torch, not {library}: {error}",)
            possible = ways("torch", possible[0].dtype) + [way for way in possible if way.backend == "torch"]
            possible = list(dict.fromkeys(possible))
    if backend != "auto" or not measure:
        return possible[0], notes
    return choose(spec, possible, room, say), notes


def _export(spec: TextSpec | ImageSpec, room: int | None, say: Callable[[str], None] | None) -> None:
    if isinstance(spec, ImageSpec):
        exported(spec, room, say)
        return
    from engine.models.backends.onnx.text import text_graph

    text_graph(spec, room, say)


def _session(way: BackendChoice) -> Callable[[Path], Any]:
    if way.backend == "openvino":
        from engine.models.backends.openvino import OpenVinoSession

        return partial(OpenVinoSession, dtype=way.dtype)
    from engine.models.backends.onnx.session import Session

    return Session


def _in_int8(
    spec: TextSpec, device: str, backend: str, room: int | None, say: Callable[[str], None] | None
) -> TextEmbedder:
    """Nothing else may run such a model: its vectors would be others."""
    if backend not in ("auto", "onnx") or device not in ("auto", "cpu"):
        raise UsageError(
            f"text model {spec.name} is one of 8-bit integers, which --backend onnx alone runs, on a CPU"
        )
    try:
        from engine.models.backends.onnx.text import load_onnx_text

        return load_onnx_text(spec, room, say)
    except (NotExportedError, ImportError) as error:
        raise UsageError(f"text model {spec.name} can't be had: {error}") from error
