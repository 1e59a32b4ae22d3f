"""Has a tensor changed, however it was written?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, uint8

from groundwork.compiled import kernel

Array = Any  # numba compiles these for the types it meets

BLOCK = 512
"""Words of eight bytes that are summed up before the sum is shifted on."""


@dataclass(frozen=True)
class Mark:
    """What tells a matrix from another: see `mark_of`.

    Attributes
    ----------
    shape
        (M, K). The numbers of two matrices of other shapes may be the same, one after the other.
    by_columns
        Whether the numbers were read column by column, as they lie.
    sums
        The `checksum`, or `sums_of_words` where the matrix is on another device than the CPU.
    """

    shape: torch.Size
    by_columns: bool
    sums: tuple[int, int] | Tensor


def mark_of(matrix: Tensor) -> Mark:
    """What `is_same` compares of a matrix (M, K)."""
    if matrix.device.type != "cpu":
        return Mark(matrix.shape, False, sums_of_words(matrix))
    return Mark(matrix.shape, _lies_by_columns(matrix), checksum(matrix))


def is_same(one: Mark, other: Mark) -> bool:
    """Are two marks of one matrix?"""
    if one.shape != other.shape or one.by_columns != other.by_columns:
        return False
    if isinstance(one.sums, Tensor) and isinstance(other.sums, Tensor):
        return one.sums.device == other.sums.device and torch.equal(one.sums, other.sums)
    return not isinstance(one.sums, Tensor) and not isinstance(other.sums, Tensor) and one.sums == other.sums


def _lies_by_columns(matrix: Tensor) -> bool:
    return matrix.ndim == 2 and not matrix.is_contiguous() and matrix.mT.is_contiguous()


def sums_of_words(matrix: Tensor) -> Tensor:
    """(2 M + K,) sums of the numbers' bits over each row and each column, as whole numbers, and of rows by a direction.

    They are taken where the matrix is, without a copy of it. No change of fewer than four numbers keeps all sums of
    bits; numbers that change places or signs in a regular pattern may, and change the products with the direction.
    """
    matrix = matrix.detach()
    words = matrix.view(_WHOLE[matrix.element_size()])
    along = (matrix @ _direction(matrix.shape[1]).to(matrix)).view(_WHOLE[matrix.element_size()])
    return torch.cat([*(words.sum(dim, dtype=torch.int64) for dim in (1, 0)), along.long()])


_WHOLE = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@lru_cache(maxsize=256)
def _direction(size: int) -> Tensor:
    """A vector (size,) that no change of a row is orthogonal to, but by chance."""
    return torch.from_numpy(np.random.default_rng(size).standard_normal(size))


def checksum(tensor: Tensor) -> tuple[int, int]:
    """Two numbers that are others once any number of a tensor is another, or stands elsewhere in its memory.

    Torch's count of changes says nothing of those through NumPy or ``.data``, nor of parameters that share a storage.
    A change within eight bytes is never missed; any other is by chance alone, of about 2⁻⁶⁰.
    """
    tensor = tensor.detach()
    if not tensor.is_contiguous():
        tensor = tensor.mT if _lies_by_columns(tensor) else tensor.contiguous()
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
