"""Models that cost next to nothing: a deterministic unit vector from the digest of the input.

They stand in for real ones in tests and benchmarks of everything else, and need numpy alone.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Sequence

import numpy as np

from engine.errors import UsageError
from engine.models.backends.base import (
    DTYPES,
    Backend,
    BackendChoice,
    CaptionEmbedder,
    Cost,
    ImageEmbedder,
    OnBatch,
    TextEmbedder,
)
from engine.models.batching import batches
from engine.models.files.image_folder import OPENAI_MEAN, OPENAI_STD
from engine.models.spec import ImageSpec, TextSpec
from engine.models.stand_in import stand_in_tokens
from engine.records import Pixels, TokenIds, Vector

#: What a stand-in is named with: its dimensions, and how many tokens or pictures a second it embeds.
NAME = re.compile(r"stand-in:(\d+)(?:@(\d+(?:\.\d+)?))?")

#: What runs a stand-in.
CHOICE = BackendChoice("stand-in", "float32")

#: The largest input of a stand-in text model in tokens, that of the default model.
MAX_TOKENS = 256

#: Height and width in pixels of a stand-in image model's pictures, those of the default model.
SIZE = (224, 224)

#: The most dimensions of a stand-in.
MAX_DIMENSIONS = 65_536

#: Tokens of one batch: what is embedded between two calls of `on_batch`.
BATCH_TOKENS = 65_536

#: Pictures of one batch.
BATCH_IMAGES = 64


class StandInBackend(Backend):
    """Models named `stand-in:DIM` or `stand-in:DIM@RATE`, on any device and in any number format alike."""

    name = "stand-in"
    title = "a stand-in"
    work = frozenset(("text", "image", "caption"))
    devices = ("cpu", "cuda", "mps")
    dtypes = DTYPES
    inputs = ("ids", "text")
    only_own = True
    cost = Cost(memory=0, start_s=0)

    def own_text(self, name: str) -> TextSpec | None:
        if not name.startswith("stand-in:"):
            return None
        dimensions, rate = _parsed(name, "TOKENS_PER_S")
        return TextSpec(
            name=f"stand-in:{dimensions}",
            folder=None,
            digest=_digest("text", dimensions),
            dimensions=dimensions,
            normalized=True,
            max_tokens=MAX_TOKENS,
            mode="ids",
            tokenizer_file=None,
            stand_in_rate=rate,
            backend=self.name,
        )

    def own_image(self, name: str) -> ImageSpec | None:
        if not name.startswith("stand-in:"):
            return None
        dimensions, rate = _parsed(name, "IMAGES_PER_S")
        return ImageSpec(
            name=f"stand-in:{dimensions}",
            folder=None,
            digest=_digest("image", dimensions),
            dimensions=dimensions,
            normalized=True,
            size=SIZE,
            mean=OPENAI_MEAN,
            std=OPENAI_STD,
            resize_mode="shortest",
            interpolation="bicubic",
            stand_in_rate=rate,
            backend=self.name,
        )

    def load_text(self, spec: TextSpec, device: str, dtype: str) -> StandInText:
        return StandInText(spec)

    def load_image(self, spec: ImageSpec, device: str, dtype: str) -> StandInImage:
        return StandInImage(spec)

    def load_caption(self, spec: ImageSpec, device: str, dtype: str) -> CaptionEmbedder:
        return StandInImage(spec)


def _parsed(name: str, rate_word: str) -> tuple[int, float | None]:
    match = NAME.fullmatch(name)
    dimensions = int(match[1]) if match else 0
    rate = float(match[2]) if match and match[2] else None
    if not 1 <= dimensions <= MAX_DIMENSIONS or rate == 0:
        raise UsageError(
            f"{name!r}: give stand-in:DIM or stand-in:DIM@{rate_word}, with 1 <= DIM <= {MAX_DIMENSIONS} and"
            " a rate above 0"
        )
    return dimensions, rate


def _digest(kind: str, dimensions: int) -> str:
    # The rate is left out: it doesn't change a vector.
    return hashlib.sha256(f"stand-in {kind} 1 {dimensions}".encode()).hexdigest()


def device_of(spec: TextSpec | ImageSpec) -> str:
    """What a stand-in is said to run on: a device of its own where it has a rate."""
    return "cpu" if spec.stand_in_rate is None else "stand-in"


def unit_vectors(inputs: Iterable[bytes], dimensions: int) -> Vector:
    """One unit vector for each input, float32 [n, dimensions]; equal inputs give equal vectors.

    The components are the 16-bit output of SHAKE-128 over the input's BLAKE2b digest, moved by half a step so
    that no vector is zero.
    """
    stream = b"".join(
        hashlib.shake_128(hashlib.blake2b(data).digest()).digest(2 * dimensions) for data in inputs
    )
    vectors = np.frombuffer(stream, dtype="<i2").reshape(-1, dimensions).astype(np.float32)
    vectors += 0.5
    vectors /= np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    return vectors


class Pace:
    """Sleeps so that no more than `rate` units a second pass in the long run; None never sleeps."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._free_at = 0.0

    def spend(self, units: float) -> None:
        """Account for `units` of work and sleep until they would be done; idle time is not saved up."""
        if self.rate is None:
            return
        self._free_at = max(self._free_at, time.monotonic()) + units / self.rate
        time.sleep(max(0.0, self._free_at - time.monotonic()))

    def at_most(self, units: int) -> int:
        """The batch size, `units` or less, that keeps one sleep to about a second."""
        return units if self.rate is None else max(1, min(units, int(self.rate)))


class StandInText(TextEmbedder):
    """A text model whose vector is made of the digest of its ids."""

    choice = CHOICE

    def __init__(self, spec: TextSpec) -> None:
        self.spec = spec
        self.device = self.device_name = device_of(spec)
        self._pace = Pace(spec.stand_in_rate)

    def embed_ids(self, ids: Sequence[TokenIds], on_batch: OnBatch | None = None) -> Vector:
        """Embed whole inputs, int32 [tokens] each; float32 [n, dimensions]."""
        vectors = np.empty((len(ids), self.spec.dimensions), dtype=np.float32)
        for batch in batches([len(each) for each in ids], self._pace.at_most(BATCH_TOKENS)):
            inputs = (ids[index].astype("<i4", copy=False).tobytes() for index in batch)
            vectors[batch] = unit_vectors(inputs, self.spec.dimensions)
            self._pace.spend(sum(len(ids[index]) for index in batch))
            if on_batch:
                on_batch()
        return vectors

    def embed_texts(self, texts: Sequence[str], on_batch: OnBatch | None = None) -> Vector:
        """Embed texts, float32 [n, dimensions]."""
        return self.embed_ids([stand_in_tokens(text) for text in texts], on_batch)

    def embed_query(self, text: str) -> Vector:
        """Embed a query, float32 [dimensions]: the same vector as that of a chunk with this text."""
        return self.embed_texts([text]).reshape(-1)


class StandInImage(ImageEmbedder, CaptionEmbedder):
    """An image model whose vector is made of the digest of the pixels."""

    choice = CHOICE

    def __init__(self, spec: ImageSpec) -> None:
        self.spec = spec
        self.device = self.device_name = device_of(spec)
        self._pace = Pace(spec.stand_in_rate)

    def embed_pixels(self, pixels: Pixels | Sequence[Pixels], on_batch: OnBatch | None = None) -> Vector:
        """Embed pictures, uint8 [n, height, width, 3]; float32 [n, dimensions]."""
        vectors = np.empty((len(pixels), self.spec.dimensions), dtype=np.float32)
        step = self._pace.at_most(BATCH_IMAGES)
        for start in range(0, len(pixels), step):
            batch = pixels[start : start + step]
            vectors[start : start + step] = unit_vectors(
                (picture.tobytes() for picture in batch), self.spec.dimensions
            )
            self._pace.spend(len(batch))
            if on_batch:
                on_batch()
        return vectors

    def embed_query(self, text: str) -> Vector:
        """Embed a query, float32 [dimensions]; a stand-in knows no picture that would be near it."""
        return unit_vectors([text.encode("utf-8", "surrogatepass")], self.spec.dimensions).reshape(-1)
