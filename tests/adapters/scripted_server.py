"""A server on 127.0.0.1 that stores what `_bulk` sends and misbehaves as its script says."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Path that a redirect names; nobody should ever ask for it.
ELSEWHERE = "/elsewhere"

#: Closing a socket with this option resets the connection instead of ending it.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Answer:
    """What is sent back: `cut` bytes of the body at most before the line is cut, slowly with `drip`."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    drip: bool = False


#: Plays one request: gets the server and the ids, and cuts the line where it returns None.
Play = Callable[["ScriptedServer", list[str]], "Answer | None"]


class ScriptedServer:
    """`documents` counts how often each id was stored; `script` holds the plays of the next requests.

    `refused` ids get 400 whatever the script says, and a body of more than `most_bytes` gets 413.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.port = 0
        self.begin()

    def begin(self) -> None:
        """Forget everything."""
        self.documents: dict[str, int] = {}
        self.script: deque[Play] = deque()
        self.requests: list[list[str]] = []
        self.strays: list[str] = []
        self.refused: set[str] = set()
        self.most_bytes: int | None = None

    def store(self, ids: list[str]) -> list[dict[str, Any]]:
        """Store each id once; the items of the answer."""
        items: list[dict[str, Any]] = []
        for one in ids:
            if one in self.refused:
                items.append(failed(400))
            elif one in self.documents:
                items.append(failed(409, "version_conflict_engine_exception"))
            else:
                self.documents[one] = 1
                items.append({"create": {"status": 201}})
        return items

    def apply(self, ids: list[str]) -> Answer:
        """Behave."""
        return listing(self.store(ids))


def failed(code: int, error_type: str = "scripted") -> dict[str, Any]:
    """The item of a record that was not stored."""
    return {"create": {"status": code, "error": {"type": error_type, "reason": "as written"}}}


def listing(items: list[dict[str, Any]]) -> Answer:
    """The answer that lists these items."""
    errors = any("error" in item["create"] for item in items)
    return Answer(200, json.dumps({"errors": errors, "items": items}).encode())


def status(code: int) -> Play:
    """The whole request is refused."""
    body = b'{"error":{"type":"scripted","reason":"as written"},"status":%d}' % code
    return lambda server, ids: Answer(code, body)


def lost_answer(server: ScriptedServer, ids: list[str]) -> None:
    """The write is applied, and then the line is cut."""
    server.store(ids)


def cut(server: ScriptedServer, ids: list[str]) -> None:
    """Nothing is applied, and the line is cut."""


def reset(server: ScriptedServer, ids: list[str]) -> None:
    """The line is reset before the body is read; the server knows this play and doesn't call it."""


def half(server: ScriptedServer, ids: list[str]) -> Answer:
    """The write is applied, and the line is cut in the middle of the answer."""
    body = server.apply(ids).body
    return Answer(200, body, cut=len(body) // 2)


def slow(server: ScriptedServer, ids: list[str]) -> Answer:
    """The answer comes in small pieces."""
    return Answer(200, server.apply(ids).body, drip=True)


def garbage(server: ScriptedServer, ids: list[str]) -> Answer:
    """The write is applied, but the answer is no JSON."""
    server.store(ids)
    return Answer(200, b'{"errors":false,"items":[{"create"')


def page(server: ScriptedServer, ids: list[str]) -> Answer:
    """Something in between answers with a page of its own."""
    return Answer(200, b"<html>Please log in</html>", {"Content-Type": "text/html"})


def other_json(server: ScriptedServer, ids: list[str]) -> Answer:
    """JSON, but of another shape."""
    server.store(ids)
    return Answer(200, random.choice((b"[]", b"7", b'{"items":3}', b'{"items":[1]}', b'{"items":[{}]}')))


def short(server: ScriptedServer, ids: list[str]) -> Answer:
    """The answer lacks the last item."""
    return listing(server.store(ids)[:-1])


def redirect(server: ScriptedServer, ids: list[str]) -> Answer:
    """Sends the client elsewhere."""
    return Answer(307, b"", {"Location": f"http://127.0.0.1:{server.port}{ELSEWHERE}"})


def every_second(code: int, error_type: str = "scripted") -> Play:
    """Each second item gets this status, the others are stored."""

    def play(server: ScriptedServer, ids: list[str]) -> Answer:
        stored = iter(server.store(ids[::2]))
        return listing([failed(code, error_type) if i % 2 else next(stored) for i in range(len(ids))])

    return play


def each(code: int, error_type: str = "scripted") -> Play:
    """Each item gets this status."""
    return lambda server, ids: listing([failed(code, error_type) for _ in ids])


def at_most(count: int) -> Play:
    """413 for more than so many records, from now on."""

    def play(server: ScriptedServer, ids: list[str]) -> Answer:
        server.script.appendleft(play)
        return Answer(413) if len(ids) > count else server.apply(ids)

    return play


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    """A running server; it ends with the block."""
    state = ScriptedServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_PUT(self) -> None:  # what the client sends for `_bulk`
            self.do_POST()

        def do_GET(self) -> None:
            state.strays.append(self.path)
            self._answer(Answer(404))

        def do_POST(self) -> None:
            if not self.path.startswith("/index/_bulk"):
                state.strays.append(self.path)
            with state.lock:
                play: Play = state.script.popleft() if state.script else ScriptedServer.apply
            if play is reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                self._cut()
                return
            body = self.rfile.read(int(self.headers["Content-Length"]))
            ids = [json.loads(line)["create"]["_id"] for line in body.splitlines()[::2]]
            with state.lock:
                state.requests.append(ids)
                too_large = state.most_bytes is not None and len(body) > state.most_bytes
                answer = Answer(413) if too_large else play(state, ids)
            if answer is None:
                self._cut()
            else:
                self._answer(answer)

        def _answer(self, answer: Answer) -> None:
            self.send_response(answer.status)
            headers = {
                "X-Elastic-Product": "Elasticsearch",
                "Content-Type": "application/vnd.elasticsearch+json;compatible-with=8",
                "Content-Length": str(len(answer.body)),
                **answer.headers,
            }
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            body = answer.body[: answer.cut]
            step = max(1, len(body) // 4) if answer.drip else len(body) or 1
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                time.sleep(0.001 if answer.drip else 0.0)
            if answer.cut is not None:
                self._cut()

        def _cut(self) -> None:
            self.close_connection = True
            self.connection.close()

        def finish(self) -> None:
            if not self.wfile.closed and self.connection.fileno() >= 0:
                super().finish()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that goes away is a part of the play."""

        def shutdown_request(self, request: Any) -> None:
            if request.fileno() >= 0:
                super().shutdown_request(request)

    server = Server(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
