"""Servers that refuse what others take: one older than the client, and a serverless one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import adapters
from adapters.elasticsearch import mapping
from engine.errors import UsageError
from tests.adapters.contract import adapters_closed
from tests.records import make_schema


@contextmanager
def answering(answer: Any) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server that answers (method, path, body) as the function says; its URL, and what it was asked."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            asked.append((self.command, path))
            code, content = answer(self.command, path, json.loads(body) if body else None)
            text = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PUT = do_POST = do_HEAD = handle_any  # noqa: N815 - the names that the base class calls

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"elasticsearch://127.0.0.1:{server.server_address[1]}/chunks", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def error(kind: str, reason: str) -> tuple[int, dict[str, Any]]:
    return 400, {"error": {"type": kind, "reason": reason}, "status": 400}


def test_a_server_older_than_the_client_says_what_to_install() -> None:
    refusal = error("media_type_header_exception", "Invalid media-type value on headers [Accept]")
    with answering(lambda *_: refusal) as (url, _), pytest.raises(UsageError) as caught:
        adapters.connect(url)
    assert "pip install 'elasticsearch>=8.19,<9'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_that_a_serverless_one_refuses_are_left_out() -> None:
    state: dict[str, Any] = {}

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        if path.endswith("/_settings") and method == "PUT":
            return error("illegal_argument_exception", "Settings are not available in serverless mode")
        if path.endswith("/_mapping"):
            state["mappings"]["_meta"] = body["_meta"]
            return 200, {"acknowledged": True}
        if method == "PUT":
            state.update(mappings=body["mappings"], aliases=body["aliases"])
            return 200, {"acknowledged": True}
        if path.endswith("/_count"):
            return 200, {"count": 0}
        if path in ("/chunks", "/chunks-*"):
            if not state:
                return 404, {"error": {"type": "index_not_found_exception", "reason": "no such index"}}
            return 200, {"chunks-000001": {**state, "settings": {"index": {"uuid": "u"}}}}
        return 200, {}

    with answering(answer) as (url, asked):
        with adapters_closed(url) as adapter:
            adapter.ensure_schema(make_schema())
            adapter.prepare()
            adapter.publish(0)
            assert adapter.schema() == make_schema()
        assert ("PUT", "/chunks-000001/_settings") in asked
    assert mapping.LOAD_KEY not in state["mappings"]["_meta"]
