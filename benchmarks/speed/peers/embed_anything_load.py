"""Files into LanceDB by EmbedAnything, as its examples do it: `… BACKEND BATCH CORPUS DATABASE`.

Runs in EmbedAnything's own virtual environment, `HF_HUB_CACHE` set; imports nothing of this project. Chunks
are of 1,000 characters, its default. The last line is JSON: `load_s` to the loaded model, `seconds` after.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from typing import Any

BEGAN = time.perf_counter()

import embed_anything  # noqa: E402 - the import is part of loading
import lancedb  # noqa: E402
from embed_anything.vectordb import Adapter  # noqa: E402

REVISION = "0" * 40


class LanceAdapter(Adapter):  # type: ignore[misc]
    """Appends records with random ids."""

    def __init__(self, path: str) -> None:
        super().__init__("")
        self._database = lancedb.connect(path)
        self._table: Any = None
        self.count = 0

    def create_index(self, dimension: int, metric: str = "cosine", index_name: str = "", **_: Any) -> None:
        """The table is made with its first records."""

    def delete_index(self, index_name: str) -> None:
        self._database.drop_table(index_name)

    def convert(self, embeddings: list[Any]) -> list[dict[str, Any]]:
        return [{"id": str(uuid.uuid4()), "vector": each.embedding, "text": each.text} for each in embeddings]

    def upsert(self, data: list[Any]) -> None:
        rows = self.convert(data)
        if self._table is None:
            self._table = self._database.create_table("chunks", rows)
        else:
            self._table.add(rows)
        self.count += len(rows)


def main() -> int:
    """The command."""
    backend, batch, corpus, path = sys.argv[1:]
    if backend == "onnx":
        embedder = embed_anything.EmbeddingModel.from_pretrained_onnx(
            embed_anything.WhichModel.Bert,
            hf_model_id="local/minilm-onnx",
            revision=REVISION,
            path_in_repo="onnx/model.onnx",
        )
    else:
        embedder = embed_anything.EmbeddingModel.from_pretrained_hf("local/minilm", revision=REVISION)
    adapter = LanceAdapter(path)
    loaded = time.perf_counter()
    config = embed_anything.TextEmbedConfig(
        chunk_size=1000, batch_size=int(batch), splitting_strategy="sentence"
    )
    embed_anything.embed_directory(corpus, embedder, ["txt"], config, adapter)
    done = time.perf_counter()
    print(json.dumps({"records": adapter.count, "load_s": loaded - BEGAN, "seconds": done - loaded}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
