"""Elasticsearch 8.19 and 9.x: `elasticsearch://host:port[,host:port…]/index`, `elasticsearch+https://…`.

- `location`: what the URL says, and the client for it; secrets come from the environment.
- `mapping`: the index's fields and settings.
- `bulk`: the sender that resends what was not acknowledged, and only that.
- `adapter`: the contract of `adapters.base` on top of them.
"""

from __future__ import annotations

from adapters.elasticsearch.adapter import ElasticsearchAdapter, connect

__all__ = ["ElasticsearchAdapter", "connect"]
