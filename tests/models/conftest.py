"""Tiny models with random weights, saved as their libraries save them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.models.quiet import quiet

WORDS = [
    onset + rime
    for onset in ("", "th", "w", "st", "br", "m", "l", "pl", "gr", "f")
    for rime in ("e", "ork", "ame", "ing", "ore", "and", "ight", "each", "ound", "ost")
]

LETTERS = [chr(code) for code in range(33, 127)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECTOR_ENGINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def wordpiece() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *LETTERS,
        *(f"##{letter}" for letter in LETTERS),
        *WORDS,
    ]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    return tokenizer


def byte_bpe() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet, "th", "the", "Ġthe", "in"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def tiny(tokenizer: Any, **own: Any) -> dict[str, Any]:
    """What a random transformer of width 32 is configured with, and what is its own."""
    return {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "initializer_range": 0.3,
        **own,
    }


def save_bert(folder: Path, **sizes: int) -> Path:
    """A transformer folder with a random BERT, of two layers and width 32 where no `sizes` are given."""
    import torch
    import transformers

    torch.manual_seed(1)
    tokenizer = wordpiece()
    config = transformers.BertConfig(
        **{**tiny(tokenizer, max_position_embeddings=128, pad_token_id=0), **sizes}
    )
    transformers.BertModel(config).save_pretrained(folder)
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    return folder


def save_roberta(folder: Path) -> Path:
    """A transformer folder with a random RoBERTa of width 32, whose positions begin behind the padding id."""
    import torch
    import transformers

    torch.manual_seed(2)
    tokenizer = byte_bpe()
    own = {"max_position_embeddings": 514, "pad_token_id": 1, "type_vocab_size": 1}
    config = transformers.RobertaConfig(**tiny(tokenizer, **own))
    transformers.RobertaModel(config).save_pretrained(folder)
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    ).save_pretrained(folder)
    return folder


def save_llama(folder: Path) -> Path:
    """A transformer folder with a random Llama of width 32, whose tokenizer pads on the left."""
    import torch
    import transformers

    torch.manual_seed(7)
    tokenizer = byte_bpe()
    config = transformers.LlamaConfig(**tiny(tokenizer, max_position_embeddings=512, pad_token_id=1))
    transformers.LlamaModel(config).save_pretrained(folder)
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="left",
    ).save_pretrained(folder)
    return folder


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change an object in a JSON file, which may not be there yet."""
    value = json.loads(path.read_text()) if path.exists() else {}
    change(value)
    path.write_text(json.dumps(value))


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_roberta(tmp_path_factory.mktemp("roberta"))


@pytest.fixture(scope="session")
def unit_bert(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers model whose vectors have length one."""
    from tests.models.made import assemble, pooling

    with quiet():
        from sentence_transformers.models import Normalize

        return assemble(tmp_path_factory.mktemp("unit"), bert, pooling("mean"), Normalize())


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An open_clip folder with random weights."""
    from tests.models.made import save_clip

    return save_clip(tmp_path_factory.mktemp("clip"))
