"""The random numbers of `simulation.light.randomness`, as tensors: the same for the same key, call and position.

Words of 32 bits are int32, whose sums torch wraps on every device. Only the logarithm, sine and cosine are torch's own,
so that deviates agree with the compiled ones to float rounding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simulation.light.tensors.devices import wide

MOST_COUNTS = 255
"""Where the inversion of a Poisson count ends, as in `simulation.light.randomness.poisson`."""
_CHECK = 16  # counts between two looks at whether all deviates are found: each look waits for the device

_PARITY = 0x1BD11BDA
_ROUNDS = ((13, 15, 26, 6), (17, 29, 16, 24), (13, 15, 26, 6), (17,))


def words(key: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two words for each counter ``(first, second)``, int32 of any shapes that broadcast: `threefry`, 13 rounds.

    Parameters
    ----------
    key
        int32, at least (2,).
    """
    k0, k1 = key[0], key[1]
    schedule = (k0, k1, k0 ^ k1 ^ _PARITY)
    x, y = first + k0 + torch.zeros_like(second), second + k1 + torch.zeros_like(first)
    for number, group in enumerate(_ROUNDS):
        if number:
            x += schedule[number % 3]
            y += schedule[(number + 1) % 3] + number
        for bits in group:
            x += y
            carried = (y >> (32 - bits)) & ((1 << bits) - 1)
            y <<= bits
            y |= carried
            y ^= x
    return x, y


def normals(key: Tensor, first: Tensor, stream: Tensor, size: int) -> Tensor:
    """Standard normal deviates (n, size) float32: `fill_normal` of each row.

    Parameters
    ----------
    first, stream
        (n, 1) int32: the first counter of each row, and its second word.
    """
    half = (size + 1) // 2
    a, b = words(key, first + torch.arange(half, dtype=torch.int32, device=key.device), stream)
    radius = torch.sqrt(-2.0 * torch.log((_unsigned(a) + 0.5) * 2.0**-32))
    angle = b.float() * (2.0**-31 * math.pi)
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)[:, :size]


def poisson(mean: Tensor, word: Tensor) -> Tensor:
    """Counts of means up to 64, by inversion of their distribution function; shapes are equal.

    In float64 exact to 2⁻³², as the compiled one; on a device without float64 to 2⁻²⁴.
    """
    mean = mean.to(wide(mean.device))
    low, high = word & 0xFFFF, (word >> 16) & 0xFFFF
    rest = (high.to(mean.dtype) * 65536.0 + low.to(mean.dtype) + 0.5) * 2.0**-32
    term, counts = torch.exp(-mean), torch.zeros_like(mean)
    beyond = rest > term
    for count in range(1, MOST_COUNTS + 1):
        if count % _CHECK == 1 and not bool(beyond.any()):
            break
        rest -= term
        counts += beyond
        term *= mean / count
        beyond &= rest > term
    return counts


def _unsigned(word: Tensor) -> Tensor:
    """The nearest float32 of a word taken as unsigned: both halves are exact, and their sum is rounded once."""
    return ((word >> 16) & 0xFFFF).float() * 65536.0 + (word & 0xFFFF).float()
