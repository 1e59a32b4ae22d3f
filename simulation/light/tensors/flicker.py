"""`simulation.light.flicker` in tensors: flicker of the source in sums of passes."""

from __future__ import annotations

import torch
from torch import Tensor

from simulation.light.tensors.randomness import normals


def flicker_of_frames(
    light: Tensor, squares: Tensor, planes: Tensor, scatter: Tensor, flicker: float, key: Tensor
) -> tuple[Tensor, Tensor]:
    """Relative excess light of sums of passes, and of the offsets in them: the compiled function of this name.

    Parameters
    ----------
    light, squares
        (B, n, Q, T)
    planes, scatter
        (B, R, P, T), P = Q.
    key
        (3,) int32: two words of the layer's key, the number of the call.

    Returns
    -------
    (B, n, R, 3) and (B, n).
    """
    batch, n, passes, _ = light.shape
    rows = planes.shape[1]
    first = torch.zeros((1, 1), dtype=torch.int32, device=light.device)
    deviates = normals(key, first, first + (key[2] << 2) + 3, batch * n * rows * 3).reshape(batch, n, rows, 3)
    frames = (light > 0).sum((2, 3), dtype=torch.float32)[..., None]  # (B, n, 1) of each sign
    out = torch.zeros_like(deviates)
    offset, rest = torch.zeros_like(out[..., 0]), torch.zeros_like(out[..., 0])
    uneven = torch.zeros((batch, n), device=light.device)
    for sign in range(passes):
        other = planes.flip(2) if sign else planes
        total, power = _sum(light, other), _sum(light * light, other * other)
        apart = _sum(squares, scatter.flip(2) if sign else scatter)
        share = torch.where(total > 0, power.sqrt() / total, 0.0)
        inverse = torch.where(share > 0, 1 / share, 0.0)
        offset = offset + inverse * deviates[..., sign] * (1 - 2 * sign)
        rest = rest + (frames - inverse * inverse).clamp_min(0)
        out[..., sign] = flicker * share * deviates[..., sign]
        uneven += flicker**2 / rows * (apart * (1 - share * share).clamp_min(0)).sum(2)
    out[..., 2] = flicker * (offset + rest.sqrt() * deviates[..., 2])
    return out, uneven


def _sum(light: Tensor, planes: Tensor) -> Tensor:
    """Over passes and column tiles: (B, n, Q, T), (B, R, P, T) to (B, n, R)."""
    return light.flatten(2) @ planes.flatten(2).mT
