"""A short storm: some twenty kills of random processes, and some stops and polite signals, over LanceDB."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from benchmarks.chaos.corpus import HOSTILE
from benchmarks.chaos.database import Lance
from benchmarks.chaos.figures import Figures
from benchmarks.chaos.plan import strikes
from benchmarks.chaos.storm import Settings, Storm

#: Large enough a corpus, slow enough a stand-in, that one or two loads take twenty kills.
SETTINGS = Settings(
    seed=5, kills=20, megabytes=5, load_seconds=15, patient=0.25, delay=1.5, long_pause=None, hang_after=60
)

#: Lines of the story that a failure tells.
STORY_LINES = 80


def told(figures: Figures) -> str:
    """The message of a failure: how to see it again, what is wrong, and what happened."""
    again = f"python -m benchmarks.chaos --kills {SETTINGS.kills} --seed {figures.seed} --long-pause 0"
    return "\n".join([f"seed {figures.seed}; {again}", *figures.table(), *figures.story[-STORY_LINES:]])


def test_a_storm_of_kills_leaves_what_an_undisturbed_run_leaves(tmp_path: Path) -> None:
    storm = Storm(SETTINGS, Lance(tmp_path), tmp_path)
    figures = storm.run()
    assert figures.faultless, told(figures)
    assert figures.kills == SETTINGS.kills, told(figures)
    struck = {victim for (victim, signal), count in figures.landed.items() if signal == "SIGKILL" and count}
    assert {"supervisor", "parser", "inference", "indexer"} <= struck, told(figures)
    assert figures.records > 1000
    states = {name: storm.wanted.states[str(tmp_path / "corpus" / name)].split()[0] for name in HOSTILE}
    assert states == HOSTILE


def test_a_seed_gives_the_same_decisions_and_another_seed_others() -> None:
    one, again, other = (list(islice(strikes(seed, True, 45.0, 0.5, 2.0), 50)) for seed in (1, 1, 2))
    assert one == again
    assert one != other
