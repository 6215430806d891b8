"""The models and the index that this run's records belong to: found, compared, agreed on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from engine import chunkers
from engine.config import Config
from engine.errors import ModelNotFoundError, UsageError
from engine.machine.allocator import release
from engine.models.resolve import resolve_image, resolve_text
from engine.models.spec import ImageSpec
from engine.records import IndexSchema, field_types, index_url
from engine.runtime.ledger.store import Ledger
from engine.runtime.process import messages as m


class Generation:
    """The text model and the chunker from the start; the image model once a picture asks for it.

    `say` prints a line for the user. Raises `UsageError` where a model can't be had or the sizes don't fit.
    """

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        self._config = config
        self._say = say
        models = config.models
        self.text = resolve_text(
            models.text_model, trust_remote_code=models.trust_remote_code, int8=models.dtype == "int8"
        )
        for note in self.text.notes:
            say(note)
        # A chunker holds a tokenizer, of which only parsers have a use.
        self._chunker = chunkers.make(self.text, config.parsing.chunker_choice).identity
        release()
        self._image: ImageSpec | None = None

    def image(self) -> ImageSpec | None:
        """The image model; None where this run leaves pictures out."""
        if self._image is None and self._config.parsing.images:
            self._image = resolve_image(self._config.models.image_model)
            release()
            for note in self._image.notes:
                self._say(note)
        return self._image

    def name(self, kind: str) -> str | None:
        """All that shapes the records of a kind besides a file's content, as one word."""
        if kind == "text":
            return text_generation(self._chunker.key, self.text.digest)
        spec = self.image()
        return spec.digest if spec else None

    def known(self) -> dict[str, str]:
        """The name of each kind whose model is known by now."""
        kinds = ("text",) if self._image is None else ("text", "image")
        return {kind: name for kind in kinds if (name := self.name(kind)) is not None}

    def schema(self) -> IndexSchema:
        """What the index must be made for, as far as it is known by now."""
        image = self._image.info if self._image else None
        fields = field_types(dict(self._config.database.fields))
        return IndexSchema(self.text.info, image, self._chunker, fields)

    def check(self, ledger: Ledger, opened: m.Opened) -> m.Renew:
        """Compare the database with the ledger; tells when a new generation of the index is wanted.

        Raises `UsageError` where it is not the one that was filled. An index that has pictures already has
        their model checked now, not at the first picture.
        """
        config, url = self._config, self._config.database.adapter
        booked = ledger.audit.booked()
        if booked.least and not config.database.full:
            self._check_filled(booked.least, ledger.get("identity"), opened)
        if opened.count and ledger.get("adapter") is None and not config.task.fleet:
            self._say(
                f"the index holds {opened.count:,} records already, of which this run directory knows"
                " nothing: several may fill one index; one that lost its ledger gets it back with"
                f" python -m engine.verify --run-dir {config.run_dir} --adapter {index_url(url)}"
                " --adopt"
            )
        if opened.schema is not None and opened.schema.image_model is not None:
            # A run that meets no picture needs no image model.
            with suppress(ModelNotFoundError):
                self.image()
        if config.task.fleet:
            return "never"  # its tasks fill one index, of which each would begin another
        if opened.resumed:
            return "misfit"  # never published, so that nobody misses what a new one leaves behind
        if config.database.full:
            return "always"
        if opened.schema is None or opened.count > booked.records:
            return "never"  # a new one would leave behind what other run directories have written
        return "always" if opened.schema.chunker.key not in ("", self._chunker.key) else "misfit"

    def _check_filled(self, least: int, identity: str | None, opened: m.Opened) -> None:
        """Raise `UsageError` where the index is another one, or lacks what was acknowledged."""
        if opened.identity is None:
            what = "is gone"
        elif opened.identity != identity:
            what = "was replaced"
        elif not opened.count:
            what = "holds nothing"
        elif opened.count < least:
            what = f"holds {opened.count:,} records, fewer than the {least:,} that were acknowledged"
        else:
            return
        config, index = self._config, index_url(self._config.database.adapter)
        raise UsageError(
            f"--adapter {index}: the index that this run directory filled {what}; {how_to_repair(config)}"
        )


def how_to_repair(config: Config) -> str:
    """What a user can do about an index that lacks what the ledger has booked."""
    index = index_url(config.database.adapter)
    return (
        f"repair it with: python -m engine.verify --run-dir {config.run_dir} --adapter {index} --repair"
        " (or index anew with --full, or another --run-dir)"
    )


def text_generation(chunker: str, digest: str) -> str:
    """The name of all that shapes text records: the chunker's key and the digest of the model."""
    return f"{chunker} {digest}"
