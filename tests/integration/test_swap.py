"""A run begins with the backend that is at hand; a better one is made beside it. No death loses anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from engine.models.load import load_text
from engine.models.measure import costs
from engine.models.probes import cosines
from engine.models.resolve import resolve_text
from tests.integration.runs import Corpus, wait_until
from tests.integration.test_run import wait_for_records
from tests.models.conftest import WORDS, save_bert
from tests.models.made import assemble, pooling

#: A model so slow, and a corpus of so many words in each of four files, that no machine comes to the end of
#: the corpus while the model is exported.
WIDTH = 256
SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "intermediate_size": 4 * WIDTH,
}
FILE_WORDS = 500_000

#: Records are read often: they should not lie in a fragment of the table each.
BULK = ("--bulk-bytes", "64KiB")

#: Seconds in which an export, which gives way to all other work on the machine, comes to its end.
EXPORT_S = 900.0


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small model that nothing was made of here; to make it faster is expected to cost next to nothing."""
    monkeypatch.setenv("VECTOR_ENGINE_CACHE", str(tmp_path / "cache"))
    for step in ("export", "calibration"):
        costs.remember(step, 0.01)
    return str(assemble(tmp_path / "model", save_bert(tmp_path / "bert", **SIZES), pooling("mean", WIDTH)))


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    corpus = Corpus(tmp_path)
    for number in range(4):
        words = (WORDS[(number + i * i) % len(WORDS)] for i in range(FILE_WORDS))
        corpus.write(f"{number}.txt", " ".join(words))
    return corpus


def helpers(run: psutil.Popen) -> list[psutil.Process]:
    """The exporters of a run that are at work."""
    found = []
    for process in run.children(recursive=True):
        try:
            if "engine.models.backends.onnx.export" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def log(corpus: Corpus) -> str:
    return (corpus.run_dir / "run.log").read_text()


def lines_of(corpus: Corpus, words: str) -> Iterator[str]:
    return (line for line in log(corpus).splitlines() if words in line)


def test_the_run_swaps_to_the_exported_model_and_its_records_stay_what_they_are(
    corpus: Corpus, model: str
) -> None:
    with corpus.started(*BULK, text_model=model) as run:
        wait_until(lambda: helpers(run), EXPORT_S)
        wait_for_records(corpus, 1)
        assert "embeds from now on" not in log(corpus)
        assert [psutil.Process(each.pid).nice() for each in helpers(run)[:1]] in ([], [5])
        wait_until(
            lambda: "onnx float32 embeds from now on, instead of torch float32" in log(corpus), EXPORT_S
        )
        there = len(corpus.records())
        wait_for_records(corpus, there + 500)
    (decision,) = lines_of(corpus, "what may be faster")
    assert "text model: torch float32; what may be faster here is made beside the work" in decision
    # Some of before the swap and some of after it.
    records = list(corpus.records().values())
    records = records[:200] + records[-200:]
    texts = [str(record["text"]) for record in records]
    vectors = np.array([record["text_embedding"] for record in records], dtype=np.float32)
    expected = load_text(resolve_text(model), "cpu", "float32", "torch").embed_texts(texts)
    assert cosines(vectors, expected).min() >= 0.99999
    # What was made is used at once from now on.
    said: list[str] = []
    assert str(load_text(resolve_text(model), "cpu", say=said.append).choice) == "onnx float32"
    assert [line.endswith("cached") for line in said] == [True]


def test_a_run_whose_exporter_is_killed_goes_on_as_it_was(corpus: Corpus, model: str) -> None:
    with corpus.started(*BULK, text_model=model) as run:
        wait_until(lambda: helpers(run), EXPORT_S)
        for helper in helpers(run):
            helper.kill()
        wait_until(lambda: "torch float32 stays: text model" in log(corpus), EXPORT_S)
        assert "its export ended with exit code -9" in log(corpus)
        wait_for_records(corpus, 1000)
        assert run.poll() is None
    assert "starting again" not in log(corpus)
    assert len(corpus.records()) >= 1000


def test_an_exporter_ends_with_the_inference_process_and_is_begun_again_with_the_next(
    corpus: Corpus, model: str
) -> None:
    with corpus.started(*BULK, text_model=model) as run:
        wait_until(lambda: helpers(run), EXPORT_S)
        (helper,) = helpers(run)
        psutil.Process(helper.ppid()).kill()
        wait_until(lambda: not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE)
        wait_until(lambda: "embeds from now on" in log(corpus), EXPORT_S)
        wait_for_records(corpus, 1000)
    corpus.records()  # fails where one is there twice
    onnx = Path(model).parent / "cache" / "onnx"
    assert sorted(path.suffix for path in onnx.iterdir()) == ["", ".lock"]
