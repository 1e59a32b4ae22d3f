"""Ranges of operands, observed on a calibration batch: where the paper's 8-bit inputs and outputs are clipped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from simulation.models.gpt import Product

INPUT_PERCENTILE = 99.99  # Optical Transformers (arXiv 2302.10360)
OUTPUT_PERCENTILE = 99.9999  # the same


@dataclass(frozen=True)
class Ranges:
    """Of one layer or attention product.

    Attributes
    ----------
    input, output
        Largest magnitudes that are not clipped, in the model's own units.
    """

    input: float
    output: float


def observe(model: nn.Module, batches: Iterable[Tensor]) -> Mapping[str, Ranges]:
    """Run a digital model on ``batches`` of its inputs and note each product's ranges.

    Returns
    -------
    Ranges by the product's name, for `opticalize`: the largest of the percentiles that the batches had.
    """
    found: dict[str, Ranges] = {}

    def note(name: str, x: Tensor, y: Tensor) -> None:
        before = found.get(name, Ranges(0.0, 0.0))
        found[name] = Ranges(
            max(before.input, _percentile(x, INPUT_PERCENTILE)), max(before.output, _percentile(y, OUTPUT_PERCENTILE))
        )

    hooks = [
        module.register_forward_hook(lambda _, inputs, y, name=name: note(name, inputs[0], y))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Product)
    ]
    try:
        with torch.inference_mode():
            for batch in batches:
                model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _percentile(values: Tensor, percentile: float) -> float:
    """Of the magnitudes that are finite; tiny rather than 0."""
    magnitudes = values.detach().float().abs().flatten()
    magnitudes = magnitudes[magnitudes.isfinite()]
    rank = max(1, math.ceil(percentile / 100 * len(magnitudes)))
    return max(float(magnitudes.kthvalue(rank).values), torch.finfo(torch.float32).tiny)
