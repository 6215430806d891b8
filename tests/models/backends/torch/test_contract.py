"""torch keeps the contract of a backend."""

from __future__ import annotations

import pytest

from engine.models.backends.torch.backend import TorchBackend
from tests.models.backends.contract import BackendContract

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:importlib._bootstrap")


class TestTorch(BackendContract):
    name = "torch"


@pytest.mark.parametrize(("fast", "expected"), [(False, ("float32",)), (True, ("float32", "bfloat16"))])
def test_a_cpu_runs_bfloat16_where_it_computes_in_it(
    fast: bool, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.models.backends.torch.backend.computes_in_bfloat16", lambda: fast)
    assert TorchBackend().auto_dtypes("cpu") == expected
    # There its driver has to be asked.
    assert TorchBackend().auto_dtypes("cuda:1") == ("auto",)
