"""A model in light whose modules are others than when it was put there: what is new is in light as the rest is."""

from __future__ import annotations

import _thread
import copy
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from calibration.errors import OutOfDomain
from simulation.conversion.convert import digitally
from simulation.conversion.optical import (
    optical_report,
    optical_state,
    opticalize,
    reseed,
    reset_optical_report,
    set_light,
)
from simulation.conversion.routing import routing_of


class Block(nn.Module):
    """A product of two operands, and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer((x @ x.mT).softmax(-1) @ x)


class Model(nn.Module):
    """Two blocks and a head, which the table of the embedding is."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.blocks, self.head = nn.Embedding(20, 8), nn.Sequential(Block(), Block()), nn.Linear(8, 20)
        self.head.weight = self.embedding.weight

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.head(self.blocks(self.embedding(tokens)))
        return found


TOKENS = torch.arange(12).view(2, 6)


@pytest.fixture
def optical() -> Model:
    torch.manual_seed(0)
    return opticalize(Model(), "ideal")


def macs_of(optical: Model) -> dict[str, int]:
    """Run it, compare it with itself on a computer, and say how often each product ran."""
    with torch.no_grad():
        got = optical(TOKENS)
        with digitally(optical):
            expected = optical(TOKENS)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    found = optical_report(optical)
    assert found.digital["head"] == "output head"
    return {name: tally.macs for name, tally in found.layers.items() if tally.macs}


def of_blocks(*names: str) -> dict[str, int]:
    """The products of blocks by their names."""
    pairs = {f"blocks.{name}.product{i}": 2 * 6 * 6 * 8 for name in names for i in (1, 2)}
    return pairs | {f"blocks.{name}.layer": 12 * 64 for name in names}


def test_layer_put_in_the_place_of_another_is_a_matrix_and_no_pair(optical: Model) -> None:
    optical.blocks[1].layer = nn.Linear(8, 8)
    assert macs_of(optical) == of_blocks("0", "1")


def test_head_put_in_the_place_of_another_stays_digital(optical: Model) -> None:
    optical.head = nn.Linear(8, 20)
    assert macs_of(optical) == of_blocks("0", "1")
    assert optical_report(optical).digital_macs["head"] == 12 * 8 * 20


class Adapter(nn.Module):
    """Beside a layer two thin ones; what asks for its weight gets that of the layer."""

    def __init__(self, base: nn.Linear | nn.Embedding, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base, self.down, self.up = base, nn.Parameter(torch.randn(inputs, 2)), nn.Linear(2, outputs)

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.base(x) + self.up((x if x.is_floating_point() else self.base(x)) @ self.down)
        return found


@pytest.mark.parametrize("is_later", [True, False])
def test_adapter_of_a_head_is_head_and_that_of_an_embedding_is_none(is_later: bool) -> None:
    model = opticalize(Model(), "ideal") if is_later else Model()
    model.head, model.embedding = Adapter(model.head, 8, 20), Adapter(model.embedding, 8, 8)  # type: ignore[assignment]
    optical = model if is_later else opticalize(model, "ideal")
    optical(TOKENS)
    found = optical_report(optical)
    heads = {name: macs for name, macs in found.digital_macs.items() if found.digital[name] == "output head"}
    assert heads == {"head.base": 12 * 160, "head.down": 12 * 16, "head.up": 12 * 40}
    lit = {name: tally.macs for name, tally in found.layers.items() if tally.macs}
    assert lit == of_blocks("0", "1") | {"embedding.down": 12 * 16, "embedding.up": 12 * 16}


def test_block_that_is_added_has_names_and_noise_of_its_own(optical: Model) -> None:
    """Also a copy of one in light, which would bring the noise of that one along."""
    optical.blocks.append(copy.deepcopy(optical.blocks[0]))
    assert macs_of(optical) == of_blocks("0", "1", "2")
    assert routing_of(optical.blocks[2]) is routing_of(optical)


def test_blocks_that_change_places_have_the_names_of_their_places(optical: Model) -> None:
    optical.blocks[0], optical.blocks[1] = optical.blocks[1], optical.blocks[0]
    assert macs_of(optical) == of_blocks("0", "1")


def test_block_that_is_taken_out_is_a_module_as_any(optical: Model) -> None:
    gone = optical.blocks[1]
    optical.blocks = optical.blocks[:1]
    assert macs_of(optical) == of_blocks("0")
    before = optical_report(optical).macs
    gone(torch.randn(1, 3, 8))
    assert routing_of(gone) is None
    assert optical_report(optical).macs == before


def test_block_that_is_taken_out_and_called_first_is_not_in_light(optical: Model) -> None:
    gone = optical.blocks[1]
    optical.blocks = optical.blocks[:1]
    gone(torch.randn(1, 3, 8))
    assert not optical_report(optical).macs
    assert macs_of(optical) == of_blocks("0")


def test_weight_that_becomes_computed_is_followed_to_what_it_is_computed_from(optical: Model) -> None:
    parametrizations.weight_norm(optical.blocks[0].layer)
    found = macs_of(optical)
    assert found == of_blocks("1") | {
        "blocks.0.product1": 576, "blocks.0.product2": 576, "blocks.0.layer.matrix1": 768,
    }  # fmt: skip


def test_parameter_that_is_registered_later_is_a_matrix(optical: Model) -> None:
    optical.blocks[0].register_parameter("more", nn.Parameter(torch.randn(8, 8)))
    optical.blocks[0].register_forward_hook(lambda block, _, y: y @ block.more)
    assert macs_of(optical) == of_blocks("0", "1") | {"blocks.0.more": 768}


def test_module_that_cannot_be_in_light_is_refused_when_it_comes_later(optical: Model) -> None:
    with torch.device("meta"):
        optical.blocks[0].layer = nn.Linear(8, 8)
    with pytest.raises(OutOfDomain, match="without its weights") as caught:
        optical(TOKENS)
    assert caught.value.device == "blocks.0.layer.weight"
    optical.blocks[0].layer = nn.Linear(8, 8)
    assert macs_of(optical) == of_blocks("0", "1")


# -- what the report says of modules that come and go


def test_layer_that_is_replaced_before_it_ran_leaves_no_row(optical: Model) -> None:
    optical.blocks[0].layer = nn.Sequential(nn.Linear(8, 3), nn.Linear(3, 8))
    optical.blocks[1] = nn.Identity()
    assert macs_of(optical).keys() == {f"blocks.0.{name}" for name in ("product1", "product2", "layer.0", "layer.1")}
    found = optical_report(optical)
    assert sorted(found.optical) == sorted(found.layers) == sorted(macs_of(optical))


def test_layer_that_ran_before_it_is_replaced_stays_counted_until_the_report_begins_anew(optical: Model) -> None:
    macs_of(optical)
    optical.blocks = optical.blocks[:1]
    assert macs_of(optical)["blocks.1.layer"] == 12 * 64
    reset_optical_report(optical)
    assert not [name for name in optical_report(optical).optical if name.startswith("blocks.1")]
    assert macs_of(optical) == of_blocks("0")


def test_layer_of_another_size_has_the_name_of_one_that_never_ran(optical: Model) -> None:
    optical.blocks[0].layer = nn.Linear(8, 8, dtype=torch.float64)
    optical.blocks[0].layer = nn.Sequential(nn.Linear(8, 8))
    optical.blocks[0].layer = nn.Linear(8, 16)
    optical.blocks[0].layer.register_forward_hook(lambda *call: call[-1][..., :8])
    found = macs_of(optical)
    assert found == of_blocks("0", "1") | {"blocks.0.layer": 12 * 128}


def test_noise_of_a_layer_that_comes_back_is_not_drawn_again() -> None:
    optical = opticalize(Model(), "ideal", photons_per_mac=1.0)
    block, first = optical.blocks[1], optical(TOKENS)
    optical.blocks[1] = nn.Identity()
    optical(TOKENS)
    reset_optical_report(optical)
    optical.blocks[1] = block
    state = optical_state(optical)
    assert not torch.equal(optical(TOKENS), first)
    assert all(state[name][2] for name in of_blocks("1"))


def test_digital_module_that_is_taken_out_leaves_no_row(optical: Model) -> None:
    optical.blocks[1] = nn.Sequential(nn.LayerNorm(8), nn.Identity())
    optical(TOKENS)
    assert optical_report(optical).digital["blocks.1.0"] == "normalisation"
    optical.blocks[1] = nn.Identity()
    optical(TOKENS)
    assert "blocks.1.0" not in optical_report(optical).digital


def test_report_of_a_part_is_of_what_is_in_it(optical: Model) -> None:
    optical(TOKENS)
    whole, part = optical_report(optical), optical_report(optical.blocks[1])
    assert {name: tally.macs for name, tally in part.layers.items()} == of_blocks("1")
    assert part.optical == tuple(name for name in whole.optical if name.startswith("blocks.1."))
    assert part.total.macs == sum(of_blocks("1").values())
    assert part.share == 1.0
    assert not part.digital
    assert "blocks.1 alone" in part.words
    assert "alone" not in whole.words
    reset_optical_report(optical.blocks[1])
    assert not optical_report(optical.blocks[1]).macs
    assert optical_report(optical).macs == whole.macs - part.macs
    optical.blocks[1](torch.randn(1, 3, 8))
    assert optical_report(optical.blocks[1]).total.products == 9


def test_report_of_a_part_has_the_matrices_that_it_shares() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    model[0].weight = model[2].weight
    optical = opticalize(model, "ideal")
    optical(torch.randn(2, 8))
    assert optical_report(optical[0]).optical == ("2",)
    assert optical_report(optical[1]).optical == ("1",)


def test_light_and_noise_of_a_part_are_those_of_the_whole(optical: Model) -> None:
    for ask in (lambda part: set_light(part, 3.0), lambda part: reseed(part, 1), optical_state):
        with pytest.raises(OutOfDomain, match="no light and no noise of its own") as caught:
            ask(optical.blocks[1])
        assert caught.value.device == "blocks.1"


def test_model_that_holds_one_in_light_is_told_which_it_is(optical: Model) -> None:
    with pytest.raises(OutOfDomain, match="not optical") as caught:
        optical_report(nn.Sequential(nn.Identity(), optical))
    assert caught.value.hint == "hand over its 1"
    for none in (nn.Linear(2, 2), 3):
        with pytest.raises(OutOfDomain, match="not optical") as caught:
            optical_report(none)  # type: ignore[arg-type]
        assert caught.value.hint == "opticalize(model, calibration)"


# -- weights that lie elsewhere than in parameters


class Packed(Tensor):
    """Whole numbers that pass for floating-point numbers, as libraries for quantised weights have them."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> Packed:
        made: Packed = Tensor._make_wrapper_subclass(cls, numbers.shape, dtype=torch.float32)
        return made

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["numbers"], None

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return Packed(args[0].numbers)
        return func(*(a.numbers.float() / 8 if isinstance(a, Packed) else a for a in args), **(kwargs or {}))


def test_weights_of_a_class_that_packs_them_are_matrices() -> None:
    model, x = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), torch.randn(3, 8)
    model[1].weight = nn.Parameter(Packed(torch.randint(-9, 9, (8, 8), dtype=torch.int8)), requires_grad=False)
    optical = opticalize(model, "ideal")
    with torch.no_grad():
        torch.testing.assert_close(optical(x), model(x), rtol=1e-4, atol=1e-4)
    assert optical_report(optical).optical == ("0", "1.matrix1")


def test_tensor_that_a_module_holds_as_an_attribute_is_a_matrix() -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.basis, self.last = nn.Linear(8, 8), torch.randn(8, 8), torch.zeros(0)

        def forward(self, x: Tensor) -> Tensor:
            before, self.last = self.last, x
            y: Tensor = self.layer(x) @ self.basis
            return y if not len(before) else y @ before.mT

    optical, x = opticalize(Mixing(), "ideal"), torch.randn(3, 8)
    optical(x)
    optical(x)
    assert optical_report(optical).optical == ("layer", "basis", "product1"), "the last of them depends on the input"


def test_layer_of_complex_numbers_stays_digital_and_is_listed() -> None:
    optical = opticalize(nn.Linear(8, 8, dtype=torch.complex64), "ideal")
    optical(torch.randn(3, 8, dtype=torch.complex64))
    assert set(optical_report(optical).digital.values()) == {"a product of complex numbers"}


def test_model_that_cannot_be_copied_is_refused() -> None:
    model = Model()
    model.blocks[0].lock = threading.Lock()
    with pytest.raises(OutOfDomain, match="cannot be copied") as caught:
        opticalize(model, "ideal")
    assert caught.value.device == "Model"


# -- digitally


def errors(optical: Model, expected: Tensor, times: int, into: list[float]) -> None:
    with torch.no_grad():
        into += [float((optical(TOKENS) - expected).abs().max()) for _ in range(times)]


def test_one_thread_that_computes_digitally_leaves_the_others_their_light() -> None:
    torch.manual_seed(0)
    model = Model()
    optical, expected = opticalize(model, "ideal", photons_per_mac=1.0), model(TOKENS).detach()
    lit: list[float] = []
    other = threading.Thread(target=errors, args=(optical, expected, 3, lit))
    found: list[float] = []
    go, done = threading.Event(), threading.Event()

    def digital() -> None:
        with digitally(optical):
            go.set()
            errors(optical, expected, 1, found)
            done.wait()

    first = threading.Thread(target=digital)
    first.start()
    go.wait()
    other.start()
    other.join()
    done.set()
    first.join()
    assert max(found) < 1e-5
    assert min(lit) > 1e-2


def test_threads_that_are_started_meanwhile_compute_digitally_and_no_longer() -> None:
    """Those that torch starts, for its gradients, too: Python knows nothing of them."""
    model, found = Model(), list[float]()
    optical, expected = opticalize(model, "ideal", photons_per_mac=1.0), model(TOKENS).detach()
    done = threading.Event()
    with digitally(optical):
        thread = threading.Thread(target=errors, args=(optical, expected, 2, found))
        thread.start()
        _thread.start_new_thread(lambda: (errors(optical, expected, 2, found), done.set()), ())
        done.wait()
        thread.join()
    assert len(found) == 4
    assert max(found) < 1e-5
    errors(optical, expected, 1, found)
    assert found[-1] > 1e-2


def test_inner_of_two_that_compute_digitally_does_not_end_the_outer() -> None:
    model, found = Model(), list[float]()
    optical, expected = opticalize(model, "ideal", photons_per_mac=1.0), model(TOKENS).detach()
    with digitally(optical):
        with digitally(optical):
            pass
        errors(optical, expected, 1, found)
    assert max(found) < 1e-5


def test_what_a_hook_computes_digitally_amid_light_is_digital() -> None:
    torch.manual_seed(0)
    optical = opticalize(Model(), "ideal", photons_per_mac=1.0)
    seen: list[Tensor] = []

    def compare(block: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        if not seen:
            seen.append(args[0])
            with digitally(optical):
                seen.append(block(args[0]))

    optical.blocks[0].register_forward_hook(compare)
    with torch.no_grad():
        optical(TOKENS)
        with digitally(optical):
            torch.testing.assert_close(seen[1], optical.blocks[0](seen[0]))
    assert optical_report(optical).layers["blocks.0.layer"].macs == 12 * 64


def test_copy_that_is_made_while_a_model_computes_digitally_is_in_light() -> None:
    optical = opticalize(Model(), "ideal", photons_per_mac=1.0)
    with digitally(optical):
        other = copy.deepcopy(optical)
    other(TOKENS)
    assert optical_report(other).total.macs == sum(of_blocks("0", "1").values())


# -- graphs


def faked(model: nn.Module, x: Tensor) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        model(x)


@pytest.mark.parametrize("how", ["export", "script", "symbolic trace", "proxies", "fakes"])
@pytest.mark.filterwarnings("ignore")
def test_model_in_light_is_not_made_a_graph_in_any_way(how: str) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    optical, x = opticalize(nn.Sequential(nn.Linear(8, 8)), "ideal"), torch.randn(3, 8)
    with pytest.raises(OutOfDomain, match="cannot be compiled"):
        {
            "export": lambda: torch.export.export(optical, (x,)),
            "script": lambda: torch.jit.script(optical),
            "symbolic trace": lambda: torch.fx.symbolic_trace(optical),
            "proxies": lambda: make_fx(optical)(x),
            "fakes": lambda: faked(optical, x),
        }[how]()
