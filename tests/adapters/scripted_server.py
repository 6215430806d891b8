"""A server on 127.0.0.1 that stores what `_bulk` sends and misbehaves as its script says."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Plays one request: gets the server and the ids, returns (status, body) or None to cut the line.
Play = Callable[["ScriptedServer", list[str]], tuple[int, bytes] | None]


class ScriptedServer:
    """`documents` holds what was acknowledged or applied; `script` the plays of the next requests."""

    def __init__(self) -> None:
        self.documents: dict[str, int] = {}
        self.script: deque[Play] = deque()
        self.requests: list[list[str]] = []
        self.port = 0

    def apply(self, ids: list[str]) -> tuple[int, bytes]:
        """Behave: store each id once."""
        items = []
        for one in ids:
            known = one in self.documents
            self.documents[one] = self.documents.get(one, 0) + (not known)
            error = {"type": "version_conflict_engine_exception", "reason": "exists"}
            items.append({"create": {"status": 409, "error": error} if known else {"status": 201}})
        return 200, json.dumps({"errors": False, "items": items}).encode()


def status(code: int) -> Play:
    """The whole request is refused."""
    return lambda server, ids: (
        code,
        b'{"error":{"type":"scripted","reason":"as written"},"status":%d}' % code,
    )


def lost_answer(server: ScriptedServer, ids: list[str]) -> None:
    """The write is applied, and then the line is cut."""
    server.apply(ids)


def cut(server: ScriptedServer, ids: list[str]) -> None:
    """Nothing is applied, and the line is cut."""


def garbage(server: ScriptedServer, ids: list[str]) -> tuple[int, bytes]:
    """The write is applied, but the answer is no JSON."""
    server.apply(ids)
    return 200, b'{"errors":false,"items":[{"create"'


def short(server: ScriptedServer, ids: list[str]) -> tuple[int, bytes]:
    """The answer lacks the last item."""
    _, body = server.apply(ids)
    answer = json.loads(body)
    return 200, json.dumps({"errors": False, "items": answer["items"][:-1]}).encode()


def every_second(code: int) -> Play:
    """Each second item gets this status, the others are stored."""

    def play(server: ScriptedServer, ids: list[str]) -> tuple[int, bytes]:
        kept, _ = ids[::2], server.apply(ids[::2])
        refused = {"status": code, "error": {"type": "scripted", "reason": "as written"}}
        items = [{"create": {"status": 201} if one in kept else refused} for one in ids]
        return 200, json.dumps({"errors": True, "items": items}).encode()

    return play


def at_most(count: int) -> Play:
    """413 for more than so many records."""

    def play(server: ScriptedServer, ids: list[str]) -> tuple[int, bytes]:
        if len(ids) > count:
            server.script.appendleft(play)
            server.script.appendleft(play)
            return 413, b""
        return server.apply(ids)

    return play


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    """A running server; it ends with the block."""
    state = ScriptedServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:  # what the client sends for `_bulk`
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            ids = [json.loads(line)["create"]["_id"] for line in body.splitlines()[::2]]
            state.requests.append(ids)
            play = state.script.popleft() if state.script else ScriptedServer.apply
            answer = play(state, ids)
            if answer is None:
                self.close_connection = True
                self.connection.close()
            else:
                self._answer(*answer)

        def _answer(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Type", "application/vnd.elasticsearch+json;compatible-with=8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def finish(self) -> None:
            if not self.wfile.closed and self.connection.fileno() >= 0:
                super().finish()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
