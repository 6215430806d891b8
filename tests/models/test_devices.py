from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.errors import UsageError
from engine.models import devices as module
from engine.models.devices import cuda_devices, devices, gpus


class Driver:
    """Answers as libcuda does: 0 for success."""

    def __init__(self, count: int, starts: bool = True) -> None:
        self.count, self.starts = count, starts

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return 0 if self.starts else 100

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = self.count
        return 0


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(module, "torch_uses_gpus", lambda: True)


@pytest.mark.usefixtures("linux")
@pytest.mark.parametrize(("count", "expected"), [(1, ["cuda:0"]), (3, ["cuda:0", "cuda:1", "cuda:2"])])
def test_auto_is_every_gpu_that_the_driver_shows(
    monkeypatch: pytest.MonkeyPatch, count: int, expected: list[str]
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver(count))
    assert devices() == devices("auto", "torch") == expected


@pytest.mark.usefixtures("linux")
@pytest.mark.parametrize("driver", [Driver(0), Driver(2, starts=False)])
def test_auto_is_the_cpu_where_the_driver_shows_no_gpu(
    monkeypatch: pytest.MonkeyPatch, driver: Driver
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert devices() == ["cpu"]


@pytest.mark.usefixtures("linux")
def test_auto_is_the_cpu_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> object:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert devices() == ["cpu"]


@pytest.mark.usefixtures("linux")
def test_auto_is_the_cpu_for_a_backend_that_runs_there_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver(2))
    assert devices("auto", "onnx") == ["cpu"]


def test_auto_is_the_cpu_where_torch_was_built_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver(2))
    monkeypatch.setattr(module, "torch_uses_gpus", lambda: False)
    assert devices() == ["cpu"]


@pytest.mark.usefixtures("linux")
def test_amds_gpus_are_one_device_since_their_number_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cuda_devices", lambda: 0)
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/kfd")
    assert devices() == ["cuda"]


def test_devices_that_are_named_are_taken_in_their_order() -> None:
    assert devices("cpu") == ["cpu"]
    assert devices("cpu,cpu") == ["cpu", "cpu"]
    assert devices("cuda:1,cuda:0,cuda") == ["cuda:1", "cuda:0", "cuda"]


@pytest.mark.parametrize("option", ["", "gpu", "cuda:", "cpu,", "auto,cpu", "cpu, cpu", "CPU"])
def test_a_name_of_another_form_is_one_line_that_says_what_is_accepted(option: str) -> None:
    with pytest.raises(UsageError, match=r"is not cpu, cuda, cuda:N or mps") as caught:
        devices(option)
    assert "\n" not in str(caught.value)


def test_the_driver_and_torch_see_the_same_gpus() -> None:
    assert cuda_devices() == torch.cuda.device_count()
    assert bool(gpus()) == (torch.cuda.is_available() or torch.backends.mps.is_available())
