"""`python -m engine.models.backends.onnx.export FOLDER` exports the model that standard input specifies.

It is a separate process, because torch and the tracer take more than 1 GB; `cache` starts it.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from engine.errors import UsageError
from engine.models.backends.onnx.cache import MODEL_FILE, WEIGHTS_FILE
from engine.models.backends.onnx.image import OnnxImage
from engine.models.backends.onnx.text import OnnxText
from engine.models.backends.torch.image import ImageModel, load_image_model
from engine.models.backends.torch.memory import is_out_of_memory
from engine.models.backends.torch.text import TextModel
from engine.models.backends.torch.text_load import load_text_model
from engine.models.helper import answer_with
from engine.models.probes import FAITHFUL, PROBES, cosines
from engine.models.quiet import one_line, quiet
from engine.models.spec import ImageSpec, TextSpec
from engine.records import Pixels, Vector

#: The version of ONNX's operators that is written.
OPSET = 17

#: Tokens of the traced input, and of the inputs that are compared with torch; the largest input is added.
TRACED_TOKENS = 23
PROBE_TOKENS = (1, 2, 3, 17, 64, 255)

#: Largest difference of a vector's length from torch's, relative to it; a cosine doesn't show it.
LENGTH_TOLERANCE = 1e-3

#: Lowest accepted mean cosine of int8 vectors to torch's float32 (measured with MiniLM: 0.98).
USABLE_IN_INT8 = 0.9

#: Size in bytes from which a tensor is stored in the weights file.
WEIGHT_BYTES = 1_024


class _Text(torch.nn.Module):
    """The whole sentence-transformers model as a function of ids, int64 [n, tokens], and the number of tokens
    of each input, int64 [n]; ids behind that number are ignored."""

    def __init__(self, loaded: TextModel) -> None:
        super().__init__()
        self.model = loaded.module
        self.with_types = loaded.with_types
        self.pad_id, self.pad_left = loaded.pad_id, loaded.pad_left

    def forward(self, input_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        place = torch.arange(input_ids.shape[1])[None, :]
        if self.pad_left:
            place = place - (input_ids.shape[1] - lengths[:, None])
            input_ids = torch.gather(input_ids, 1, place.clamp(min=0))
            there = place >= 0
        else:
            there = place < lengths[:, None]
        input_ids = torch.where(there, input_ids, self.pad_id)
        features = {"input_ids": input_ids, "attention_mask": there.to(torch.int64)}
        if self.with_types:
            features["token_type_ids"] = torch.zeros_like(input_ids)
        vectors: torch.Tensor = self.model(features)["sentence_embedding"]
        return vectors


class _Image(torch.nn.Module):
    """The image tower as a function of one picture, uint8 [1, height, width, 3]."""

    def __init__(self, loaded: ImageModel) -> None:
        super().__init__()
        self.model = loaded.module
        self.vectors = loaded.vectors

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.vectors(pixels)


def export_text(spec: TextSpec, folder: Path) -> dict[str, object]:
    """Write graph and weights into the folder; returns how close their vectors are to torch's.

    Raises `UsageError` for a model that can't be loaded or whose export gives other vectors.
    """
    loaded = load_text_model(spec, "cpu", "float32")
    if loaded.effective_mode != "ids":
        raise UsageError("its own tokenizer is needed")
    chance = np.random.default_rng(0)
    words = loaded.module.tokenizer.vocab_size
    lengths = [n for n in (*PROBE_TOKENS, spec.max_tokens) if n and n <= (spec.max_tokens or n)]
    ids = [chance.integers(0, words, n).astype(np.int32) for n in lengths]
    # The last text is longer than the largest input, where the library truncates at the model's limit.
    cut = loaded.module.max_seq_length == spec.max_tokens
    texts = [*PROBES, *([" ".join(PROBES) * spec.max_tokens] if cut and spec.max_tokens else [])]

    def vectors(model: TextModel | OnnxText) -> Vector:
        queries = [model.embed_query(text) for text in texts]
        return np.concatenate([model.embed_texts(texts), model.embed_ids(ids), np.stack(queries)])

    expected = vectors(loaded)
    for module in loaded.module.modules():
        if hasattr(module, "set_attn_implementation"):
            module.set_attn_implementation("eager")
            break
    example = torch.full((2, TRACED_TOKENS), int(ids[0][0])), torch.tensor([TRACED_TOKENS, TRACED_TOKENS - 3])
    write(_Text(loaded), example, {"input_ids": {0: "n", 1: "tokens"}, "lengths": {0: "n"}}, folder)
    if spec.int8:
        quantise(folder)
    # In whole batches, to check that padding changes nothing.
    return compared(vectors(OnnxText(spec, folder, workers=0)), expected, spec.int8)


def export_image(spec: ImageSpec, folder: Path) -> dict[str, object]:
    """As `export_text`, for the picture tower of an image model."""
    loaded = load_image_model(spec, "cpu", "float32")
    pixels = pictures(spec)
    expected = loaded.embed_pixels(pixels)
    # One picture a call: a fixed shape is planned once, and batches were no faster while parsers decode.
    write(_Image(loaded), (torch.from_numpy(pixels[:1]),), {"pixels": {}}, folder)
    return compared(OnnxImage(spec, folder).embed_pixels(pixels), expected)


def pictures(spec: ImageSpec) -> Pixels:
    """Noise, ramps, and flat colours of the model's size, uint8 [n, height, width, 3]."""
    height, width = spec.size
    chance = np.random.default_rng(0)
    noise = chance.integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 255, width, dtype=np.uint8)[None, :, None], (height, width, 3))
    flat = [np.full((height, width, 3), shade, dtype=np.uint8) for shade in (0, 127, 255)]
    return np.stack([*noise, ramp, np.flip(ramp, 1), *flat])


def write(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    axes: dict[str, dict[int, str]],
    folder: Path,
) -> None:
    """Trace the module with one example and write its graph, with the weights in a separate file.

    `axes` names its inputs in order, and for each the axes of variable length.
    """
    scratch = folder / "scratch"
    scratch.mkdir()
    # Through files, because a protobuf message can't exceed 2 GiB. Quiet, because the tracer warns of each
    # shape that the model's code reads; errors that matter show in the compared vectors.
    with quiet(), torch.inference_mode(), _without_fused_attention():
        torch.onnx.export(
            module.eval(),
            example,
            str(scratch / MODEL_FILE),
            opset_version=OPSET,
            input_names=list(axes),
            output_names=["vectors"],
            dynamic_axes={**axes, "vectors": {0: "n"}} if any(axes.values()) else None,
            dynamo=False,
        )
    _save(scratch / MODEL_FILE, folder)


@contextmanager
def _without_fused_attention() -> Iterator[None]:
    """Makes torch's attention modules (open_clip uses them) run as operators that ONNX has."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _save(written: Path, folder: Path) -> None:
    """Move a graph into the folder, with its weights in a separate file, and delete the scratch folder."""
    graph = onnx.load(written)
    for name in (MODEL_FILE, WEIGHTS_FILE):
        # onnx would append to an existing file.
        (folder / name).unlink(missing_ok=True)
    onnx.save_model(
        graph,
        folder / MODEL_FILE,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=WEIGHTS_FILE,
        size_threshold=WEIGHT_BYTES,
    )
    shutil.rmtree(written.parent)
    # Not written for a graph without tensors of that size.
    (folder / WEIGHTS_FILE).touch()


def quantise(folder: Path) -> None:
    """Quantise the matrices of a graph to 8-bit integers, with a scale for each column.

    7 of the 8 bits are used, as processors without VNNI need it, on every machine: so vectors don't depend on
    the machine that made them.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    scratch = folder / "int8"
    scratch.mkdir()
    with quiet():
        quantize_dynamic(
            folder / MODEL_FILE,
            scratch / MODEL_FILE,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
    _save(scratch / MODEL_FILE, folder)


def compared(mine: Vector, expected: Vector, int8: bool = False) -> dict[str, object]:
    """The figures for the report. Raises `UsageError` where the vectors differ from torch's."""
    each = cosines(mine, expected)
    cosine, mean = float(each.min()), float(each.mean())
    if int8:
        if not mean >= USABLE_IN_INT8:
            raise UsageError(f"its int8 export gives other vectors: mean cosine {mean:.3f}")
        return {"probes": len(expected), "least_cosine": cosine, "mean_cosine": mean}
    lengths = np.linalg.norm(expected, axis=1)
    apart = float(np.max(np.abs(np.linalg.norm(mine, axis=1) - lengths) / np.maximum(lengths, 1e-12)))
    # Written so that NaN fails too.
    if not (cosine >= FAITHFUL and apart <= LENGTH_TOLERANCE):
        raise UsageError(
            f"its ONNX export gives other vectors: lowest cosine {cosine:.6f}, lengths differ by {apart:.1e}"
        )
    return {"probes": len(expected), "least_cosine": cosine, "lengths_apart": apart}


def answer(spec: TextSpec | ImageSpec, folder: Path) -> dict[str, Any]:
    """The report of the export: figures, or `why` the model can't be exported.

    Raises errors that may be temporary: no memory, or a file that can't be read or written.
    """
    started = time.monotonic()
    try:
        found = export_text(spec, folder) if isinstance(spec, TextSpec) else export_image(spec, folder)
    except Exception as error:  # whatever a model's own code or the exporter raises
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        if isinstance(cause, OSError) or is_out_of_memory(cause):
            raise
        known = isinstance(error, UsageError)
        return {"why": str(error) if known else f"its export failed ({one_line(error)[:200]})"}
    return {**found, "seconds": round(time.monotonic() - started, 1)}


if __name__ == "__main__":
    answer_with(lambda spec: answer(spec, Path(sys.argv[1])))
