"""A corpus into Elasticsearch by EmbedAnything, as its examples do it: `… BACKEND MODEL CORPUS URL INDEX`.

Runs in EmbedAnything's own virtual environment, `HF_HUB_CACHE` set; imports nothing of this project. Chunks
are of 1,000 characters, its default, and batches of 32, too.
"""

from __future__ import annotations

import sys
import uuid
from typing import Any

import embed_anything
from elasticsearch import Elasticsearch, helpers
from embed_anything.vectordb import Adapter

REVISION = "0" * 40


class ElasticsearchAdapter(Adapter):  # type: ignore[misc]
    """Documents with random ids, by `helpers.bulk`."""

    def __init__(self, url: str, index: str) -> None:
        super().__init__("")
        self._client = Elasticsearch(url)
        self._index = index
        self.count = 0

    def create_index(self, dimension: int, metric: str = "cosine", index_name: str = "", **_: Any) -> None:
        vector = {"type": "dense_vector", "dims": dimension, "index": True, "similarity": metric}
        properties = {"embedding": vector, "text": {"type": "text"}}
        self._client.indices.create(index=index_name or self._index, mappings={"properties": properties})

    def delete_index(self, index_name: str) -> None:
        self._client.indices.delete(index=index_name)

    def convert(self, embeddings: list[Any]) -> list[dict[str, Any]]:
        return [
            {"_index": self._index, "_id": str(uuid.uuid4()), "embedding": each.embedding, "text": each.text}
            for each in embeddings
        ]

    def upsert(self, data: list[Any]) -> None:
        documents = self.convert(data)
        helpers.bulk(self._client, documents)
        self.count += len(documents)


def main() -> int:
    """The command."""
    backend, model, corpus, url, index = sys.argv[1:]
    if backend == "onnx":
        embedder = embed_anything.EmbeddingModel.from_pretrained_onnx(
            embed_anything.WhichModel.Bert,
            hf_model_id=f"local/{model}-onnx",
            revision=REVISION,
            path_in_repo="onnx/model.onnx",
        )
    else:
        embedder = embed_anything.EmbeddingModel.from_pretrained_hf(f"local/{model}", revision=REVISION)
    adapter = ElasticsearchAdapter(url, index)
    adapter.create_index(384)
    config = embed_anything.TextEmbedConfig(chunk_size=1000, batch_size=32, splitting_strategy="sentence")
    embed_anything.embed_directory(corpus, embedder, ["txt", "pdf"], config, adapter)
    print(f"records {adapter.count}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
