"""`python -m engine.models.backends.onnx.export FOLDER` exports the model that standard input specifies.

A process of its own, since torch and the tracer take more than 1 GB; `cache` beside it runs it.
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

#: Tokens of the input that is traced, and of those that must give the same vectors; the largest is added.
TRACED_TOKENS = 23
PROBE_TOKENS = (1, 2, 3, 17, 64, 255)

#: Most that the length of a vector may differ, relative to torch's: a cosine alone doesn't see it.
LENGTH_TOLERANCE = 1e-3

#: Least mean cosine of 8-bit integers to torch's float32 (measured with MiniLM: 0.98).
USABLE_IN_INT8 = 0.9

#: Bytes from which a tensor goes into the file of weights.
WEIGHT_BYTES = 1_024


class _Text(torch.nn.Module):
    """The whole sentence-transformers model as a function of ids, int64 [n, tokens], and of how many of them
    are each input's, int64 [n]; those that follow are of no account."""

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
    """Write graph and weights into the folder; returns how near their vectors are to torch's.

    Raises `UsageError` for a model that can't be loaded or whose vectors would be others.
    """
    loaded = load_text_model(spec, "cpu", "float32")
    if loaded.effective_mode != "ids":
        raise UsageError("its own tokenizer is needed")
    chance = np.random.default_rng(0)
    words = loaded.module.tokenizer.vocab_size
    lengths = [n for n in (*PROBE_TOKENS, spec.max_tokens) if n and n <= (spec.max_tokens or n)]
    ids = [chance.integers(0, words, n).astype(np.int32) for n in lengths]
    # The last is cut at the largest input; a library that would read more than the model can fails itself.
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
    # In whole batches, so that padding is seen to change nothing.
    return compared(vectors(OnnxText(spec, folder, workers=0)), expected, spec.int8)


def export_image(spec: ImageSpec, folder: Path) -> dict[str, object]:
    """As `export_text`, for the tower of an image model that takes pictures."""
    loaded = load_image_model(spec, "cpu", "float32")
    pixels = pictures(spec)
    expected = loaded.embed_pixels(pixels)
    # One picture a call, for which a library plans ahead; batches gained nothing beside parsers that decode.
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
    """Trace the module with one example and write what it does, its weights in a file beside the graph.

    `axes` names its inputs in their order, and of each the axes that may be of any length.
    """
    scratch = folder / "scratch"
    scratch.mkdir()
    # Through files, because a model above 2 GiB is no single message. Quiet, since the tracer warns of each
    # shape that a model's code looks at; what matters shows in the vectors.
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
    """Within it torch's attention modules (those of open_clip) run as operators that ONNX has too."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _save(written: Path, folder: Path) -> None:
    """Move a graph into the folder, its weights apart, and delete the folder where it was written."""
    graph = onnx.load(written)
    for name in (MODEL_FILE, WEIGHTS_FILE):
        # What lies there would be appended to.
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
    # A graph without weights of that size has no such file.
    (folder / WEIGHTS_FILE).touch()


def quantise(folder: Path) -> None:
    """Make the matrices of a graph 8-bit integers, with a scale for each column.

    Of 7 bits, as processors without VNNI need it, on all of them: so the vectors of an index don't depend on
    which of its machines made them.
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
    """The figures that the report holds. Raises `UsageError` where the vectors are not torch's."""
    each = cosines(mine, expected)
    cosine, mean = float(each.min()), float(each.mean())
    if int8:
        if not mean >= USABLE_IN_INT8:
            raise UsageError(f"its int8 form gives other vectors: mean cosine {mean:.3f}")
        return {"probes": len(expected), "least_cosine": cosine, "mean_cosine": mean}
    lengths = np.linalg.norm(expected, axis=1)
    apart = float(np.max(np.abs(np.linalg.norm(mine, axis=1) - lengths) / np.maximum(lengths, 1e-12)))
    # So written that vectors that are not finite fail too.
    if not (cosine >= FAITHFUL and apart <= LENGTH_TOLERANCE):
        raise UsageError(
            f"its ONNX form gives other vectors: least cosine {cosine:.6f}, lengths {apart:.1e} apart"
        )
    return {"probes": len(expected), "least_cosine": cosine, "lengths_apart": apart}


def answer(spec: TextSpec | ImageSpec, folder: Path) -> dict[str, Any]:
    """What is reported of the export: figures, or `why` the model can't be exported.

    Raises what may be another time: that there is no memory, or that a file can't be read or written.
    """
    started = time.monotonic()
    try:
        found = export_text(spec, folder) if isinstance(spec, TextSpec) else export_image(spec, folder)
    except Exception as error:  # whatever a model's own code or the exporter raises
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        if isinstance(cause, OSError) or is_out_of_memory(cause):
            raise
        known = isinstance(error, UsageError)
        return {"why": str(error) if known else f"it can't be exported ({one_line(error)[:200]})"}
    return {**found, "seconds": round(time.monotonic() - started, 1)}


if __name__ == "__main__":
    answer_with(lambda spec: answer(spec, Path(sys.argv[1])))
