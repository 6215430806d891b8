"""What the cases from files to database are made of: texts, pictures, models of a shape, and goals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.command import BenchError
from benchmarks.speed import photographs, prose, runs, shapes
from benchmarks.speed.backends import flop, token_ids
from benchmarks.speed.bench import Outcome
from benchmarks.speed.cases import ends, peers
from engine.chunkers.tokens import TokenChunker
from engine.models.load import load_image, load_text
from engine.models.resolve import resolve_image, resolve_text
from engine.records import TextSection


def test_a_text_has_as_many_tokens_as_were_asked_for() -> None:
    made = prose.Prose(4)
    lengths = [*range(14, 40), 254]
    assert [
        len(ids) - prose.SPECIAL_TOKENS for ids in token_ids(made.text(each) for each in lengths)
    ] == lengths


def test_a_long_text_is_cut_into_chunks_that_are_nearly_full_and_all_different(tmp_path: Path) -> None:
    prose.write_long(tmp_path / "long.txt", 60_000)
    section = TextSection(0, None, 0, (tmp_path / "long.txt").read_text(), "")
    chunks = list(TokenChunker(resolve_text()).chunks(section))
    assert np.mean([chunk.tokens for chunk in chunks[:-1]]) > 245
    assert len({chunk.text for chunk in chunks}) == len(chunks)
    # As English prose has it.
    assert 4 < 60_000 / sum(chunk.tokens for chunk in chunks) < 5


def test_mixed_files_are_of_all_lengths_and_one_chunk_each(tmp_path: Path) -> None:
    prose.write_mixed(tmp_path, 120_000)
    texts = [path.read_text() for path in tmp_path.rglob("*.txt")]
    lengths = [len(ids) for ids in token_ids(texts)]
    assert prose.LEAST <= min(lengths) < 30
    assert 240 < max(lengths) <= prose.MOST
    assert 120_000 <= sum(map(len, texts)) < 122_000
    assert len(set(texts)) == len(texts)


def test_models_of_a_shape_are_read_by_the_engine_and_counted_by_their_own_sizes(tmp_path: Path) -> None:
    text = shapes.text_model(tmp_path, "tiny")
    model = load_text(resolve_text(str(text)), "cpu", "float32", "torch")
    assert (model.spec.dimensions, model.spec.max_tokens, model.effective_mode) == (64, 256, "ids")
    assert np.isfinite(model.embed_ids([np.arange(5, 25, dtype=np.int32)])).all()
    # Two layers: four matrices of 64 x 64, two of 64 x 128, and attention to ten tokens.
    assert flop([10], text) == 10 * 2 * (2 * (4 * 64 * 64 + 2 * 64 * 128) + 4 * 64 * 10)
    image = shapes.image_model(tmp_path, "tiny")
    tower = load_image(resolve_image(str(image)), "cpu", "float32", "torch")
    assert (tower.spec.size, tower.spec.dimensions) == ((224, 224), 64)
    assert shapes.image_model(tmp_path, "tiny") == image


def test_generated_photographs_differ_and_are_as_large_as_they_say(tmp_path: Path) -> None:
    photographs.write(tmp_path, 2, None)
    paths = sorted(tmp_path.iterdir())
    with Image.open(paths[0]) as picture:
        assert (picture.format, picture.size) == ("JPEG", photographs.SIZE)
        assert "progressive" not in picture.info
    # As photographs: between a drawing's few kilobytes and pure noise.
    assert all(200_000 < path.stat().st_size < 3_000_000 for path in paths)
    assert paths[0].read_bytes() != paths[1].read_bytes()


def test_goals_of_texts_are_those_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ends.Rounds([300.0], [100.0], [0.96], [0.7], [10.0], [20.0], [2.0], [8.0])
    verdicts = {}
    for flags in ("avx2 fma", "avx2 avx512_bf16"):
        monkeypatch.setattr(ends, "machine", lambda flags=flags: {"flags": flags})
        outcome = Outcome()
        ends._judge(outcome, "uniform", found, 1.0)
        verdicts[flags] = [least for _, least in outcome.bars.values()]
    assert verdicts == {"avx2 fma": [1.45, 0.95, 0.78, 1.3], "avx2 avx512_bf16": [2.2, 0.95, 1.3]}


def test_the_goal_against_peers_is_by_the_backend_that_is_nearer() -> None:
    outcome = Outcome()
    rates = {
        peers.OURS: [80.0, 90.0],
        "one": [10.0, 10.0],
        "other": [40.0, 30.0],
        peers.LANGCHAIN: [70.0, 70.0],
    }
    peers._judge(outcome, "texts", rates)
    assert list(outcome.bars.values()) == [(2.5, 4.0)]


def test_a_program_that_fails_is_one_line_with_what_it_said() -> None:
    with pytest.raises(BenchError, match=r"ended with 3: no such model"):
        runs.timed([sys.executable, "-c", "import sys; print('no such model', file=sys.stderr); sys.exit(3)"])


def test_peers_that_are_not_installed_are_one_line_with_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.speed.cases", "peers", "--cache", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"benchmarks/memory/peers/install {tmp_path}" in done.stderr


def test_a_small_run_of_photographs_gives_figures_against_the_bound_and_the_plain_loop(
    tmp_path: Path,
) -> None:
    options = [
        "--generated",
        "--shape",
        "tiny",
        "--photographs",
        "24",
        "--rounds",
        "1",
        "--work",
        str(tmp_path),
    ]
    figures = tmp_path / "figures.json"
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed.cases",
        "photographs",
        *options,
        "--json",
        str(figures),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    if done.returncode == 1:  # a machine that is too fast for so few pictures says so
        assert "the run was too short" in done.stderr
        assert "give the case more to do" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    told = json.loads(figures.read_text())
    assert [row["by"] for row in told["table"]] == ["engine, files to LanceDB", "open_clip, plain loop"]
    assert told["figures"][0].startswith("end to end ÷ the bound: ")
