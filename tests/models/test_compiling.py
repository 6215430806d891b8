"""A model is compiled where that was measured to be worth it, and never else."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import DeviceLostError
from engine.models import compiling
from engine.models.compiling import Compiling, Gain
from engine.models.digest import cache_folder
from engine.models.memory import watched
from engine.models.resolve import resolve_text
from engine.models.text_load import load_text_model
from engine.records import Vector
from tests.models.test_text import assemble, ids_of, pooling, some_texts

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:importlib._bootstrap")

CPU = torch.device("cpu")


class Layered(torch.nn.Module):
    """Three layers of one kind, and what is none."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.rows = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(3))
        self.others = torch.nn.ModuleList([torch.nn.Linear(8, 8), torch.nn.ReLU()])

    def work(self) -> Vector:
        values = torch.linspace(-1, 1, 40).reshape(5, 8)
        for layer in self.rows:
            values = layer(values)
        return values.detach().numpy()

    def compiled(self) -> int:
        return sum("forward" in layer.__dict__ for layer in self.rows)


class Compiler:
    """In the place of torch's: what it makes of a layer takes part of its seconds, and may be another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.takes, self.times = 0.0, 30.0, 2.0
        self.error: Exception | None = None
        self.wrong = False
        self.calls = 0
        self._model: Layered | None = None
        monkeypatch.setattr(torch, "compile", self)
        monkeypatch.setattr("time.perf_counter", lambda: self.now)
        monkeypatch.setattr(compiling, "seconds_of", self.seconds_of)

    def __call__(
        self, forward: Callable[[torch.Tensor], torch.Tensor], dynamic: bool
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        assert dynamic
        self.calls += 1
        self.now += self.takes / 3

        def compiled(values: torch.Tensor) -> torch.Tensor:
            if self.error:
                raise self.error
            return -forward(values) if self.wrong else forward(values)

        return compiled

    def seconds_of(self, call: Callable[[], object]) -> float:
        call()
        assert self._model is not None
        return 1.0 / self.times if self._model.compiled() else 1.0

    def of(self, model: Layered) -> Compiling:
        self._model = model
        return Compiling(model, CPU, "model float32", model.work, 0.999)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compiler]:
    yield Compiler(monkeypatch)


def test_what_compiling_gives_is_measured_and_kept(compiler: Compiler) -> None:
    model = Layered()
    found = compiler.of(model)
    assert found.measure() == Gain(2.0, 29.0)
    assert found.on
    assert model.compiled() == 3
    assert compiler.calls == 3  # not what is no row of its like


def test_a_later_run_compiles_when_it_has_worked_as_long_as_would_have_paid_for_it(
    compiler: Compiler,
) -> None:
    compiler.of(Layered()).measure()
    model = Layered()
    later = compiler.of(model)
    later.worked(57.0)
    assert model.compiled() == 0
    later.worked(2.0)
    assert later.on
    assert model.compiled() == 3
    later.worked(1e6)
    assert compiler.calls == 6


def test_the_time_to_compile_is_when_it_would_have_saved_what_it_takes() -> None:
    assert Gain(2.0, 29.0).worth_after_s == pytest.approx(58.0)
    assert Gain(1.1, 30.0).worth_after_s == pytest.approx(330.0)
    assert Gain(1.0, 30.0).worth_after_s == Gain(0.0, 0.0).worth_after_s == math.inf


@pytest.mark.parametrize("fault", ["slower", "no compiler", "other vectors"])
def test_what_gives_nothing_is_undone_and_not_tried_again(compiler: Compiler, fault: str) -> None:
    compiler.times = 1.01 if fault == "slower" else 2.0
    compiler.error = RuntimeError("no C++ compiler was found") if fault == "no compiler" else None
    compiler.wrong = fault == "other vectors"
    model = Layered()
    expected = model.work()
    found = compiler.of(model)
    gain = found.measure()
    assert gain is not None
    assert gain.times == (1.01 if fault == "slower" else 0.0)
    assert (found.on, model.compiled()) == (False, 0)
    np.testing.assert_array_equal(model.work(), expected)
    later = compiler.of(model)
    later.worked(1e9)
    assert (later.on, compiler.calls) == (False, 3)


def test_a_model_that_became_another_since_it_was_measured_is_left_as_it_was(compiler: Compiler) -> None:
    compiler.of(Layered()).measure()
    model = Layered()
    later, compiler.wrong = compiler.of(model), True
    for _ in range(2):
        later.worked(1e9)
    assert (later.on, model.compiled(), compiler.calls) == (False, 0, 6)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceLostError("cuda is lost")],
    ids=["by torch", "by the batches"],
)
def test_a_lost_device_is_said_to_be_lost(compiler: Compiler, error: Exception) -> None:
    compiler.error = error
    model = Layered()
    with pytest.raises(DeviceLostError), watched(CPU):
        compiler.of(model).measure()
    assert model.compiled() == 0
    # A new process would lose it again, and the next one too.
    calls, compiler.error = compiler.calls, None
    later = compiler.of(model)
    assert later.measure() == Gain(0.0, 0.0, lost=True)
    later.worked(1e9)
    assert compiler.calls == calls


def test_what_stood_in_front_of_a_layer_before_is_there_again(compiler: Compiler) -> None:
    model, compiler.wrong = Layered(), True
    calls: list[int] = []
    first: Any = model.rows[0]
    own = first.forward

    def in_front(values: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        result: torch.Tensor = own(values)
        return result

    first.forward = in_front
    compiler.of(model).measure()
    assert first.forward is in_front
    assert model.compiled() == 1
    calls.clear()
    model.work()
    assert calls == [1]


@pytest.mark.parametrize("content", ["", "{}", "[2, 3]", '{"times": "many", "seconds": 1}', '{"times": 2}'])
def test_a_note_that_cannot_be_read_is_as_none(compiler: Compiler, content: str) -> None:
    compiler.of(Layered()).measure()
    (note,) = (cache_folder() / "compiling").iterdir()
    assert json.loads(note.read_text())["times"] == 2.0
    note.write_text(content)
    later = compiler.of(Layered())
    later.worked(1e9)
    assert not later.on


def test_a_model_without_layers_is_left_alone(compiler: Compiler) -> None:
    alone = Compiling(torch.nn.Linear(2, 2), CPU, "small", lambda: np.ones((1, 2), dtype=np.float32), 0.999)
    assert alone.measure() is None
    assert not alone.on


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs g++ on a CPU")
@pytest.mark.parametrize("packed", [False, True])
def test_torchs_compiler_makes_the_same_vectors_with_padding_and_without(
    bert: Path, tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.models.text._bears_threads", lambda spec, model: False)
    monkeypatch.setattr(compiling, "WORTH", 0.0)
    model = load_text_model(resolve_text(str(assemble(tmp_path / "model", bert, pooling("mean")))), "cpu")
    ids = ids_of(model.spec, some_texts(24))
    expected = model.embed_ids(ids)
    assert not packed or model.give_packing()
    model.give_compiling()
    assert model.compiling is not None
    gain = model.compiling.measure()
    assert gain is not None
    assert gain.times > 0
    assert gain.seconds > 0
    assert model.compiling.on
    np.testing.assert_allclose(model.embed_ids(ids), expected, atol=2e-5)


@pytest.mark.parametrize(("asked", "expected"), [(None, 1), ("3", 2)], ids=["none", "the user's"])
def test_the_compiler_starts_no_processes_of_its_own_unless_the_user_wants_some(
    compiler: Compiler, asked: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config as config

    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", asked)
    with config.patch(compile_threads=2):  # which the variable was read for before
        compiler.of(Layered()).measure()
        assert config.compile_threads == expected
    assert (
        os.environ.get("TORCHINDUCTOR_COMPILE_THREADS") == asked
    )  # nor does a child of this process see more


def test_a_shape_that_the_compiler_fails_at_later_is_run_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own machinery, with a compiler in the place of its last stage that knows one kind of input."""
    failing = False

    def last_stage(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., Any]:
        if failing:
            raise RuntimeError("no code for this shape")
        forward: Callable[..., Any] = graph.forward
        return forward

    import torch._dynamo.config as config

    with config.patch(suppress_errors=False):
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=last_stage))
        monkeypatch.setattr(compiling, "WORTH", 0.0)
        model = Layered()
        made = Compiling(model, CPU, "model float32", model.work, 0.999)
        made.measure()
        assert made.on
        failing = True
        one = torch.ones(1, 2, 8, dtype=torch.float32)  # of three axes, which is compiled anew
        assert model.rows[0](one).shape == (1, 2, 8)


@pytest.mark.parametrize("packed", [False, True])
def test_what_was_compiled_when_it_was_measured_is_all_that_a_run_needs(
    bert: Path, tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = 0

    def last_stage(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., Any]:
        nonlocal compiled
        compiled += 1
        forward: Callable[..., Any] = graph.forward
        return forward

    torch._dynamo.reset()  # what other tests have compiled
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=last_stage))
    monkeypatch.setattr("engine.models.text._bears_threads", lambda spec, model: False)
    monkeypatch.setattr(compiling, "WORTH", 0.0)
    model = load_text_model(resolve_text(str(assemble(tmp_path / "model", bert, pooling("mean")))), "cpu")
    model._bucket = 16  # as on a GPU
    assert model.give_masks()
    assert not packed or model.give_packing()
    model.give_compiling()
    assert model.compiling is not None
    assert model.compiling.measure()
    assert model.compiling.on
    first = compiled
    assert first > 0
    ids = ids_of(model.spec, some_texts(24))
    whole = np.resize(ids[0], 48)
    for inputs in (ids, ids[:1], [whole], [whole, whole, whole], [whole, ids[0][:5]]):
        model.embed_ids(inputs)
    assert compiled == first
