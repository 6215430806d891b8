"""Which version answers, also where `GET /` is forbidden or missing."""

from __future__ import annotations

import elasticsearch

#: Statuses that say "not by this way": no right to it, or no such thing on this server.
NOT_THIS_WAY = frozenset({401, 403, 404, 405, 410})

#: Serverless is always the newest, though it reports a fixed number.
SERVERLESS = (99, 0)

#: Where no way tells: older than anything that has a feature to look for.
UNKNOWN = (0, 0)

#: The first version that takes vectors as base64 of big-endian float32.
BASE64_VECTORS = (9, 3)


def server_version(client: elasticsearch.Elasticsearch) -> tuple[int, int]:
    """Major and minor version of the oldest node; `SERVERLESS` or `UNKNOWN` where there is no such number.

    Raises what the client raises where nothing sensible answers.
    """
    try:
        nodes = client.nodes.info(filter_path="nodes.*.version").body.get("nodes", {})
        found = [number(node["version"]) for node in nodes.values()]
        if found:
            return min(found)
    except elasticsearch.ApiError as error:
        if error.status_code not in NOT_THIS_WAY:
            raise
    try:
        version = client.info().body["version"]
    except elasticsearch.ApiError as error:
        if error.status_code not in NOT_THIS_WAY:
            raise
        return UNKNOWN
    return SERVERLESS if version.get("build_flavor") == "serverless" else number(version["number"])


def number(text: str) -> tuple[int, int]:
    """`8.19.21` or `9.5.0-SNAPSHOT` as (major, minor)."""
    major, minor = text.split(".")[:2]
    return int(major), int(minor)
