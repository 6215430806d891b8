"""The inference process: the infer stage between the parsers' channels and the indexer's."""

from __future__ import annotations

import queue
import threading
from multiprocessing.connection import Connection

from engine.errors import EngineError
from engine.models.load import ImageEmbedder, TextEmbedder, load_image, load_text
from engine.models.spec import ImageSpec, TextSpec
from engine.runtime import messages as m
from engine.runtime.child import Mailbox, run_child
from engine.stages.infer import WINDOW_CHUNKS, InferStage
from engine.stages.segment import Segment

#: It holds the models, which take long to load again.
OOM_SCORE = 200


def main(
    control: Connection, run_dir: str, output: Connection, text_spec: TextSpec, loading: tuple[str, str, str]
) -> None:
    """Entry of the process; `loading` is device, dtype and backend of the models."""

    def body(mailbox: Mailbox) -> None:
        _Inference(mailbox, output, text_spec, loading).run()

    run_child(control, run_dir, body, OOM_SCORE)


class _Inference:
    def __init__(
        self, mailbox: Mailbox, output: Connection, text_spec: TextSpec, loading: tuple[str, str, str]
    ) -> None:
        self._mailbox = mailbox
        self._output = output
        self._text_spec = text_spec
        self._image_spec: ImageSpec | None = None
        self._loading = loading
        self._room: int | None = None
        self._stage = InferStage(self._load_text, self._load_image, mailbox.step)
        self._outbox: queue.SimpleQueue[tuple[Segment, int, int] | None] = queue.SimpleQueue()
        self._stopped = False

    def run(self) -> None:
        """Embed window after window until the supervisor says stop."""
        sender = threading.Thread(target=self._send, name="sender")
        sender.start()
        self._mailbox.start_clock()
        while not self._stopped:
            window = self._window()
            if window:
                tokens = [segment.tokens for segment in window]
                first_picture = self._stage.lacks_image_model and any(s.pixels is not None for s in window)
                before = self._stage.padding
                self._stage.embed(window)
                padding = self._stage.padding - before
                if first_picture:
                    self._mailbox.send(m.Loaded())
                for segment, count in zip(window, tokens, strict=True):
                    self._outbox.put((segment, count, padding))
                    padding = 0
        self._outbox.put(None)
        sender.join()

    def _window(self) -> list[Segment]:
        """Wait for a segment, then take what else is there, up to a window."""
        window: list[Segment] = []
        chunks = 0
        inbox = self._mailbox.inbox
        while not self._stopped and (
            self._lacks_spec(window) or (chunks < WINDOW_CHUNKS and not (window and inbox.empty()))
        ):
            with self._mailbox.waiting("in"):
                message = inbox.get()
            if isinstance(message, Segment):
                window.append(message)
                chunks += len(message.ids)
            elif isinstance(message, m.UseImages):
                self._image_spec = message.spec
            elif isinstance(message, m.Load):
                self._room = message.room
                self._stage.warm_up()
                self._mailbox.send(m.Loaded())
            elif isinstance(message, m.Stop):
                self._stopped = True
        return window

    def _lacks_spec(self, window: list[Segment]) -> bool:
        """A picture may overtake the message that names its model, because another thread reads it."""
        return self._image_spec is None and any(segment.pixels is not None for segment in window)

    def _send(self) -> None:
        """Hand embedded segments on in a thread of its own, so that the model never waits for a channel."""
        while item := self._outbox.get():
            segment, tokens, padding = item
            vectors = 0 if segment.vectors is None else len(segment.vectors)
            try:
                self._output.send(segment)
            except OSError:
                # The indexer is gone; the supervisor sees that too and ends this process.
                return
            except Exception as error:  # or nobody would know that nothing leaves any more
                self._mailbox.send(m.Failed(1, f"channel to the indexer: {type(error).__name__}: {error}"))
                return
            self._mailbox.send(
                m.Embedded(segment.attempt, segment.ordinal, vectors, tokens, segment.kind, padding)
            )

    def _load_text(self) -> TextEmbedder:
        model = load_text(self._text_spec, *self._loading, self._room, self._say)
        self._tell_notes(model.notes)
        return model

    def _load_image(self) -> ImageEmbedder:
        if self._image_spec is None:
            raise EngineError("a picture arrived before its model was named")
        model = load_image(self._image_spec, *self._loading, self._room, self._say)
        self._tell_notes(model.notes)
        return model

    def _tell_notes(self, notes: tuple[str, ...]) -> None:
        for note in notes:
            self._mailbox.send(m.Note(note))

    def _say(self, text: str) -> None:
        self._mailbox.send(m.Note(text, detail=True))
