"""`scripts/elasticsearch` with real servers: start, crash, recovery, stop."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import elasticsearch
import pytest

from tests.integration.runs import wait_until
from tests.servers import SCRIPT, free_port, node_folder, require, script


class Node:
    """A node with a folder and a port of its own; `version` is part of every call."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.options = ["--port", str(self.port), "--data", str(folder), "--version", version]

    def start(self, *more: str) -> subprocess.CompletedProcess[str]:
        return script("start", *self.options, "--heap", "512m", *more)

    def processes(self) -> list[int]:
        """Process ids, from the one line of `status`."""
        line = script("status", *self.options).stdout
        return [int(word) for word in line.partition("process ")[2].partition(",")[0].split()]


@pytest.fixture(params=["8.19.21", "9.5.3"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with node_folder() as folder:
        node = Node(folder, request.param)
        yield node
        script("stop", *node.options)


def test_a_node_is_started_found_killed_recovered_and_stopped(node: Node) -> None:
    absent = script("status", *node.options)
    assert (absent.returncode, absent.stdout.startswith("not running")) == (3, True)

    started = node.start()
    require(started)
    url = f"http://127.0.0.1:{node.port}"
    assert url in started.stdout
    assert len(started.stdout.splitlines()) == 1
    # The 8.19 launcher may take a moment longer to leave than the server to answer.
    wait_until(lambda: len(node.processes()) == 1)
    (process,) = node.processes()
    if os.geteuid() == 0:
        assert Path(f"/proc/{process}").stat().st_uid != 0

    again = node.start()
    assert again.returncode == 0
    assert "already" in again.stdout
    assert node.processes() == [process]

    with elasticsearch.Elasticsearch(url) as client:
        for number in range(20):
            client.index(index="kept", id=str(number), document={"number": number})
        os.kill(process, signal.SIGKILL)
    recovered = node.start()
    assert recovered.returncode == 0, recovered.stderr
    with elasticsearch.Elasticsearch(url) as client:
        client.indices.refresh(index="kept")
        assert client.count(index="kept")["count"] == 20

    stopped = script("stop", *node.options)
    assert stopped.returncode == 0
    assert script("status", *node.options).returncode == 3
    assert [entry for entry in Path("/proc").glob("[0-9]*") if str(node.folder) in command_line(entry)] == []
    assert script("stop", *node.options).returncode == 0


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def test_a_port_in_use_is_refused_in_one_line() -> None:
    with node_folder() as folder, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = script("start", "--port", str(port), "--data", str(folder))
    assert done.returncode == 1
    assert done.stderr.startswith(f"elasticsearch: port {port}: ")
    assert "--port" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    done = script("start", "--port", str(free_port()), "--data", str(tmp_path))
    assert done.returncode == 1
    assert "not made by this script" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_data_of_another_version_is_refused() -> None:
    with node_folder() as folder:
        (folder / "version").write_text("9.5.3\n")
        done = script("start", "--port", str(free_port()), "--data", str(folder), "--version", "8.19.21")
    assert done.returncode == 1
    assert "holds data of Elasticsearch 9.5.3" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's folders only matter to root")
def test_a_folder_that_the_servers_user_cannot_enter_is_refused(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    done = script("start", "--port", str(free_port()), "--data", str(private / "node"))
    assert done.returncode == 1
    assert "can't enter" in done.stderr
    assert list(private.iterdir()) == []


@pytest.mark.parametrize(
    ("environment", "package"),
    [({"ES_JAVA_HOME": "/nowhere"}, "ES_JAVA_HOME"), ({"PATH": "/nowhere"}, "maven")],
    ids=["java", "maven"],
)
def test_what_is_missing_is_named_with_its_package(
    tmp_path: Path, environment: dict[str, str], package: str
) -> None:
    # A copy of the scripts has no server in its cache, so that it needs Maven.
    with node_folder() as clone:
        shutil.copytree(SCRIPT.parent, clone / "scripts", ignore=shutil.ignore_patterns("[!e]*"))
        command = [
            sys.executable,
            str(clone / "scripts" / "elasticsearch"),
            "start",
            "--port",
            str(free_port()),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | environment, check=False
        )
    if "JDK" in done.stderr and package == "maven":
        pytest.skip("this machine's Java is found by the search path only")
    assert done.returncode == 1
    assert package in done.stderr


def test_a_start_that_fails_shows_the_end_of_the_log(tmp_path: Path) -> None:
    with node_folder() as folder:
        options = ["--port", str(free_port()), "--data", str(folder)]
        done = script("start", *options, "--heap", "1x")
        if "install the Debian package" in done.stderr:
            require(done)
        assert done.returncode == 1
        assert "Invalid initial heap size" in done.stderr
        assert script("status", *options).returncode == 3
