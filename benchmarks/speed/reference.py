"""What the libraries do by their defaults, in a process of its own; the last line is JSON.

    python -m benchmarks.speed.reference encode MODEL_FOLDER CHUNKS.json  encode, all at once
    python -m benchmarks.speed.reference open_clip MODEL_FOLDER PICTURES  encode_image, 32 at a time

`load_s` is from the first import to the loaded model, `seconds` is the work alone, after a first tiny input.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

#: Pictures of a batch, sentence-transformers' own number for texts.
BATCH = 32


def encode(folder: str, chunks: str) -> Callable[[], int]:
    """The work: all chunks by one call."""
    from sentence_transformers import SentenceTransformer

    texts = json.loads(Path(chunks).read_text(encoding="utf-8"))
    model = SentenceTransformer(folder)
    model.encode(["A first one."], show_progress_bar=False)

    def work() -> int:
        return len(model.encode(texts, show_progress_bar=False))

    return work


def clip(folder: str, pictures: str) -> Callable[[], int]:
    """The work: the plain loop over the files."""
    import open_clip
    import torch
    from PIL import Image

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}", device=device)
    model.eval()
    paths = sorted(Path(pictures).rglob("*.jpg"))

    def embed(batch: list[Path]) -> int:
        made = torch.stack([preprocess(Image.open(path)) for path in batch]).to(device)
        return len(model.encode_image(made, normalize=True).cpu().numpy())

    def work() -> int:
        with torch.inference_mode():
            return sum(embed(paths[i : i + BATCH]) for i in range(0, len(paths), BATCH))

    with torch.inference_mode():
        embed(paths[:1])
    return work


WORKS = {"encode": encode, "open_clip": clip}


def main() -> int:
    """The command."""
    name, *arguments = sys.argv[1:]
    began = time.perf_counter()
    work = WORKS[name](*arguments)
    loaded = time.perf_counter()
    count = work()
    done = time.perf_counter()
    print(json.dumps({"items": count, "load_s": loaded - began, "seconds": done - loaded}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
