"""The timing of the models in the inference process, before the first batch, where it is asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence

from engine.models.batching import TooLargeError
from engine.models.load import ImageEmbedder, TextEmbedder
from engine.models.measure.throughput import image_throughput, remembered, text_throughput
from engine.records import Kind
from engine.runtime.process import messages as m
from engine.runtime.process.mailbox import Mailbox

#: Seconds in which parsers come to rest, since nothing more is granted to them, and more chunks arrive.
GATHER_S = 0.5


class Calibration:
    """Finds out what a model does alone: `asked`, or on an accelerator where the user's cache doesn't know.

    `models` are those that are loaded by now.
    """

    def __init__(self, mailbox: Mailbox, asked: bool) -> None:
        self._mailbox = mailbox
        self.asked = asked
        self._gather = False
        self._done: set[Kind] = set()
        self.models: dict[Kind, TextEmbedder | ImageEmbedder] = {}

    def device(self, kind: Kind) -> str:
        """What computes the model of this kind."""
        return self.models[kind].device

    def announce(self) -> None:
        """The text model is loaded and has nothing to do yet."""
        if self._wanted("text"):
            self._gather = True
            self._mailbox.send(m.Calibrating())

    def gather(self) -> None:
        """The first segment is here; when this returns, so are some more."""
        if self._gather:
            self._gather = False
            with self._mailbox.waiting("in", "parsers"):
                time.sleep(GATHER_S)

    def run(self, kind: Kind, lengths: Sequence[int]) -> None:
        """Before a batch with inputs of these lengths, in tokens: time its model, once, where wanted."""
        if kind == "image" and "text" not in self._done and self._wanted("text"):
            # The parsers shall not wait for texts that may never come.
            self._tell("text", None, 0.0)
        if kind in self._done:
            return
        rate, began = self.models[kind].spec.stand_in_rate, time.monotonic()
        if self._wanted(kind):
            if kind == "image":
                self._mailbox.send(m.Calibrating())
                time.sleep(GATHER_S)
            try:
                rate = self._measured(kind, lengths)
            except TooLargeError:
                rate = None  # the chunks themselves will meet it, and say so
        self._tell(kind, rate, time.monotonic() - began)

    def _wanted(self, kind: Kind) -> bool:
        device = self.device(kind)
        return device != "stand-in" and (self.asked or device != "cpu")

    def _measured(self, kind: Kind, lengths: Sequence[int]) -> float:
        model, step = self.models[kind], self._mailbox.step

        def measure() -> float:
            if isinstance(model, TextEmbedder):
                return text_throughput(model, lengths, step)
            return image_throughput(model, step)

        return remembered(model, kind, lengths, measure, again=self.asked)

    def _tell(self, kind: Kind, rate: float | None, seconds: float) -> None:
        self._done.add(kind)
        self._mailbox.send(m.Calibrated(kind, rate, seconds))
