"""Real Elasticsearch servers for the tests, started by `scripts/elasticsearch`."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "elasticsearch"

#: Seconds for a first start, in which Maven may have to fetch the server.
START_SECONDS = 600


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `scripts/elasticsearch` to its end."""
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_SECONDS)


#: Ports for servers: below those that the system gives to outgoing connections.
PORTS = range(20_000, 30_000)

#: What `free_port` has given away, each as a name that the system lets only one process have at a time.
_claims: list[socket.socket] = []


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on; no other process is given it here while this one lives."""
    for port in random.sample(PORTS, len(PORTS)):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0vector-streaming-engine-test-{port}")  # abstract: gone with its process
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port
    raise RuntimeError(f"no port is free from {PORTS.start} to {PORTS.stop - 1}")


@contextmanager
def node_folder() -> Iterator[Path]:
    """A folder for a node; not pytest's own, which only root could enter where root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="elasticsearch-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def require(done: subprocess.CompletedProcess[str]) -> None:
    """Skip where this machine lacks Java or Maven; there is no such excuse in CI."""
    if done.returncode and "install the Debian package" in done.stderr and not os.environ.get("CI"):
        pytest.skip(done.stderr.strip())
    if done.returncode:
        pytest.fail(done.stderr)


@contextmanager
def elasticsearch(version: str, variable: str) -> Iterator[str]:
    """The start of an adapter URL, `elasticsearch://host:port`: of a running server that the environment
    variable names, else of a node that lives as long as the block."""
    if given := os.environ.get(variable):
        yield (
            given.rstrip("/")
            .replace("http://", "elasticsearch://")
            .replace("https://", "elasticsearch+https://")
        )
        return
    port = free_port()
    with node_folder() as folder, _node(version, port, folder):
        yield f"elasticsearch://127.0.0.1:{port}"


@dataclass(frozen=True)
class Secured:
    """A server that wants TLS and a password of the user elastic; `url` is as in `elasticsearch`."""

    url: str
    password_file: Path
    authority: Path

    @property
    def password(self) -> str:
        """What is in the file."""
        return self.password_file.read_text(encoding="utf-8").strip()

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which an adapter gets in."""
        return {
            "ELASTICSEARCH_PASSWORD_FILE": str(self.password_file),
            "ELASTICSEARCH_CA_CERTS": str(self.authority),
        }


@contextmanager
def secured_elasticsearch() -> Iterator[Secured]:
    """A real 8.19 server with security on."""
    port = free_port()
    with node_folder() as folder, tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(f"{secrets.token_urlsafe(16)}\n")
        file.flush()
        with _node("8.19.21", port, folder, "--password-file", file.name):
            yield Secured(
                f"elasticsearch+https://127.0.0.1:{port}", Path(file.name), folder / "tls" / "ca.pem"
            )


@contextmanager
def _node(version: str, port: int, folder: Path, *more: str) -> Iterator[None]:
    options = ["--version", version, "--port", str(port), "--data", str(folder), "--heap", "512m"]
    try:
        require(script("start", *options, *more))
        yield
    finally:
        script("stop", *options)
