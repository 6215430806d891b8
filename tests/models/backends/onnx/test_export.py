"""An exported model has the vectors of the reference library, or isn't used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import UsageError
from engine.models.backends.onnx import export as onnx_export
from engine.models.backends.onnx.export import export_text
from engine.models.backends.onnx.text import OnnxText
from engine.models.probes import cosines
from engine.models.quiet import quiet
from engine.models.resolve import resolve_text
from tests.models.conftest import edit, save_llama
from tests.models.made import assemble, ids_of, pooling, some_texts

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:importlib._bootstrap")


def assert_faithful(folder: Path, tmp_path: Path) -> OnnxText:
    """The exported model's vectors are those of the reference library: by ids, by text, and of a query."""
    with quiet():
        from sentence_transformers import SentenceTransformer

        reference = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    spec = resolve_text(str(folder))
    (made := tmp_path / "made").mkdir()
    figures = export_text(spec, made)
    model = OnnxText(spec, made, workers=0)
    # The reference reads more than a RoBERTa of this size has positions for, and fails.
    long = [] if reference.max_seq_length > (spec.max_tokens or 0) else ["the land and the work " * 100]
    texts = [*some_texts(), *long]
    with quiet():
        expected = reference.encode_document(texts)
        query = reference.encode_query("the work of the land")
    for vectors in (model.embed_texts(texts), model.embed_ids(ids_of(spec, some_texts()))):
        assert vectors.dtype == np.float32
        assert cosines(vectors, expected[: len(vectors)]).min() >= 0.99999
        np.testing.assert_allclose(vectors, expected[: len(vectors)], atol=1e-4)
    np.testing.assert_allclose(model.embed_query("the work of the land"), query, atol=1e-4)
    assert figures["least_cosine"] >= 0.99999  # type: ignore[operator]
    return model


@pytest.mark.parametrize("mode", ["cls", "mean", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"])
def test_every_pooling_is_the_models_own(bert: Path, tmp_path: Path, mode: str) -> None:
    assert_faithful(assemble(tmp_path / "model", bert, pooling(mode)), tmp_path)


def test_a_dense_layer_and_normalisation_are_part_of_the_graph(bert: Path, tmp_path: Path) -> None:
    with quiet():
        from sentence_transformers.models import Dense, Normalize

        rest = pooling(["cls", "mean"]), Dense(64, 20, activation_function=torch.nn.Tanh()), Normalize()  # type: ignore[arg-type]
    model = assert_faithful(assemble(tmp_path / "model", bert, *rest), tmp_path)
    assert (model.spec.dimensions, model.spec.normalized) == (20, True)


def test_positions_behind_the_padding_id_and_prompts_are_followed(roberta: Path, tmp_path: Path) -> None:
    prompts = {"document": "title: the ", "query": "query: "}
    assert_faithful(assemble(tmp_path / "model", roberta, pooling("mean"), prompts=prompts), tmp_path)


def test_a_decoder_that_pads_on_the_left_is_followed(tmp_path: Path) -> None:
    transformer = save_llama(tmp_path / "llama")
    assert_faithful(assemble(tmp_path / "model", transformer, pooling("lasttoken")), tmp_path)


def test_a_pooling_that_leaves_a_querys_prompt_out_is_found_out(bert: Path, tmp_path: Path) -> None:
    folder = assemble(tmp_path / "model", bert, pooling("mean"), prompts={"query": "the great work: "})
    edit(folder / "1_Pooling" / "config.json", lambda config: config.update(include_prompt=False))
    with pytest.raises(UsageError, match=r"its ONNX export gives other vectors: lowest cosine 0\.\d+"):
        export_text(resolve_text(str(folder)), tmp_path)


def test_a_graph_that_reads_padding_as_input_is_found_out(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = onnx_export._Text.forward
    blind = lambda self, ids, lengths: forward(self, ids, 0 * lengths + ids.shape[1])  # noqa: E731
    monkeypatch.setattr(onnx_export._Text, "forward", blind)
    with pytest.raises(UsageError, match="its ONNX export gives other vectors"):
        export_text(resolve_text(str(bert)), tmp_path)
