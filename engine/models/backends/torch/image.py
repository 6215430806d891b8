"""An open_clip model that takes pixels. Imports torch: for the inference process alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.errors import UsageError
from engine.models.backends.base import BackendChoice, CaptionEmbedder, ImageEmbedder, OnBatch
from engine.models.backends.torch.device import choose_device, choose_dtype, device_name, name_of
from engine.models.backends.torch.memory import Batches, loading, to_device, watched
from engine.models.probes import whole_characters
from engine.models.quiet import one_line, quiet
from engine.models.spec import ImageSpec
from engine.records import Pixels, Vector

#: Pictures of one batch by kind of device; on a CPU for each core.
BATCH_IMAGES = {"cpu": 4, "mps": 64, "cuda": 256}

#: Pictures of one window by kind of device, where not as many as elsewhere: several batches.
WINDOW = {"cuda": 1_024}

#: open_clip's names of the number formats.
PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}

#: Largest difference of a mean or deviation from open_clip's: the rounding of JSON.
TOLERANCE = 1e-6


class ImageModel(ImageEmbedder, CaptionEmbedder):
    """A loaded image model with the text tower that belongs to it."""

    def __init__(self, spec: ImageSpec, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.spec = spec
        self.choice = BackendChoice("torch", name_of(dtype))
        self.device, self.device_name = str(device), device_name(device)
        self.dtype = dtype
        self._place = device
        self._model = model
        self._batches = Batches(device, BATCH_IMAGES[device.type], side_by_side=True)
        self._mean = torch.tensor(spec.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(spec.std, device=device).view(3, 1, 1)
        self._tokenize: Callable[[list[str]], torch.Tensor] | None = None
        self.window = WINDOW.get(device.type)

    def embed_pixels(self, pixels: Pixels | Sequence[Pixels], on_batch: OnBatch | None = None) -> Vector:
        """Embed upright RGB pictures of the model's own size, uint8 [n, height, width, 3].

        Returns float32 [n, dimensions] of length one; `on_batch` is called after each batch. Raises
        `TooLargeError` and `DeviceLostError`.
        """
        return self._batches.embed(
            [1] * len(pixels),
            self.spec.dimensions,
            lambda batch: self._forward(np.stack([pixels[index] for index in batch])),
            lambda: self._forward(np.zeros_like(pixels[0])[None]),
            on_batch,
        )

    @property
    def module(self) -> Any:
        """The open_clip model itself, for the ONNX export."""
        return self._model

    @torch.inference_mode()
    def _forward(self, pixels: Pixels) -> torch.Tensor:
        return self.vectors(to_device(pixels, self._place))

    def vectors(self, rgb: torch.Tensor) -> torch.Tensor:
        """The vectors of pictures that are on the device, uint8 [n, height, width, 3] to float32."""
        # As torchvision's ToTensor and Normalize do it, but on the device.
        scaled = rgb.permute(0, 3, 1, 2).contiguous().to(torch.float32).div_(255)
        normal = scaled.sub_(self._mean).div_(self._std).to(self.dtype)
        return _finished(self._model.encode_image(normal))

    @torch.inference_mode()
    def embed_query(self, text: str) -> Vector:
        """Embed a caption by the text tower, float32 [dimensions] of length one.

        Raises `UsageError` where the tokenizer that belongs to the model isn't on this machine, and
        `DeviceLostError`.
        """
        if self._tokenize is None:
            self._tokenize = _tokenizer(self.spec)
        with quiet(), watched(self._place):
            tokens = self._tokenize([whole_characters(text)]).to(self._place)
            array: Vector = _finished(self._model.encode_text(tokens)).reshape(-1).cpu().numpy()
            return array


def _finished(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors.float(), dim=-1)


def load_image_model(spec: ImageSpec, device: str, dtype: str = "auto") -> ImageModel:
    """Load the model from its folder, without a network.

    `device` is cpu, cuda, cuda:N or mps; `dtype` auto, float32, bfloat16 or float16. Raises
    `UsageError` for a device that isn't there, a model that can't be loaded or doesn't fit in the device's
    memory, and one that open_clip prepares pictures for in another way than the specification says, and
    `DeviceLostError`.
    """
    place = choose_device(device)
    numbers = choose_dtype(dtype, place)
    with quiet(), loading(f"image model {spec.name}", spec.folder, place):
        import open_clip

        model = open_clip.create_model(
            spec.architecture or f"local-dir:{spec.folder}",
            pretrained=str(Path(str(spec.folder)) / str(spec.weights_file)) if spec.architecture else None,
            precision=PRECISIONS[numbers],
            device=place,
            require_pretrained=True,
        ).eval()
        loaded = ImageModel(spec, model, place, numbers)
        _check(loaded)
    return loaded


def _check(loaded: ImageModel) -> None:
    spec = loaded.spec
    expected = _preprocessing(spec, loaded._model)
    for name, mine in (
        ("size", spec.size),
        ("mean", spec.mean),
        ("std", spec.std),
        ("interpolation", spec.interpolation),
        ("resize_mode", spec.resize_mode),
        ("fill_color", spec.fill_color),
    ):
        if not _same(mine, expected[name]):
            raise UsageError(
                f"image model {spec.name}: open_clip prepares pictures with {name} {expected[name]}, but its "
                f"files were read as {mine}; give its folder with an open_clip_config.json that says so"
            )
    dimensions = loaded._forward(np.zeros((1, *spec.size, 3), dtype=np.uint8)).shape[1]
    if dimensions != spec.dimensions:
        raise UsageError(
            f"image model {spec.name} gives {dimensions} dimensions, its files say {spec.dimensions}"
        )


def _preprocessing(spec: ImageSpec, model: Any) -> Mapping[str, Any]:
    import open_clip

    found = dict(open_clip.get_model_preprocess_cfg(model))
    if spec.architecture:
        # The model was made from a file, so open_clip doesn't know that it is that of a tag.
        own = open_clip.get_pretrained_cfg(spec.architecture, spec.name.partition("/")[2]) or {}
        found |= {key: value for key, value in own.items() if key in found and key != "size"}
    if found.get("interpolation") != "bilinear":
        found["interpolation"] = "bicubic"  # as open_clip treats "random" when it doesn't train
    return found


def _same(mine: object, theirs: object) -> bool:
    if isinstance(mine, tuple):
        return bool(np.allclose(mine, np.broadcast_to(np.asarray(theirs), len(mine)), atol=TOLERANCE))
    return mine == theirs


def _tokenizer(spec: ImageSpec) -> Callable[[list[str]], torch.Tensor]:
    with quiet():
        import open_clip

        try:
            tokenize: Callable[[list[str]], torch.Tensor] = open_clip.get_tokenizer(
                spec.architecture or f"local-dir:{spec.folder}"
            )
        except Exception as error:  # whatever a tokenizer's own code raises
            raise UsageError(
                f"the tokenizer of image model {spec.name} can't be loaded, so pictures can't be searched by "
                f"words: {one_line(error)}"
            ) from error
    return tokenize
