"""A batch finds the size that its device has room for, an input that is too large fails alone."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import DeviceLostError, UsageError
from engine.models.backends.torch.memory import Batches, is_lost, is_out_of_memory, loading, watched
from engine.models.batching import TooLargeError
from engine.records import Vector

CPU = torch.device("cpu")

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("MPS backend out of memory (MPS allocated: 5.56 GB)"),
    RuntimeError("Invalid buffer size: 9.75 GB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
]

LOST = [
    RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("Error: command buffer exited with error status."),
    RuntimeError("HIP error: unspecified launch failure"),
]


class Device:
    """Has room for so many units of padded input; the vector of an input is its length."""

    def __init__(self, lengths: list[int], room: int) -> None:
        self.lengths = lengths
        self.room = room
        self.sizes: list[int] = []
        self.failed = 0

    def forward(self, batch: list[int]) -> torch.Tensor:
        size = len(batch) * max(self.lengths[index] for index in batch)
        self.sizes.append(size)
        self._take(size)
        return torch.tensor([[self.lengths[index]] * 2 for index in batch], dtype=torch.float32)

    def smallest(self) -> torch.Tensor:
        self._take(1)
        return torch.zeros(1, 2)

    def _take(self, size: int) -> None:
        if size > self.room:
            self.failed += 1
            raise torch.OutOfMemoryError(f"{size} of {self.room}")


def nothing() -> torch.Tensor:
    return torch.zeros(1, 2)


def run(
    batches: Batches, device: Device, on_batch: Callable[[], None] | None = None
) -> tuple[Vector, list[int]]:
    """The vectors, and the positions of the inputs that were too large."""
    try:
        return batches.embed(device.lengths, 2, device.forward, device.smallest, on_batch), []
    except TooLargeError as error:
        return error.vectors, list(error.positions)


@given(st.lists(st.integers(1, 300), max_size=40), st.integers(1, 400), st.integers(1, 2_000))
def test_all_that_fits_alone_is_embedded_whatever_room_there_is(
    lengths: list[int], room: int, budget: int
) -> None:
    device, batches = Device(lengths, room), Batches(CPU, budget)
    vectors, too_large = run(batches, device)
    assert too_large == [index for index, length in enumerate(lengths) if length > room]
    assert len(vectors) == len(lengths)
    for index, length in enumerate(lengths):
        assert np.array_equal(vectors[index], [np.nan] * 2 if length > room else [length] * 2, equal_nan=True)
    assert device.failed <= 2 * len(too_large) + math.log2(max([budget, *lengths])) + 1
    again = Device([length for length in lengths if length <= room], room)
    run(batches, again)
    assert again.failed <= math.log2(max(budget // room, 1)) + 1


def test_the_budget_that_was_found_serves_the_rest_of_the_call_and_every_later_one() -> None:
    device, batches = Device([10] * 64, 80), Batches(CPU, 640)
    run(batches, device)
    assert device.sizes == [640, 320, 160, *[80] * 8]
    assert batches.budget == 80
    device.sizes.clear()
    run(batches, device)
    assert device.sizes == [80] * 8


def test_the_caller_hears_of_each_batch_that_is_done_and_of_each_input_that_is_refused() -> None:
    calls: list[int] = []
    _, too_large = run(Batches(CPU, 100), Device([90, 5, 5], 20), lambda: calls.append(1))
    assert (too_large, len(calls)) == ([0], 2)


def test_a_device_without_room_for_anything_is_lost_and_no_input_is_blamed() -> None:
    with pytest.raises(DeviceLostError, match="cpu: no memory left, not even for the smallest input"):
        run(Batches(CPU, 100), Device([3, 3], 0))


def test_what_an_attempt_held_is_let_go_of_before_the_next() -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    living: list[int] = []

    def forward(batch: list[int]) -> torch.Tensor:
        living.append(sum(each() is not None for each in held))
        tensor = torch.zeros(len(batch))
        held.append(weakref.ref(tensor))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("too much")
        return torch.zeros(1, 2)

    Batches(CPU, 8).embed([1] * 8, 2, forward, nothing)
    assert len(living) == 3 + 8
    assert set(living) == {0}


@pytest.mark.parametrize(("kind", "expected"), [("cpu", []), ("cuda", ["cuda"]), ("mps", ["mps"])])
def test_only_the_cache_of_the_device_in_use_is_emptied(
    kind: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append("cuda"))
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))
    run(Batches(torch.device(kind), 4), Device([1] * 4, 2))
    assert emptied == expected


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_every_way_to_say_that_memory_is_out_halves_the_batch(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_lost(error)

    def forward(batch: list[int]) -> torch.Tensor:
        if len(batch) > 1:
            raise error
        return torch.ones(1, 2)

    assert Batches(CPU, 2).embed([1, 1], 2, forward, nothing).tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("error", LOST)
def test_every_way_to_say_that_the_device_is_gone_is_one_line(error: Exception) -> None:
    def forward(batch: list[int]) -> torch.Tensor:
        raise error

    first = str(error).splitlines()[0]
    with pytest.raises(DeviceLostError) as caught:
        Batches(CPU, 2).embed([1, 1], 2, forward, nothing)
    assert str(caught.value) == f"cpu failed, and this process can no longer use it: RuntimeError: {first}"
    with pytest.raises(DeviceLostError), loading("model m", "/m", CPU):
        raise error


@pytest.mark.skipif(not hasattr(torch, "AcceleratorError"), reason="this torch has no such type")
def test_an_accelerators_own_error_is_a_loss_whatever_it_says() -> None:
    with pytest.raises(DeviceLostError, match="AcceleratorError: something new"), watched(CPU):
        raise torch.AcceleratorError("something new")


@pytest.mark.parametrize("error", [ValueError("CUDA error"), RuntimeError("shapes differ"), KeyError("a")])
def test_any_other_error_is_the_models_own(error: Exception) -> None:
    def forward(batch: list[int]) -> torch.Tensor:
        raise error

    with pytest.raises(type(error)) as caught:
        Batches(CPU, 2).embed([1, 1], 2, forward, nothing)
    assert caught.value is error


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_a_model_that_has_no_room_is_the_users_to_mend(error: Exception) -> None:
    with pytest.raises(UsageError) as caught, loading("text model m", "/m", torch.device("cuda:1")):
        raise error
    assert str(caught.value) == (
        "text model m does not fit in the memory of cuda:1: free some of it or choose another --device, a "
        "smaller model or --dtype bfloat16"
    )


def test_a_device_that_torch_has_no_code_for_is_no_loss_but_the_users_to_mend() -> None:
    error = RuntimeError("CUDA error: no kernel image is available for execution on the device")
    expected = "can't be loaded from /m: RuntimeError: CUDA error: no kernel"
    with pytest.raises(UsageError, match=expected), loading("text model m", "/m", CPU):
        raise error
