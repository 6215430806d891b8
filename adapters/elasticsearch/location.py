"""The location of an index, and a client for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import elastic_transport
import elasticsearch

from adapters.elasticsearch.credentials import VARIABLES, Credentials
from engine.errors import AccessError, DatabaseUnavailableError, UsageError

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
    """A parsed URL; `hosts` are `http(s)://name:port`, and none where a cloud id says where it is."""

    url: str
    hosts: tuple[str, ...]
    index: str

    @classmethod
    def parse(cls, url: str) -> Location:
        """Raises `UsageError` where the URL is not of the documented form."""
        scheme, _, rest = url.partition("://")
        nodes, _, index = rest.partition("/")
        transport = "https" if scheme.endswith("+https") else "http"
        hosts = []
        by_cloud_id = not nodes and transport == "https"
        for node in () if by_cloud_id else nodes.split(","):
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

    def client(self, connections: int = 1) -> elasticsearch.Elasticsearch:
        """A client without retries of its own; `connections` to each node are kept open.

        Raises `UsageError` for credentials that can't be used.
        """
        credentials = Credentials.from_environment()
        options = credentials.options()
        if self.hosts:
            options["hosts"] = list(self.hosts)
        elif credentials.cloud:
            options["cloud_id"] = credentials.cloud
        else:
            raise UsageError(f"--adapter {self.url}: name host:port, or set ELASTICSEARCH_CLOUD_ID")
        if credentials.authority and not any(host.startswith("http:") for host in self.hosts):
            options["ca_certs"] = credentials.authority
        try:
            return elasticsearch.Elasticsearch(
                request_timeout=REQUEST_SECONDS,
                max_retries=0,
                retry_on_timeout=False,
                connections_per_node=connections,
                **options,  # type: ignore[arg-type]
            )
        except (ValueError, OSError) as error:
            raise UsageError(f"--adapter {self.url}: {' '.join(str(error).split())}") from None

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raises the engine's errors, one line each, in place of the client's."""
        try:
            yield
        except elastic_transport.TlsError as error:
            raise AccessError(
                f"{self.url}: no trusted TLS connection ({_first(error)}); name the CA's certificate file in "
                "ELASTICSEARCH_CA_CERTS"
            ) from None
        except elastic_transport.ConnectionError as error:
            raise DatabaseUnavailableError(self.no_answer(_first(error))) from None
        except elasticsearch.UnsupportedProductError:
            raise UsageError(f"{self.url}: the server there is not Elasticsearch") from None
        except elasticsearch.ApiError as error:
            if "media_type_header_exception" in str(error.body):
                raise UsageError(self._other_version()) from None
            raise self.refused(error.status_code, reason_of(error.body)) from None
        except elastic_transport.TransportError as error:
            raise DatabaseUnavailableError(self.no_answer(f"unexpected answer: {_first(error)}")) from None

    def no_answer(self, why: str) -> str:
        """One line for a server that can't be reached."""
        return (
            f"{self.url}: no answer ({why}); start Elasticsearch there (scripts/elasticsearch start runs one "
            f"on 127.0.0.1:{DEFAULT_PORT}) or name another server"
        )

    def _other_version(self) -> str:
        """One line for a server that doesn't speak the installed client's protocol."""
        installed = ".".join(map(str, elasticsearch.__version__))
        return (
            f"{self.url}: this server is older than the installed client {installed}, which it does not"
            " understand; install one for 8.19 and 9.x: pip install 'elasticsearch>=8.19,<9'"
        )

    def refused(self, status: int, reason: str) -> UsageError | DatabaseUnavailableError:
        """The error for a request that the server answered with this status."""
        if status in RETRYABLE:
            return DatabaseUnavailableError(f"{self.url}: status {status}: {reason}")
        if status in (401, 403):
            return AccessError(f"{self.url}: status {status}: {reason}; check {VARIABLES}")
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
