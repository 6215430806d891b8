"""Elasticsearch 8.19 and 9.x: `elasticsearch://host:port[,host:port…]/index`, `elasticsearch+https://…`.

- `credentials`: who the client says it is; secrets come from the environment.
- `location`: what the URL says, and the client for it.
- `mapping`: the index's fields and settings.
- `bulk`: the sender that resends what was not acknowledged, and only that.
- `adapter`: the contract of `adapters.base` on top of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.base import Adapter, AdapterOptions, Capabilities
from adapters.database import Database, Option
from adapters.elasticsearch.credentials import VARIABLES

#: Words of the option `index`, the default first: explicit, because the server's changed in 9.0 and in 9.1.
INDEX_KINDS = ("int8_hnsw", "hnsw", "int4_hnsw", "bbq_hnsw", "bbq_disk")


def _connect(url: str, options: AdapterOptions, own: Mapping[str, Any]) -> Adapter:
    from adapters.elasticsearch.adapter import connect

    return connect(url, options, own)


DATABASE = Database(
    form="elasticsearch://HOST:PORT[,HOST:PORT…]/INDEX (TLS: elasticsearch+https://)",
    about="Elasticsearch 8.19 and 9.x",
    install="pip install 'elasticsearch>=8.19,<9' orjson",
    packages=("elasticsearch",),
    secrets=VARIABLES,
    capabilities=Capabilities(words=True, native_upsert=True, generations=True),
    connect=_connect,
    options=(
        Option("index", f"vector index of a new index (default {INDEX_KINDS[0]})", INDEX_KINDS),
        Option(
            "store_vectors",
            "keep vectors in the stored documents as well (default: where the server could not give them back"
            " otherwise: before 9.2, or of a model whose vectors are not normalised)",
            bool,
        ),
    ),
)
