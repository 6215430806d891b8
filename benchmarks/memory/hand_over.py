"""What does handing a picture to another process cost, pickled through a pipe and by shared memory?

    python -m benchmarks.memory.hand_over [--pictures 2000] [--side 224] [--rounds 5]

A child sends pictures, uint8 [side, side, 3], at most as many ahead as the picture buffer has places, and
this process takes a copy of each, as the inference process does. Told are the medians of interleaved rounds:
CPU time of both processes for each picture, and pictures a second.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from multiprocessing.connection import Connection

import numpy as np

from benchmarks.memory import figures
from engine.runtime.process.shared_pictures import SharedPictureBuffer, make_picture_buffer


def _send(output: Connection, memory: str | None, count: int, side: int) -> None:
    """The child: every picture, then the CPU seconds that this took. `memory` is the buffer's path."""
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    picture_buffer = (
        None if memory is None else SharedPictureBuffer(os.open(memory, os.O_RDWR), picture.nbytes)
    )
    began = time.process_time()
    for number in range(count):
        picture[0, 0, 0] = number % 256
        if picture_buffer is None:
            output.send(picture)
            continue
        while (place := picture_buffer.put(picture)) is None:
            time.sleep(0.0002)
        output.send(place)
    output.send(time.process_time() - began)


def _round(by_shelf: bool, count: int, side: int) -> tuple[float, float]:
    """CPU microseconds a picture, and pictures a second."""
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    picture_buffer = memory = None
    made = make_picture_buffer() if by_shelf else None
    if by_shelf and made is None:
        raise SystemExit("hand_over: this system has no memory files")
    if made is not None:
        memory = f"/proc/{os.getpid()}/fd/{made}"
        picture_buffer = SharedPictureBuffer(os.dup(made), 3 * side * side)
    child = context.Process(target=_send, args=(writer, memory, count, side))
    child.start()
    writer.close()
    taken = reader.recv()
    began, cpu, seen = time.perf_counter(), time.process_time(), 0
    while not isinstance(taken, float):
        if picture_buffer is None:
            pixels = taken
        else:
            pixels = picture_buffer.look(taken).copy()
            picture_buffer.free(taken)
        if pixels[0, 0, 0] != seen % 256:
            raise SystemExit(f"hand_over: picture {seen} is another one")
        seen += 1
        taken = reader.recv()
    seconds, own = time.perf_counter() - began, time.process_time() - cpu
    child.join()
    if made is not None:
        os.close(made)
    return 1e6 * (own + taken) / count, count / seconds


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory.hand_over", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--pictures", type=int, default=2000, metavar="N", help="default 2000")
    parser.add_argument("--side", type=int, default=224, metavar="PIXELS", help="default 224")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default 5")
    args = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {"pickled through a pipe": [], "shared memory": []}
    for _ in range(args.rounds):
        for name, rounds in found.items():
            rounds.append(_round(name == "shared memory", args.pictures, args.side))
    print(
        figures.table(
            [
                {
                    "picture": name,
                    "CPU µs": f"{statistics.median(cpu for cpu, _ in rounds):.0f}",
                    "pictures/s": f"{statistics.median(rate for _, rate in rounds):,.0f}",
                }
                for name, rounds in found.items()
            ]
        )
    )
    ratio = statistics.median(pickled[0] / shared[0] for pickled, shared in zip(*found.values(), strict=True))
    print(f"CPU, pickled / shared: {ratio:.2f}")


if __name__ == "__main__":
    main()
