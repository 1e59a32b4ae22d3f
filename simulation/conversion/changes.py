"""Has a tensor changed, however it was written?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, uint8

from groundwork.checksums import sum_of_words
from simulation.light.few import Live


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


class Lying:
    """Where the matrix lies that is shown, for a loop that reads it. To find that takes as long as a small product."""

    def __init__(self) -> None:
        self._found: tuple[Live, torch.Size, tuple[int, ...]] | None = None

    def __reduce__(self) -> Any:
        return Lying, ()  # a copy of a matrix lies elsewhere

    def live(self, matrix: Tensor, mark: Mark) -> Live | None:
        """What the loop is to compare with the ``mark``; None where it cannot, or the mark is of another matrix."""
        if self._found is not None:
            live, *lines = self._found
            address = live.words.__array_interface__["data"][0]
            if address == matrix.data_ptr() and lines == [matrix.shape, matrix.stride()]:
                return live
        found = _live_of(matrix, mark)
        if found is not None:  # and held, which keeps its memory from being given to anything else
            self._found = found, matrix.shape, matrix.stride()
        return found


def _live_of(matrix: Tensor, mark: Mark) -> Live | None:
    words = words_of(matrix)
    by_columns = words is not None and not matrix.is_contiguous()
    if words is None or mark.shape != matrix.shape or mark.by_columns != by_columns or isinstance(mark.sums, Tensor):
        return None
    return Live(words, np.uint64(mark.sums[0]))


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
    if tensor.data_ptr() & 7:
        tensor = tensor.clone()
    if (words := words_of(tensor)) is not None:
        return int(sum_of_words(words)), 0
    raw = tensor.cpu().view(-1).view(uint8).numpy()
    whole = raw.size & ~7
    return int(sum_of_words(raw[:whole].view(np.uint64)[None])), int.from_bytes(raw[whole:].tobytes())


def words_of(matrix: Tensor) -> NDArray[np.uint64] | None:
    """The memory of a matrix as it lies, (L, W) words of eight bytes; None where its lines are no whole words."""
    if _lies_by_columns(matrix):
        matrix = matrix.mT
    if matrix.device.type != "cpu" or matrix.ndim != 2 or not matrix.is_contiguous() or matrix.data_ptr() & 7:
        return None
    if matrix.shape[1] * matrix.element_size() & 7:
        return None
    return np.asarray(matrix.detach().view(uint8).numpy().view(np.uint64))
