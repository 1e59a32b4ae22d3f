"""Training with the hardware in the loop: what light computes going forward, the model's own gradient going back.

Every product gives what the physical system gives; the gradient is that of the exact product at the same operands
(Wright et al., Deep physical neural networks trained with backpropagation, Nature 601, 549, 2022). The physical system
is a calibration under simulation here; `PhysicalForward` takes any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from simulation.benches.opening import Source, described, open_bench
from simulation.conversion.convert import replace_products
from simulation.conversion.optical import opticalize, reseed
from simulation.models.gpt import GPT, Product

LinearInLight = Callable[[Tensor], Tensor]
ProductInLight = Callable[[Tensor, Tensor], Tensor]
_Parts = tuple[list[tuple[str, type]], list[tuple[str, int, tuple[int, ...]]]]


class PhysicalLinear(nn.Linear):
    """A linear layer with the original parameters whose output comes from ``light``, if there is any."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.light: LinearInLight | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        if self.light is None:
            return super().forward(x)
        out: Tensor = _LinearInLight.apply(self.light, x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return out


class PhysicalProduct(Product):
    """``a @ b`` that comes from ``light``, if there is any."""

    def __init__(self) -> None:
        super().__init__()
        self.light: ProductInLight | None = None

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(…, n, K) and (…, K, M) to (…, n, M)."""
        if self.light is None:
            return super().forward(a, b)
        out: Tensor = _ProductInLight.apply(self.light, a, b)  # type: ignore[no-untyped-call]
        return out


def put_in_light(model: nn.Module, lights: Mapping[str, Callable[..., Tensor]]) -> None:
    """Let the named physical modules take their output from elsewhere; all others compute digitally.

    A light is a function and no module: torch would take its parameters for the model's own.
    """
    for name, module in model.named_modules():
        if isinstance(module, PhysicalLinear | PhysicalProduct):
            module.light = lights.get(name)


class CalibratedForward:
    """The `Forward` of noise-aware training: every product runs on a calibrated bench, with fresh noise at every step.

    Parameters
    ----------
    calibration
        Of a bench that labctl drives or of an import; or the name of a preset or of a published machine. Products of an
        import are decoded by its own curve and gains, so that the exact product's gradient is that of their mean.
    photons_per_mac
        At the weight plane per MAC and pass; the bench's own light if None.

    Raises
    ------
    OutOfDomain
        When the bench cannot have that light, or no other weights.
    """

    def __init__(self, calibration: Source, photons_per_mac: float | None = None) -> None:
        self.calibration, self.photons_per_mac = calibration, photons_per_mac
        self._bench = described(calibration)
        open_bench(self._bench, photons_per_mac, "exact")  # refused before anything is trained
        self._optical: tuple[GPT, _Parts] | None = None

    def describe(self) -> dict[str, Any]:
        return {"kind": "calibration", "calibration": self._bench.name, "photons_per_mac": self.photons_per_mac}

    def prepare(self, model: GPT, windows: Tensor, generator: torch.Generator) -> None:
        make_physical(model)

    def renew(self, model: GPT, generator: torch.Generator) -> None:
        """Show the weights of now; their noise follows from the training's own generator."""
        put_in_light(model, {})
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        if self._optical is None or self._optical[1] != _parts_of(model):
            made = opticalize(model, self._bench, photons_per_mac=self.photons_per_mac, seed=seed)
            self._optical = made, _parts_of(model)
        else:
            reseed(self._optical[0], seed)
        optical = self._optical[0]
        names = [name for name, m in model.named_modules() if isinstance(m, PhysicalLinear | PhysicalProduct)]
        put_in_light(model, {name: optical.get_submodule(name).__call__ for name in names})

    def record(self, model: GPT) -> dict[str, Any]:
        return {}


def make_physical(model: nn.Module) -> None:
    """Put physical modules in place of every linear layer and attention product."""
    replace_products(model, lambda _, linear: PhysicalLinear(linear), lambda _, product: PhysicalProduct())


def _parts_of(model: nn.Module) -> _Parts:
    """The modules and the very parameters of a model, and how these lie: names and noise of products go by that."""
    parameters = [(name, id(parameter), parameter.stride()) for name, parameter in model.named_parameters()]
    return [(name, type(part)) for name, part in model.named_modules()], parameters


class _LinearInLight(torch.autograd.Function):
    """What light gives, with the gradient of the exact product at the same operands."""

    @staticmethod
    def forward(context: Any, light: LinearInLight, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(x, weight)
        context.has_bias = bias is not None
        return light(x.detach()).detach()

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = (operand.to(gradient.dtype) for operand in context.saved_tensors)
        to_x, to_weight, to_bias = context.needs_input_grad[1:]
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (
            None,
            gradient @ weight if to_x else None,
            rows.mT @ x.reshape(-1, x.shape[-1]) if to_weight else None,
            rows.sum(0) if context.has_bias and to_bias else None,
        )


class _ProductInLight(torch.autograd.Function):
    """The same of two operands."""

    @staticmethod
    def forward(context: Any, light: ProductInLight, a: Tensor, b: Tensor) -> Tensor:
        context.save_for_backward(a, b)
        return light(a.detach(), b.detach()).detach()

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        a, b = (operand.to(gradient.dtype) for operand in context.saved_tensors)
        to_a, to_b = context.needs_input_grad[1:]
        return (
            None,
            (gradient @ b.mT).sum_to_size(a.shape) if to_a else None,
            (a.mT @ gradient).sum_to_size(b.shape) if to_b else None,
        )
