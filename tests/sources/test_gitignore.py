"""In a git work tree, what git ignores is left out by git's own rules; some folders are left out anywhere."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.sources import Corpus
from engine.sources.base import Item, Rules
from tests.sources.test_local import corpus_of, fill, found, word


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A git work tree."""
    folder = tmp_path / "tree"
    folder.mkdir()
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def taken(corpus: Corpus, root: Path) -> list[str]:
    return sorted(os.path.relpath(each.uri, root) for each in corpus if isinstance(each, Item))


def left_out(corpus: Corpus, root: Path, rule: str) -> list[str]:
    return sorted(
        os.path.relpath(each.uri, root)
        for each in corpus
        if not isinstance(each, Item) and word(each) == rule
    )


def git_takes(tree: Path) -> list[str]:
    command = [
        "git",
        "-C",
        str(tree),
        "-c",
        "core.excludesFile=",
        "ls-files",
        "-z",
        "-o",
        "--exclude-standard",
    ]
    return sorted(subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")[:-1])


def test_patterns_of_all_folders_down_to_a_file_count_and_the_nearest_decides(tree: Path) -> None:
    fill(
        tree,
        "a.txt",
        "a.log",
        "build/x.txt",
        "docs/a.log",
        "docs/keep.log",
        "docs/deep/b.tmp",
        "c.tmp",
        "secret",
    )
    (tree / ".gitignore").write_text("*.log\n/build/\n# a comment\n")
    (tree / "docs/.gitignore").write_text("!keep.log\r\n*.tmp\r\n")
    (tree / ".git/info/exclude").write_text("secret\n")
    corpus = corpus_of([str(tree)], hidden=True)
    assert taken(corpus, tree) == git_takes(tree)
    assert left_out(corpus, tree, "gitignore") == [
        "a.log",
        "build",
        "docs/a.log",
        "docs/deep/b.tmp",
        "secret",
    ]
    assert left_out(corpus_of([f"{tree}/docs"]), tree, "gitignore") == ["docs/a.log", "docs/deep/b.tmp"]
    assert left_out(corpus_of([str(tree)], gitignore=False), tree, "gitignore") == []


def test_outside_of_work_trees_and_in_one_inside_of_another_the_outer_patterns_say_nothing(
    tree: Path,
) -> None:
    fill(tree, "a.log", "inner/b.log", "inner/c.txt")
    (tree / ".gitignore").write_text("*.log\n")
    (tree.parent / ".gitignore").write_text("tree\n")
    (tree.parent / "x.log").write_text("x")
    (tree / "inner/.git").write_text("gitdir: elsewhere")
    assert taken(corpus_of([str(tree.parent)]), tree) == ["../x.log", "inner/b.log", "inner/c.txt"]


def test_what_is_named_is_taken_although_it_is_ignored(tree: Path) -> None:
    fill(tree, "a.log", "build/x.txt", "build/y.log", "b.txt")
    (tree / ".gitignore").write_text("*.log\nbuild\n")
    assert taken(corpus_of([f"{tree}/a.log", f"{tree}/build"]), tree) == ["a.log", "build/x.txt"]
    for inputs in ([tree, tree / "build", tree / "a.log"], [tree / "a.log", tree / "build", tree]):
        corpus = corpus_of([str(name) for name in inputs])
        assert taken(corpus, tree) == ["a.log", "b.txt", "build/x.txt"]
        assert len(list(corpus)) == len({each.uri for each in corpus})
    (tree.parent / "list").write_text(f"{tree}/a.log\n{tree}/build\n")
    assert taken(corpus_of([], str(tree.parent / "list")), tree) == ["a.log", "build/x.txt"]


def test_a_list_of_patterns_that_is_none_is_passed_over(tree: Path) -> None:
    fill(tree, "a.txt", "[x")
    (tree / "caf\udce9.log").touch()
    (tree / ".gitignore").write_bytes(b"\xef\xbb\xbf[x\n!\n/\n//\n\\\ncaf\xe9.*\n")
    (tree / "folder").mkdir()
    (tree / "folder/.gitignore").mkdir()
    fill(tree, "folder/b.txt")
    assert taken(corpus_of([str(tree)]), tree) == ["[x", "a.txt", "folder/b.txt"]


_NAMES = st.sampled_from(["a", "b", "ab", "a.b"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)
_PATTERNS = st.lists(
    st.tuples(
        st.sampled_from(["", "!"]),
        st.sampled_from(["", "/"]),
        st.lists(st.sampled_from(["a", "b", "*", "**", "a*", "?", "[ab]", "*.b"]), min_size=1, max_size=3),
        st.sampled_from(["", "/"]),
    ).map(lambda parts: parts[0] + parts[1] + "/".join(parts[2]) + parts[3]),
    max_size=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_PATHS, max_size=8), _PATTERNS, _PATTERNS)
def test_git_itself_takes_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], outer: list[str], inner: list[str]
) -> None:
    tree = tmp_path_factory.mktemp("tree")
    subprocess.run(["git", "init", "-q", str(tree)], check=True)
    for path in paths:
        try:
            fill(tree, path)
        except OSError:
            continue  # a file is where a folder would be
    (tree / ".gitignore").write_text("\n".join(outer))
    if (tree / "a").is_dir():
        (tree / "a/.gitignore").write_text("\n".join(inner))
    assert taken(corpus_of([str(tree)], hidden=True), tree) == git_takes(tree)


# What is left out by default


def test_what_nobody_wants_is_left_out_as_one_for_each_folder(tmp_path: Path) -> None:
    fill(
        tmp_path, "a.py", ".git/config", "web/node_modules/x/index.js", "__pycache__/a.pyc", "sub/.git",
        ".venv/pyvenv.cfg", ".venv/lib/x.py", "env/pyvenv.cfg", "env/lib/x.py", "node_modules.txt",
    )  # fmt: skip
    everything = found(corpus_of([str(tmp_path)], hidden=True), tmp_path)
    assert everything == {
        "a.py": "file",
        "node_modules.txt": "file",
        ".git": "excluded-by-default",
        ".venv": "excluded-by-default",
        "env": "excluded-by-default",
        "sub/.git": "excluded-by-default",
        "web/node_modules": "excluded-by-default",
        "__pycache__": "excluded-by-default",
    }
    assert found(corpus_of([str(tmp_path)]), tmp_path) == everything
    assert len(taken(corpus_of([str(tmp_path)], hidden=True, default_excludes=False), tmp_path)) == 10


def test_it_is_taken_where_it_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt", "node_modules/x.js", "node_modules/y/node_modules/z.js", "env/pyvenv.cfg")
    names = [str(tmp_path), f"{tmp_path}/node_modules", f"{tmp_path}/env"]
    for inputs in (names, names[::-1]):
        assert found(corpus_of(inputs), tmp_path) == {
            "a.txt": "file",
            "node_modules/x.js": "file",
            "node_modules/y/node_modules": "excluded-by-default",
            "env/pyvenv.cfg": "file",
        }


def test_rules_of_a_listing_are_its_own() -> None:
    assert Rules().outputs is not Rules().outputs
