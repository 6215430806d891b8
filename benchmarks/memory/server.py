"""An Elasticsearch of the benchmark's own, that can be stopped in mid-run, and what it is asked by HTTP.

No client library: the ruler is to map as little as it can.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command import BenchError

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "elasticsearch"


@dataclass(frozen=True)
class Server:
    """A node and its processes."""

    port: int
    pids: tuple[int, ...]

    @property
    def url(self) -> str:
        """For clients."""
        return f"http://127.0.0.1:{self.port}"

    def adapter(self, index: str) -> str:
        """For the engine."""
        return f"elasticsearch://127.0.0.1:{self.port}/{index}"

    def stall(self, seconds: float) -> None:
        """Stop every process of it for so long (SIGSTOP): connections stay open and nothing answers."""
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            for pid in self.pids:
                os.kill(pid, signal.SIGCONT)

    def delete(self, index: str) -> None:
        """Drop an index, or those of a pattern's names."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("DELETE", f"/{index}?ignore_unavailable=true")
            connection.getresponse().read()
        finally:
            connection.close()


@contextmanager
def elasticsearch(version: str = "8.19.21", heap: str = "512m") -> Iterator[Server]:
    """A node that lives as long as the block. Raises `BenchError` where it doesn't start."""
    # Not below a folder that only root may enter, where root runs this: the server is another user's.
    folder = Path(tempfile.mkdtemp(prefix="memory-bench-", dir="/var/tmp"))
    folder.chmod(0o755)
    port = _free_port()
    options = ["--version", version, "--port", str(port), "--data", str(folder)]
    try:
        _script("start", *options, "--heap", heap)
        found = re.search(r"process ([\d ]+\d)", _script("status", *options))
        if found is None:
            raise BenchError("elasticsearch: it runs, and its processes can't be told")
        yield Server(port, tuple(map(int, found[1].split())))
    finally:
        subprocess.run([sys.executable, str(SCRIPT), "stop", *options], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _script(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(done.stderr.strip())
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
