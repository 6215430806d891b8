"""An exported text model embeds in small batches, a thread for each core."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import DeviceLostError
from engine.models.backends.onnx.export import export_text
from engine.models.backends.onnx.session import OnnxSession
from engine.models.backends.onnx.text import OnnxText
from engine.models.batching import TooLargeError
from engine.models.load import load_text
from engine.models.probes import cosines
from engine.models.quiet import quiet
from engine.models.resolve import resolve_text
from engine.models.spec import to_json
from tests.models.made import ids_of, some_texts

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:importlib._bootstrap")


def test_minilm_gives_the_vectors_of_the_reference_library(exports: list[str]) -> None:
    with quiet():
        from sentence_transformers import SentenceTransformer
    spec = resolve_text()
    model = load_text(spec, "cpu", backend="onnx")
    assert isinstance(model, OnnxText)
    assert model.notes == ()
    with quiet():
        reference = SentenceTransformer(str(spec.folder), device="cpu", local_files_only=True)
        texts = [*some_texts(12, 120), "A long text. " * 300]
        expected = reference.encode(texts)
    assert cosines(model.embed_texts(texts), expected).min() >= 0.99999
    assert cosines(model.embed_ids(ids_of(spec, texts[:-1])), expected[:-1]).min() >= 0.99999


@pytest.fixture
def model(bert: Path, tmp_path: Path) -> OnnxText:
    spec = resolve_text(str(bert))
    export_text(spec, tmp_path)
    return OnnxText(spec, tmp_path, workers=2)


def test_the_caller_hears_of_every_batch_and_gets_the_order_back(model: OnnxText) -> None:
    ids = ids_of(model.spec, some_texts())
    calls: list[int] = []
    vectors = model.embed_ids(ids, lambda: calls.append(1))
    assert 1 < len(calls) < len(ids)
    for index in (0, 11, 23):
        np.testing.assert_allclose(vectors[index], model.embed_ids([ids[index]])[0], atol=1e-6)
    assert model.embed_ids([]).shape == (0, 32)
    assert model.embed_texts([]).shape == (0, 32)


def test_a_lone_surrogate_is_read_as_a_replacement_character(model: OnnxText) -> None:
    vectors = model.embed_texts(["half \ud83d a pair", "half \ufffd a pair"])
    np.testing.assert_array_equal(vectors[0], vectors[1])


class Narrow:
    """A session with memory for inputs of at most so many tokens, and for less while others run."""

    def __init__(self, inner: Any, room: int) -> None:
        self._inner = inner
        self._room = room
        self.failures = 0

    def run(self, names: None, inputs: dict[str, Any]) -> Any:
        if inputs["input_ids"].size > self._room:
            self.failures += 1
            raise RuntimeError("Failed to allocate memory for requested buffer of size 9")
        return self._inner.run(names, inputs)


def test_an_input_that_does_not_fit_even_alone_is_named_and_the_others_have_their_vectors(
    model: OnnxText, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["the work", "and " * 100, "a great land"]
    expected = model.embed_texts(texts)
    assert isinstance(model._session, OnnxSession)
    narrow = Narrow(model._session._session, 50)
    monkeypatch.setattr(model._session, "_session", narrow)
    with pytest.raises(TooLargeError, match="does not fit in the device's memory even alone") as caught:
        model.embed_texts(texts)
    assert narrow.failures == 2
    assert caught.value.positions == [1]
    assert np.isnan(caught.value.vectors[1]).all()
    np.testing.assert_array_equal(caught.value.vectors[[0, 2]], expected[[0, 2]])
    monkeypatch.setattr(model._session, "_session", Narrow(None, 0))
    with pytest.raises(DeviceLostError, match="no memory left"):
        model.embed_texts(texts)


#: Embeds in a process that may take no more address space than it has, and says which inputs did not fit.
CRAMPED = """
import resource, sys
from pathlib import Path
import numpy as np
from engine.models.batching import TooLargeError
from engine.models.backends.onnx.session import OnnxSession
from engine.models.backends.onnx.text import OnnxText
from engine.models.spec import from_json
model = OnnxText(from_json(sys.argv[1]), Path(sys.argv[2]))
small, large = np.zeros(3, np.int32), np.zeros(512, np.int32)
model.embed_ids([small] * 64)
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(),) * 2)
try:
    model.embed_ids([large, small, large])
except TooLargeError as error:
    print(error.positions, np.isfinite(error.vectors[1]).all())
"""


def test_memory_that_really_runs_out_is_recognised_and_prints_nothing(tmp_path: Path) -> None:
    spec = resolve_text()
    export_text(spec, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", CRAMPED, to_json(spec), str(tmp_path)],
        env=os.environ | {"MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[0, 2] True\n", "")


def test_an_error_that_is_not_of_memory_is_the_callers(
    model: OnnxText, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model._session, "_inputs", ["input_ids", "no such input"])
    with pytest.raises(ValueError, match="no such input"):
        model.embed_texts(["the work"])
