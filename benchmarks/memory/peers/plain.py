"""A corpus into Elasticsearch by the script that one writes first: `… MODEL_FOLDER CORPUS URL INDEX`.

Each file is read and cut, all of its chunks are embedded in one call with the defaults of
sentence-transformers, and `helpers.bulk` sends them: it holds a file at a time. Pages of PDFs are closed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pdfplumber
from elasticsearch import Elasticsearch, helpers
from sentence_transformers import SentenceTransformer

#: Characters of a chunk.
CHUNK = 1000


def texts(path: Path) -> Iterator[str]:
    """The file's text, a page at a time."""
    if path.suffix == ".pdf":
        with pdfplumber.open(path) as document:
            for page in document.pages:
                yield page.extract_text() or ""
                page.close()
    else:
        yield path.read_text(encoding="utf-8", errors="replace")


def main() -> int:
    """The command."""
    folder, corpus, url, index = sys.argv[1:]
    model = SentenceTransformer(folder)
    client = Elasticsearch(url)
    vector = {"type": "dense_vector", "dims": 384, "index": True, "similarity": "cosine"}
    properties = {"embedding": vector, "text": {"type": "text"}, "source": {"type": "keyword"}}
    client.indices.create(index=index, mappings={"properties": properties})
    count = 0
    for path in sorted(each for each in Path(corpus).rglob("*") if each.suffix in (".txt", ".pdf")):
        chunks = [text[i : i + CHUNK] for text in texts(path) for i in range(0, len(text), CHUNK)]
        vectors = model.encode(chunks)
        documents = (
            {"_index": index, "text": chunk, "source": str(path), "embedding": vector.tolist()}
            for chunk, vector in zip(chunks, vectors, strict=True)
        )
        count += helpers.bulk(client, documents)[0]
    print(f"records {count}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
