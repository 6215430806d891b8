"""Are the vectors in the database those of the reference libraries?

    python -m benchmarks.parity [FOLDER] [--json FILE]

Runs the engine over FOLDER (default `examples/corpus`) into a LanceDB of its own, once by default and once
with `--exact-images`, reads every record back, and embeds the same text with `SentenceTransformer.encode` and
the same picture (the upright RGB image) with open_clip's own preprocessing and `encode_image`, one after
another. Prints the largest and mean |1 - cosine| in float32. Left out are files with several frames, and
16-bit and float pictures, of which Pillow's own conversion to RGB makes white.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image, ImageOps
from sentence_transformers import SentenceTransformer

import adapters
from engine.models.resolve import resolve_image, resolve_text
from engine.records import source_of
from engine.runtime.report.summary import environment


@dataclass(frozen=True)
class Parity:
    """How far `count` vectors are from their references: |1 - cosine|, largest and mean."""

    what: str
    count: int
    largest: float
    mean: float


def indexed(folder: Path, work: Path, *options: str) -> list[dict[str, object]]:
    """Every record that a run over the folder leaves in a fresh LanceDB below `work`."""
    url = f"lancedb://{work}/index"
    command = [
        sys.executable,
        "-m",
        "engine.run",
        str(folder),
        "--adapter",
        url,
        "--run-dir",
        str(work / "run"),
    ]
    done = subprocess.run([*command, "--quiet", *options], check=False)
    if done.returncode not in (0, 3):
        raise RuntimeError(f"engine.run exited with {done.returncode}")
    adapter = adapters.connect(url)
    records = list(adapter.scan(with_embeddings=True))
    adapter.close()
    return records


def text_parity(records: Iterable[dict[str, object]]) -> Parity:
    """The text chunks against the model's own `encode`, one text a call so that no padding plays a part."""
    spec = resolve_text()
    model = SentenceTransformer(str(spec.folder), device="cpu")
    distances = [
        _distance(record["text_embedding"], model.encode(str(record["text"]), show_progress_bar=False))
        for record in records
        if record["kind"] == "text"
    ]
    return _parity("text chunks", distances)


def image_parity(records: Iterable[dict[str, object]], folder: Path, what: str) -> Parity:
    """The pictures against open_clip's preprocessing of the upright RGB image."""
    spec = resolve_image()
    if spec.folder is None:
        raise RuntimeError("the image model has no folder")
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{spec.folder}")
    model.eval()
    paths = {source_of(os.fspath(path)): path for path in folder.rglob("*")}
    distances = []
    for record in records:
        if record["kind"] != "image" or record["page"] is not None:
            continue
        with Image.open(paths[str(record["source"])]) as image:
            if image.mode.startswith(("I", "F")):
                continue
            upright = ImageOps.exif_transpose(image).convert("RGB")
        with torch.inference_mode():
            vector = model.encode_image(preprocess(upright)[None], normalize=True)[0].numpy()
        distances.append(_distance(record["image_embedding"], vector))
    return _parity(what, distances)


def _distance(ours: object, reference: object) -> float:
    one, other = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    return abs(1 - float(one @ other / np.sqrt((one @ one) * (other @ other))))


def _parity(what: str, distances: list[float]) -> Parity:
    if not distances:
        raise RuntimeError(f"no {what} to compare")
    return Parity(what, len(distances), max(distances), sum(distances) / len(distances))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("examples/corpus"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as work:
        default = indexed(args.folder, Path(work, "default"))
        exact = indexed(args.folder, Path(work, "exact"), "--exact-images", "--dtype", "float32")
    results.append(replace(text_parity(default), what="text chunks, by default"))
    results.append(replace(text_parity(exact), what="text chunks, float32"))
    results.append(image_parity(default, args.folder, "pictures, by default"))
    results.append(image_parity(exact, args.folder, "pictures, --exact-images"))
    print(f"{'what':<26}{'count':>7}{'largest |1-cos|':>18}{'mean':>12}")
    for row in results:
        print(f"{row.what:<26}{row.count:>7}{row.largest:>18.2e}{row.mean:>12.2e}")
    if args.json:
        content = {"results": [asdict(row) for row in results], "environment": vars(environment())}
        args.json.write_text(json.dumps(content, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
