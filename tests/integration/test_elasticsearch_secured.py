"""A real server with TLS and a password: who gets in, and that the password is nowhere to be read."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import adapters
from engine.errors import UsageError
from tests.adapters.contract import adapters_closed, write
from tests.integration.runs import HANG_S, Corpus
from tests.records import make_records, make_schema
from tests.servers import Secured, secured_elasticsearch


@pytest.fixture(scope="module")
def server() -> Iterator[Secured]:
    with secured_elasticsearch() as secured:
        yield secured


@pytest.fixture(autouse=True)
def environment(server: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's own process, and the runs that it starts, may get in."""
    for name in ("ELASTICSEARCH_USERNAME", "ELASTICSEARCH_PASSWORD", "ELASTICSEARCH_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def url(server: Secured) -> str:
    return f"{server.url}/index-{uuid.uuid4().hex[:12]}"


def test_the_right_password_over_tls_gets_in(url: str) -> None:
    with adapters_closed(url) as adapter:
        adapter.ensure_schema(make_schema())
        write(adapter, make_records(20))
        assert adapter.count() == 20
        assert len(adapter.search("text", make_records(1)[0].embedding, 3)) == 3


def test_a_wrong_password_is_refused_in_one_line_that_does_not_repeat_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ELASTICSEARCH_PASSWORD_FILE")
    monkeypatch.setenv("ELASTICSEARCH_PASSWORD", "not-the-right-one")
    with pytest.raises(UsageError, match=r"status 401.*ELASTICSEARCH_PASSWORD_FILE") as caught:
        adapters.connect(url)
    assert "not-the-right-one" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_password_at_all_says_how_to_give_one(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELASTICSEARCH_PASSWORD_FILE")
    with pytest.raises(UsageError, match=r"status 401.*ELASTICSEARCH_API_KEY"):
        adapters.connect(url)


def test_a_certificate_that_nobody_vouches_for_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELASTICSEARCH_CA_CERTS")
    with pytest.raises(UsageError, match="ELASTICSEARCH_CA_CERTS") as caught:
        adapters.connect(url)
    assert "\n" not in str(caught.value)


def test_the_password_is_in_no_file_no_output_and_no_argument(
    tmp_path: Path, server: Secured, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = Corpus(tmp_path)
    for number in range(40):
        corpus.write(f"note {number}.txt", f"note number {number} " * 50)
    command = corpus.command("--log-level", "debug", text_model="stand-in:16@4000", url=url)
    arguments: set[str] = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        deadline = time.monotonic() + HANG_S
        while run.poll() is None and time.monotonic() < deadline:
            try:
                family = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
                arguments.update(word for process in family for word in process.cmdline())
            except psutil.Error:
                continue
            time.sleep(0.2)
        out, err = run.communicate(timeout=HANG_S)
    assert run.returncode == 0, err
    secret = server.password
    told = [out, err, *arguments]
    assert url in arguments

    # A run that fails: the password has changed meanwhile.
    wrong = f"{secret}-of-yesterday"
    monkeypatch.delenv("ELASTICSEARCH_PASSWORD_FILE")
    monkeypatch.setenv("ELASTICSEARCH_PASSWORD", wrong)
    failed = corpus.run(url=url)
    assert failed.code == 2
    assert "401" in failed.err
    told += [failed.out, failed.err]
    assert not any(secret in text for text in told)
    files = [Path(folder, name) for folder, _, names in os.walk(corpus.run_dir) for name in names]
    assert {"ledger.sqlite", "summary.json", "run.log"} <= {path.name for path in files}
    for path in files:
        assert secret.encode() not in path.read_bytes(), path
