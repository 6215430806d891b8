"""The environment variables that every process of a run inherits."""

from __future__ import annotations

import os

#: What every child process inherits: one thread for each library that would start one for each core (the
#: inference process sets torch's own), an allocator that doesn't keep an arena for each thread, and none of
#: multiprocessing's warnings about a semaphore of tqdm's that a killed process leaves to be cleaned up.
CHILD_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MALLOC_ARENA_MAX": "2",
    "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning",
}


def set_child_environment() -> None:
    """Set them in this process, as far as the user hasn't."""
    for name, value in CHILD_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
