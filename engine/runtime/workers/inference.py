"""The inference process: the infer stage between the parsers' channels and the indexer's."""

from __future__ import annotations

import queue
import threading
import time
from multiprocessing.connection import Connection

from engine.errors import EngineError
from engine.models.load import ImageEmbedder, TextEmbedder, load_image, load_text
from engine.models.spec import ImageSpec, TextSpec
from engine.models.swap import SwappingImage, SwappingText
from engine.records import Kind
from engine.runtime.process import messages as m
from engine.runtime.process.mailbox import TOGETHER_BYTES, Mailbox, run_child
from engine.runtime.router import Router
from engine.runtime.workers.calibration import Calibration
from engine.stages.infer import Embedded, InferStage
from engine.stages.repeats import REMEMBERED_BYTES, Remembered
from engine.stages.segment import EmbeddedSegment, ParsedSegment, PictureSegment, TextSegment

#: It holds the models, which take long to load again.
OOM_SCORE = 200


def main(
    control: Connection,
    run_dir: str,
    output: Connection,
    text_spec: TextSpec,
    loading: tuple[str, str, str],
    dedupe: bool = True,
    calibrate: bool = False,
) -> None:
    """Entry of the process; `loading` is device, dtype and backend of the models."""

    def body(mailbox: Mailbox) -> None:
        _Inference(mailbox, output, text_spec, loading, dedupe, Calibration(mailbox, calibrate)).run()

    run_child(control, run_dir, body, OOM_SCORE)


class _Inference:
    def __init__(
        self,
        mailbox: Mailbox,
        output: Connection,
        text_spec: TextSpec,
        loading: tuple[str, str, str],
        dedupe: bool,
        calibration: Calibration,
    ) -> None:
        self._mailbox = mailbox
        self._calibration = calibration
        self._output = output
        self._text_spec = text_spec
        self._image_spec: ImageSpec | None = None
        self._loading = loading
        self._room: int | None = None
        self._stage = InferStage(
            self._load_text, self._load_image, mailbox.step, Remembered(REMEMBERED_BYTES if dedupe else 0)
        )
        self._outbox: queue.SimpleQueue[tuple[list[Embedded], int, int] | None] = queue.SimpleQueue()
        self._stopped = self._begun = False
        self._router: Router[[]] = Router()
        self._router.on(m.UseImages, self._use_images)
        self._router.on(m.Load, self._load)
        self._router.on(m.Spare, self._spare)
        self._router.on(m.Stop, self._stop)

    def run(self) -> None:
        """Embed window after window until the supervisor says stop."""
        sender = threading.Thread(target=self._send, name="sender")
        sender.start()
        self._mailbox.start_clock()
        while not self._stopped:
            window = self._window()
            before, before_spared = self._stage.padding, self._stage.spared
            texts = [segment for segment in window if isinstance(segment, TextSegment)]
            pictures = [segment for segment in window if isinstance(segment, PictureSegment)]
            done = self._embed_texts(texts) if texts else []
            done += self._embed_pictures(pictures) if pictures else []
            padding, spared = self._stage.padding - before, self._stage.spared - before_spared
            self._outbox.put((done, padding, spared))
        self._outbox.put(None)
        sender.join()

    def _embed_texts(self, segments: list[TextSegment]) -> list[Embedded]:
        """Embed segments of one kind, whose time is then known apart from the other's."""
        self._calibration.run("text", [length for segment in segments for length in segment.lengths])
        self._begin()
        model = self._calibration.models["text"].choice
        with self._mailbox.calling("text"):
            done = self._stage.embed_texts(segments)
        if self._calibration.models["text"].choice != model:
            self._tell_loaded("text")
        return done

    def _embed_pictures(self, segments: list[PictureSegment]) -> list[Embedded]:
        model = None if self._stage.lacks_image_model else self._calibration.models["image"].choice
        self._stage.load_images()
        self._calibration.run("image", [])
        self._begin()
        with self._mailbox.calling("image"):
            done = self._stage.embed_pictures(segments)
        if self._calibration.models["image"].choice != model:
            self._tell_loaded("image")
        return done

    def _tell_loaded(self, kind: Kind) -> None:
        """A model is there, or another form of it: memory is planned anew."""
        growth = self._stage.growth if kind == "text" else 0
        self._mailbox.send(m.Loaded(kind, self._calibration.device(kind), growth))

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._mailbox.send(m.FirstBatch(time.monotonic()))

    def _window(self) -> list[ParsedSegment]:
        """Wait for a segment, then take what else is there, up to a window."""
        window: list[ParsedSegment] = []
        chunks = 0
        pictures = False
        inbox = self._mailbox.inbox
        # A picture may overtake the message that names its model, because another thread reads it.
        while not self._stopped and (
            (pictures and self._image_spec is None)
            or (chunks < self._stage.window and not (window and inbox.empty()))
        ):
            if inbox.empty():
                with self._mailbox.waiting("in", "parsers"):
                    message = inbox.get()
            else:
                message = inbox.get()
            if isinstance(message, TextSegment | PictureSegment):
                self._calibration.gather()
                window.append(message)
                chunks += len(message.ids)
                pictures |= isinstance(message, PictureSegment)
            else:
                self._router(message)
        return window

    def _use_images(self, message: m.UseImages) -> None:
        self._image_spec = message.spec

    def _load(self, message: m.Load) -> None:
        self._room = message.room
        self._stage.warm_up()
        self._calibration.announce()
        self._tell_loaded("text")

    def _spare(self, message: m.Spare) -> None:
        for model in self._calibration.models.values():
            if isinstance(model, SwappingText | SwappingImage):
                model.swap.room = message.size

    def _stop(self, message: m.Stop) -> None:
        self._stopped = True

    def _send(self) -> None:
        """Hand embedded segments on in a thread of its own, so that the model never waits for a channel."""
        while (window := self._outbox.get()) is not None:
            news: list[object] = []
            try:
                self._hand_on(*window, news)
            except OSError:
                # The indexer is gone; the supervisor sees that too and ends this process.
                return
            except Exception as error:  # or nobody would know that nothing leaves any more
                self._mailbox.send(m.Failed(1, f"channel to the indexer: {type(error).__name__}: {error}"))
                return
            finally:
                self._mailbox.send_all(news)

    def _hand_on(self, window: list[Embedded], padding: int, spared: int, news: list[object]) -> None:
        """Each segment of a window to the indexer, and to `news` what the supervisor shall know of it."""
        window.reverse()
        together: list[EmbeddedSegment] = []
        size = 0
        while window:  # none stays here longer than it takes
            segment, tokens, repeated = window.pop()
            together.append(segment)
            size += segment.size
            if not window or size >= TOGETHER_BYTES:
                with self._mailbox.moving():
                    self._output.send(together)
                together, size = [], 0
            news.append(
                m.Embedded(
                    attempt=segment.attempt,
                    ordinal=segment.ordinal,
                    vectors=len(segment.vectors),
                    tokens=tokens,
                    kind=segment.kind,
                    size=segment.size,
                    repeated=repeated,
                    padding=padding,
                    spared=spared,
                )
            )
            padding = spared = 0

    def _load_text(self) -> TextEmbedder:
        model = load_text(
            self._text_spec, *self._loading, self._room, self._say, at_once=self._calibration.asked
        )
        self._tell_notes(model.notes)
        self._calibration.models["text"] = model
        return model

    def _load_image(self) -> ImageEmbedder:
        if self._image_spec is None:
            raise EngineError("a picture arrived before its model was named")
        model = load_image(
            self._image_spec, *self._loading, self._room, self._say, at_once=self._calibration.asked
        )
        self._tell_notes(model.notes)
        self._calibration.models["image"] = model
        return model

    def _tell_notes(self, notes: tuple[str, ...]) -> None:
        for note in notes:
            self._mailbox.send(m.Note(note))

    def _say(self, text: str) -> None:
        self._mailbox.send(m.Note(text, detail=True))
