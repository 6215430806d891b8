"""`python -m engine.models.measure.calibrate "BACKEND DTYPE"...`: a model by each, measured on this CPU.

The model's specification comes on standard input. A process of its own, since a library may take 1 GB more
than what a run may need; `calibration` beside it runs it and keeps what it says.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psutil
from tokenizers import Tokenizer

from engine.errors import EngineError
from engine.machine.cores import cores
from engine.models import backends
from engine.models.backends.base import BackendChoice, CannotRunError, Spec
from engine.models.helper import answer_with
from engine.models.measure.calibration import Measured
from engine.models.probes import PROBES, cosines
from engine.models.quiet import one_line
from engine.models.spec import ImageSpec
from engine.records import Vector

#: For each core, inputs of a pass over a text model, of lengths evenly up to its largest input (none above
#: the second figure, which chunks seldom have); and pictures of a pass over an image model.
TEXTS, MOST_TOKENS, PICTURES = 16, 512, 8

#: Passes by each choice, each next to one by the reference, and seconds after which no further one begins.
ROUNDS, PATIENCE_S = 5, 4.0

#: Embeds the inputs that are timed, and those of which the vectors are compared.
Embed = Callable[[], Vector]


def answer(spec: Spec, possible: Sequence[BackendChoice]) -> dict[str, Any]:
    """A `Measured` for each choice; the first that can run the model is the reference."""
    rows: list[Measured] = []
    reference: tuple[Embed, Vector] | None = None
    for choice in possible:
        row = Measured(
            backend=choice.backend, dtype=choice.dtype, gain=0.0, rate=0.0, cosine=0.0, bytes=0, why=""
        )
        rows.append(row)
        before = psutil.Process().memory_info().rss
        try:
            embed, probe, units = _loaded(spec, choice)
            embed()
            vectors = probe()
        except Exception as error:  # whatever a library raises for a model that it can't run
            known = isinstance(error, EngineError | CannotRunError)
            row["why"] = str(error) if known else one_line(error)
            continue
        reference = reference or (embed, vectors)
        gain, seconds = _compared(reference[0], embed)
        row["gain"], row["rate"] = round(gain, 3), round(units / seconds, 1)
        row["cosine"] = float(cosines(vectors, reference[1]).min())
        row["bytes"] = psutil.Process().memory_info().rss - before
    for row in rows:
        # Libraries are loaded with the first choice that needs them, and stay.
        row["bytes"] = max(other["bytes"] for other in rows if other["backend"] == row["backend"])
    return {"choices": rows}


def _compared(reference: Embed, embed: Embed) -> tuple[float, float]:
    """How many times as fast as the reference it is, by the median of paired passes; its seconds a pass.

    Seconds of this process on all cores, since every backend keeps each core busy with a call of its own:
    what others do on the machine hardly shows.
    """
    gains, seconds = [], []
    began = time.monotonic()
    for _ in range(ROUNDS):
        theirs, mine = _seconds(reference), _seconds(embed)
        gains.append(theirs / mine)
        seconds.append(mine)
        if time.monotonic() - began > PATIENCE_S:
            break
    return statistics.median(gains), min(seconds)


def _seconds(work: Embed) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _loaded(spec: Spec, choice: BackendChoice) -> tuple[Embed, Embed, int]:
    """The timed work, that whose vectors count, and the tokens or pictures of the first."""
    backend = backends.get(choice.backend)
    backend.prepare(spec)
    chance = np.random.default_rng(0)
    if isinstance(spec, ImageSpec):
        image = backend.load_image(spec, "cpu", choice.dtype)
        count = PICTURES * cores()
        pixels = chance.integers(0, 256, (count, *spec.size, 3), dtype=np.uint8)
        return lambda: image.embed_pixels(pixels), lambda: image.embed_pixels(pixels), count
    text = backend.load_text(spec, "cpu", choice.dtype)
    most = min(spec.max_tokens or MOST_TOKENS, MOST_TOKENS)
    lengths = np.linspace(max(1, most // 16), most, TEXTS * cores(), dtype=int)
    if text.effective_mode == "ids":
        words = Tokenizer.from_file(str(spec.tokenizer_file)).get_vocab_size()
        ids = [chance.integers(0, words, length).astype(np.int32) for length in lengths]
        work: Embed = lambda: text.embed_ids(ids)  # noqa: E731
    else:
        texts = ["word " * length for length in lengths]
        work = lambda: text.embed_texts(texts)  # noqa: E731
    return work, lambda: np.concatenate([work(), text.embed_texts(PROBES)]), int(lengths.sum())


if __name__ == "__main__":
    answer_with(lambda spec: answer(spec, [BackendChoice(*each.split()) for each in sys.argv[1:]]))
