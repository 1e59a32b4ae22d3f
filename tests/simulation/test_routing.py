"""Whichever way a model asks for a product, it goes into light; whatever is done to the model, light follows."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from calibration.errors import BadOperands, OutOfDomain
from simulation.conversion.convert import convert, digitally
from simulation.conversion.optical import optical_report, optical_state, opticalize
from simulation.conversion.routing import routing_of


class Handwritten(nn.Module):
    """Six products, none of which a list of layers would find."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.other = nn.Parameter(torch.randn(8, 8)), nn.Linear(8, 8)
        self.experts = nn.Parameter(torch.randn(3, 8, 8))
        self.register_buffer("basis", torch.randn(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = x @ self.query
        k = nn.functional.linear(x, self.other.weight)
        a = torch.einsum("bid,bjd->bij", q, k).softmax(-1)
        y = torch.matmul(a, x) + self.experts[1].mv(x[0, 0]) + torch.bmm(x[:3], self.experts[: len(x)]).sum()
        return y @ self.basis


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True)
def same_weights() -> None:
    torch.manual_seed(0)


def test_products_are_found_by_the_operation(x: torch.Tensor) -> None:
    model = Handwritten()
    optical = opticalize(model, "ideal")
    with torch.no_grad():
        torch.testing.assert_close(optical(x), model(x), rtol=1e-4, atol=1e-4)
    found = optical_report(optical)
    names = ("query", "product1", "product2", "experts[0]", "experts[1]", "experts[1] (2)", "basis")
    assert {name for name, tally in found.layers.items() if tally.products} == {*names, "other"}
    assert found.share == 1.0


@pytest.mark.parametrize("inference", [False, True])
def test_model_that_is_one_layer_is_in_light(x: torch.Tensor, inference: bool) -> None:
    optical = opticalize(nn.Linear(8, 4), "ideal")
    with torch.inference_mode() if inference else torch.no_grad():
        optical(x)
    assert optical_report(optical).total.macs == 10 * 32


def changed(model: nn.Linear, how: str) -> None:
    with torch.no_grad():
        if how == "in place":
            model.weight.mul_(3)
        elif how == "through data":
            model.weight.data.mul_(3)
        elif how == "through numpy":
            model.weight.detach().numpy()[:] *= 3
        elif how == "put in its place":
            model.weight = nn.Parameter(model.weight * 3)
        else:
            model.load_state_dict({"weight": model.weight * 3, "bias": model.bias})


@pytest.mark.parametrize("how", ["in place", "through data", "through numpy", "put in its place", "loaded"])
def test_changed_weight_is_shown_anew(x: torch.Tensor, how: str) -> None:
    optical = opticalize(nn.Sequential(nn.Linear(8, 8)), "ideal")
    with torch.no_grad():
        optical(x)
        changed(optical[0], how)
        with digitally(optical):
            expected = optical(x)
        torch.testing.assert_close(optical(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lies", ["by rows", "by columns", "in odd rows"])
@pytest.mark.parametrize("how", ["in place", "through numpy", "put in its place"])
def test_few_vectors_notice_a_changed_weight_before_they_draw_noise(lies: str, how: str) -> None:
    size = 7 if lies == "in odd rows" else 8
    models = [nn.Linear(size, 8), nn.Linear(size, 8)]
    models[1].load_state_dict(models[0].state_dict())
    if lies == "by columns":
        for model in models:
            model.weight.data = model.weight.data.mT.contiguous().mT
    changed(models[1], how)
    x, (late, early) = (
        torch.randn(2, size),
        (opticalize(nn.Sequential(each), "ideal", photons_per_mac=50.0) for each in models),
    )
    with torch.no_grad():
        late(x), early(x)
        changed(late[0], how)
        torch.testing.assert_close(late(x), early(x), rtol=0, atol=0)
    assert optical_state(late) == optical_state(early)
    assert optical_report(late).total.products == 4


def test_second_conversion_takes_the_place_of_the_first(x: torch.Tensor) -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    noisy = opticalize(model, "paper", photons_per_mac=0.1)
    with torch.no_grad():
        torch.testing.assert_close(opticalize(noisy, "ideal")(x), model(x), rtol=1e-4, atol=1e-4)
        noisy(x)
    assert optical_report(noisy).total.products == 10, "the first is as it was"


def test_hooks_and_computed_weights_stay(x: torch.Tensor) -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 8)), nn.Linear(8, 8), nn.Linear(8, 8))
    prune.random_unstructured(model[1], "weight", 0.5)
    model[2].register_forward_hook(lambda _, __, y: y * 2)
    optical = opticalize(model, "ideal")
    with torch.no_grad():
        torch.testing.assert_close(optical(x), model(x), rtol=1e-4, atol=1e-4)
        model[0].parametrizations.weight.original0.mul_(2)
        torch.testing.assert_close(optical(x), model(x), rtol=1e-4, atol=1e-4)
    assert optical_report(optical).total.macs == 2 * 3 * 10 * 64


def test_dropout_of_attention_sleeps_in_evaluation() -> None:
    model = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True).eval()
    optical, x = opticalize(model, "ideal"), torch.randn(2, 5, 8)
    with torch.no_grad():
        for got, expected in zip(optical(x, x, x), model(x, x, x), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert optical_report(optical).share == 1.0


def test_checkpointed_layers_have_the_gradients_of_those_that_are_kept(x: torch.Tensor) -> None:
    class Recomputed(nn.Module):
        def __init__(self, again: bool) -> None:
            super().__init__()
            self.again, self.parts = again, nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for part in self.parts:
                x = checkpoint(part, x, use_reentrant=False) if self.again else part(x)
                x = x.tanh()
            return x

    kept, again = Recomputed(False), Recomputed(True)
    again.load_state_dict(kept.state_dict())
    gradients = []
    for model in (kept, again):
        optical = opticalize(model, "paper", photons_per_mac=1.0, seed=4)
        optical(x).square().sum().backward()
        gradients.append([parameter.grad for parameter in optical.parameters()])
        assert optical_report(optical).total.products == 30
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_halves_are_multiplied_as_such(x: torch.Tensor) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    optical = opticalize(model, "ideal")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        y = optical(x)
        torch.testing.assert_close(y, model(x), rtol=0.05, atol=0.05)
    assert y.dtype == torch.bfloat16
    assert optical_report(optical).share == 1.0


def test_part_of_a_model_that_is_called_by_itself_is_in_light(x: torch.Tensor) -> None:
    optical = opticalize(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), "ideal")
    with torch.no_grad():
        optical[1](x)
    assert optical_report(optical).layers["1"].products == 10


def test_failure_in_the_middle_leaves_nothing_behind(x: torch.Tensor) -> None:
    optical = opticalize(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), "ideal")
    with pytest.raises(RuntimeError):
        optical(x[..., :3])
    torch.ones(2, 3) @ torch.ones(3, 2)
    assert optical_report(optical).total.products == 0
    optical(x)
    assert optical_report(optical).total.products == 20
    assert torch.backends.mha.get_fastpath_enabled()


def test_threads_do_not_disturb_each_other(x: torch.Tensor) -> None:
    """Attention is computed by its parts in each, whichever ends first."""
    models = [opticalize(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), "ideal") for _ in range(3)]

    def run(model: nn.Module, times: int) -> None:
        with torch.no_grad():
            for _ in range(times):
                model(x)

    threads = [threading.Thread(target=run, args=(model, 5 * (n + 1))) for n, model in enumerate(models)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [optical_report(model) for model in models]
    assert [report.share for report in found] == [1.0] * 3
    assert [report.layers["self_attn.in_proj"].products for report in found] == [50, 100, 150]
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()


def test_copy_of_an_optical_model_has_light_of_its_own(x: torch.Tensor) -> None:
    optical = opticalize(nn.Sequential(nn.Linear(8, 8)), "paper", photons_per_mac=1.0)
    other = copy.deepcopy(optical)
    assert routing_of(other) is not routing_of(optical)
    torch.testing.assert_close(optical(x), other(x))
    assert optical_report(other).total.products == optical_report(optical).total.products == 10
    assert optical_state(other) == optical_state(optical)


def test_empty_batch_is_empty(x: torch.Tensor) -> None:
    assert opticalize(nn.Sequential(nn.Linear(8, 4)), "paper")(x[:0]).shape == (0, 5, 4)


def test_what_cannot_follow_is_refused_by_name(x: torch.Tensor) -> None:
    with torch.device("meta"):
        absent = nn.Sequential(nn.Linear(8, 8))
    with pytest.raises(OutOfDomain) as caught:
        opticalize(absent, "ideal")
    assert caught.value.device == "0.weight"
    with pytest.raises(OutOfDomain, match="compiled"):
        opticalize(torch.compile(nn.Sequential(nn.Linear(8, 8)), backend="eager"), "ideal")
    with pytest.raises(OutOfDomain, match="not optical"), digitally(nn.Linear(2, 2)):
        pass


def test_interrupted_call_does_not_put_other_models_in_light(x: torch.Tensor) -> None:
    class Interrupted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.is_stopped = nn.Linear(8, 8), True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x)
            if self.is_stopped:
                raise KeyboardInterrupt
            return y

    optical, plain = opticalize(Interrupted(), "paper", photons_per_mac=1.0), nn.Linear(8, 8)
    with pytest.raises(KeyboardInterrupt):
        optical(x)
    with torch.no_grad():
        torch.testing.assert_close(plain(x), x @ plain.weight.T + plain.bias)
    assert optical_report(optical).total.products == 10
    optical.is_stopped = False
    optical(x)
    assert optical_report(optical).total.products == 20
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("how", ["one number", "rows turned round", "another parameter on the same numbers"])
def test_weights_that_change_unseen_by_torch_are_shown_anew(how: str) -> None:
    x, optical = torch.randn(2, 64), opticalize(nn.Sequential(nn.Linear(64, 64, bias=False)), "ideal")
    with torch.no_grad():
        optical[0].weight.copy_(torch.randint(-4, 5, (64, 64)))
        optical(x)
        if how == "one number":
            optical[0].weight.data[0, 3] += 50
        elif how == "rows turned round":
            optical[0].weight.data.copy_(optical[0].weight.data.flip(0))
        else:
            optical[0].weight = nn.Parameter(optical[0].weight.data)
            optical[0].weight[0, 1:7] = 50
        torch.testing.assert_close(optical(x), x @ optical[0].weight.T, rtol=1e-4, atol=1e-3)


def test_parameters_in_one_storage_are_each_a_layer_of_their_own(x: torch.Tensor) -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(model.parameters()), model.parameters())
    optical = opticalize(model, "ideal")
    with torch.no_grad():
        optical(x)
        model[0].weight.mul_(2).add_(1)
        torch.testing.assert_close(optical(x), x @ model[0].weight.T @ model[1].weight.T, rtol=1e-4, atol=1e-4)
    found = optical_report(optical)
    assert found.optical == ("0", "1")
    assert {name: tally.products for name, tally in found.layers.items()} == {"0": 20, "1": 20}


def test_matrices_of_one_parameter_are_counted_apart(x: torch.Tensor) -> None:
    class BothWays(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(8, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.w @ self.w.T

    optical = opticalize(BothWays(), "ideal")
    optical(x)
    found = optical_report(optical)
    assert {name: tally.products for name, tally in found.layers.items()} == {"w": 10, "w (2)": 10}


def test_model_in_light_inside_another_is_counted_once(x: torch.Tensor) -> None:
    inner = opticalize(nn.Sequential(nn.Linear(8, 8)), "paper", photons_per_mac=0.1)
    outer = opticalize(nn.Sequential(inner, nn.Linear(8, 8)), "ideal")
    own = x @ inner[0].weight.T + inner[0].bias
    with torch.no_grad():
        expected = own @ outer[1].weight.T + outer[1].bias
        torch.testing.assert_close(outer(x), expected, rtol=1e-4, atol=1e-4)
    assert {name: tally.products for name, tally in optical_report(outer).layers.items()} == {"0.0": 10, "1": 10}

    class Calls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.others, self.layer = (inner,), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.others[0](self.layer(x))

    caller = opticalize(Calls(), "ideal")
    caller(x)
    assert {name: tally.products for name, tally in optical_report(caller).layers.items()} == {"layer": 10}


def test_products_of_hooks_are_in_light(x: torch.Tensor) -> None:
    model, w = nn.Sequential(nn.Linear(8, 8)), torch.randn(8, 8)
    model.register_forward_pre_hook(lambda _, inputs: (inputs[0] @ w,))
    optical = opticalize(model, "ideal")
    with torch.no_grad():
        torch.testing.assert_close(optical(x), model(x), rtol=1e-4, atol=1e-4)
    assert optical_report(optical).total.macs == 2 * 10 * 64


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_and_complex_products_stay_digital_and_are_listed(x: torch.Tensor) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("sparse", torch.eye(8).to_sparse_csr())
            self.turned = nn.Parameter(torch.randn(8, 8, dtype=torch.complex64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.sparse @ x[0].T).abs().sum() + (x.to(torch.complex64) @ self.turned).abs()

    model = Odd()
    optical = opticalize(model, "ideal")
    torch.testing.assert_close(optical(x), model(x))
    assert optical_report(optical).digital_macs == {"the model itself": 8 * 5, "the model itself (2)": 10 * 64}


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_results_that_come_after_forward_has_returned_are_refused(x: torch.Tensor) -> None:
    class Later(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(8, 8))

        def forward(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
            yield x @ self.w

    with pytest.raises(OutOfDomain, match="after it has returned"):
        opticalize(Later(), "ideal")(x)
    with pytest.raises(OutOfDomain, match="compiled"):
        opticalize(nn.Sequential(torch.jit.script(nn.Linear(8, 8))), "ideal")


def test_threads_that_light_itself_starts_are_none_of_the_models() -> None:
    class InAThread:
        def matrix(self, name: str, weight: torch.Tensor) -> Callable[..., torch.Tensor]:
            def multiply(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
                with ThreadPoolExecutor(1) as pool:
                    return pool.submit(nn.functional.linear, x, weight, bias).result(timeout=20)

            return multiply

        def pair(self, name: str) -> Callable[..., torch.Tensor]:
            return torch.bmm

    model = nn.Sequential(nn.Linear(4, 3))
    routing = convert(model, InAThread())
    assert model(torch.rand(2, 4)).shape == (2, 3)
    assert routing.conversion.optical == ["0"]
    assert not routing.conversion.digital


class Turned(nn.Module):
    """Multiplies by what it computes from its weight, one way or another."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.way = nn.Parameter(torch.randn(8, 8)), "as it is"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = 2 * self.w
        if self.way == "transposed":
            return x @ w.mT
        if self.way == "in another shape":
            return x[..., :4] @ w.view(4, 16)
        return x @ w


@pytest.mark.parametrize("way", ["transposed", "in another shape"])
@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_computed_matrix_with_the_same_numbers_in_another_order_is_shown_anew(way: str, backend: str) -> None:
    model, x = Turned(), torch.randn(5, 8)
    optical = opticalize(model, "ideal", backend=backend)
    for model.way in ("as it is", way, "as it is"):
        optical.way = model.way
        torch.testing.assert_close(optical(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", ["compiled", "torch"])
@pytest.mark.parametrize("what", [float("nan"), float("inf")])
def test_what_is_no_number_in_one_key_leaves_the_others_alone(what: float, backend: str) -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            keys = x.clone()
            keys[:, 2] = what  # a place of a cache that was never written
            hidden = torch.arange(5) == 2
            return (x @ keys.mT).masked_fill(hidden, -torch.inf).softmax(-1) @ x

    model, x = Attention(), torch.randn(3, 5, 8)
    for bench, near in (("ideal", 1e-4), ("paper", 0.5)):
        optical = opticalize(model, bench, backend=backend)
        torch.testing.assert_close(optical(x), model(x), rtol=near, atol=near)


@pytest.mark.parametrize("backend", ["compiled", "torch"])
@pytest.mark.parametrize("what", [float("nan"), float("inf"), -float("inf")])
def test_row_that_is_not_finite_is_the_models_own_and_leaves_the_others_in_light(what: float, backend: str) -> None:
    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 4, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.cat([self.first(x), x @ x[:, :3].mT, x[..., :2]], -1)[..., :8])

    model, x = Layers(), torch.randn(3, 5, 8)
    spoilt = x.clone()
    spoilt[1, 4, 3] = what
    for bench, near in (("ideal", 1e-4), ("paper", 0.6)):
        optical, other = (opticalize(model, bench, photons_per_mac=None, backend=backend) for _ in range(2))
        found, whole, digital = optical(spoilt), other(x), model(spoilt)
        torch.testing.assert_close(found, digital, rtol=near, atol=near, equal_nan=True)
        is_lit = torch.ones(3, 5, dtype=torch.bool).index_put((torch.tensor(1), torch.tensor(4)), torch.tensor(False))
        torch.testing.assert_close(found[is_lit], whole[is_lit], rtol=1e-4, atol=near / 100)
        report = optical_report(optical)
        assert report.macs == optical_report(other).macs
        assert report.digital_macs["first (operands that are not finite)"] == 64
        assert report.digital["first (operands that are not finite)"] == "operands that are not finite"


def test_rows_that_attention_masks_wholly_are_as_the_model_has_them() -> None:
    class Masked(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.zeros(5, 5, dtype=torch.bool)
            hidden[2] = True  # nothing is left to attend to: no number
            scores = (x @ x.mT).masked_fill(hidden, -torch.inf).softmax(-1)
            return torch.cat([scores @ x, x * (-torch.inf * (x > 1))], -1)

    x = torch.randn(3, 5, 8)
    optical = opticalize(nn.Sequential(Masked(), nn.Linear(16, 8)), "ideal")
    with torch.no_grad():
        expected = torch.nn.functional.linear(Masked()(x), optical[1].weight, optical[1].bias)
        torch.testing.assert_close(optical(x), expected, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_subnormal_numbers_are_dark(backend: str) -> None:
    layer = nn.Linear(8, 8, bias=False)
    x = torch.rand(3, 8)
    x[0, 1], x[1, 3], x[1, 4], x[2] = 0.0, -1e-40, 0.0, 1e-40 * x[2]
    for bench, near in (("ideal", 1e-5), ("paper", 0.2)):
        optical = opticalize(layer, bench, backend=backend)
        torch.testing.assert_close(optical(x), layer(x), rtol=near, atol=near)


@pytest.mark.parametrize("scale", [1e-50, 1e50])
def test_double_numbers_beyond_single_precision_are_refused(scale: float) -> None:
    optical = opticalize(nn.Linear(8, 8).double(), "ideal")
    with pytest.raises(BadOperands, match="beyond what light"):
        optical(scale * torch.rand(3, 8, dtype=torch.float64))
    optical.weight.data.mul_(scale)
    with pytest.raises(BadOperands, match="beyond what light"):
        optical(torch.rand(3, 8, dtype=torch.float64))


def test_layer_that_does_not_know_its_size_is_refused() -> None:
    with pytest.raises(OutOfDomain, match="size"):
        opticalize(nn.Sequential(nn.LazyLinear(4)), "ideal")
