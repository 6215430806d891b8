"""Training the demo CLIP from scratch, and measuring it as open_clip loads it."""

from __future__ import annotations

import json
import math
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from .captions import full_caption, masks_of, random_caption
from .folder import IMAGE_SIZE, model_config, write_config
from .scenes import Scene, draw, held_out, random_scene

if TYPE_CHECKING:
    import torch

#: Seeds are this far apart, so that no picture of training is drawn with a seed of evaluation.
EVALUATION_SEED = 10**9

#: Pictures drawn before training, and how many of them make a block that one process draws.
POOL, BLOCK = 40_000, 2_000

BATCH = 256
STEPS = 1_200
WARM_UP = 80
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05

#: CLIP's own bound of the temperature: the logarithm of 100.
MAX_LOGIT_SCALE = math.log(100)

#: Longer sides of drawn pictures stay below this many pixels; the shorter are at least half of them.
LARGEST_DRAWN = 300


def draw_block(seed: int) -> tuple[npt.NDArray[np.uint8], list[Scene]]:
    """`BLOCK` pictures of many sizes, cropped and resized to uint8 [BLOCK, IMAGE_SIZE, IMAGE_SIZE, 3]."""
    rng = random.Random(seed)
    pictures = np.empty((BLOCK, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    scenes: list[Scene] = []
    while len(scenes) < BLOCK:
        scene = random_scene(rng)
        if held_out(scene):
            continue
        picture = draw(scene, *random_size(rng), rng)
        pictures[len(scenes)] = np.asarray(
            ImageOps.fit(picture, (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
        )
        scenes.append(scene)
    return pictures, scenes


def random_size(rng: random.Random) -> tuple[int, int]:
    """Width and height in pixels, upright or lying."""
    long_side = rng.randint(90, LARGEST_DRAWN)
    short_side = max(80, round(long_side * rng.uniform(0.5, 1)))
    return (long_side, short_side) if rng.random() < 0.7 else (short_side, long_side)


def draw_pool(seed: int, processes: int) -> tuple[npt.NDArray[np.uint8], list[Scene]]:
    """The training pictures, the same for the same seed whatever the number of processes."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        blocks = list(pool.map(draw_block, range(seed, seed + POOL // BLOCK)))
    return np.concatenate([pictures for pictures, _ in blocks]), [
        scene for _, scenes in blocks for scene in scenes
    ]


def train(folder: Path, seed: int, threads: int, steps: int = STEPS) -> dict[str, float]:
    """Train, and write the open_clip folder; returns the seconds of wall and CPU time it took."""
    import open_clip
    import torch
    from safetensors.torch import save_file
    from torch.nn import functional
    from torch.nn.attention import SDPBackend, sdpa_kernel

    wall, cpu = time.perf_counter(), _cpu_seconds()
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    write_config(folder)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    pictures, scenes = draw_pool(seed, 2)
    scene_masks = np.array([masks_of(scene) for scene in scenes])
    print(f"{len(scenes)} pictures drawn after {time.perf_counter() - wall:.0f} s", flush=True)

    model = open_clip.CLIP(**model_config()).to(memory_format=torch.channels_last)
    plain = [p for name, p in model.named_parameters() if p.ndim < 2 or "positional" in name]
    decayed = [p for name, p in model.named_parameters() if p.ndim >= 2 and "positional" not in name]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
    )
    rng = random.Random(seed)
    order: list[int] = []
    model.train()
    for step in range(steps):
        if len(order) < BATCH:
            order = rng.sample(range(len(scenes)), len(scenes))
        rows, order = order[:BATCH], order[BATCH:]
        captions = [random_caption(scenes[row], rng) for row in rows]
        allows = np.array([caption.allows for caption in captions])
        also_true = ((allows[:, None, :] & scene_masks[rows][None, :, :]) != 0) | (allows[:, None, :] == -1)
        ignored = torch.from_numpy(also_true.all(axis=2)) & ~torch.eye(BATCH, dtype=torch.bool)
        pixels = torch.from_numpy(pictures[rows]).permute(0, 3, 1, 2).float().div_(255).sub_(0.5).div_(0.25)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps)
        # The fused attention's backward pass takes several times as long on a CPU as the plain one.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            image, text, scale = model(pixels, tokenizer([caption.text for caption in captions]))
        logits = (scale * text.float() @ image.float().T).masked_fill(ignored, float("-inf"))
        own = torch.arange(BATCH)
        loss = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        if step % 50 == 49:
            print(
                f"step {step + 1}/{steps}: loss {loss.item():.3f}, {time.perf_counter() - wall:.0f} s",
                flush=True,
            )
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    path = folder / "open_clip_model.safetensors"
    save_file(weights, path)
    path.chmod(0o644)
    return {"wall_s": time.perf_counter() - wall, "cpu_s": _cpu_seconds() - cpu}


def learning_rate(step: int, steps: int) -> float:
    """A linear warm-up, then half a cosine down to a hundredth."""
    if step < WARM_UP:
        return LEARNING_RATE * (step + 1) / WARM_UP
    return LEARNING_RATE * (0.01 + 0.99 * (1 + math.cos(math.pi * (step - WARM_UP) / (steps - WARM_UP))) / 2)


def unseen_pictures(count: int, seed: int) -> tuple[list[Image.Image], list[str]]:
    """Pictures of scenes that training holds out, and their captions, no two of which are the same."""
    rng = random.Random(EVALUATION_SEED + seed)
    pictures: dict[str, Image.Image] = {}
    while len(pictures) < count:
        scene = random_scene(rng)
        caption = full_caption(scene).text
        if held_out(scene) and caption not in pictures:
            pictures[caption] = draw(scene, *random_size(rng), rng)
    return list(pictures.values()), list(pictures)


def evaluate(folder: Path, count: int = 100, seed: int = 0) -> dict[str, float]:
    """Recall at 1 and 5 in both directions among `count` unseen pictures, loaded by open_clip alone."""
    import open_clip
    import torch

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    pictures, captions = unseen_pictures(count, seed)
    with torch.inference_mode():
        image = model.encode_image(torch.stack([preprocess(picture) for picture in pictures]), normalize=True)
        text = model.encode_text(tokenizer(captions), normalize=True)
    likeness = text @ image.T
    return {
        "pictures": count,
        "caption_to_picture_recall_at_1": _recall(likeness, 1),
        "caption_to_picture_recall_at_5": _recall(likeness, 5),
        "picture_to_caption_recall_at_1": _recall(likeness.T, 1),
    }


def _recall(likeness: torch.Tensor, k: int) -> float:
    """Share of rows whose own column is among the k highest."""
    best = likeness.topk(k, dim=1).indices
    return sum(row in best[row].tolist() for row in range(len(best))) / len(best)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def as_json(result: dict[str, float]) -> str:
    """Numbers rounded for people."""
    return json.dumps({key: round(value, 3) for key, value in result.items()})
