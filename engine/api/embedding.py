"""What the Python interface takes and gives: models, settings, summaries."""

from __future__ import annotations

import os
import re
import sys
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from engine.api.arguments import arguments_named, in_python, naming_arguments
from engine.config import DEFAULT_CHUNKER
from engine.errors import UsageError
from engine.models.choices import check_backend
from engine.models.load import (
    CaptionEmbedder,
    ImageEmbedder,
    TextEmbedder,
    load_caption,
    load_image,
    load_text,
)
from engine.models.resolve import DEFAULT_TEXT_MODEL, resolve_image, resolve_text
from engine.models.spec import ImageSpec, TextSpec
from engine.records import RECORD_FIELDS, ChunkerChoice, OptionValue
from engine.stages.infer import WINDOW_CHUNKS


class EmbedWarning(UserWarning):
    """A file or page that could not be embedded, or a line that a model wants to be seen."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A file, a page of it, or a record that could not be embedded; the names are those of failures.jsonl."""

    source: str
    page: int | None
    stage: str
    error_type: str
    message: str

    def __str__(self) -> str:
        page = "" if self.page is None else f" (page {self.page})"
        return f"{self.source}{page}: {self.error_type}: {self.message}"


@dataclass(slots=True)
class EmbedSummary:
    """What one call did. `files` gave at least one record; `skipped` counts files by the rule that did it.

    `text` and `image` count the chunks that were embedded, `records` those of them that the database has
    acknowledged. `unchanged` files are known only to the engine's processes (`workers=`).
    """

    files: int = 0
    unchanged: int = 0
    records: int = 0
    text: int = 0
    image: int = 0
    tokens: int = 0
    seconds: float = 0.0
    skipped: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TextEmbedConfig:
    """How files are cut and embedded.

    `chunk_size` is the most tokens of a chunk, special tokens included (None: the model's largest input);
    `overlap` is how many a chunk shares with the one before. `chunker` names how texts are cut, and
    `chunker_options` are its options besides those two. `buffer_size` chunks are embedded together in
    this process. `images` False leaves pictures out of `embed_directory`; `exact_images` decodes JPEGs in
    full, as open_clip does. `fields` are constant fields that each record gets.
    """

    chunk_size: int | None = None
    overlap: int = 0
    chunker: str = DEFAULT_CHUNKER
    chunker_options: Mapping[str, OptionValue] = field(default_factory=dict)
    buffer_size: int = WINDOW_CHUNKS
    images: bool = True
    exact_images: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("buffer_size", 1), ("chunk_size", 1), ("overlap", 0)):
            number = getattr(self, name)
            optional = name == "chunk_size" and number is None
            if not optional and (not isinstance(number, int) or number < least):
                raise UsageError(f"{name}={number!r}: give a whole number of at least {least}")
        for name in self.fields:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name) or name in RECORD_FIELDS:
                raise UsageError(
                    f"fields: {name!r} can't name a constant field: use letters, digits and _, and none of "
                    "the record's own names"
                )

    @property
    def chunker_choice(self) -> ChunkerChoice:
        """The chunker that cuts, with every option that was given for it."""
        options = tuple((name, str(value)) for name, value in self.chunker_options.items())
        return ChunkerChoice(self.chunker, self.chunk_size, self.overlap, options)


class EmbeddingModel:
    """A text model and an image model, each loaded when something is first embedded by it, and then kept.

    Any number of threads may share one; `lock` is held by the one that loads or embeds.
    """

    @naming_arguments
    def __init__(
        self,
        text_model: str = DEFAULT_TEXT_MODEL,
        image_model: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        trust_remote_code: bool = False,
        backend: str = "auto",
    ) -> None:
        self.text_model = _name("text_model", text_model)
        self.image_model = None if image_model is None else _name("image_model", image_model)
        check_backend(backend, device, dtype)
        self.device, self.dtype, self.trust_remote_code = device, dtype, trust_remote_code
        self.backend = backend
        #: The text model's specification.
        self.text: TextSpec = resolve_text(
            self.text_model, trust_remote_code=trust_remote_code, int8=dtype == "int8"
        )
        # The default image model may be asked for at the hub, so not before there is a picture.
        self._image = resolve_image(self.image_model) if image_model is not None else None
        self.lock = threading.RLock()
        self._text_embedder: TextEmbedder | None = None
        self._image_embedder: ImageEmbedder | None = None
        self._caption_embedder: CaptionEmbedder | None = None
        _warn(self.text.notes)

    @classmethod
    def from_pretrained(
        cls,
        text_model: str = DEFAULT_TEXT_MODEL,
        image_model: str | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        trust_remote_code: bool = False,
        backend: str = "auto",
    ) -> EmbeddingModel:
        """Models by the names that `engine.run` takes; no weights are loaded yet.

        `image_model` None is the default one, looked for when the first picture is met. Raises
        `ModelNotFoundError` where a named model is nowhere and `UsageError` where it can't be used.
        """
        return cls(text_model, image_model, device, dtype, trust_remote_code, backend)

    @classmethod
    def from_pretrained_hf(
        cls, model_id: str, revision: str | None = None, token: str | None = None, dtype: str | None = None
    ) -> EmbeddingModel:
        """A text model from the hub, with EmbedAnything's arguments.

        Another `revision` than main is given as the folder that holds it, and a `token` in the environment;
        both raise `UsageError` here.
        """
        if revision not in (None, "main"):
            raise UsageError(f"revision {revision!r}: download it, and give its folder as model_id")
        if token is not None:
            raise UsageError("token: set HF_TOKEN in the environment instead")
        return cls(model_id, dtype=dtype or "auto")

    @property
    def image(self) -> ImageSpec:
        """The image model's specification. Raises `ModelNotFoundError` where there is none to be had."""
        with self.lock, arguments_named():
            if self._image is None:
                self._image = resolve_image(self.image_model)
                _warn(self._image.notes)
            return self._image

    @naming_arguments
    def load_text(self) -> TextEmbedder:
        """The text model, loaded by now."""
        with self.lock:
            if self._text_embedder is None:
                self._text_embedder = load_text(self.text, self.device, self.dtype, self.backend)
                _warn(self._text_embedder.notes)
            return self._text_embedder

    @naming_arguments
    def load_image(self) -> ImageEmbedder:
        """The image model, loaded by now."""
        with self.lock:
            if self._image_embedder is None:
                self._image_embedder = load_image(self.image, self.device, self.dtype, self.backend)
                _warn(self._image_embedder.notes)
            return self._image_embedder

    @naming_arguments
    def load_caption(self) -> CaptionEmbedder:
        """The image model's text tower, loaded by now."""
        with self.lock:
            if self._caption_embedder is None:
                self._caption_embedder = load_caption(self.image, self.device, self.dtype)
            return self._caption_embedder

    def __repr__(self) -> str:
        image = self._image.name if self._image else self.image_model
        return f"EmbeddingModel(text_model={self.text.name!r}, image_model={image!r}, device={self.device!r})"


def _name(argument: str, name: object) -> str:
    """A model's name, or its folder as a path. Raises `UsageError`."""
    if not isinstance(name, (str, os.PathLike)):
        raise UsageError(f"{argument}: is of type {type(name).__name__}; give a model's name or folder")
    return os.fspath(name)


def the_config(config: object) -> TextEmbedConfig:
    """What a caller gives as settings; None is the default ones. Raises `UsageError`."""
    if config is None:
        return TextEmbedConfig()
    if not isinstance(config, TextEmbedConfig):
        raise UsageError(f"config: is of type {type(config).__name__}; give a TextEmbedConfig")
    return config


@lru_cache(maxsize=2)
def _named(text_model: str) -> EmbeddingModel:
    """The last two that were named, so that a name in a loop is loaded once."""
    return EmbeddingModel(text_model)


def the_model(model: object) -> EmbeddingModel:
    """What a caller gives as the model: an `EmbeddingModel`, or a text model's name. Raises `UsageError`."""
    if isinstance(model, str):
        return _named(model)
    if isinstance(model, EmbeddingModel):
        return model
    what = "None" if model is None else f"of type {type(model).__name__}"
    raise UsageError(f"model: is {what}; give an EmbeddingModel, or the name of a text model")


def warn(message: str) -> None:
    """An `EmbedWarning` at the caller's own line."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("engine."):
        frame, level = frame.f_back, level + 1
    warnings.warn(in_python(message), EmbedWarning, stacklevel=level + 1)


def _warn(notes: tuple[str, ...]) -> None:
    for note in notes:
        warn(note)
