"""Inputs one behind another have the vectors that they have side by side."""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.models import packing
from engine.models import text as text_module
from engine.models.memory import Batches
from engine.models.packing import KINDS
from engine.models.resolve import resolve_text
from engine.models.text import TextModel
from engine.models.text_load import load_text_model
from engine.records import TokenIds
from tests.models.conftest import byte_bpe, tiny
from tests.models.test_text import assemble, pooling, some_texts

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:importlib._bootstrap")

#: The padding's id, and the longest input, of the tiny models.
PADDING, LONGEST = 1, 200

#: What tiny models have beside what all have: positions behind the padding's, windows, heads that are shared.
OWN: dict[str, dict[str, Any]] = {
    "roberta": {"type_vocab_size": 1, "max_position_embeddings": 2 + LONGEST},
    "xlm-roberta": {"type_vocab_size": 1, "max_position_embeddings": 2 + LONGEST},
    "modernbert": {"num_hidden_layers": 4, "local_attention": 16, "initializer_range": 0.1},
    "llama": {"num_key_value_heads": 2},
    "mistral": {"num_key_value_heads": 2, "sliding_window": 9},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 12},
}


@pytest.fixture(autouse=True)
def one_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    monkeypatch.setattr(text_module, "_bears_threads", lambda spec, model: False)


def save(kind: str, folder: Path) -> Path:
    """A transformer folder with a random model of this kind, of width 32."""
    import transformers

    torch.manual_seed(3)
    tokenizer = byte_bpe()
    common = {"max_position_embeddings": LONGEST, "pad_token_id": PADDING}
    config = transformers.AutoConfig.for_model(kind, **tiny(tokenizer, **(common | OWN.get(kind, {}))))
    make: Any = transformers.AutoModel.from_config
    make(config).save_pretrained(folder)
    left = kind in ("llama", "mistral", "qwen2", "qwen3")
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="left" if left else "right",
        model_max_length=LONGEST,
    ).save_pretrained(folder)
    return folder


def load(folder: Path, mode: str = "mean") -> TextModel:
    return load_text_model(resolve_text(str(assemble(folder / mode, folder / "own", pooling(mode)))), "cpu")


def inputs(count: int = 24, seed: int = 1) -> list[TokenIds]:
    """Of many lengths, the longest too; the padding's id is among their tokens, as a text may have it."""
    chance = random.Random(seed)
    lengths = [*(chance.randint(1, LONGEST) for _ in range(count - 1)), LONGEST]
    return [np.array([chance.randint(0, 200) for _ in range(n)], dtype=np.int32) for n in lengths]


@pytest.mark.parametrize("mode", ["mean", "lasttoken"])
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_with_padding_for_every_kind(tmp_path: Path, kind: str, mode: str) -> None:
    save(kind, tmp_path / "own")
    model, texts = load(tmp_path, mode), some_texts(6)
    # One after another, because llama's left padding is only nearly nothing to it.
    expected = np.concatenate([model.embed_ids([each]) for each in inputs()])
    documents, query = model.embed_texts(texts), model.embed_query("the work of the land")
    assert model.give_packing()
    before = model.padding
    np.testing.assert_allclose(model.embed_ids(inputs()), expected, atol=2e-5)
    assert model.padding == before
    # What the library itself tokenises and pads is left to it.
    np.testing.assert_array_equal(model.embed_texts(texts), documents)
    np.testing.assert_array_equal(model.embed_query("the work of the land"), query)


def test_a_batch_is_as_large_as_its_tokens_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save("bert", tmp_path / "own")
    model, forward = load(tmp_path), TextModel._forward
    sizes: list[list[int]] = []

    def seen(self: TextModel, ids: list[TokenIds]) -> torch.Tensor:
        sizes.append([len(each) for each in ids])
        return forward(self, ids)

    assert model.give_packing()
    monkeypatch.setattr(TextModel, "_forward", seen)
    model._batches.budget = 500
    model.embed_ids(inputs(60))
    assert all(sum(batch) <= 500 for batch in sizes)
    # All but the last are full: the next input would not have gone in.
    assert all(sum(batch) + max(after) > 500 for batch, after in pairwise(sizes))


def test_a_model_of_another_kind_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save("bert", tmp_path / "own")
    monkeypatch.setattr(packing, "KINDS", ("roberta",))
    model = load(tmp_path)
    assert not model.give_packing()
    assert not model._batches.packed
    assert all("forward" not in module.__dict__ for module in model.module.modules())


def ignoring(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
) -> Any:
    """Attention across all inputs of the row."""
    seen = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    return seen.transpose(1, 2), None


def across(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
) -> Any:
    """The same, saying that it didn't."""
    layout = packing._LAYOUT.get()
    assert layout is not None
    layout.calls += 1
    return ignoring(module, query, key, value)


def failing(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no such kernel")


@pytest.mark.parametrize("attention", [ignoring, across, failing])
def test_a_model_whose_attention_does_not_heed_the_inputs_stays_padded(
    tmp_path: Path, attention: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    save("bert", tmp_path / "own")
    model = load(tmp_path)
    expected = model.embed_ids(inputs())
    monkeypatch.setattr(packing, "_attention", attention)
    assert not model.give_packing()
    np.testing.assert_array_equal(model.embed_ids(inputs()), expected)
    assert all("forward" not in module.__dict__ for module in model.module.modules())


def test_masks_that_are_given_stay_where_packing_is_taken_away(tmp_path: Path) -> None:
    save("bert", tmp_path / "own")
    model = load(tmp_path)
    expected = model.embed_ids(inputs())
    assert model.give_masks()
    masked = [module.__dict__["forward"] for module in model.module.modules() if "forward" in module.__dict__]
    given = packing.Packing(model.module, model.device)
    given.remove()
    assert masked == [m.__dict__["forward"] for m in model.module.modules() if "forward" in m.__dict__]
    assert model.give_packing()
    np.testing.assert_allclose(model.embed_ids(inputs()), expected, atol=2e-5)


@pytest.mark.parametrize("faster", ["packed", "padded"])
def test_the_faster_of_both_is_taken(tmp_path: Path, faster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    save("bert", tmp_path / "own")
    model = load(tmp_path)
    tried: dict[str, list[bool]] = {}

    def chosen(device: torch.device, name: str, ways: dict[str, Callable[[], object]]) -> str:
        for way, call in ways.items():
            call()
            tried.setdefault(way, []).append(model._batches.packed)
        return faster

    monkeypatch.setattr(text_module, "fastest", chosen)
    expected = model.embed_ids(inputs())
    model.prefer_packing()
    assert tried == {"padded": [False], "packed": [True]}
    assert model._batches.packed == (faster == "packed")
    np.testing.assert_allclose(model.embed_ids(inputs()), expected, atol=2e-5)


@pytest.mark.parametrize("when", ["at the first look", "when it is timed"])
def test_what_lost_the_device_is_not_tried_again_by_the_next_process(
    tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("bert", tmp_path / "own")
    tried = 0

    def losing(*_: Any, **__: Any) -> Any:
        nonlocal tried
        tried += 1
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    if when == "at the first look":
        monkeypatch.setattr(packing, "_attention", losing)
    else:
        monkeypatch.setattr(text_module, "fastest", losing)
    model = load(tmp_path)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        model.prefer_packing()
    again = load(tmp_path)
    expected = again.embed_ids(inputs())
    again.prefer_packing()
    assert tried == 1
    assert not again._batches.packed
    np.testing.assert_array_equal(again.embed_ids(inputs()), expected)


def test_what_fails_otherwise_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save("bert", tmp_path / "own")

    def without_memory(*_: Any) -> str:
        raise RuntimeError("CUDA out of memory")

    with monkeypatch.context() as once, pytest.raises(RuntimeError, match="out of memory"):
        once.setattr(text_module, "fastest", without_memory)
        load(tmp_path).prefer_packing()
    again = load(tmp_path)
    monkeypatch.setattr(text_module, "fastest", lambda *_: "packed")
    again.prefer_packing()
    assert again._batches.packed


@pytest.mark.parametrize("kind", ["bert", "modernbert", "mistral"])
def test_torchs_attention_for_many_lengths_is_asked_for_the_same(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs on a GPU alone; what it is given is what its signature takes and its documents say."""
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    signature, asked = inspect.signature(varlen.varlen_attn), []

    def by_documents(*args: Any, **kwargs: Any) -> torch.Tensor:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        of = given.arguments
        asked.append(of)
        starts = of["cu_seq_q"].tolist()
        assert of["cu_seq_q"].dtype == of["cu_seq_k"].dtype == torch.int32
        assert of["max_q"] == of["max_k"] == max(b - a for a, b in pairwise(starts))
        made = torch.full_like(of["query"], torch.nan)
        for start, end in pairwise(starts):
            q, k, v = (of[name][start:end].transpose(0, 1) for name in ("query", "key", "value"))
            if of["enable_gqa"]:
                k, v = (each.repeat_interleave(len(q) // len(each), dim=0) for each in (k, v))
            scores = q @ k.transpose(1, 2) * (of["scale"] or q.shape[-1] ** -0.5)
            back, ahead = of["window_size"]
            place = torch.arange(end - start)
            distance = place[None] - place[:, None]
            hidden = (distance > ahead) & (ahead >= 0) | (distance < -back) & (back >= 0)
            weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
            made[start:end] = (weights @ v).transpose(0, 1)
        return made

    save(kind, tmp_path / "own")
    model = load(tmp_path)
    expected = np.concatenate([model.embed_ids([each]) for each in inputs()])
    monkeypatch.setattr(varlen, "varlen_attn", by_documents)
    monkeypatch.setattr(packing, "_by_input", packing._by_kernel)
    assert model.give_packing()
    np.testing.assert_allclose(model.embed_ids(inputs()), expected, atol=2e-5)
    assert asked


@pytest.mark.parametrize("why", ["several threads", "float32 on CUDA", "an older torch"])
def test_where_it_cannot_be_run_a_model_stays_padded(
    tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("bert", tmp_path / "own")
    model = load(tmp_path)
    if why == "several threads":
        monkeypatch.setattr(model, "_batches", Batches(model.device, 1_000, side_by_side=True))
    else:
        monkeypatch.setattr(model, "device", torch.device("cuda"))
    if why == "an older torch":
        monkeypatch.setattr(model, "dtype", torch.bfloat16)
        monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", None)
    assert not model.give_packing()
    assert not model._batches.packed
    assert all("forward" not in module.__dict__ for module in model.module.modules())
