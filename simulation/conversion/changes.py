"""Has a tensor changed, however it was written?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, uint8

from groundwork.compiled import kernel

Array = Any  # numba compiles these for the types it meets

BLOCK = 512
"""Words of eight bytes that are summed up before the sum is shifted on."""

Mark = tuple[int, int] | Tensor


def mark_of(matrix: Tensor) -> Mark:
    """What `is_same` compares: the `checksum` of a matrix (M, K), or `sums_of_words` where it is on another device."""
    return checksum(matrix) if matrix.device.type == "cpu" else sums_of_words(matrix)


def is_same(one: Mark, other: Mark) -> bool:
    """Are two marks of one matrix?"""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.device == other.device and torch.equal(one, other)
    return not isinstance(one, Tensor) and not isinstance(other, Tensor) and one == other


def sums_of_words(matrix: Tensor) -> Tensor:
    """(M + K,) sums of the numbers' bits over each row and each column, as whole numbers.

    They are taken where the matrix is, without a copy of it. No change of fewer than four numbers keeps all of them.
    """
    words = matrix.detach().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[matrix.element_size()])
    return torch.cat([words.sum(dim, dtype=torch.int64) for dim in (1, 0)])


def checksum(tensor: Tensor) -> tuple[int, int]:
    """Two numbers that are others once any number of a tensor is another, or stands elsewhere.

    Torch's count of changes says nothing of those through NumPy or ``.data``, nor of parameters that share a storage.
    A change within eight bytes is never missed; any other is by chance alone, of about 2⁻⁶⁰.
    """
    tensor = tensor.detach()
    if not tensor.is_contiguous():
        tensor = tensor.mT if tensor.ndim == 2 and tensor.mT.is_contiguous() else tensor.contiguous()
    raw = tensor.cpu().view(-1).view(uint8).numpy()
    whole = raw.size & ~7
    if tensor.data_ptr() & 7:
        raw = raw.copy()
    return int(_sum(raw[:whole].view(np.uint64), _FACTORS)), int.from_bytes(raw[whole:].tobytes())


_FACTORS = np.random.default_rng(35).integers(0, 1 << 64, BLOCK, np.uint64) | np.uint64(1)

_ODD = np.uint64(0x9E3779B97F4A7C15)


@kernel
def _sum(words: Array, factors: Array) -> np.uint64:
    """Σ of mixed words by odd factors, a polynomial of an odd number over blocks.

    Every step can be undone, so no change of a single word is lost. Words are mixed first: signs alone are top bits, of
    which an even number cancels in a sum.
    """
    total = np.uint64(0)
    for start in range(0, len(words), BLOCK):
        part, block = words[start : start + BLOCK], np.uint64(0)
        for i in range(len(part)):
            word = (part[i] ^ (part[i] >> np.uint64(29))) * _ODD
            block += (word ^ (word >> np.uint64(32))) * factors[i]
        total = total * _ODD + block
    return total
