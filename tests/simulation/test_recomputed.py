"""What gradient checkpointing computes again has the noise that it had, wherever equal operands occur twice."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from calibration.errors import OutOfDomain
from simulation.conversion.optical import optical_report, opticalize, reseed

Again = Callable[..., Tensor]
"""Runs a part, checkpointed or not."""


def kept(part: Callable[..., Tensor], *args: Tensor) -> Tensor:
    return part(*args)


def hooked(part: Callable[..., Tensor], *args: Tensor) -> Tensor:
    return checkpoint(part, *args, use_reentrant=False)


def function(part: Callable[..., Tensor], *args: Tensor) -> Tensor:
    return checkpoint(part, *args, use_reentrant=True)


class Twice(nn.Module):
    """One part runs on equal numbers several times, each with noise of its own."""

    def __init__(self, again: Again) -> None:
        super().__init__()
        self.again, self.first, self.second = again, nn.Linear(8, 8), nn.Linear(8, 8)
        self.w = nn.Parameter(torch.randn(8, 8))

    def both(self, x: Tensor) -> Tensor:
        return self.first(x).tanh() * self.first(x).sigmoid() + self.second(self.first(x)).tanh()

    def nested(self, x: Tensor) -> Tensor:
        return self.again(self.both, x) * self.first(x).sigmoid() + self.again(self.both, x).sin()

    def bare(self, x: Tensor) -> Tensor:
        return (x @ self.w).tanh() @ x.T @ (x @ self.w).sin()


def in_two_parts(model: Twice, x: Tensor) -> Tensor:
    return model.again(model.first, x).tanh() * model.again(model.first, x).sin()


def in_one_part(model: Twice, x: Tensor) -> Tensor:
    return model.again(model.both, x)


def in_nested_parts(model: Twice, x: Tensor) -> Tensor:
    return model.again(model.nested, x) + model.again(model.first, x)


def in_functions(model: Twice, x: Tensor) -> Tensor:
    """Their products belong to no layer."""
    before = (x @ model.w).tanh() @ x.T @ x
    return model.again(model.bare, x).sin() * model.again(model.bare, x) + before


def after_others(model: Twice, x: Tensor) -> Tensor:
    with torch.no_grad():
        model.first(x)
    y = model.first(x) + model.again(model.first, x).sin()
    return y + model.again(model.first, x.flip(0)).cos()  # its sum is that of x


WAYS = [in_two_parts, in_one_part, in_nested_parts, in_functions, after_others]


def gradients(model: nn.Module, x: Tensor) -> tuple[list[Tensor], int]:
    optical = opticalize(model, "paper", photons_per_mac=1.0, seed=4)
    x = x.clone().requires_grad_()
    optical(x).square().sum().backward()
    assert x.grad is not None
    found = [p.grad for p in optical.parameters() if p.grad is not None]
    return [x.grad, *found], optical_report(optical).total.products


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("again", [hooked, function])
def test_equal_operands_have_the_noise_that_each_had(way: Callable[..., Tensor], again: Again) -> None:
    class Model(Twice):
        def forward(self, x: Tensor) -> Tensor:
            return way(self, x)

    torch.manual_seed(0)
    model, x = Model(kept), torch.randn(6, 8)
    other = Model(again)
    other.load_state_dict(model.state_dict())
    (expected, products), (found, same) = gradients(model, x), gradients(other, x)
    assert same == products, "light is not counted twice"
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)  # sums in another order; noise is of the order of 1


def test_one_of_two_equal_parts_can_be_computed_again_alone() -> None:
    torch.manual_seed(0)
    layer, x = opticalize(nn.Linear(8, 8), "paper", photons_per_mac=1.0), torch.randn(6, 8)

    def bent(x: Tensor) -> Tensor:
        return layer(x).tanh()

    parts = [checkpoint(bent, x, use_reentrant=False) for _ in range(2)]
    for part in (parts[0], parts[1], parts[0]):
        (found,) = torch.autograd.grad(part.sum(), layer.bias, retain_graph=True)
        torch.testing.assert_close(found, (1 - part.detach() ** 2).sum(0))


@pytest.mark.parametrize("again", [hooked, function])
def test_noise_that_begins_anew_before_the_backward_pass_is_that_of_the_forward_pass(again: Again) -> None:
    torch.manual_seed(0)
    layer, x = opticalize(nn.Linear(8, 8), "paper", photons_per_mac=1.0), torch.randn(6, 8, requires_grad=True)
    part = again(lambda x: layer(x).tanh(), x)
    reseed(layer, 7)
    part.sum().backward()
    torch.testing.assert_close(layer.bias.grad, (1 - part.detach() ** 2).sum(0))


def test_products_that_are_kept_within_a_part_leave_the_others_their_noise() -> None:
    """Selective checkpointing repeats some of a part's products only."""

    def selective(part: Callable[..., Tensor], *args: Tensor) -> Tensor:
        seen = [0]

        def policy(ctx: object, op: object, *args: object, **kwargs: object) -> CheckpointPolicy:
            seen[0] += op == torch.ops.aten.addmm.default
            is_kept = op == torch.ops.aten.addmm.default and seen[0] % 2
            return CheckpointPolicy.MUST_SAVE if is_kept else CheckpointPolicy.PREFER_RECOMPUTE

        def contexts() -> object:
            return create_selective_checkpoint_contexts(policy)

        return checkpoint(part, *args, use_reentrant=False, context_fn=contexts)

    class Model(Twice):
        def forward(self, x: Tensor) -> Tensor:
            return in_one_part(self, x)

    torch.manual_seed(0)
    model, x = Model(kept), torch.randn(6, 8)
    other = Model(selective)
    other.load_state_dict(model.state_dict())
    for one, two in zip(gradients(other, x)[0], gradients(model, x)[0], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_what_was_never_computed_is_refused_in_a_backward_pass() -> None:
    class Restores(torch.autograd.Function):
        """Recomputes by itself, as reversible networks do."""

        @staticmethod
        def forward(ctx: object, x: Tensor, layer: nn.Module) -> Tensor:  # type: ignore[override]
            ctx.save_for_backward(x)  # type: ignore[attr-defined]
            ctx.layer = layer  # type: ignore[attr-defined]
            return layer(x)

        @staticmethod
        def backward(ctx: object, *grads: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
            (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
            with torch.enable_grad():
                y = ctx.layer(x.detach().requires_grad_())  # type: ignore[attr-defined]
            return grads[0] * y, None

    layer = opticalize(nn.Linear(8, 8), "paper")
    y = Restores.apply(torch.randn(6, 8, requires_grad=True), layer)
    with pytest.raises(OutOfDomain, match="backward pass"):
        y.sum().backward()


def test_what_is_remembered_goes_with_the_graph_and_not_with_a_copy() -> None:
    optical = opticalize(nn.Sequential(nn.Linear(8, 8)), "paper")
    remembered = optical.optical_layers.by_name["0"]._drawn
    y = checkpoint(optical, torch.randn(6, 8, requires_grad=True), use_reentrant=False)
    assert len(remembered._kept) == 1
    assert not copy.deepcopy(remembered)._kept
    del y
    assert not remembered._kept
