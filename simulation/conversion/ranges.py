"""Ranges of operands, observed on a calibration batch: where the paper's 8-bit inputs and outputs are clipped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from calibration.errors import OutOfDomain
from simulation.benches.tiled import readings
from simulation.conversion.convert import convert, shared_copy
from simulation.conversion.routing import Matrix, Pair

LEVELS = 127
"""Steps of each sign in 8 bits, symmetric."""

INPUT_PERCENTILE = 99.99  # Optical Transformers (arXiv 2302.10360)
OUTPUT_PERCENTILE = 99.9999  # the same


@dataclass(frozen=True)
class Ranges:
    """Of one layer or attention product.

    Attributes
    ----------
    input, output
        Largest magnitudes that are not clipped, in the model's own units.
    steps
        Of the converters after the light, from zero to ``output``.
    tile
        Inputs that share a scale (`simulation.benches.tiled`): ``output`` is then that of the readings of single tiles,
        in units of their scales. 0: all.
    """

    input: float
    output: float
    steps: int = LEVELS
    tile: int = 0


def observe(model: nn.Module, batches: Iterable[Tensor], *, tile: int = 0, inputs: bool = True) -> Mapping[str, Ranges]:
    """Run a digital model on ``batches`` of its inputs and note each product's ranges.

    Parameters
    ----------
    tile
        Of `Ranges`. Inputs of tiles are not clipped, for each has its own scale.
    inputs
        Whether inputs are clipped, too; their range is infinite where not.

    Returns
    -------
    Ranges by the product's name, for `opticalize`: the largest of the percentiles that the batches had.

    Raises
    ------
    OutOfDomain
        When there are no batches, as in a generator that was read before: nothing would be clipped.
    """
    if isinstance(tile, bool) or not isinstance(tile, int) or tile < 0:
        raise OutOfDomain("a tile is a number of inputs", expected="0: all, or 1, 2, …", seen=repr(tile), hint="tile=0")
    watched, watch = shared_copy(model), _Watch(tile, inputs and not tile)
    convert(watched, watch, head=True)
    with torch.inference_mode():
        for batch in batches:
            watched(batch)
    if not watch.found:
        raise OutOfDomain(
            "no range was observed",
            expected="batches whose products would be in light",
            seen="no products",
            hint="observe(model, [tokens])",
        )
    return watch.found


class _Watch:
    """`simulation.conversion.convert.Light` that computes digitally, and notes what passes."""

    def __init__(self, tile: int, clips_inputs: bool) -> None:
        self.found: dict[str, Ranges] = {}
        self._tile, self._clips_inputs = tile, clips_inputs

    def matrix(self, name: str, weight: Tensor) -> Matrix:
        """A layer's own product, its bias added: what converters after the light would see."""
        return lambda x, weight, bias: self._noted(name, x, weight.mT, nn.functional.linear(x, weight, bias))

    def pair(self, name: str) -> Pair:
        """An attention product."""
        return lambda a, b: self._noted(name, a, b, a @ b)

    def _noted(self, name: str, x: Tensor, matrix: Tensor, y: Tensor) -> Tensor:
        before = self.found.get(name, Ranges(0.0, 0.0, tile=self._tile))
        widest = _percentile(x, INPUT_PERCENTILE) if self._clips_inputs else math.inf
        if self._tile:
            read = readings(x.detach().float(), matrix.detach().float(), self._tile)
            output = max(_percentile(each, OUTPUT_PERCENTILE) for each in read)
        else:
            output = _percentile(y, OUTPUT_PERCENTILE)
        self.found[name] = replace(before, input=max(before.input, widest), output=max(before.output, output))
        return y


def _percentile(values: Tensor, percentile: float) -> float:
    """Of the magnitudes that are finite; tiny rather than 0."""
    magnitudes = values.detach().float().abs().flatten()
    magnitudes = magnitudes[magnitudes.isfinite()]
    rank = max(1, math.ceil(percentile / 100 * len(magnitudes)))
    return max(float(magnitudes.kthvalue(rank).values), torch.finfo(torch.float32).tiny)
