"""The contract of a backend: one library, or one service, that makes vectors. Imports none of them.

A backend is one `Backend` object, named in the registry (`engine.models.backends.REGISTRY`) or by an entry
point of the group `vector_streaming_engine.backends`. Its module is imported in processes that never run a
model, so it imports its library inside `load_text`, `load_images` and `load_captions` alone. It promises:

- **Declared first.** What it runs, on which devices, in which number formats, and roughly what that costs is
  known without loading anything. What it doesn't declare it is never asked for.
- **Vectors.** (specification, inputs) → float32 [n, dimensions], in the order of the inputs, of length one
  where the specification is `normalized`. Equal inputs give equal vectors in every process, and what else is
  in a batch, its padding or its order changes no cosine below 0.99999 in float32 (0.999 in reduced precision)
  to the reference library's own vectors; int8 is a model of its own, with its own reference.
- **Any input.** Nothing in gives [0, dimensions]. An input that doesn't fit in memory even alone is named by
  `TooLargeError`, which carries the vectors of the others. A text with half of a UTF-16 pair is no error.
- **Failures.** `CannotRunError` (or `ImportError`): not this model here; another backend may. `UsageError`: a
  mistake of the user's, in one line. `DeviceLostError`: only a new process may use the device again.
- **Quiet.** Loading and embedding print nothing; what the user should see is in `notes`.

`tests/models/backends/contract.py` proves it; each backend's tests subclass that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from engine.models.spec import ImageSpec, TextSpec
from engine.records import Pixels, TokenIds, Vector

#: The number formats that a backend may declare, as `--dtype` names them. Only int8 changes what a model is.
DTYPES = ("float32", "bfloat16", "float16", "int8")

#: What a backend may embed; a caption is a text that pictures are searched by.
Work: TypeAlias = Literal["text", "image", "caption"]

Spec: TypeAlias = TextSpec | ImageSpec

#: Called with one line for the user.
Say: TypeAlias = Callable[[str], None]

#: Called after each batch, so that the caller can show that it is alive.
OnBatch: TypeAlias = Callable[[], None]


class CannotRunError(Exception):
    """The backend can't run this model on this machine; the text says why, as the end of "… because"."""


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """A backend and the number format in which it runs a model."""

    backend: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.backend} {self.dtype}"


@dataclass(frozen=True, slots=True)
class Cost:
    """What running a model takes beside its weights; rough, to compare backends before one is loaded.

    `memory` is bytes of the library and its buffers after the largest batch, `growth` bytes that inputs of
    ever new lengths may add, `start_s` processor seconds until the first vector. `exports`: the first load on
    a machine makes another form of the model, which is kept in the user's cache.
    """

    memory: int
    start_s: float
    growth: int = 0
    exports: bool = False


class Loaded(Protocol):
    """A loaded model, whose class inherits from this.

    `choice` is what runs it, in the number format that was chosen, and `device` where. `device_name` tells
    the device from others of its kind, for what is remembered of its speed. `notes` are lines that the user
    should see, beside those of the specification. `window` is how many inputs are best embedded together
    (None: as few as there are).
    """

    choice: BackendChoice
    device: str = "cpu"
    device_name: str = "cpu"
    notes: tuple[str, ...] = ()
    window: int | None = None


@runtime_checkable
class TextEmbedder(Loaded, Protocol):
    """A loaded text model. `effective_mode` says whether ids or texts are to be given to it.

    `padding` counts the tokens that were computed beside those of the inputs, to make them equally long.
    `growth` is the bytes that it may come to take beside what it takes after its largest batch.
    """

    spec: TextSpec
    effective_mode: Literal["ids", "text"] = "ids"
    padding: int = 0
    growth: int = 0

    def embed_ids(self, ids: Sequence[TokenIds], on_batch: OnBatch | None = None) -> Vector:
        """Whole inputs (prompt and special tokens included), int32 [tokens] each, to float32 [n, dimensions].

        Raises `TooLargeError` and `DeviceLostError`, as the others here.
        """

    def embed_texts(self, texts: Sequence[str], on_batch: OnBatch | None = None) -> Vector:
        """Documents without their prompt to float32 [n, dimensions]."""

    def embed_query(self, text: str) -> Vector:
        """A query without its prompt to float32 [dimensions]."""


class ImageEmbedder(Loaded, Protocol):
    """A loaded image model."""

    spec: ImageSpec

    def embed_pixels(self, pixels: Pixels | Sequence[Pixels], on_batch: OnBatch | None = None) -> Vector:
        """Upright RGB pictures of the model's own size, uint8 [height, width, 3] each, to float32
        [n, dimensions]."""


class CaptionEmbedder(Loaded, Protocol):
    """The text tower of a loaded image model."""

    spec: ImageSpec

    def embed_query(self, text: str) -> Vector:
        """A caption to float32 [dimensions]."""


class Backend:
    """What one backend declares and does; subclasses set the attributes and override what they can.

    `title` is its name in sentences. `devices` are kinds of devices, without numbers. `inputs` says whether a
    text model may be given ids, texts, or both. `token_outputs`: it could also give a vector for each token.
    `only_own`: it runs no model but those that it makes the specification of. `packages` are the modules that
    it imports, `install` is what brings them; versions of `distributions` (packages) change its speed.
    """

    name: str
    title: str
    work: frozenset[Work]
    devices: tuple[str, ...] = ("cpu",)
    dtypes: tuple[str, ...] = ("float32",)
    inputs: tuple[Literal["ids", "text"], ...] = ("ids",)
    token_outputs: bool = False
    only_own: bool = False
    packages: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    install: str = "pip install vector-streaming-engine"
    cost: Cost

    def auto_dtypes(self, device: str) -> tuple[str, ...]:
        """The number formats that `--dtype auto` may come to on this device, the usual one first.

        `auto` among them is what only the loaded library can tell.
        """
        return self.dtypes[:1]

    def installed(self) -> bool:
        """Whether its packages are installed."""
        return all(find_spec(package) is not None for package in self.packages)

    def refusal(self, work: Work, spec: Spec, device: str, dtype: str) -> str | None:
        """Why it can't run such a model so, by its declarations; None where it may."""
        if (self.only_own or spec.backend is not None) and spec.backend != self.name:
            return "it runs models of its own alone" if self.only_own else f"{spec.backend} alone runs it"
        if work not in self.work:
            return f"it embeds no {work}s"
        if kind_of(device) not in self.devices:
            return f"it runs on {listed(self.devices)}, not on {device}"
        if dtype not in ("auto", *self.dtypes):
            return f"it computes in {listed(self.dtypes)}, not in {dtype}"
        return None if self.installed() else self.not_installed

    @property
    def not_installed(self) -> str:
        """What is said where its packages are not there."""
        return f"{' and '.join(self.packages)} is not installed; {self.install} brings it"

    def own_text(self, name: str) -> TextSpec | None:
        """The text model of this name where it is one of the backend's own, else None.

        Raises `UsageError` where it looks like one and isn't.
        """
        return None

    def own_image(self, name: str) -> ImageSpec | None:
        """As `own_text`, for image models."""
        return None

    def ready(self, spec: Spec) -> bool:
        """Whether `prepare` has nothing left to make for this model on this machine."""
        return True

    def prepare(self, spec: Spec, memory_limit: int | None = None, say: Say | None = None) -> None:
        """Make what loading the model needs, in at most `memory_limit` bytes; `say` is told what takes long.

        Raises `CannotRunError`, and `UsageError` where it doesn't fit in that memory.
        """
        if isinstance(spec, TextSpec) and spec.mode not in self.inputs:
            raise CannotRunError("its own tokenizer is needed")

    def load_text(self, spec: TextSpec, device: str, dtype: str) -> TextEmbedder:
        """A text model that `prepare` has made ready, or makes ready now."""
        raise NotImplementedError

    def load_image(self, spec: ImageSpec, device: str, dtype: str) -> ImageEmbedder:
        """As `load_text`, for an image model."""
        raise NotImplementedError

    def load_caption(self, spec: ImageSpec, device: str, dtype: str) -> CaptionEmbedder:
        """As `load_text`, for the text tower of an image model. Raises `UsageError` where it has none."""
        raise NotImplementedError


def kind_of(device: str) -> str:
    """The device without its number."""
    return device.partition(":")[0]


def listed(names: tuple[str, ...]) -> str:
    """The names as a sentence lists them."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "nothing"
