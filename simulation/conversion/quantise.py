"""The digital baseline: 8-bit weights and inputs in every product that could be optical, the rest in float."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from simulation.conversion.asked import patterns
from simulation.conversion.convert import convert, shared_copy
from simulation.conversion.ranges import LEVELS
from simulation.conversion.routing import Matrix, Pair
from simulation.light.optics import require_clip
from simulation.light.percentile import kth_magnitude, rank_of
from simulation.light.sharing import share_rows

LINEAR_CLIP = 99.0  # percentile of |W| that full scale stands for (paper)
ATTENTION_CLIP = 98.0  # the same for the second operand of an attention product, per head (paper)
CLIP = LINEAR_CLIP, ATTENTION_CLIP

Model = TypeVar("Model", bound=nn.Module)


def quantise_int8(model: Model, *, keep: Iterable[str] | str = (), clip: tuple[float, float] = CLIP) -> Model:
    """A copy of the model with every linear layer and attention product in fake 8-bit arithmetic.

    Embeddings, normalisation, softmax, activation and the output head of a `GPT` stay in float, and so do sums.

    Parameters
    ----------
    model
        A `GPT`, or any model of `torch.nn.Linear` layers.
    keep
        Names or shell patterns of layers that stay in float.
    clip
        Percentile of the magnitudes that full scale stands for: weights, second operands of attention.

    Raises
    ------
    OutOfDomain
        When ``keep`` names nothing, or ``clip`` is no percentile.
    """
    require_clip(clip, type(model).__name__)
    keep = patterns(keep, model)
    quantised = shared_copy(model)
    convert(quantised, Int8(clip), keep=keep)
    return quantised


def clip_scale(operand: Tensor, percentile: float) -> Tensor:
    """s_w: a percentile of the magnitudes of each matrix, (…, M, K) to (…, 1, 1); the largest if that is zero."""
    if percentile >= 100:
        return _largest(operand)[..., None, None]
    rank = rank_of(percentile, operand.shape[-2] * operand.shape[-1])
    scale = _kth(operand, rank) if operand.device.type in ("cpu", "mps") else _kth_there(operand, rank)
    if operand.device.type != "cpu" or not bool((scale > 0).all()):  # elsewhere nobody waits for the answer
        scale = torch.where(scale > 0, scale, _largest(operand))
    return scale[..., None, None]


def _largest(operand: Tensor) -> Tensor:
    return torch.maximum(operand.amax((-2, -1)), -operand.amin((-2, -1)))


def _kth(operand: Tensor, rank: int) -> Tensor:
    """(…,) the magnitude of that rank of each matrix, on the CPU; MPS has no order statistics."""
    as_it_lies = operand.mT if operand.mT.is_contiguous() else operand  # the order does not matter
    values = as_it_lies.detach().float().cpu().flatten(-2)
    found = np.empty(values.shape[:-1], np.uint32)
    rows = np.ascontiguousarray(values.numpy()).view(np.uint32).reshape(-1, values.shape[-1])
    share_rows(kth_magnitude, *rows.shape, rows, rank, found.reshape(-1))
    return torch.from_numpy(found.view(np.float32)).to(operand)


def _kth_there(operand: Tensor, rank: int) -> Tensor:
    """The same on the operand's own device."""
    values = operand.abs().flatten(-2)
    above = values.topk(values.shape[-1] - rank + 1, dim=-1, sorted=False).values  # kthvalue is not deterministic there
    return above.amin(-1)


class Int8:
    """`simulation.conversion.convert.Light` without light: operands of 8 bits; ``clip`` as for `quantise_int8`."""

    def __init__(self, clip: tuple[float, float] = CLIP) -> None:
        self._clip = clip

    def matrix(self, name: str, weight: Tensor) -> Matrix:
        """Weights on the scale of their percentile, vectors on that of their own maximum."""

        def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return nn.functional.linear(_round_tokens(x), _round(weight, clip_scale(weight, self._clip[0])), bias)

        return multiply

    def pair(self, name: str) -> Pair:
        """``a @ b``: a scaled per row, b clipped per head."""
        return lambda a, b: _round_tokens(a) @ _round(b, clip_scale(b, self._clip[1]))


def _round_tokens(x: Tensor) -> Tensor:
    """Each vector of the last axis rounded on the scale of its own maximum."""
    return _round(x, x.abs().amax(-1, keepdim=True))


def _round(x: Tensor, scale: Tensor) -> Tensor:
    step = (scale / LEVELS).clamp_min(torch.finfo(x.dtype).tiny)
    return (x / step).round().clamp(-LEVELS, LEVELS) * step
