"""Models that become faster while they work: by another backend, made ready beside it once it repays that.

Ski rental (Karlin et al. 1988): what is at hand is used until that has cost as many processor seconds as the
better form costs to make, then that is made. Whatever the corpus, the two together never cost more than twice
what the best decision would have.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from engine.errors import EngineError
from engine.models.backends.base import CannotRunError, ImageEmbedder, Loaded, OnBatch, Say, TextEmbedder
from engine.models.helper import BESIDE, niceness
from engine.models.quiet import one_line
from engine.records import Pixels, TokenIds, Vector

_Model = TypeVar("_Model", bound=Loaded)

#: Held while a model is made: each is told of the whole room, and two at once could take it twice.
_one = threading.Lock()


class Swap(Generic[_Model]):
    """A model and what will take its place.

    `make` makes and loads a better one in at most `room` bytes (None: no limit); it is called in a thread of
    its own, once, after `cost` processor seconds of work. Where it raises, the model stays what it is. `say`
    is told what came of it.
    """

    def __init__(
        self,
        model: _Model,
        make: Callable[[int | None], _Model],
        cost: float,
        room: int | None,
        say: Say,
    ) -> None:
        self.model = model
        self.room = room
        self._make = make
        self._left = cost
        self._say = say
        self._thread: threading.Thread | None = None
        self._made: _Model | None = None

    @contextmanager
    def at_work(self) -> Iterator[_Model]:
        """Within it the model embeds, which counts; a better one that is ready takes its place before."""
        made, self._made = self._made, None
        if made is not None:
            self._say(f"{made.choice} embeds from now on, instead of {self.model.choice}")
            self.model = made
        began = time.process_time()
        try:
            yield self.model
        finally:
            self._left -= time.process_time() - began
        if self._left <= 0 and self._thread is None:
            # Ends with the process, and the process that it waits for ends with it.
            self._thread = threading.Thread(target=self._run, name="swap", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        niceness.set(BESIDE)
        try:
            with _one:
                self._made = self._make(self.room)
        except Exception as error:  # whatever a library raises: the model that is there does its work
            known = isinstance(error, CannotRunError | EngineError)
            self._say(f"{self.model.choice} stays: {str(error) if known else one_line(error)}")


class SwappingText(TextEmbedder):
    """A text model that is swapped between two calls."""

    def __init__(self, swap: Swap[TextEmbedder]) -> None:
        self.swap = swap
        self.spec = swap.model.spec
        self.choice = swap.model.choice
        _mirror(self, swap.model)

    def embed_ids(self, ids: Sequence[TokenIds], on_batch: OnBatch | None = None) -> Vector:
        """As the model that is at work now."""
        with self._at_work() as model:
            return model.embed_ids(ids, on_batch)

    def embed_texts(self, texts: Sequence[str], on_batch: OnBatch | None = None) -> Vector:
        """As the model that is at work now."""
        with self._at_work() as model:
            return model.embed_texts(texts, on_batch)

    def embed_query(self, text: str) -> Vector:
        """As the model that is at work now."""
        with self._at_work() as model:
            return model.embed_query(text)

    @contextmanager
    def _at_work(self) -> Iterator[TextEmbedder]:
        with self.swap.at_work() as model:
            _mirror(self, model)
            self.effective_mode, self.growth = model.effective_mode, model.growth
            before = model.padding
            try:
                yield model
            finally:
                self.padding += model.padding - before


class SwappingImage(ImageEmbedder):
    """An image model that is swapped between two calls."""

    def __init__(self, swap: Swap[ImageEmbedder]) -> None:
        self.swap = swap
        self.spec = swap.model.spec
        self.choice = swap.model.choice
        _mirror(self, swap.model)

    def embed_pixels(self, pixels: Pixels | Sequence[Pixels], on_batch: OnBatch | None = None) -> Vector:
        """As the model that is at work now."""
        with self.swap.at_work() as model:
            _mirror(self, model)
            return model.embed_pixels(pixels, on_batch)


def _mirror(shown: Loaded, model: Loaded) -> None:
    shown.choice, shown.window = model.choice, model.window
    shown.device, shown.device_name = model.device, model.device_name
    shown.notes = model.notes
