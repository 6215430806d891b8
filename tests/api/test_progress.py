from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import engine
from engine.api import progress
from engine.sources.base import Found
from engine.sources.memory import held


class Terminal(io.StringIO):
    """A standard error that somebody watches."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def model() -> engine.EmbeddingModel:
    return engine.EmbeddingModel.from_pretrained("stand-in:16")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three texts of 8 bytes."""
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"Note {number}.\n"[:8])
    return tmp_path


def test_bytes_files_tokens_and_the_present_file_are_shown(
    model: engine.EmbeddingModel, folder: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.embed_directory(folder, model, adapter=url, progress=True)
    shown = capsys.readouterr().err
    assert shown.startswith("\rembed")
    assert "24.0B" in shown or "24.0/24.0" in shown
    assert "3 files" in shown.split("\r")[-1]


def test_iterators_show_a_bar_where_it_is_asked_for(
    model: engine.EmbeddingModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert len(list(engine.embed_directory(folder, model))) == 3
    assert terminal.getvalue() == ""
    items = {"a": "Bees.", "b": "Tea."}
    assert len(list(engine.embed_items(items, model, progress=True))) == 2
    assert "2 files" in terminal.getvalue()


def test_a_call_that_takes_long_shows_a_bar_to_whom_watches(
    model: engine.EmbeddingModel, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.api.interface.DELAY_S", 0.0)
    for watched, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", watched)
        engine.embed_directory(folder, model, adapter=url)
        assert ("3 files" in watched.getvalue()) is shown
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    engine.embed_directory(folder, model, adapter=url, progress=False)
    assert terminal.getvalue() == ""


def test_a_short_call_shows_none(
    model: engine.EmbeddingModel, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.api.interface.DELAY_S", 3600.0)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    engine.embed_directory(folder, model, adapter=url)
    assert "files" not in terminal.getvalue()


def test_the_total_comes_from_a_listing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    items = [held(b"12345", "a"), held(b"12345", "b\x1b[31m")]
    listed = threading.Event()

    def ahead() -> Iterator[Found]:
        yield from items
        listed.set()

    with progress.Progress(True, ahead()) as bar:
        assert listed.wait(60)
        while bar.total is None:
            time.sleep(0.01)
        for item in items:
            bar.on(item, 100)
            bar.done(item)
    assert "10.0/10.0" in terminal.getvalue()
    assert "\x1b[31m" not in terminal.getvalue()


def test_a_notebooks_widget_learns_the_total_late() -> None:
    with progress.Progress(True, [held(b"12345", "a")]) as bar:
        while bar.total is None:
            time.sleep(0.01)
        widget = SimpleNamespace(max=1, bar_style="info")
        bar._bar.container = SimpleNamespace(children=[None, widget, None])
        bar.done(held(b"12345", "a"))
    assert (widget.max, widget.bar_style) == (5, "")


def test_a_notebook_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert progress.in_notebook() and progress.watched()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not progress.in_notebook()
