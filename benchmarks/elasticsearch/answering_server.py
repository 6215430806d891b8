"""A server that answers `_bulk` and stores nothing: what a client costs when no database is behind it.

python -m benchmarks.elasticsearch.answering_server PORT
"""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: The answer to one line that was taken, as `filter_path` leaves it.
TAKEN = b'{"create":{"status":201}}'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        """`PUT /index/_bulk`: two lines for each record."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = b'{"errors":false,"items":[' + b",".join([TAKEN] * (body.count(b"\n") // 2)) + b"]}"
        self.send_response(200)
        content_type = "application/vnd.elasticsearch+json;compatible-with=8"
        self.send_header("Content-Type", content_type)
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_PUT  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def main() -> None:
    """Serve until killed."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
