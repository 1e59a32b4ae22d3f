"""Arrays with one entry per row that are read when they are sliced, as HDF5 datasets are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.foreign.files.contents import Array, as_block


class RowArray(ABC):
    """An array of rows that need not be in memory.

    Parameters
    ----------
    rows
        Their number.
    width
        Values in a row, None for one plain value per row.
    dtype
        Of the values.
    """

    def __init__(self, rows: int, width: int | None, dtype: np.dtype[Any]) -> None:
        self.shape: tuple[int, ...] = (rows,) if width is None else (rows, width)
        self.ndim, self.dtype = len(self.shape), dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if not isinstance(key, slice):
            return np.asarray(self.read(0, len(self))[key])
        start, stop, step = key.indices(len(self))
        if step != 1:
            return np.asarray(self.read(0, len(self))[key])
        return self.read(start, max(start, stop))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.read(0, len(self)).astype(dtype or self.dtype, copy=False)

    @abstractmethod
    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start`` to ``stop`` − 1, all of which the array has."""


class FileRows(RowArray):
    """Some rows of an array in a file, the documented way round.

    Parameters
    ----------
    array
        What is read.
    start, stop
        Rows of the array.
    width
        Values in a row, None for one plain value per row.
    transposed
        Whether the array's second axis counts the rows.
    """

    def __init__(self, array: Array, start: int, stop: int, width: int | None, transposed: bool) -> None:
        super().__init__(stop - start, width, np.dtype(array.dtype))
        self._array, self._start = array, start
        lying = width is None and len(array.shape) == 2 and array.shape[0] == 1
        self._rows_are_second = transposed or lying

    def read(self, start: int, stop: int) -> NDArray[Any]:
        first, last = self._start + start, self._start + stop
        block = self._array[:, first:last].T if self._rows_are_second else self._array[first:last]
        return as_block(block).reshape(stop - start, *self.shape[1:])


class KeptRows(RowArray):
    """Some rows of an array, in their order.

    Parameters
    ----------
    rows
        All of them.
    kept
        (n,) which ones, ascending.
    """

    def __init__(self, rows: RowArray, kept: NDArray[np.int64]) -> None:
        super().__init__(len(kept), rows.shape[1] if rows.ndim == 2 else None, rows.dtype)
        self._rows, self._kept = rows, kept

    def read(self, start: int, stop: int) -> NDArray[Any]:
        chosen = self._kept[start:stop]
        if not len(chosen):
            return np.empty((0, *self.shape[1:]), self.dtype)
        first = int(chosen[0])
        return self._rows[first : int(chosen[-1]) + 1][chosen - first]
