"""Kernels of detection by `torch.compile`: whole graphs, and the same numbers as one operation after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from everyday import everyday
from sim_bench import calibrated, loud
from torch import nn

from simulation.conversion.optical import opticalize
from simulation.light.accounting import Tally
from simulation.light.optics import Optics, ideal
from simulation.light.settings import Noise
from simulation.light.tensors import detection
from simulation.light.tensors import product as tensor_product
from simulation.light.tensors.product import TensorBench

CPU = torch.device("cpu")

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning"
)  # torch's compiler uses what it deprecates


def multiply(bench: TensorBench, n: int, size: int = 30) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    matrix = torch.randn(1, size, 50, generator=generator).mul(0.4).clamp(-1, 1)
    x = torch.randn(1, n, 50, generator=generator)
    return bench.product(x, bench.show(matrix, static=True), Noise((1, 2), 3), Tally(), unit=torch.ones(1))


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `simulation.light.tensors.devices.kernel`, but that torch's own operations run the graph: no C++ compiler."""
    return torch.compile(function, dynamic=True, fullgraph=True, backend="eager")


@pytest.mark.parametrize("name", everyday(["ideal", "bench, offset"], 1))
def test_each_kind_of_noise_is_one_graph(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A branch by a value would be refused, in a full graph."""
    optics = ideal() if name == "ideal" else Optics.of(calibrated(loud(), "offset"))
    torch.compiler.reset()
    graphs = traced(detection.survey), traced(detection.read_rows)
    monkeypatch.setattr(tensor_product, "kernels", lambda: graphs)
    for photons in (1.0, 1000.0):  # few counts; whole ones, or smooth
        plain = TensorBench(optics, photons, "exact", CPU)
        compiled = TensorBench(optics, photons, "exact", CPU, compiled=True)
        for n in (5, 9):
            torch.testing.assert_close(multiply(compiled, n), multiply(plain, n), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_inductor_gives_the_same_numbers_and_compiles_once_for_all_sizes() -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    plain, compiled = (TensorBench(ideal(), 1000.0, "exact", CPU, compiled=c) for c in (False, True))
    for n in (5, 6, 40, 41):
        torch.testing.assert_close(multiply(compiled, n), multiply(plain, n), rtol=1e-4, atol=2e-4)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3  # two functions; few counts, or none


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_model_runs_on_compiled_kernels() -> None:
    model, x = nn.Sequential(nn.Linear(20, 24), nn.GELU(), nn.Linear(24, 20)), torch.randn(7, 20)
    with torch.inference_mode():
        one, other = (
            opticalize(model, "paper", photons_per_mac=1000.0, backend=b)(x) for b in ("torch", "torch-compiled")
        )
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
