"""Whole models by each backend: exactness, noise, gradients, types, and where layers lie."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
import torch
from processes import LIMIT_S
from sim_bench import calibrated, loud
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from calibration.errors import OutOfDomain
from simulation.benches.backend import Benches, OnCpu
from simulation.conversion.changes import Mark, checksum, is_same, mark_of, sums_of_words
from simulation.conversion.layers import OpticalMatrix
from simulation.conversion.optical import (
    layers_of,
    load_optical_state,
    optical_report,
    optical_state,
    opticalize,
    reset_optical_report,
    set_light,
)
from simulation.conversion.quantise import _kth, _kth_there
from simulation.conversion.ranges import observe
from simulation.light import product, weights
from simulation.light.optics import ideal
from simulation.light.product import Bench
from simulation.light.tensors.devices import device_of
from simulation.light.tensors.product import TensorBench
from simulation.models.gpt import GPT, GPTConfig

BOTH = ["compiled", "torch"]
SOURCES = {"ideal": "ideal", "paper": "paper", "bench": calibrated(loud()), "offset": calibrated(loud(), "offset")}


@pytest.fixture(autouse=True)
def whole_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "byte_products", lambda: False)
    monkeypatch.setattr(product, "half_products", lambda: False)


@pytest.fixture
def tiny() -> GPT:
    config = GPTConfig(vocabulary=300, context=16, width=32, blocks=2, heads=4)
    return GPT(config, torch.Generator().manual_seed(1)).eval()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(300, (2, 16), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("backend", BOTH)
def test_ideal_light_gives_the_models_own_logits(tiny: GPT, tokens: Tensor, backend: str) -> None:
    with torch.inference_mode():
        found = opticalize(tiny, "ideal", backend=backend)(tokens)  # type: ignore[arg-type]
        assert float((found - tiny(tokens)).abs().max()) < 1e-4


@pytest.mark.parametrize("source", SOURCES)
def test_backends_give_the_same_logits_and_count_the_same_light(tiny: GPT, tokens: Tensor, source: str) -> None:
    found, reports = [], []
    with torch.inference_mode():
        exact = tiny(tokens)
        for backend in BOTH:
            optical = opticalize(tiny, SOURCES[source], photons_per_mac=1000.0, backend=backend)  # type: ignore[arg-type]
            found.append(optical(tokens))
            reports.append(optical_report(optical))
    noise = float((found[0] - exact).std())
    assert noise > 1e-3 * float(exact.std())
    assert float((found[0] - found[1]).std()) < 0.02 * noise  # of counts and levels next door, carried through layers
    assert reports[0].optical == reports[1].optical
    assert reports[0].total.passes == reports[1].total.passes
    assert reports[0].total.electrons == pytest.approx(reports[1].total.electrons, rel=1e-3)


@pytest.mark.parametrize("backend", BOTH)
def test_noise_goes_on_where_its_state_was_saved(tiny: GPT, tokens: Tensor, backend: str) -> None:
    optical = opticalize(tiny, "paper", photons_per_mac=10.0, seed=3, backend=backend)  # type: ignore[arg-type]
    with torch.inference_mode():
        first = optical(tokens)
        state = optical_state(optical)
        after = optical(tokens)
        again = opticalize(tiny, "paper", photons_per_mac=10.0, backend=backend)  # type: ignore[arg-type]
        load_optical_state(again, state)
        assert torch.equal(again(tokens), after)
    assert not torch.equal(first, after)


@pytest.mark.parametrize("backend", BOTH)
def test_gradients_are_those_of_the_exact_product_also_when_it_is_computed_again(backend: str) -> None:
    torch.manual_seed(0)
    linear, x, out = nn.Linear(20, 24), torch.randn(5, 20, requires_grad=True), torch.randn(5, 24)
    (expected,) = torch.autograd.grad((linear(x) * out).sum(), x)

    class Again(nn.Module):
        def __init__(self, again: bool) -> None:
            super().__init__()
            self.linear, self.again = linear, again

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = checkpoint(self.linear, x, use_reentrant=False) if self.again else self.linear(x)
            return y.square() if self.again else y

    optical = opticalize(Again(False), SOURCES["bench"], backend=backend)  # type: ignore[arg-type]
    found = torch.autograd.grad((optical(x) * out).sum(), [x, linear.weight])
    assert torch.allclose(found[0], expected, atol=1e-6)
    assert torch.allclose(found[1], out.T @ x.detach(), atol=1e-5)
    kept, again = (opticalize(Again(a), "ideal", photons_per_mac=10.0, backend=backend) for a in (False, True))  # type: ignore[arg-type]
    (one,) = torch.autograd.grad(kept(x).square().sum(), x)
    (other,) = torch.autograd.grad(again(x).sum(), x)
    assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_models_of_other_types_stay_of_them(tiny: GPT, tokens: Tensor, dtype: torch.dtype, backend: str) -> None:
    model = tiny.to(dtype)
    with torch.inference_mode():
        exact = model(tokens)
        found = opticalize(model, "ideal", backend=backend)(tokens)  # type: ignore[arg-type]
    assert found.dtype == exact.dtype == dtype
    tolerance = {torch.float64: 1e-4, torch.bfloat16: 3e-2, torch.float16: 3e-3}[dtype]  # of two or three products each
    assert float((found - exact).abs().max() / exact.abs().max()) < tolerance


@pytest.mark.parametrize("backend", BOTH)
def test_light_is_not_rounded_by_autocast(tiny: GPT, tokens: Tensor, backend: str) -> None:
    """Operands come rounded, as they do to any product under autocast; what light makes of them is not rounded more."""
    optical = opticalize(tiny, "ideal", backend=backend)  # type: ignore[arg-type]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        exact, found = tiny(tokens), optical(tokens)
    assert found.dtype == exact.dtype
    assert float((found.float() - exact.float()).abs().max() / exact.float().abs().max()) < 3e-2


@pytest.mark.parametrize("backend", BOTH)
def test_changed_weights_and_types_are_shown_anew(backend: str) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(20, 24, bias=False), torch.randn(5, 20)
    optical = opticalize(nn.Sequential(linear), "ideal", backend=backend)  # type: ignore[arg-type]
    with torch.inference_mode():
        assert torch.allclose(optical(x), linear(x), atol=1e-5)
        linear.weight.data.mul_(-2.0)
        assert torch.allclose(optical(x), linear(x), atol=1e-5)
        optical.double()
        assert optical(x.double()).dtype == torch.float64
        assert torch.allclose(optical(x.double()).float(), linear.float()(x), atol=1e-5)


@pytest.mark.parametrize("backend", BOTH)
def test_empty_batches_and_scattered_operands(tiny: GPT, backend: str) -> None:
    torch.manual_seed(0)
    optical = opticalize(nn.Sequential(nn.Linear(20, 24)), SOURCES["bench"], photons_per_mac=10.0, backend=backend)  # type: ignore[arg-type]
    with torch.inference_mode():
        assert optical(torch.empty(0, 20)).shape == (0, 24)
        x = torch.randn(20, 7).T
        state = optical_state(optical)
        y = optical(x)
        load_optical_state(optical, state)
        assert torch.equal(optical(x.contiguous()), y)


@pytest.mark.parametrize("backend", BOTH)
def test_outputs_keep_to_observed_ranges(backend: str) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(20, 24)), torch.randn(40, 20)
    ranges = observe(model, [x])
    with torch.inference_mode():
        y = opticalize(model, "paper", photons_per_mac=10.0, ranges=ranges, backend=backend)(x * 1.5)  # type: ignore[arg-type]
    step = ranges["0"].output / 127
    assert float((y / step - (y / step).round()).abs().max()) < 1e-4
    assert float(y.abs().max()) <= ranges["0"].output * (1 + 1e-6)


def test_a_backend_is_chosen_by_the_device_or_stated() -> None:
    cpu, meta = torch.device("cpu"), torch.device("meta")
    found = Benches(Bench(ideal(), None, "exact"))
    assert isinstance(found.on(cpu), OnCpu)
    assert isinstance(found.on(meta), TensorBench)
    assert isinstance(Benches(Bench(ideal(), None, "exact"), "compiled").on(meta), OnCpu)
    stated = Benches(Bench(ideal(), None, "exact"), "torch")
    assert isinstance(stated.on(cpu), TensorBench)
    assert stated.on(cpu) is stated.on(torch.device("cpu"))


def test_light_is_counted_and_counted_anew() -> None:
    optical = opticalize(nn.Sequential(nn.Linear(20, 24)), "ideal", photons_per_mac=10.0, backend="torch")
    with torch.inference_mode():
        optical(torch.rand(3, 20))
        assert optical_report(optical).total.photons_per_mac == pytest.approx(10.0, rel=1e-5)
    reset_optical_report(optical)
    assert optical_report(optical).total.products == 0


def test_a_device_that_is_not_there_is_refused() -> None:
    assert device_of("cpu") == torch.device("cpu")
    for name in ("cuda:97", "tpu", "meta", "cpu:x"):
        with pytest.raises(OutOfDomain, match="no such device") as refused:
            device_of(name)
        assert "--device" in str(refused.value.hint)


def mark_there(matrix: Tensor) -> Mark:
    """As of a matrix on another device."""
    return Mark(matrix.shape, False, sums_of_words(matrix))


def test_what_is_found_of_a_matrix_on_its_device_is_what_the_cpu_finds() -> None:
    """Its scale and whether it changed: the functions for other devices run here on the CPU."""
    matrices = torch.randn(3, 40, 50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(_kth(matrices, 1980), _kth_there(matrices, 1980))
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        matrix = matrices[0].to(dtype)
        mark = mark_there(matrix)
        assert is_same(mark, mark_there(matrix.clone()))
        assert not is_same(mark, mark_of(matrix))
        for change in (matrix.clone(), matrix.flip(0), matrix.flip(1)):
            change[3, 4] = torch.nextafter(change[3, 4], change[3, 5]) if dtype != torch.bfloat16 else 2 * change[3, 4]
            assert not is_same(mark, mark_there(change))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_signs_and_places_in_a_pattern_do_not_cancel(dtype: torch.dtype) -> None:
    matrix = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=dtype).repeat(4, 3)
    for change in (-matrix, matrix.flip(0), matrix.flip(1)):
        assert not is_same(mark_there(matrix), mark_there(change))
        assert checksum(matrix) != checksum(change.contiguous())


def replicas(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Two copies as `torch.nn.DataParallel` makes them for a call, with parameters that lie in one storage together.

    Only the copying from device to device is ours: there is one device here.
    """
    from torch.nn.parallel import replicate

    def broadcast(tensors: list[Tensor], devices: list[int], detach: bool = False) -> list[list[Tensor]]:
        copies = []
        for _ in devices:
            flat = torch.cat([tensor.flatten() for tensor in tensors]) if tensors else torch.empty(0)
            parts = flat.split([tensor.numel() for tensor in tensors])
            copies.append([part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])
        return copies

    monkeypatch.setattr(sys.modules[replicate.__module__], "_broadcast_coalesced_reshape", broadcast)
    return replicate(model, [0, 1])


@pytest.mark.parametrize("backend", BOTH)
def test_replicas_of_a_model_are_in_light_at_once(
    tiny: GPT, tokens: Tensor, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    optical = opticalize(tiny, "ideal", keep=["blocks.1.*"], backend=backend)  # type: ignore[arg-type]
    found: dict[int, Tensor] = {}
    with torch.no_grad():
        exact = tiny(tokens)
        own = optical(tokens)
        reset_optical_report(optical)
        copies = replicas(optical, monkeypatch)

        def run(number: int) -> None:
            with torch.no_grad():
                found[number] = copies[number](tokens[number : number + 1])

        threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=LIMIT_S)
    assert torch.allclose(own, exact, atol=1e-4)
    assert torch.allclose(torch.cat([found[0], found[1]]), exact, atol=1e-4)
    report = optical_report(optical)
    lit = {name for name, tally in report.layers.items() if tally.products}
    assert lit == {f"{name} in the replica on cpu" for name in report.optical if " in the replica" not in name}
    assert not any("blocks.1" in name for name in lit)


def test_gradients_reach_the_parameters_through_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(20, 24), torch.randn(5, 20)
    optical = opticalize(nn.Sequential(linear), "ideal", photons_per_mac=100.0, backend="torch")
    copies = replicas(optical, monkeypatch)
    copies[0](x).sum().backward()
    assert torch.allclose(linear.weight.grad, x.sum(0).expand(24, 20), atol=1e-5)


@pytest.mark.parametrize("backend", BOTH)
def test_layers_are_computed_where_accelerate_puts_them(tiny: GPT, tokens: Tensor, backend: str) -> None:
    """With one device there is nothing to move; that its hooks and light go together is what can be seen here."""
    accelerate = pytest.importorskip("accelerate")
    where = {name: "cpu" for name, _ in tiny.named_children()}
    with torch.inference_mode():
        exact = tiny(tokens)
        before = accelerate.dispatch_model(opticalize(tiny, "ideal", backend=backend), where, force_hooks=True)  # type: ignore[arg-type]
        assert torch.allclose(before(tokens), exact, atol=1e-4)
        assert optical_report(before).share > 0.5
        after = opticalize(accelerate.dispatch_model(tiny, where, force_hooks=True), "ideal", backend=backend)  # type: ignore[arg-type]
        assert torch.allclose(after(tokens), exact, atol=1e-4)
        assert optical_report(after).share > 0.5


@pytest.mark.parametrize("backend", BOTH)
def test_layers_that_are_fetched_when_they_run_have_their_own_matrices_and_noise(
    tiny: GPT, tokens: Tensor, backend: str, tmp_path: Path
) -> None:
    """The disk is the second device: accelerate's map keeps weights there until their layer runs, and drops them."""
    accelerate = pytest.importorskip("accelerate")
    where = {name: "disk" if name == "blocks" else "cpu" for name, _ in tiny.named_children()}
    light = {"photons_per_mac": 100.0, "seed": 1, "backend": backend}
    with torch.inference_mode():
        whole = opticalize(tiny, "paper", **light)  # type: ignore[arg-type]
        expected = whole(tokens), whole(tokens)
        optical = opticalize(tiny, "paper", **light)  # type: ignore[arg-type]
        accelerate.dispatch_model(optical, where, main_device="cpu", offload_dir=str(tmp_path))
        matrices = [layer for layer in layers_of(optical).by_name.values() if isinstance(layer, OpticalMatrix)]
        shown = [layer._shown for layer in matrices]
        assert any(parameter.is_meta for parameter in optical.parameters())
        assert all(torch.equal(optical(tokens), each) for each in expected)
        assert all(layer._shown is before for layer, before in zip(matrices, shown, strict=True))
    assert optical_report(optical).layers.keys() == optical_report(whole).layers.keys()


def test_each_product_asks_for_the_bench_of_its_operands_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one device here: that its bench is another one now stands for a layer that was moved."""
    asked: list[torch.device] = []
    on = Benches.on
    monkeypatch.setattr(Benches, "on", lambda self, device: asked.append(device) or on(self, device))
    model = nn.Sequential(nn.Linear(20, 24), nn.Linear(24, 20))
    optical = opticalize(model, "ideal", backend="torch")
    benches = layers_of(optical)._benches
    other = TensorBench(ideal(), None, "exact", torch.device("cpu"))
    with torch.inference_mode():
        first = optical(torch.ones(3, 20))
        assert asked == [torch.device("cpu")] * 4  # each was shown, and asked again when it ran
        benches._made[torch.device("cpu")] = other
        assert torch.equal(optical(torch.ones(3, 20)), first)
    shown = [layer._shown.kind[0] for layer in layers_of(optical).by_name.values()]  # type: ignore[union-attr]
    assert shown == [other.shows, other.shows]  # matrices go with the operands: they are shown anew on another bench


def test_a_model_that_ran_for_inference_can_be_trained_copied_and_saved(tmp_path: Path) -> None:
    """What is kept on a device in inference mode must serve without it."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(20, 24), nn.GELU(), nn.Linear(24, 20)), torch.randn(5, 20)
    optical = opticalize(model, SOURCES["bench"], photons_per_mac=10.0, backend="torch")
    with torch.inference_mode():
        optical(x)
    optimiser = torch.optim.SGD(optical.parameters(), 1e-3)
    for _ in range(2):
        optical(x).square().sum().backward()
        optimiser.step()
    torch.save(optical, tmp_path / "model.pt")
    saved = torch.load(tmp_path / "model.pt", weights_only=False)
    with torch.inference_mode():
        found = optical(x)
        again = saved(x)
    assert torch.equal(found, again)


@pytest.mark.parametrize("backend", BOTH)
def test_matrices_are_shown_once_for_all_light_levels(tiny: GPT, tokens: Tensor, backend: str) -> None:
    with torch.inference_mode():
        optical = opticalize(tiny, SOURCES["bench"], photons_per_mac=10.0, seed=1, backend=backend)  # type: ignore[arg-type]
        optical(tokens)
        before = [layer._shown for layer in layers_of(optical).by_name.values() if isinstance(layer, OpticalMatrix)]
        set_light(optical, 1000.0, seed=1)
        found = optical(tokens)
        after = [layer._shown for layer in layers_of(optical).by_name.values() if isinstance(layer, OpticalMatrix)]
        assert all(one is other for one, other in zip(before, after, strict=True))
        anew = opticalize(tiny, SOURCES["bench"], photons_per_mac=1000.0, seed=1, backend=backend)  # type: ignore[arg-type]
        assert torch.equal(found, anew(tokens))


def test_a_bench_that_begins_without_light_gets_it(tiny: GPT, tokens: Tensor) -> None:
    """Without shot noise nothing is kept of a matrix for the variance."""
    with torch.inference_mode():
        optical = opticalize(tiny, "ideal", seed=1, backend="torch")
        assert torch.allclose(optical(tokens), tiny(tokens), atol=1e-4)
        set_light(optical, 100.0, seed=1)
        anew = opticalize(tiny, "ideal", photons_per_mac=100.0, seed=1, backend="torch")
        assert torch.equal(optical(tokens), anew(tokens))
