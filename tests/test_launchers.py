"""What `docs/launchers.md` tells is run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import psutil
import pyarrow.parquet
import pytest
import yaml

import engine
from tests.integration.runs import Corpus, same_vectors, wait_until
from tests.integration.test_run import PROSE

#: Seconds after which a recipe counts as hung.
HANG_S = 300.0

#: Ray's own environment, made by scripts/test: what it brings must not be found by the engine's other tests.
RAY = Path(".ray/bin/python").absolute()


def block(language: str, word: str) -> str:
    """The block of code in that language which has this word."""
    blocks = re.findall(rf"```{language}\n(.*?)```", Path("docs/launchers.md").read_text(), re.DOTALL)
    (found,) = [one for one in blocks if word in one]
    return str(found)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Nine short texts."""
    corpus = Corpus(tmp_path)
    for number in range(9):
        corpus.write(f"{number}.txt", f"Note {number}: the tide turns {number} times.")
    return corpus


def test_the_line_for_xargs_makes_the_index_of_one_run(corpus: Corpus) -> None:
    models = "--text-model stand-in:16 --no-images"
    lines = block("bash", "xargs").replace("python -m", f"{sys.executable} -m")
    lines = lines.replace("lancedb://vectors.lancedb", corpus.url).replace("runs/fleet", str(corpus.run_dir))
    lines = lines.replace("--fleet", f"--fleet --quiet {models}").replace("corpus/", str(corpus.files))
    subprocess.run(["bash", "-ec", lines], check=True, timeout=HANG_S, capture_output=True)
    other = Corpus.__new__(Corpus)
    other.root, other.files = corpus.root / "once", corpus.files
    assert other.run("--no-images").code == 0
    assert same_vectors(corpus.records(), other.records())


def pod(corpus: Corpus, index: int, model: str) -> psutil.Popen:
    """The container of a pod of the indexed Job, with this index."""
    (container,) = yaml.safe_load(block("yaml", "kind: Job"))["spec"]["template"]["spec"]["containers"]
    script = container["args"][0].replace("python -m", f"{sys.executable} -m")
    for given, here in (
        ("/corpus --adapter elasticsearch://elastic:9200/corpus", f"{corpus.files} --adapter {corpus.url}"),
        ("/runs/fleet", str(corpus.run_dir)),
        ("/models/minilm", f"{model} --no-images"),
        ("/8", "/2"),
    ):
        assert given in script
        script = script.replace(given, here)
    environment = {**os.environ, "JOB_COMPLETION_INDEX": str(index)}
    return psutil.Popen([*container["command"], script], env=environment, stderr=subprocess.DEVNULL)


def test_the_container_for_kubernetes_stops_and_goes_on_and_knows_failures(corpus: Corpus) -> None:
    for number in range(9):
        corpus.write(f"long {number}.txt", f"Note {number}. " + PROSE * 100)
    corpus.write("broken.pdf", "%PDF-1.4 not really")
    first = pod(corpus, 0, "stand-in:16@2000")
    wait_until((corpus.run_dir / "shards" / "0-of-2" / "status.json").exists)
    first.terminate()
    assert first.wait(HANG_S) == 75
    # Once more, and the other one. One of the two has the broken file: exit code 3, which is success here.
    assert [pod(corpus, index, "stand-in:16").wait(HANG_S) for index in range(2)] == [0, 0]
    merged = [sys.executable, "-m", "engine.merge", "--run-dir", str(corpus.run_dir), "--adapter", corpus.url]
    assert subprocess.run(merged, capture_output=True, check=False).returncode == 3
    other = Corpus.__new__(Corpus)
    other.root, other.files = corpus.root / "once", corpus.files
    assert other.run("--no-images").code == 3
    assert same_vectors(corpus.records(), other.records())


@pytest.mark.skipif(not RAY.exists() and "CI" not in os.environ, reason="scripts/test could not install Ray")
def test_the_recipe_for_ray_gives_the_records_of_the_engine(corpus: Corpus, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.py"
    own_node = "import ray\nray.init(num_cpus=2, include_dashboard=False, _node_ip_address='127.0.0.1')\n"
    recipe.write_text(own_node + block("python", "import ray"))
    target = tmp_path / "chunks"
    found = os.pathsep.join([os.getcwd(), sysconfig.get_path("purelib")])
    environment = {**os.environ, "PYTHONPATH": found, "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [str(RAY), str(recipe), str(corpus.files), "stand-in:16", str(target)],
        capture_output=True, text=True, timeout=HANG_S, check=False, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [
        row
        for part in sorted(target.glob("*.parquet"))
        for row in pyarrow.parquet.read_table(part).to_pylist()
    ]
    model = engine.EmbeddingModel.from_pretrained("stand-in:16")
    expected = {
        record.id: record.embedding.tolist()
        for path in sorted(corpus.files.iterdir())
        for record in engine.embed_file(path, model)
    }
    assert {row["id"]: row["embedding"] for row in rows} == expected
