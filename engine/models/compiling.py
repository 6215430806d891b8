"""Whether torch's compiler saves more time than it takes, for a model on a GPU. Imports torch.

It joins what a model does between its products of matrices. What it gives and takes is measured by
`--calibrate`, and remembered for the model, the device and the versions of the libraries. A later run
compiles once its model has worked as long as it takes to save what the compiler takes. How much is still to
come isn't known, and so it never costs more than twice what the better choice would have (the ski-rental
problem; Karlin, Manasse, Rudolph and Sleator 1988).
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from engine.models.digest import recall, remember
from engine.models.memory import is_lost
from engine.models.probes import cosines
from engine.models.quiet import quiet
from engine.models.tuning import ROUNDS, WORTH, name_of, seconds_of
from engine.records import Vector

#: Bytes that the compiler may take; 340 MB were measured with MiniLM-L6 on a CPU.
COMPILER_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Gain:
    """How many times as fast a compiled model is, 0 where it can't be or is another; what compiling takes.

    `lost`: it lost the device.
    """

    times: float
    seconds: float
    lost: bool = False

    @property
    def worth_after_s(self) -> float:
        """Seconds of work without it in which it would have saved what it takes."""
        return self.seconds / (1 - 1 / self.times) if self.times > WORTH else math.inf

    def __str__(self) -> str:
        if not self.times:
            return "can't be used for it here"
        unused = ", and isn't used" if self.times <= WORTH else ""
        return f"makes it {self.times:.2f} times as fast and takes {self.seconds:.0f} s{unused}"


class Compiling:
    """Compiles the layers of one `model` where that is worth it.

    `name` tells models and number formats apart; `work` embeds inputs of many sizes; `enough` is the least
    cosine that its vectors may have to those of before.
    """

    def __init__(
        self, model: Any, device: torch.device, name: str, work: Callable[[], Vector], enough: float
    ) -> None:
        self._layers = list(dict.fromkeys(_layers(model)))
        self._before = [layer.__dict__.get("forward") for layer in self._layers]
        self._path = name_of(device, "compiling", name)
        self._work = work
        self._enough = enough
        self._worked_s = 0.0
        #: Whether the layers are compiled.
        self.on = False
        self._known = _gain(recall(self._path)) if self._layers else None
        self._worth_after_s = self._known.worth_after_s if self._known else math.inf

    def worked(self, seconds: float) -> None:
        """The model has worked so long; compiles it where it is time to. Raises `DeviceLostError`."""
        self._worked_s += seconds
        if self._worked_s >= self._worth_after_s:
            self._worth_after_s = math.inf
            self._compiled()

    def measure(self) -> Gain | None:
        """Compile now, and remember what that gives; undone where it is nothing. None where nothing can be.

        Raises `DeviceLostError`.
        """
        if not self._layers:
            return None
        if self._known is not None and self._known.lost:
            return self._known  # as each new process would lose it
        self._worth_after_s = math.inf
        self._undo()
        self._work()
        before = min(seconds_of(self._work) for _ in range(ROUNDS))
        took = self._compiled()
        gain = Gain(0.0, 0.0)
        if took is not None:
            after = min(seconds_of(self._work) for _ in range(ROUNDS))
            gain = Gain(before / after, max(0.0, took - before))
        if gain.times <= WORTH:
            self._undo()
        self._remember(gain)
        return gain

    def _remember(self, gain: Gain) -> None:
        remember(self._path, json.dumps(asdict(gain)) + "\n")

    def _compiled(self) -> float | None:
        """Compile: seconds until the first work is done; None, and nothing is changed, where that fails."""
        # Which says to the user what only its developers can use, also later.
        logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
        began = time.perf_counter()
        try:
            _alone()
            with quiet():
                expected = self._work()
                began = time.perf_counter()
                for layer in self._layers:
                    layer.forward = torch.compile(layer.forward, dynamic=True)
                found = self._work()
        except Exception as error:  # whatever a compiler, or the lack of one, raises
            self._undo()
            if is_lost(error):
                self._remember(Gain(0.0, 0.0, lost=True))
                raise
            return None
        self.on = bool((cosines(found, expected) >= self._enough).all())
        if not self.on:
            self._undo()
            return None
        from torch._dynamo import config

        # A later batch whose shape the compiler fails at is run without it.
        config.suppress_errors = True
        return time.perf_counter() - began

    def _undo(self) -> None:
        self.on = False
        for layer, before in zip(self._layers, self._before, strict=True):
            if before is None:
                layer.__dict__.pop("forward", None)  # the class's own is behind it
            else:
                layer.forward = before


def counted(compiling: Compiling | None, work: Callable[[], Vector]) -> Vector:
    """What the model's work gives, which `compiling` is told of where there is one."""
    if compiling is None:
        return work()
    began = time.perf_counter()
    vectors = work()
    compiling.worked(time.perf_counter() - began)
    return vectors


def _alone() -> None:
    """Have the compiler start no processes, which nobody would count, unless the user wants some."""
    if "TORCHINDUCTOR_COMPILE_THREADS" not in os.environ:
        # Not by this variable: transformers has had it read before.
        from torch._inductor import config

        config.compile_threads = 1


def _layers(model: Any) -> Iterator[Any]:
    """The modules that stand in a row of their like: compiled once, whatever their number."""
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) > 1 and len(set(map(type, module))) == 1:
            yield from module


def _gain(text: str | None) -> Gain | None:
    try:
        told = json.loads(text or "")
        return Gain(float(told["times"]), float(told["seconds"]), bool(told["lost"]))
    except (ValueError, KeyError, TypeError):
        return None
