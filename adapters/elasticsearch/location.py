"""Where an index is, and a client that goes there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import elastic_transport
import elasticsearch

from engine.errors import DatabaseUnavailableError, UsageError

#: The port where a URL names none, with and without TLS.
DEFAULT_PORT = 9200

#: Seconds that the server gets for one request.
REQUEST_SECONDS = 60

#: Statuses after which the same request may be made again.
RETRYABLE = frozenset({408, 429, 500, 502, 503, 504})

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^\s:/@\[\]]+)(?::(?P<port>\d{1,5}))?")
_INDEX = re.compile(r'[^-_+.\s\\/*?"<>|,#:A-Z][^\s\\/*?"<>|,#:A-Z]*')


@dataclass(frozen=True, slots=True)
class Location:
    """A parsed URL; `hosts` are `http(s)://name:port`."""

    url: str
    hosts: tuple[str, ...]
    index: str

    @classmethod
    def parse(cls, url: str) -> Location:
        """Raises `UsageError` where the URL is not of the documented form."""
        scheme, _, rest = url.partition("://")
        nodes, _, index = rest.partition("/")
        if "@" in nodes:
            # Not repeated in the message: it would put the password into a log.
            raise UsageError(
                "--adapter: no user or password in the URL; set ELASTICSEARCH_USERNAME and "
                "ELASTICSEARCH_PASSWORD, or ELASTICSEARCH_API_KEY"
            )
        transport = "https" if scheme.endswith("+https") else "http"
        hosts = []
        for node in nodes.split(","):
            match = _HOST.fullmatch(node)
            if match is None or int(match["port"] or DEFAULT_PORT) > 65535:
                raise UsageError(f"--adapter {url}: {node!r} is not host or host:port")
            hosts.append(f"{transport}://{match['name']}:{match['port'] or DEFAULT_PORT}")
        if not _INDEX.fullmatch(index) or len(index.encode()) > 240:
            raise UsageError(
                f"--adapter {url}: {index!r} can't name an index: lower case, no spaces, none of "
                '\\/*?"<>|,#: and not -, _, + or . at the start'
            )
        return cls(url, tuple(hosts), index)

    def client(self) -> elasticsearch.Elasticsearch:
        """A client that leaves all resending to its caller; credentials from `ELASTICSEARCH_…` variables."""
        options: dict[str, object] = {}
        if key := os.environ.get("ELASTICSEARCH_API_KEY"):
            options["api_key"] = key
        elif user := os.environ.get("ELASTICSEARCH_USERNAME"):
            options["basic_auth"] = (user, os.environ.get("ELASTICSEARCH_PASSWORD", ""))
        authority = os.environ.get("ELASTICSEARCH_CA_CERTS")
        if authority and self.hosts[0].startswith("https"):
            if not Path(authority).is_file():
                raise UsageError(f"ELASTICSEARCH_CA_CERTS={authority}: no such file")
            options["ca_certs"] = authority
        try:
            return elasticsearch.Elasticsearch(
                list(self.hosts),
                request_timeout=REQUEST_SECONDS,
                max_retries=0,
                retry_on_timeout=False,
                **options,  # type: ignore[arg-type]
            )
        except (ValueError, OSError) as error:
            raise UsageError(f"--adapter {self.url}: {error}") from None

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raises the engine's errors, one line each, in place of the client's."""
        try:
            yield
        except elastic_transport.TlsError as error:
            raise UsageError(
                f"{self.url}: no trusted TLS connection ({_first(error)}); name the authority's file in "
                "ELASTICSEARCH_CA_CERTS"
            ) from None
        except elastic_transport.ConnectionError as error:
            raise DatabaseUnavailableError(self.no_answer(_first(error))) from None
        except elasticsearch.UnsupportedProductError:
            raise UsageError(f"{self.url}: what answers there is not Elasticsearch") from None
        except elasticsearch.ApiError as error:
            raise self.refused(error.status_code, reason_of(error.body)) from None
        except elastic_transport.TransportError as error:
            raise DatabaseUnavailableError(
                self.no_answer(f"no sense in its answer: {_first(error)}")
            ) from None

    def no_answer(self, why: str) -> str:
        """One line for a server that can't be reached."""
        return (
            f"{self.url}: no answer ({why}); start Elasticsearch there (scripts/elasticsearch start runs one "
            f"on 127.0.0.1:{DEFAULT_PORT}) or name another server"
        )

    def refused(self, status: int, reason: str) -> UsageError | DatabaseUnavailableError:
        """The error for a request that the server answered with this status."""
        if status in RETRYABLE:
            return DatabaseUnavailableError(f"{self.url}: status {status}: {reason}")
        if status in (401, 403):
            return UsageError(
                f"{self.url}: status {status}: {reason}; check ELASTICSEARCH_USERNAME and "
                "ELASTICSEARCH_PASSWORD, or ELASTICSEARCH_API_KEY"
            )
        return UsageError(f"{self.url}: status {status}: {reason}")


def reason_of(body: object) -> str:
    """The server's reason in one line of at most 300 characters."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = next(iter(error.get("root_cause") or ()), error)
        cause = (error.get("caused_by") or {}).get("reason")
        error = f"{error.get('type')}: {error.get('reason')}" + (f" ({cause})" if cause else "")
    return " ".join(str(error).split())[:300]


def _first(error: Exception) -> str:
    """The line of a transport error that matters: the innermost cause, without object addresses."""
    text = str(getattr(error, "message", error))
    return " ".join(re.sub(r"<[^>]* object at 0x[0-9a-f]+>:? ?", "", text).split())[:200]
