"""A weight that is copied before it is multiplied stays the matrix that it is, with a matrix's clip and noise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simulation.conversion.optical import optical_report, opticalize
from simulation.energy.operations import count_operations

IMAGE, VECTORS = torch.randn(2, 3, 6, 6), torch.randn(2, 5, 8)


class Of(nn.Module):
    """One formula of an input and of two weights."""

    def __init__(self, formula: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.formula, self.w = formula, nn.Parameter(torch.randn(3, 8, 4))
        self.kernels = nn.Parameter(torch.randn(3, 7, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x, self.w, self.kernels)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize(
    ("formula", "x", "macs"),
    [
        (lambda x, w, k: F.conv2d(x, k.transpose(0, 1)), IMAGE, 2 * 16 * 7 * 27),
        (lambda x, w, k: (x[:, :, None, :, None] * w).sum(3), VECTORS, 10 * 3 * 32),
        (lambda x, w, k: x[:, None].expand(2, 3, 5, 8) @ w.expand(2, 3, 8, 4), VECTORS, 10 * 3 * 32),
        (lambda x, w, k: torch.addbmm(w[0, 0, 0], x[:1].expand(4, 5, 8), w.permute(2, 1, 0)), VECTORS, 5 * 4 * 24),
        (lambda x, w, k: w.permute(2, 0, 1) @ x[0].mT, VECTORS, 12 * 8 * 5),
    ],
    ids=["convolution", "summed", "spread", "added up", "on the left"],
)  # fmt: skip
def test_weight_that_is_copied_to_be_multiplied_is_a_matrix(
    formula: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, macs: int, inference: bool
) -> None:
    model = Of(formula)
    optical = opticalize(model, "ideal")
    with torch.inference_mode() if inference else torch.no_grad():
        torch.testing.assert_close(optical(x), model(x), rtol=1e-4, atol=1e-4)
    found = optical_report(optical)
    assert found.total.macs == found.macs == macs
    assert not any("product" in name for name, tally in found.layers.items() if tally.macs)
    assert {product.kind for product in count_operations(model, x, tokens=1).products} == {"linear"}


def test_kernels_are_one_matrix_whichever_way_they_lie_in_memory() -> None:
    images, optical = torch.randn(1, 3, 4, 4), opticalize(nn.Sequential(nn.Conv2d(3, 8, 3)), "paper")
    with torch.no_grad():
        optical(images)
        optical.to(memory_format=torch.channels_last)
        optical(images.to(memory_format=torch.channels_last))
    assert optical_report(optical).optical == ("0",)
    assert optical_report(optical).layers["0"].products == 8


class InLists(nn.Module):
    """Weights that are no parameters, in a list and a dict; the list holds itself, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first: list[object] = [torch.randn(8, 8)]
        self.first.append(self.first)
        self.others = {"last": (torch.randn(8, 4),)}

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.first[0]) @ self.others["last"][0]


def test_constants_in_lists_and_dicts_are_matrices_by_their_names() -> None:
    model = InLists()
    optical = opticalize(model, "ideal", keep="others.last.0")
    with torch.no_grad():
        torch.testing.assert_close(optical(VECTORS), model(VECTORS), rtol=1e-4, atol=1e-4)
    found = optical_report(optical)
    assert found.optical == ("first.0",)
    assert found.digital == {"others.last.0": "kept by request"}
