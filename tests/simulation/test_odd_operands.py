"""Sparse matrices in every layout stay digital and are named; modules that nothing can be seen of are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibration.errors import OutOfDomain
from simulation.conversion.optical import optical_report, opticalize


class OnSparse(nn.Module):
    """One formula of an input (5, 8) and a sparse matrix (8, 8)."""

    def __init__(self, formula: Callable[[Tensor, Tensor], Tensor], layout: torch.layout) -> None:
        super().__init__()
        self.formula = formula
        options: dict[str, Any] = {"blocksize": (4, 4)} if layout is torch.sparse_bsr else {}
        self.register_buffer("matrix", torch.eye(8).to_sparse(layout=layout, **options))

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x, self.matrix)


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_bsr])
@pytest.mark.parametrize(
    ("formula", "inference"),
    [(lambda x, s: s @ x.mT, False), (lambda x, s: s @ x.mT, True), (F.linear, False)],
    ids=["matmul", "matmul as a whole", "linear"],
)
def test_product_of_a_sparse_matrix_stays_digital_and_is_named(
    formula: Callable[[Tensor, Tensor], Tensor], layout: torch.layout, inference: bool
) -> None:
    model, x = OnSparse(formula, layout), torch.randn(5, 8)
    optical = opticalize(model, "ideal")
    with torch.inference_mode() if inference else torch.no_grad():
        torch.testing.assert_close(optical(x), model(x))
    found = optical_report(optical)
    assert found.total.macs == 0
    assert found.digital_macs["the model itself"] > 0


class Called(nn.Linear):
    """Computes in a way that torch's hooks never hear of."""

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.weight


class CalledFirst(nn.Linear):
    """As libraries do to see to the arguments first."""

    def __init__(self) -> None:
        super().__init__(8, 8)
        self.more = nn.ParameterList([torch.randn(8, 8)])  # torch has a __call__ for it, which refuses

    def __call__(self, x: Tensor) -> Any:
        return super().__call__(2 * x)


def test_module_that_computes_in_its_call_is_refused_by_name() -> None:
    with pytest.raises(OutOfDomain, match="__call__") as refused:
        opticalize(nn.Sequential(nn.Linear(8, 8), Called(8, 8)), "ideal")
    assert refused.value.device == "1"


class Scaled(nn.Module):
    """Holds its weights in a dict of torch's, which is a module that refuses to be called."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterDict({"a": torch.randn(6, 8)})

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weights["a"].T


def test_torchs_own_dicts_of_parameters_may_be_held() -> None:
    model, x = Scaled(), torch.randn(2, 8)
    torch.testing.assert_close(opticalize(model, "ideal")(x), model(x), atol=1e-5, rtol=1e-5)


def test_call_that_goes_on_to_forward_is_in_light() -> None:
    model, x = CalledFirst(), torch.randn(5, 8)
    optical = opticalize(model, "ideal")
    with torch.no_grad():
        torch.testing.assert_close(optical(x), model(x), rtol=1e-4, atol=1e-4)
    assert optical_report(optical).share == 1.0


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_layer_that_is_spread_over_devices_is_refused(alone: None) -> None:
    from torch.distributed.fsdp import fully_shard

    optical = opticalize(nn.Sequential(nn.Linear(8, 8)), "ideal")
    fully_shard(optical[0])
    fully_shard(optical)
    with pytest.raises(OutOfDomain, match="several devices"):
        optical(torch.randn(5, 8))
    assert torch.backends.mha.get_fastpath_enabled()  # nothing of what was refused goes on
    assert torch._C._len_torch_dispatch_stack() == 0
