"""Files into LanceDB by LangChain, by its defaults: `… MODEL_FOLDER CORPUS DATABASE`.

Runs in a virtual environment of its own; imports nothing of this project. Its default chunks, of 4,000
characters, would be cut off by the model; these are of 1,000, and don't overlap, which is in its favour. The
last line is JSON: `load_s` to the loaded model, `seconds` after.
"""

from __future__ import annotations

import json
import sys
import time

BEGAN = time.perf_counter()

from langchain_community.document_loaders import DirectoryLoader, TextLoader  # noqa: E402 - part of loading
from langchain_community.vectorstores import LanceDB  # noqa: E402
from langchain_huggingface import HuggingFaceEmbeddings  # noqa: E402
from langchain_text_splitters import RecursiveCharacterTextSplitter  # noqa: E402


def main() -> int:
    """The command."""
    folder, corpus, path = sys.argv[1:]
    embeddings = HuggingFaceEmbeddings(model_name=folder)
    loaded = time.perf_counter()
    documents = DirectoryLoader(corpus, glob="**/*.txt", loader_cls=TextLoader).load()
    chunks = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=0).split_documents(documents)
    LanceDB.from_documents(chunks, embeddings, uri=path)
    done = time.perf_counter()
    print(json.dumps({"records": len(chunks), "load_s": loaded - BEGAN, "seconds": done - loaded}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
