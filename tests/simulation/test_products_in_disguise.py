"""Products that do not look like products: in light where they are plain ones, named with their size elsewhere."""

from __future__ import annotations

import copy
import inspect
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention

from calibration.errors import OutOfDomain
from simulation.conversion.convert import digitally
from simulation.conversion.optical import OpticalReport, optical_report, opticalize

Formula = Callable[[Tensor, Tensor], Tensor]


class Of(nn.Module):
    """One formula of an input (2, 5, 8) and a weight (8, 8)."""

    def __init__(self, formula: Formula) -> None:
        super().__init__()
        self.formula, self.w = formula, nn.Parameter(0.3 * torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x, self.w)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    torch.manual_seed(0)


def run(formula: Formula, inference: bool = False) -> OpticalReport:
    """Exact in light without noise; and what became of it."""
    model, x = Of(formula), torch.randn(2, 5, 8)
    optical = opticalize(model, "ideal")
    with torch.inference_mode() if inference else torch.no_grad():
        torch.testing.assert_close(optical(x), model(x), rtol=1e-4, atol=1e-4)
    return optical_report(optical)


def mixed(x: Tensor, w: Tensor) -> Tensor:
    """Attention as on paper."""
    scores = (x[:, :, None] * x[:, None]).sum(-1).softmax(-1)
    return (scores[..., None] * x[:, None]).sum(2)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize(
    ("formula", "macs"),
    [
        (lambda x, w: (x[..., None, :] * w).sum(-1), 10 * 64),
        (lambda x, w: (w * x[..., None, :]).sum(-1, keepdim=True), 10 * 64),
        (lambda x, w: (x[..., None] * w).sum(-2), 10 * 64),
        (lambda x, w: (x[..., None, :] * w).mean(-1), 10 * 64),
        (lambda x, w: (x * w[0]).sum(-1), 10 * 8),
        (lambda x, w: (x[0, :, :, None, None] * w.view(8, 2, 4)).sum((1,)), 5 * 64),
        (lambda x, w: (x * w[:5]).sum((1, 2)), 2 * 40),
        (mixed, 2 * 2 * 5 * 5 * 8),
        (lambda x, w: (x[..., :1].softmax(1) * x).sum(1), 2 * 5 * 8),
        (lambda x, w: (x[:, :1] * x).sum(-1), 2 * 5 * 8),
        (lambda x, w: torch.addbmm(w[:5, :5], x, x.mT), 2 * 25 * 8),
        (lambda x, w: torch.vdot(x[0, 0], w[0]), 8),
        (lambda x, w: torch.linalg.multi_dot([x[0], w, w]), 2 * 5 * 64),
    ],
    ids=["rows", "kept axis", "columns", "mean", "vector", "two free axes", "two axes", "attention",
         "pooling", "one query", "addbmm", "vdot", "chain"],
)  # fmt: skip
def test_plain_product_is_in_light_however_it_is_written(formula: Formula, macs: int, inference: bool) -> None:
    found = run(formula, inference)
    assert found.total.macs == macs
    assert found.share == 1.0


def test_product_written_by_elements_has_the_noise_of_light_and_exact_gradients() -> None:
    model, x = Of(lambda x, w: (x[..., None, :] * w).sum(-1)), torch.randn(2, 5, 8)
    noisy = opticalize(model, "paper", photons_per_mac=1.0)
    assert not torch.allclose(noisy(x), model(x), rtol=1e-3)
    (model(x).sum()).backward()
    expected, model.w.grad = model.w.grad, None
    noisy(x).sum().backward()
    torch.testing.assert_close(noisy.w.grad, expected)


@pytest.mark.parametrize(
    "formula",
    [
        lambda x, w: torch.zeros(5, 5).addmm_(x[0], x[1].T) @ x[0],
        lambda x, w: torch.zeros(8, 8).addmm_(w, w, alpha=0.5, beta=0.0).addmm_(x[0].T, x[1]),
        lambda x, w: torch.zeros(2, 5, 5).baddbmm_(x, x.mT).sum(0).addbmm_(x, x.mT),
        lambda x, w: torch.matmul(x, w, out=torch.empty(0)) @ w,
        lambda x, w: torch.mm(x[0].T, x[1], out=torch.empty(8, 8)) @ w,
    ],
    ids=["addmm_", "weights, then inputs", "batches", "matmul out", "mm out"],
)
def test_product_that_is_written_into_a_tensor_is_in_light(formula: Formula) -> None:
    found = run(formula)
    assert set(found.digital.values()) <= {"weights among themselves"}
    assert found.total.macs >= 200
    assert not found.uncounted


@pytest.mark.parametrize(
    "formula",
    [
        lambda x, w: F.linear(x, w, torch.full((1,), 5.0)),
        lambda x, w: torch.addmm(torch.full((1,), 5.0), x[0], w),
        lambda x, w: torch.addmm(torch.arange(5.0)[:, None], x[0], w),
        lambda x, w: torch.addmm(torch.tensor(5.0), x[0], w),
    ],
    ids=["bias of one number", "one number", "a column", "a scalar"],
)
@pytest.mark.parametrize("inference", [False, True])
def test_what_is_added_spreads_as_torch_spreads_it(formula: Formula, inference: bool) -> None:
    assert run(formula, inference).share == 1.0


@pytest.mark.parametrize(
    "formula",
    [
        lambda x, w: torch.mv(w, x[0, 0, :5]),
        lambda x, w: torch.dot(x[0, 0], w[0, :5]),
        lambda x, w: x @ w[:5],
        lambda x, w: torch.bmm(x, x[:1].mT),
        lambda x, w: F.linear(x, w, torch.ones(5)),
        lambda x, w: torch.addmm(torch.ones(2, 5, 8), x[0], w),
        lambda x, w: F.conv1d(x, w[:, :6].reshape(8, 6, 1)),
        lambda x, w: F.conv1d(x.mT, w[..., None], torch.ones(1)),
        lambda x, w: x.double() @ w,
        lambda x, w: F.linear(x, w, torch.ones(8, dtype=torch.float64)),
        lambda x, w: torch.addmm(torch.ones(8, dtype=torch.float64), x[0], w),
        lambda x, w: torch.mm(x[0], w, out=torch.empty(5, 8, dtype=torch.float64)),
    ],
    ids=["vector", "dot", "matrix", "batch", "bias", "added", "channels", "bias of channels", "type", "type of bias",
         "type of what is added", "type of the result"],
)  # fmt: skip
def test_what_torch_does_not_multiply_is_refused_by_torch(formula: Formula) -> None:
    model, x = Of(formula), torch.randn(2, 5, 8)
    with torch.no_grad(), pytest.raises(RuntimeError) as expected:
        model(x)
    with torch.no_grad(), pytest.raises(RuntimeError) as found:
        opticalize(model, "ideal")(x)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(
    "formula",
    [
        lambda x, w: (x[..., None] * w).add_(1.0).sum(-2),
        lambda x, w: [a := x.clone(), product := a[..., None] * w, a.add_(1.0), product.sum(-2)][-1],
        lambda x, w: (x[..., None].bfloat16() * w).sum(-2),
        lambda x, w: (x[..., None].double() * w).sum(-2),
    ],
    ids=["product", "factor", "narrow factor", "wide factor"],
)
def test_product_by_elements_that_changes_before_it_is_summed_is_exact(formula: Formula) -> None:
    run(formula)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
def test_products_of_nested_tensors_are_in_light_or_named() -> None:
    def padded(x: Tensor, w: Tensor, layout: torch.layout) -> Tensor:
        rows = torch.nested.nested_tensor([x[0], x[1, :3]], layout=layout)
        return torch.nested.to_padded_tensor(F.linear(rows, w), 0.0)

    assert run(lambda x, w: padded(x, w, torch.jagged)).total.macs == 8 * 64
    strided = run(lambda x, w: padded(x, w, torch.strided))
    assert dict(strided.digital_macs) == {"the model itself": 8 * 64}
    assert "nested" in strided.digital["the model itself"]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
def test_attention_of_jagged_tensors_is_digital_and_counted() -> None:
    def attend(x: Tensor, w: Tensor) -> Tensor:
        rows = torch.nested.nested_tensor([x[0], x[1, :3]], layout=torch.jagged)
        q, k, v = (F.linear(rows, each).unflatten(-1, (2, 4)).transpose(1, 2) for each in (w, 2 * w, w + 1))
        y = F.scaled_dot_product_attention(q, k, v)
        return torch.nested.to_padded_tensor(y.transpose(1, 2).flatten(-2), 0.0)

    found = run(attend)
    assert found.total.macs == 3 * 8 * 64
    assert dict(found.digital_macs) == {"the model itself": 2 * (5 * 5 + 3 * 3) * 8}
    assert found.digital["the model itself"].endswith("attention is not")


def test_functions_that_a_model_has_compiled_run_as_they_are_written() -> None:
    product = torch.compile(lambda a, b: a @ b, backend="eager")
    found = run(lambda x, w: product(x, w) @ x.mT)
    assert found.total.macs == 10 * 64 + 10 * 40


@pytest.mark.filterwarnings("ignore:torch.cond")
def test_operation_that_is_handed_functions_is_refused() -> None:
    model = opticalize(Of(lambda x, w: torch.cond(x.sum() > 0, lambda x: x @ w, lambda x: x, (x,))), "ideal")
    with pytest.raises(OutOfDomain, match="functions"):
        model(torch.randn(2, 5, 8))
    assert not optical_report(model).total.products


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_attention_that_is_handed_functions_is_refused_by_name() -> None:
    model = opticalize(Of(lambda x, w: flex_attention(*(x[:, None],) * 3)), "ideal")
    with torch.no_grad(), pytest.raises(OutOfDomain, match="cannot be put in light") as refused:
        model(torch.randn(2, 16, 16))
    assert "flex_attention" in str(refused.value.device) + refused.value.hint


def test_norm_and_sum_of_something_else_are_no_products() -> None:
    squares = run(lambda x, w: x / (x * x).sum(-1, keepdim=True).sqrt())
    assert squares.total.macs == 0
    assert squares.digital == {}
    found = run(lambda x, w: ((x * w[0]) + 1).sum(-1) + (x * w[0]).sum(0).sum(-1).mean() + x.sum(-1))
    assert found.total.macs == 0


GROUPS = torch.tensor([0, 1, 1, 2, 0])
SUMMED = "products element by element, summed in another way than at once"


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize(
    ("formula", "why", "macs"),
    [
        (lambda x, w: torch.addcmul(x, x, w[:5]), "addcmul: multiplied and added element by element", 80),
        (lambda x, w: torch.zeros(2, 5, 8).addcmul_(x[..., :1], w[0]).addcmul_(x[..., 1:2], w[1]),
         "addcmul: multiplied and added element by element", 160),
        (lambda x, w: torch._foreach_addcmul([x], [x], [w[:5]])[0],
         "addcmul: multiplied and added element by element", 80),
        (lambda x, w: torch.addcdiv(x, x, w[:5] + 9), "addcdiv: multiplied and added element by element", 80),
        (lambda x, w: x.prod(-1), "prod: a product of many numbers", 80),
        (lambda x, w: x.cumprod(-1), "cumprod: a product of many numbers", 80),
        (lambda x, w: torch.ones(2, 3, 8).scatter_reduce(1, GROUPS[None, :, None].expand(2, 5, 8), x, "prod"),
         "scatter_reduce: a product of many numbers", 80),
        (lambda x, w: x.logcumsumexp(-1), "logcumsumexp: sums of exponentials", 80),
        (lambda x, w: torch.addr(w, x[0, 0], x[0, 1]), "an outer product: nothing is summed", 64),
        (lambda x, w: torch.conv_tbc(x, w[None], w[0]), "conv_tbc: what it multiplies is not seen", 640),
        (lambda x, w: F.grid_sample(x[:, None], x[:, :, :2].tanh()[:, None], align_corners=False),
         "interpolation: each point has weights of its own", 2 * 5 * 4),
        (lambda x, w: x.clone().mul_(w[0]).sum(-1), SUMMED, 80),
        (lambda x, w: torch.mul(x, w[0], out=torch.empty(0)).sum(-1), SUMMED, 80),
        (lambda x, w: (x[..., None] * w).sum(-2, dtype=torch.float64).float(), SUMMED, 640),
        (lambda x, w: (x[..., None] * w).mT.sum(-1), SUMMED, 640),
        (lambda x, w: (x[..., None] * w).reshape(2, 5, 2, 4, 8).sum((2, 3)), SUMMED, 640),
        (lambda x, w: (torch.complex(x, x)[..., None] * torch.complex(w, w)).sum(-2).abs(), SUMMED, 640),
        (lambda x, w: (x[..., None] * w).nansum(-2), f"nansum: {SUMMED}", 640),
        (lambda x, w: (x * w[0]).cumsum(-1)[..., -1], f"cumsum: {SUMMED}", 80),
        (lambda x, w: torch.zeros(3, 8).index_add(0, GROUPS, x[0] * w[:5]), f"index_add: {SUMMED}", 40),
        (lambda x, w: torch.zeros(3, 8).index_add_(0, GROUPS, x[0] * w[:5]), f"index_add: {SUMMED}", 40),
        (lambda x, w: torch.zeros(3, 8).index_put((GROUPS,), x[0] * w[:5], accumulate=True),
         f"index_put: {SUMMED}", 40),
        (lambda x, w: torch.zeros(3, 8).scatter_add(0, GROUPS[:, None].expand(5, 8), x[0] * w[:5]),
         f"scatter_add: {SUMMED}", 40),
        (lambda x, w: torch.zeros(3, 8).scatter_reduce(0, GROUPS[:, None].expand(5, 8), x[0] * w[:5], "sum"),
         f"scatter_reduce: {SUMMED}", 40),
    ],
    ids=["addcmul", "addcmul_", "foreach", "addcdiv", "prod", "cumprod", "reduced", "exponentials", "addr", "tbc",
         "sampled", "mul_", "out", "dtype", "transposed", "view", "complex", "nansum", "cumsum", "index_add",
         "index_add_", "index_put", "scatter_add", "scatter_reduce"],
)  # fmt: skip
def test_sum_of_products_that_light_does_not_take_is_listed(
    formula: Formula, why: str, macs: int, inference: bool
) -> None:
    found = run(formula, inference)
    assert found.total.macs == 0
    assert dict(found.digital) == {"the model itself": why}
    assert found.digital_macs == {"the model itself": macs}
    assert not found.by_elements, "none is counted twice"


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize(
    ("formula", "count"),
    [
        (lambda x, w: x * w[0] + 1, 80),
        (lambda x, w: x.clone().mul_(w[0]).add_(1).mul_(w[1]), 160),
        (lambda x, w: sum(x[..., k : k + 1] * w[k] for k in range(8)), 640),
        (lambda x, w: torch._foreach_mul([x], [w[:5]])[0], 80),
        (lambda x, w: torch.lerp(x, w[:5], x), 80),
        (lambda x, w: F.glu(x), 40),
        (lambda x, w: F.prelu(x.mT, w[0]), 80),
        (lambda x, w: F.layer_norm(x, (8,), w[0]), 80),
        (lambda x, w: torch.outer(x[0, 0], w[0]), 64),
        (lambda x, w: torch.kron(x[0], w), 5 * 8 * 64),
        (lambda x, w: torch.linalg.cross(x[..., :3], w[:5, :3].expand(2, 5, 3)), 60),
        (lambda x, w: x * (w * w)[0], 80),
        (lambda x, w: x * 2 + (x * (x > 0)), 0),
        (lambda x, w: torch.zeros(3, 8).index_put((GROUPS,), x[0] * w[:5]), 40),
    ],
    ids=["gate", "chain", "loop", "foreach", "lerp", "glu", "prelu", "gain", "outer", "kron", "cross", "weights",
         "mask", "put"],
)  # fmt: skip
def test_what_is_multiplied_and_not_summed_is_counted_beside_the_shares(
    formula: Formula, count: int, inference: bool
) -> None:
    found = run(formula, inference)
    assert found.macs == 0
    assert sum(found.by_elements.values()) == count
    assert not found.digital
    words = f"{count:.3g} multiplications element by element, digital"
    assert (words in found.words) == bool(count)


def test_multiplications_by_elements_have_rows_of_their_own() -> None:
    found = run(lambda x, w: (x @ w) * x)
    assert found.share == 1.0
    assert found.rows[-1] == ("the model itself", "+ 12.50 %", "", "", "element by element: nothing is summed")


@torch.library.custom_op("labctl_test::mm", mutates_args=())
def foreign_product(a: Tensor, b: Tensor) -> Tensor:
    """Called as torch's own; what it computes is its own affair."""
    return (a @ b) @ b


def test_operation_of_somebody_else_is_not_taken_for_that_of_torch_with_its_name() -> None:
    found = run(lambda x, w: torch.ops.labctl_test.mm(x[0], w))
    assert dict(found.digital) == {"the model itself": "labctl_test.mm: what it multiplies is not seen"}
    assert found.uncounted == ("the model itself",)


@pytest.mark.parametrize(
    ("formula", "macs"),
    [
        (lambda x, w: torch.baddbmm(w[:5, :5], x, x.mT), 400),
        (lambda x, w: torch.tensordot(x, w, 1), 640),
        (lambda x, w: torch.chain_matmul(x[0], w, w), 640),
        (lambda x, w: torch.inner(x, w), 640),
        (lambda x, w: torch.func.vmap(lambda a: a @ w)(x), 640),
        (lambda x, w: torch.func.vmap(lambda a: a @ a.T)(x), 400),
        (lambda x, w: torch.func.vmap(torch.func.vmap(torch.dot, (0, None)), (0, None))(x, w[0]), 80),
        (lambda x, w: torch.func.functional_call(nn.Linear(8, 8, bias=False), {"weight": w}, (x,)), 640),
        (lambda x, w: torch.cov(x[0]), 200),
        (lambda x, w: torch._VF.lstm_cell(x[0], (x[0], x[0]), w.repeat(4, 1), w.repeat(4, 1), None, None)[0], 2560),
        (lambda x, w: torch._VF.gru_cell(x[0], x[0], w.repeat(3, 1), w.repeat(3, 1), None, None), 1920),
        (lambda x, w: torch._VF.rnn_tanh_cell(x[0], x[0], w, w, None, None), 640),
    ],
    ids=["baddbmm", "tensordot", "chain_matmul", "inner", "vmap", "vmap of pairs", "vmap of vmap", "functional",
         "cov", "lstm", "gru", "rnn"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:torch.chain_matmul")
@pytest.mark.parametrize("inference", [False, True])
def test_every_way_to_ask_for_a_product_leads_into_light(formula: Formula, macs: int, inference: bool) -> None:
    found = run(formula, inference)
    assert found.total.macs == macs
    assert found.share == 1.0


ROWS = torch.tensor([[0, 1, 2], [3, 4, 5]])
SPARSE = torch.eye(8).to_sparse_coo()


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize(
    ("formula", "why", "macs"),
    [
        (lambda x, w: (x * x.flip(1)).sum(-1), "sums of products, vector by vector: no matrix is in them", 80),
        (lambda x, w: (x * w[:5]).sum(-1), "each element has weights of its own: nothing is shared", 80),
        (lambda x, w: F.embedding_bag(ROWS, w, per_sample_weights=x[:, :3, 0], mode="sum"),
         "embedding_bag: rows of a table, with a weight for each", 6 * 8),
        (lambda x, w: torch.cdist(x, w), "distances between vectors", 10 * 8 * 8),
        (lambda x, w: torch.cdist(x.repeat(1, 8, 1), w.repeat(8, 1)), "distances between vectors", 80 * 64 * 8),
        (lambda x, w: F.pdist(x[0]), "distances between vectors", 10 * 8),
        (lambda x, w: F.bilinear(x, x, w.view(1, 8, 8)), "bilinear: three operands", 10 * 64),
        (lambda x, w: torch.stack([torch.sparse.mm(SPARSE, row.T) for row in x]), "a product of sparse operands", 80),
        (lambda x, w: torch.stack([SPARSE.to_sparse_csr() @ row.T for row in x]), "a product of sparse operands", 80),
        (lambda x, w: torch.fft.ifft(torch.fft.fft(x)).real, "a Fourier transform", 2.5 * 8 * 3 * 10 * 1.5),
        (lambda x, w: torch.fft.irfft(torch.fft.rfft(x)), "a Fourier transform", 2.5 * 8 * 3 * 10),
        (lambda x, w: torch.linalg.inv(x[..., :5] + 9 * torch.eye(5)), "linalg_inv: algebra of whole matrices", 250),
        (lambda x, w: torch.linalg.solve_triangular(w.tril() + torch.eye(8), x.mT, upper=False),
         "linalg_solve_triangular: algebra of whole matrices", 320),
        (lambda x, w: torch.linalg.solve(w, x.mT), "linalg_solve: algebra of whole matrices", 341 + 640),
        (lambda x, w: F.conv1d(x.mT, w[:, :6].reshape(8, 2, 3), groups=4),
         "convolution of a form that light has no way for", 2 * 3 * 8 * 6),
        (lambda x, w: F.conv_transpose1d(x.mT, w[:, :6].reshape(8, 2, 3)),
         "convolution of a form that light has no way for", 2 * 5 * 8 * 6),
        (lambda x, w: F.conv3d(x[None, None], w[:2, :8].reshape(2, 1, 2, 2, 2)),
         "convolution of a form that light has no way for", 2 * 1 * 4 * 7 * 8),
    ],
    ids=["dot", "own weights", "bag", "cdist", "cdist by product", "pdist", "bilinear", "sparse", "sparse rows",
         "fourier", "real fourier", "inverse", "triangular", "solve", "grouped", "transposed", "volume"],
)  # fmt: skip
def test_what_is_no_plain_product_is_named_with_its_macs(formula: Formula, why: str, macs: float) -> None:
    found = run(formula)
    assert found.total.macs == 0
    assert dict(found.digital) == {"the model itself": why}
    assert found.digital_macs == {"the model itself": macs}
    assert found.uncounted == ()


@pytest.mark.parametrize(
    "formula",
    [
        lambda x, w: torch.linalg.svdvals(x),
        lambda x, w: torch.linalg.qr(x)[1].abs(),
        lambda x, w: torch.matrix_exp(0.1 * x[..., :5]),
        lambda x, w: torch.linalg.eigvalsh(x[..., :5] + x[..., :5].mT),
        lambda x, w: torch.linalg.lstsq(x.mT, x.mT).solution,
    ],
    ids=["svd", "qr", "exponential", "eigenvalues", "least squares"],
)
def test_what_nobody_can_count_is_named_as_such(formula: Formula) -> None:
    found = run(formula)
    assert found.uncounted == ("the model itself",)
    assert "algebra of whole matrices" in found.digital["the model itself"]


def test_systems_of_equations_are_counted_from_either_side() -> None:
    """A weight is factorised, (8, 8), then solved for 10 rows; and once for each of two batches at a time."""
    found = run(lambda x, w: torch.linalg.lu_solve(*torch.linalg.lu_factor(w), x, left=False))
    assert sorted(found.digital_macs.values()) == [pytest.approx(8**3 / 3, abs=1), 10 * 64]
    found = run(lambda x, w: torch.linalg.solve(w, x, left=False))
    assert found.digital_macs == {"the model itself": round(2 * 8**3 / 3 + 10 * 64)}


def test_sum_of_rows_multiplies_nothing() -> None:
    assert run(lambda x, w: F.embedding_bag(ROWS, w, mode="mean") + x[:, 0]).digital == {}


def test_algebra_of_weights_alone_is_said_to_be_that() -> None:
    found = run(lambda x, w: x @ torch.matrix_exp(w))
    assert found.total.macs == 10 * 64
    assert dict(found.digital) == {"the model itself": "weights among themselves"}


def test_each_reason_of_one_module_is_kept() -> None:
    found = run(lambda x, w: torch.cdist(x, w) + F.bilinear(x, x, w.view(1, 8, 8)))
    assert dict(found.digital_macs) == {"the model itself": 640, "the model itself (2)": 640}
    assert set(found.digital.values()) == {"distances between vectors", "bilinear: three operands"}


def test_gradient_inside_a_forward_stays_digital_and_is_named() -> None:
    class Force(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = x.requires_grad_()
            return torch.autograd.grad(self.layer(x).tanh().sum(), x)[0]

    model, x = Force(), torch.randn(2, 5, 8)
    optical = opticalize(model, "ideal")
    torch.testing.assert_close(optical(x.clone()), model(x.clone()), rtol=1e-4, atol=1e-4)
    found = optical_report(optical)
    assert found.total.macs == 640
    assert dict(found.digital) == {"the model itself": "a gradient, which the model itself computes"}
    assert found.digital_macs == {"the model itself": 640}


# -- threads


def test_products_of_threads_that_forward_starts_are_in_light() -> None:
    def threaded(x: Tensor, w: Tensor) -> Tensor:
        out: dict[int, Tensor] = {}
        threads = [threading.Thread(target=lambda i=i: out.update({i: x[i].detach() @ w.detach()})) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return torch.stack([out[0], out[1]])

    found = run(threaded)
    assert found.total.macs == 640
    assert found.share == 1.0


def test_tasks_for_a_pool_are_in_light_and_its_threads_are_free_afterwards() -> None:
    pool = ThreadPoolExecutor(2)

    def pooled(x: Tensor, w: Tensor) -> Tensor:
        return torch.stack(list(pool.map(lambda row: row @ w.detach(), x.detach())))

    with pool:
        assert run(pooled).total.macs == 640
        optical = opticalize(nn.Sequential(nn.Linear(8, 8)), "ideal")
        optical(torch.randn(3, 8))
        pool.submit(lambda: torch.ones(4, 4) @ torch.ones(4, 4)).result()
        assert optical_report(optical).total.macs == 3 * 64
    assert torch.backends.mha.get_fastpath_enabled()


def test_threads_of_somebody_else_are_left_alone() -> None:
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit
    run(lambda x, w: x @ w)
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == (start, submit)


# -- methods


class Encoder(nn.Module):
    """With two ways to use it, one of which is no call of it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.w = nn.Linear(8, 8), nn.Parameter(torch.randn(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) @ self.w

    def encode(self, x: Tensor) -> Tensor:
        return self.layer(x) @ self.w

    def fit(self, x: Tensor) -> None:
        self(x).square().mean().backward()
        torch.optim.Adam(self.parameters(), foreach=False).step()


def test_forward_that_is_called_by_name_is_in_light() -> None:
    model, x = Encoder(), torch.randn(10, 8)
    optical = opticalize(model, "ideal")
    torch.testing.assert_close(optical.forward(x), model(x), rtol=1e-4, atol=1e-4)
    found = optical_report(optical)
    assert found.total.macs == 10 * (64 + 32)
    assert found.share == 1.0
    bare = opticalize(nn.Linear(8, 4), "ideal")
    bare.forward(x)
    assert optical_report(bare).total.macs == 320


def test_products_of_a_method_outside_of_forward_are_named() -> None:
    model, x = Encoder(), torch.randn(10, 8)
    optical = opticalize(model, "ideal")
    torch.testing.assert_close(optical.encode(x), model.encode(x), rtol=1e-4, atol=1e-4)
    found = optical_report(optical)
    assert found.layers["layer"].macs == 640
    assert dict(found.digital) == {"the model itself": "encode() computes it outside of forward"}
    assert found.digital_macs == {"the model itself": 320}
    optical.fit(x)
    assert optical_report(optical).digital_macs == {"the model itself": 320}, "gradients are no products of the model"


class ByType(nn.Module):
    """Asks its layers, and itself, for their very class."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers if type(self) is ByType else ():
            x = 2 * layer(x) if type(layer) is nn.Linear else layer(x)
        return x


def test_model_that_asks_for_the_class_of_its_layers_gets_it() -> None:
    model, x = ByType(), torch.randn(10, 8)
    optical = opticalize(model, "ideal")
    torch.testing.assert_close(optical(x), model(x), rtol=1e-4, atol=1e-4)
    assert optical_report(optical).total.macs == 2 * 640


def test_model_in_light_is_of_its_class_and_of_it_alone_afterwards() -> None:
    model = Encoder()
    optical = opticalize(model, "ideal")
    assert type(optical) is type(model) is Encoder
    assert inspect.signature(optical.forward) == inspect.signature(model.forward)
    again = opticalize(optical, "ideal")
    assert optical_report(again).total.products == optical_report(optical).total.products == 0
    x = torch.randn(10, 8)
    torch.testing.assert_close(again.forward(x), model.forward(x))
    assert optical_report(again).total.products > 0
    assert not optical_report(optical).total.products


@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])  # noqa: S301
def test_copy_of_a_model_in_light_is_one(how: Callable[[Any], Any]) -> None:
    optical, x = opticalize(nn.Sequential(nn.Linear(8, 4)), "paper", photons_per_mac=1.0), torch.randn(10, 8)
    other = how(optical)
    torch.testing.assert_close(other.forward(x), optical.forward(x))
    with digitally(other):
        torch.testing.assert_close(other.forward(x), nn.functional.linear(x, optical[0].weight, optical[0].bias))
    assert optical_report(other).total.products == 10


def test_class_that_bears_no_heirs_is_in_light_all_the_same() -> None:
    class Barren(type):
        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
            if any(isinstance(base, Barren) for base in bases):
                raise TypeError("no heirs")
            return super().__new__(cls, name, bases, body)

    class Last(nn.Module, metaclass=Barren):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)

    optical = opticalize(Last(), "ideal")
    optical(torch.randn(10, 8))
    assert optical_report(optical).share == 1.0
