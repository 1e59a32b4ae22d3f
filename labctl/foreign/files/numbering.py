"""Whether a file counts its outputs from 0 or from 1, by what it holds and by what the readings follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundwork.listing import listed
from labctl.foreign.files.rows import RowArray
from labctl.foreign.files.settling import unexplained

_SAMPLE = 20_000
_CERTAIN = 20.0  # log-likelihood by which one numbering must be better


class ShiftedRows(RowArray):
    """Numbers of outputs that a file counts from 1, from 0."""

    def __init__(self, rows: RowArray) -> None:
        super().__init__(len(rows), None, np.dtype(np.float64))
        self._rows = rows

    def read(self, start: int, stop: int) -> NDArray[Any]:
        return self._rows.read(start, stop).astype(np.float64) - 1.0


def counted_from_0(
    output: RowArray, rows: Mapping[str, RowArray], weights: NDArray[np.float64]
) -> tuple[RowArray, tuple[str, ...]]:
    """The numbers of the outputs from 0, and what a person should know.

    Parameters
    ----------
    rows
        With ``inputs``, and ``readings`` where there are any.
    weights
        (M, N)
    """
    number = output[:].astype(np.float64).reshape(-1)
    outputs = len(weights)
    if not len(number) or not np.isfinite(number).all() or number.min() < 1 or number.max() > outputs:
        unread = sorted(set(range(outputs)) - set(np.unique(number[np.isfinite(number)]).tolist()))
        if unread and len(unread) < outputs and number.min() >= 0:
            return output, (f"output {_listed(unread)} has no reading",)
        return output, ()
    if outputs == 1 or number.max() == outputs:
        return ShiftedRows(output), (
            f"output counts from 1 to {int(number.max())}: read as 0 to {int(number.max()) - 1}",
        )
    verdict = _by_readings(number, rows, weights)
    if verdict is None:
        return output, (
            f"output {_listed(sorted(set(range(outputs)) - set(number.tolist())))} has no reading: if the file counts "
            "outputs from 1, subtract 1 (the readings do not tell)",
        )
    from_0, from_1 = verdict
    if from_1 < from_0:
        return ShiftedRows(output), (
            f"output counts from 1: the readings follow it so (unexplained {from_1:.0%}, from 0 {from_0:.0%}); "
            f"output {outputs - 1} has no reading",
        )
    return output, (
        f"output 0 has no reading; counted from 0 all the same: the readings follow it so (unexplained {from_0:.0%}, "
        f"from 1 {from_1:.0%})",
    )


def _by_readings(
    number: NDArray[np.float64], rows: Mapping[str, RowArray], weights: NDArray[np.float64]
) -> tuple[float, float] | None:
    """What a line leaves unexplained with outputs from 0 and from 1; None where the readings do not tell."""
    if "readings" not in rows:
        return None
    x = rows["inputs"][:_SAMPLE].astype(np.float64)
    y = rows["readings"][:_SAMPLE].astype(np.float64).reshape(len(x), -1)
    which = number[: len(x)].astype(np.intp)
    good = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    x, y, which = x[good], y[good], which[good]
    if len(x) < 12 or y.shape[1] != 1:
        return None
    left = [unexplained((x * weights[which - step]).sum(axis=1, keepdims=True), y) for step in (0, 1)]
    gained = 0.5 * len(x) * abs(float(np.log(max(left[0], 1e-12) / max(left[1], 1e-12))))
    return (left[0], left[1]) if gained > _CERTAIN else None


def _listed(numbers: list[Any]) -> str:
    return listed(int(n) for n in numbers)
