from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import DeviceLostError, UsageError
from engine.models.backends.torch import text as text_module
from engine.models.backends.torch.text import TextModel
from engine.models.backends.torch.text_load import load_text_model
from engine.models.batching import TooLargeError
from engine.models.probes import cosines
from engine.models.quiet import quiet
from engine.models.resolve import resolve_text
from engine.records import TokenIds
from tests.models.conftest import edit, save_llama
from tests.models.made import assemble, ids_of, pooling, some_texts

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:importlib._bootstrap")


def assert_faithful(folder: Path, mode: str = "ids") -> TextModel:
    """Vectors and specification are those of the reference library, by ids and by text, query included."""
    with quiet():
        from sentence_transformers import SentenceTransformer

        reference = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    spec = resolve_text(str(folder))
    model = load_text_model(spec, "cpu", "float32")
    texts = some_texts()
    with quiet():
        expected = reference.encode_document(texts)
        query = reference.encode_query("the work of the land")
    assert (spec.mode, model.effective_mode) == (mode, mode)
    assert spec.dimensions == expected.shape[1]
    assert spec.normalized == np.allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)
    vectors = model.embed_texts(texts)
    assert cosines(vectors, expected).min() >= 0.99999
    assert cosines(model.embed_query("the work of the land")[None], query[None]).min() >= 0.99999
    if mode == "ids":
        assert spec.max_tokens == reference.max_seq_length
        vectors = model.embed_ids(ids_of(spec, texts))
        assert vectors.dtype == np.float32
        assert cosines(vectors, expected).min() >= 0.99999
        np.testing.assert_allclose(vectors, expected, atol=1e-4)
    return model


def test_minilm_gives_the_vectors_of_the_reference_library() -> None:
    with quiet():
        from sentence_transformers import SentenceTransformer
    spec = resolve_text()
    model = load_text_model(spec, "cpu", "auto")
    assert (model.effective_mode, model.dtype, model.notes) == ("ids", torch.float32, ())
    with quiet():
        reference = SentenceTransformer(str(spec.folder), device="cpu", local_files_only=True)
        texts = some_texts(12, 120)
        expected = reference.encode(texts)
    vectors = model.embed_ids(ids_of(spec, texts))
    assert (spec.dimensions, spec.max_tokens, spec.normalized) == (384, reference.max_seq_length, True)
    assert cosines(vectors, expected).min() >= 0.99999


@pytest.mark.parametrize("mode", ["cls", "mean", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"])
def test_every_pooling_is_the_models_own(bert: Path, tmp_path: Path, mode: str) -> None:
    assert_faithful(assemble(tmp_path / "model", bert, pooling(mode)))


def test_two_poolings_a_dense_layer_and_normalisation_follow_each_other(bert: Path, tmp_path: Path) -> None:
    with quiet():
        from sentence_transformers.models import Dense, Normalize

        rest = pooling("mean"), Dense(32, 20, activation_function=torch.nn.Tanh()), Normalize()
    model = assert_faithful(assemble(tmp_path / "model", bert, *rest))
    assert (model.spec.dimensions, model.spec.normalized) == (20, True)
    both = pooling(["cls", "max"])  # type: ignore[arg-type]
    assert assert_faithful(assemble(tmp_path / "two", bert, both)).spec.dimensions == 64


@pytest.mark.parametrize(
    "prompts",
    [
        {"document": "title: the ", "query": "query: "},
        {"passage": "passage: ", "query": "query: "},
        {"other": "other: "},
    ],
)
def test_prompts_are_those_that_the_reference_would_put_in_front(
    bert: Path, tmp_path: Path, prompts: dict[str, str]
) -> None:
    options: dict[str, Any] = {"prompts": prompts}
    if "other" in prompts:
        options["default_prompt_name"] = "other"
    folder = assemble(tmp_path / "model", bert, pooling("mean"), **options)
    model = assert_faithful(folder)
    assert model.spec.query_prompt == prompts.get("query", "")


def test_a_tokenizer_that_pads_on_the_left_is_followed(tmp_path: Path) -> None:
    transformer = save_llama(tmp_path / "llama")
    model = assert_faithful(assemble(tmp_path / "model", transformer, pooling("lasttoken")))
    assert model.pad_left


def test_a_roberta_reads_no_more_than_it_has_positions_for(roberta: Path, tmp_path: Path) -> None:
    folder = assemble(tmp_path / "model", roberta, pooling("mean"))
    spec = resolve_text(str(folder))
    assert spec.max_tokens == 514 - 1 - 1
    model = load_text_model(spec, "cpu")
    assert model.effective_mode == "ids"
    texts = some_texts()
    vectors = model.embed_ids(ids_of(spec, texts))
    assert cosines(vectors, model.embed_texts(texts)).min() >= 0.99999
    whole = np.full((1, 512), 40, dtype=np.int32)
    assert np.isfinite(model.embed_ids(list(whole))).all()


def test_a_plain_transformer_gets_the_pooling_that_the_reference_gives_it(bert: Path) -> None:
    assert_faithful(bert)


def test_a_model_that_is_no_transformer_runs_by_its_own_encode(tmp_path: Path) -> None:
    from tests.models.conftest import wordpiece

    with quiet():
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Normalize, StaticEmbedding

        torch.manual_seed(3)
        table = StaticEmbedding(wordpiece(), embedding_dim=24)
        SentenceTransformer(modules=[table, Normalize()], device="cpu").save(str(tmp_path / "model"))
    model = assert_faithful(tmp_path / "model", "text")
    assert model.spec.max_tokens is None
    assert "StaticEmbedding" in model.spec.notes[0]


def test_a_router_sends_documents_and_queries_their_own_ways(bert: Path, tmp_path: Path) -> None:
    from tests.models.conftest import wordpiece

    with quiet():
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Router, StaticEmbedding, Transformer

        queries = StaticEmbedding(wordpiece(), embedding_dim=32)
        documents = [Transformer(str(bert)), pooling("mean")]
        router = Router.for_query_document(query_modules=[queries], document_modules=documents)
        SentenceTransformer(modules=[router], device="cpu").save(str(tmp_path / "model"))
    model = assert_faithful(tmp_path / "model", "text")
    assert (model.spec.dimensions, model.spec.max_tokens) == (32, 128)


def lower(folder: Path) -> None:
    edit(folder / "sentence_bert_config.json", lambda settings: settings.update(do_lower_case=True))


def leave_prompt_out(folder: Path) -> None:
    edit(folder / "1_Pooling" / "config.json", lambda config: config.update(include_prompt=False))
    edit(
        folder / "config_sentence_transformers.json",
        lambda config: config.update(prompts={"document": "doc: "}),
    )


def cut_short(folder: Path) -> None:
    edit(folder / "config_sentence_transformers.json", lambda config: config.update(truncate_dim=8))


@pytest.mark.parametrize("change", [lower, leave_prompt_out, cut_short])
def test_what_ids_can_not_reproduce_runs_in_text_mode(
    bert: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = assemble(tmp_path / "model", bert, pooling("mean"))
    change(folder)
    assert_faithful(folder, "text")


def test_a_tokenizer_file_that_disagrees_is_found_out_and_told(
    bert: Path, roberta: Path, tmp_path: Path
) -> None:
    spec = resolve_text(str(assemble(tmp_path / "model", bert, pooling("mean"))))
    other = replace(spec, tokenizer_file=str(roberta / "tokenizer.json"))
    model = load_text_model(other, "cpu")
    assert model.effective_mode == "text"
    assert "other ids" in model.notes[0]


def test_a_specification_that_lies_about_the_model_is_refused(bert: Path) -> None:
    spec = resolve_text(str(bert))
    with pytest.raises(UsageError, match="gives 32 dimensions, its files say 33"):
        load_text_model(replace(spec, dimensions=33), "cpu")
    with pytest.raises(UsageError, match="reads 128 tokens at most"):
        load_text_model(replace(spec, max_tokens=200), "cpu")


def test_a_model_that_is_broken_gives_one_line(bert: Path, tmp_path: Path) -> None:
    spec = replace(resolve_text(str(bert)), folder=str(tmp_path))
    with pytest.raises(UsageError, match="can't be loaded") as caught:
        load_text_model(spec, "cpu")
    assert "\n" not in str(caught.value)


def test_a_device_that_is_not_there_is_named(bert: Path) -> None:
    spec = resolve_text(str(bert))
    with pytest.raises(UsageError, match=r"--device cuda:99 is not available: this machine has cpu"):
        load_text_model(spec, "cuda:99")


def test_reduced_precision_still_gives_float32_of_length_one(bert: Path, tmp_path: Path) -> None:
    with quiet():
        from sentence_transformers.models import Normalize

        folder = assemble(tmp_path / "model", bert, pooling("mean"), Normalize())
    spec = resolve_text(str(folder))
    exact = load_text_model(spec, "cpu", "float32")
    reduced = load_text_model(spec, "cpu", "bfloat16")
    ids = ids_of(spec, some_texts())
    vectors = reduced.embed_ids(ids)
    assert reduced.effective_mode == "ids"
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert cosines(vectors, exact.embed_ids(ids)).min() >= 0.999


def test_the_caller_hears_of_every_batch_and_gets_the_order_back(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(text_module.BATCH_TOKENS, "cpu", 128)
    spec = resolve_text(str(bert))
    model = load_text_model(spec, "cpu")
    ids = ids_of(spec, some_texts())
    calls: list[int] = []
    vectors = model.embed_ids(ids, lambda: calls.append(1))
    assert len(calls) > 3
    for index in (0, 11, 23):
        np.testing.assert_allclose(vectors[index], model.embed_ids([ids[index]])[0], atol=1e-4)
    assert model.embed_ids([]).shape == (0, 32)
    assert model.embed_texts([]).shape == (0, 32)


def test_a_batch_that_does_not_fit_the_memory_is_halved_and_the_size_remembered(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve_text(str(bert))
    model = load_text_model(spec, "cpu")
    ids = ids_of(spec, some_texts())
    expected = model.embed_ids(ids)
    forward = model._forward
    failed: list[int] = []

    def small(part: list[TokenIds]) -> Any:
        size = len(part) * max(len(each) for each in part)
        if size > 250:
            failed.append(size)
            raise torch.OutOfMemoryError("too much")
        return forward(part)

    monkeypatch.setattr(model, "_forward", small)
    np.testing.assert_allclose(model.embed_ids(ids), expected, atol=1e-4)
    assert failed
    failed.clear()
    np.testing.assert_allclose(model.embed_ids(ids), expected, atol=1e-4)
    assert failed == []


@pytest.mark.parametrize("by", ["ids", "text"])
def test_a_text_that_does_not_fit_even_alone_is_named_and_the_others_have_their_vectors(
    bert: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve_text(str(bert))
    model = load_text_model(spec, "cpu")
    texts = ["the work", "and " * 100, "a great land"]
    expected = model.embed_texts(texts)
    inner = model._model.forward

    def small(features: dict[str, torch.Tensor], **more: Any) -> Any:
        if features["input_ids"].numel() > 50:
            raise torch.OutOfMemoryError("too much")
        return inner(features, **more)

    monkeypatch.setattr(model._model, "forward", small)
    with pytest.raises(TooLargeError, match="does not fit in the device's memory even alone") as caught:
        _ = model.embed_ids(ids_of(spec, texts)) if by == "ids" else model.embed_texts(texts)
    assert caught.value.positions == [1]
    assert np.isnan(caught.value.vectors[1]).all()
    np.testing.assert_allclose(caught.value.vectors[[0, 2]], expected[[0, 2]], atol=1e-4)


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (torch.OutOfMemoryError("2 GiB"), UsageError, "does not fit in the memory of cpu: free some of it"),
        (RuntimeError("CUDA error: unspecified launch failure"), DeviceLostError, "can no longer use it"),
    ],
)
def test_a_model_that_loads_but_can_not_run_is_told_in_one_line(
    bert: Path, error: Exception, expected: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: TextModel, ids: list[TokenIds]) -> None:
        raise error

    monkeypatch.setattr(TextModel, "_forward", fail)
    with pytest.raises(expected, match=message) as caught:
        load_text_model(resolve_text(str(bert)), "cpu")
    assert "\n" not in str(caught.value)


def test_a_device_that_is_lost_is_told_for_a_query_too(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_text_model(resolve_text(str(bert)), "cpu")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered\nmore of it")

    monkeypatch.setattr(model._model, "forward", fail)
    with pytest.raises(DeviceLostError, match=r"device-side assert triggered$"):
        model.embed_query("the work")


def test_a_lone_surrogate_is_read_as_a_replacement_character(bert: Path) -> None:
    model = load_text_model(resolve_text(str(bert)), "cpu")
    vectors = model.embed_texts(["half \ud83d a pair", "half \ufffd a pair"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
    np.testing.assert_allclose(model.embed_query("\udc80"), model.embed_query("\ufffd"), atol=1e-5)


def test_loading_and_embedding_print_nothing(bert: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = load_text_model(resolve_text(str(bert)), "cpu")
    model.embed_texts(["the world " * 300])
    model.embed_query("the world")
    assert capfd.readouterr() == ("", "")


def test_padding_is_counted_and_a_bucket_changes_no_vector(bert: Path) -> None:
    spec = resolve_text(str(bert))
    ids = [np.full(length, 7, dtype=np.int32) for length in (3, 10, 128)]
    model, bucketed = load_text_model(spec, "cpu"), load_text_model(spec, "cpu")
    bucketed._bucket = 16
    model.padding = bucketed.padding = 0
    expected = model.embed_ids(ids[:2])
    assert model.padding == 7
    np.testing.assert_allclose(bucketed.embed_ids(ids[:2]), expected, atol=1e-5)
    assert bucketed.padding == 13 + 6
    # No more than the model reads: it has no positions beyond.
    assert spec.max_tokens == 128
    bucketed.embed_ids(ids[2:])
    assert bucketed.padding == 13 + 6


def test_batches_side_by_side_give_the_vectors_of_batches_one_by_one(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve_text(str(bert))
    model = load_text_model(spec, "cpu")
    assert model._batches._pool is not None
    model._batches.budget = 40
    ids = ids_of(spec, some_texts())
    threads: set[str] = set()
    forward = model._forward

    def seen(part: list[TokenIds]) -> Any:
        threads.add(threading.current_thread().name)
        return forward(part)

    monkeypatch.setattr(model, "_forward", seen)
    vectors = model.embed_ids(ids)
    # What is longer than a batch has all the cores, in the caller's thread.
    assert all(name.startswith("torch") for name in threads - {"MainThread"})
    assert threads - {"MainThread"}
    alone = np.concatenate([forward([each]).numpy() for each in ids])
    np.testing.assert_allclose(vectors, alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_a_model_that_changes_itself_for_an_input_runs_one_batch_at_a_time(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = assemble(tmp_path / "model", save_llama(tmp_path / "llama"), pooling("lasttoken"))
    spec = resolve_text(str(folder))
    assert load_text_model(spec, "cpu")._batches._pool is not None
    monkeypatch.setattr(
        "engine.models.backends.torch.text._positions", lambda config: kind if config else None
    )
    assert load_text_model(spec, "cpu")._batches._pool is None
