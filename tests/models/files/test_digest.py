from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from engine.models.cache import cache_folder, recall, remember
from engine.models.files.digest import REMEMBER_FROM, file_digest, model_digest


def test_a_large_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * REMEMBER_FROM)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert file_digest(path) == expected
    with monkeypatch.context() as patched:
        patched.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
        assert file_digest(path) == expected
    path.write_bytes(b"y" * REMEMBER_FROM)
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    assert file_digest(path) != expected


def test_a_cache_that_can_not_be_written_or_is_broken_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "weights"
    path.write_bytes(b"x" * REMEMBER_FROM)
    right = file_digest(path)
    for kept in (cache_folder() / "digests").iterdir():
        kept.write_text("half a dig")
    assert file_digest(path) == right
    monkeypatch.setenv("VECTOR_ENGINE_CACHE", str(tmp_path / "file"))
    assert file_digest(path) == right
    remember("a", "b")
    assert recall("a") is None


def test_what_is_remembered_leaves_no_temporary_file() -> None:
    remember("some/name", "value")
    assert recall("some/name") == "value"
    assert [path.name for path in (cache_folder() / "some").iterdir()] == ["name"]


def test_the_digest_depends_on_names_contents_and_settings_not_on_the_place(tmp_path: Path) -> None:
    for place, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / place).write_bytes(content)
    one = model_digest({"weights": tmp_path / "a"})
    assert one == model_digest({"weights": tmp_path / "b"})
    others = [
        model_digest({"weights": tmp_path / "c"}),
        model_digest({"config": tmp_path / "a"}),
        model_digest({"weights": tmp_path / "a"}, "settings"),
    ]
    assert len({one, *others}) == 4


def test_without_a_variable_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VECTOR_ENGINE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "vector-streaming-engine"
