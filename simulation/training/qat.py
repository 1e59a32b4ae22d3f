"""Quantisation-aware training as in the paper: inputs, weights and outputs of every product on 256 levels, or fewer.

Ranges are percentiles of one calibration batch, or running extremes; weights are clipped at the percentile of what they
are now. Outputs are rounded stochastically in training, everything else to the nearest level; gradients go straight
through the rounding and stop where a value is clipped. Levels and percentiles: Optical Transformers (arXiv 2302.10360).
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from calibration.errors import BadOperands, OutOfDomain
from simulation.conversion.convert import replace_products
from simulation.conversion.quantise import ATTENTION_CLIP, LINEAR_CLIP
from simulation.conversion.ranges import INPUT_PERCENTILE, OUTPUT_PERCENTILE
from simulation.light.coarse import Bits
from simulation.models.gpt import GPT, Product

LEVELS = 256
EIGHT = Bits(8, 8, 8)
MEMORY = 0.999  # of the running extremes

RangeRule = Literal["batch", "running"]


class QuantisedForward:
    """The `simulation.training.forward.Forward` of quantisation-aware training.

    Parameters
    ----------
    ranges
        ``"batch"``: percentiles of one calibration batch, then fixed. ``"running"``: extremes of every batch, with a
        memory of 0.999.
    bits
        2^bits levels for inputs, for weights (and second operands of attention) and for outputs.
    """

    def __init__(self, ranges: RangeRule = "batch", bits: Bits = EIGHT) -> None:
        if ranges not in get_args(RangeRule):
            raise OutOfDomain("no such ranges", expected=" or ".join(get_args(RangeRule)), seen=ranges)
        self.ranges, self.bits = ranges, bits

    def describe(self) -> dict[str, Any]:
        each = [2**bits for bits in (self.bits.inputs, self.bits.weights, self.bits.outputs)]
        return {
            "kind": "quantisation-aware",
            "levels": each[0] if len(set(each)) == 1 else each,
            "ranges": self.ranges,
            "percentiles": {
                "weights": LINEAR_CLIP,
                "inputs": INPUT_PERCENTILE,
                "second attention operand": ATTENTION_CLIP,
                "outputs": OUTPUT_PERCENTILE,
            },
        }

    def prepare(self, model: GPT, windows: Tensor, generator: torch.Generator) -> None:
        replace_products(
            model,
            lambda _, linear: QuantisedLinear(linear, self.ranges, generator, self.bits),
            lambda _, product: QuantisedProduct(self.ranges, generator, self.bits),
        )
        with torch.inference_mode():
            _watch(model, True)
            model(windows[:, :-1])
            _watch(model, False)

    def renew(self, model: GPT, generator: torch.Generator) -> None:
        """Nothing: ranges move, if at all, as the batches pass."""

    def record(self, model: GPT) -> dict[str, Any]:
        found = {name: (float(m.low), float(m.high)) for name, m in model.named_modules() if isinstance(m, Range)}
        return {"ranges": found}


class Range(nn.Module):
    """Fake quantisation between two limits; zero is one of the levels.

    Parameters
    ----------
    percentile
        Of the magnitudes if ``symmetric``, else of either tail.
    ranges
        See `QuantisedForward`.
    generator
        Round stochastically with it while training; to the nearest level if None.
    bits
        2^bits levels.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        percentile: float,
        ranges: RangeRule,
        *,
        symmetric: bool = False,
        generator: torch.Generator | None = None,
        bits: int = 8,
    ) -> None:
        super().__init__()
        self.percentile, self.ranges, self.symmetric, self.generator = percentile, ranges, symmetric, generator
        self.watching, self.levels = False, 2**bits
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """x (…) on the levels."""
        if self.watching:
            self._adopt(*self._limits(x), memory=0.0)
        elif self.training and self.ranges == "running":
            self._adopt(*self._limits(x), memory=MEMORY)
        return fake_quantise(x, self.low, self.high, self.generator if self.training else None, self.levels)

    @torch.no_grad()
    def _limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        percentile = 100.0 if self.ranges == "running" else self.percentile
        if self.symmetric:
            high = upper(x.abs(), percentile)
            return -high, high
        return -upper(-x, percentile).clamp_min(0), upper(x, percentile).clamp_min(0)

    @torch.no_grad()
    def _adopt(self, low: Tensor, high: Tensor, memory: float) -> None:
        self.low.lerp_(low, 1 - memory)
        self.high.lerp_(high, 1 - memory)


class QuantisedLinear(nn.Linear):
    """A linear layer with the original parameters on quantised operands."""

    def __init__(self, linear: nn.Linear, ranges: RangeRule, generator: torch.Generator, bits: Bits = EIGHT) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.weight_levels = 2**bits.weights
        self.inputs = Range(INPUT_PERCENTILE, ranges, bits=bits.inputs)
        self.outputs = Range(OUTPUT_PERCENTILE, ranges, generator=generator, bits=bits.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out); the bias is added digitally."""
        high = upper(self.weight.detach().abs(), LINEAR_CLIP)
        weight = fake_quantise(self.weight, -high, high, None, self.weight_levels)
        y: Tensor = self.outputs(nn.functional.linear(self.inputs(x), weight))
        return y if self.bias is None else y + self.bias


class QuantisedProduct(Product):
    """``a @ b`` on quantised operands."""

    def __init__(self, ranges: RangeRule, generator: torch.Generator, bits: Bits = EIGHT) -> None:
        super().__init__()
        self.first = Range(INPUT_PERCENTILE, ranges, bits=bits.inputs)
        self.second = Range(ATTENTION_CLIP, ranges, symmetric=True, bits=bits.weights)
        self.outputs = Range(OUTPUT_PERCENTILE, ranges, generator=generator, bits=bits.outputs)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(…, n, K) and (…, K, M) to (…, n, M)."""
        out: Tensor = self.outputs(self.first(a) @ self.second(b))
        return out


def fake_quantise(
    x: Tensor, low: Tensor, high: Tensor, generator: torch.Generator | None, levels: int = LEVELS
) -> Tensor:
    """x (…) on ``levels`` equal steps from ``low`` ≤ 0 to ``high`` ≥ 0, shifted so that zero is a level.

    The gradient is one inside the limits and zero outside.
    """
    step = ((high - low) / (levels - 1)).clamp_min(torch.finfo(x.dtype).tiny)
    zero = (-low / step).round()
    inside = x.clamp(-zero * step, (levels - 1 - zero) * step)
    with torch.no_grad():
        place = inside / step
        if generator is None:
            place = place.round()
        else:
            place = (place + torch.rand(place.shape, generator=generator, dtype=place.dtype)).floor()
        moved = place * step - inside
    return inside + moved


def upper(x: Tensor, percentile: float) -> Tensor:
    """The value that ``percentile`` of x (…) does not exceed.

    Raises
    ------
    BadOperands
        If x holds a NaN: a range around it would mean nothing.
    """
    flat = x.detach().flatten()
    rank = max(1, math.ceil(percentile / 100 * flat.numel()))
    value = flat.amax() if rank == flat.numel() else flat.kthvalue(rank).values
    if not bool(value.isfinite()):
        raise BadOperands("no range for values that are not finite", expected="finite operands", seen=str(float(value)))
    return value


def _watch(model: nn.Module, watching: bool) -> None:
    for module in model.modules():
        if isinstance(module, Range):
            module.watching = watching
