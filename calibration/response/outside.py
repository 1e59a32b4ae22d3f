"""Rows that lie beyond what a fit was shown: which ones, in which respect, and through which input or output."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from calibration.response.model import Expected, Response
from calibration.response.observations import Rows

Float = NDArray[np.float64]

NOTICED = 0.25  # of the variance of a reading: what is not determined beside it
MARGIN = 0.05  # of the range of all inputs
MOST_NAMED = 4  # inputs of a row, and of all rows
CULPABLE = 0.3  # of the largest part that an input has in what is open of a row

Reason = Literal["range", "input", "light", "combination", "curve"]
REASONS: tuple[str, ...] = ("inside", *get_args(Reason))
"""Why a row is outside, by its number in a file; the first that holds."""


@dataclass(frozen=True)
class Outside:
    """Rows that are outside for one reason.

    Attributes
    ----------
    reason
        Of `REASONS`.
    rows
        Their number.
    first
        Index of the first of them.
    inputs, outputs
        Which ones are to blame most often, from 0.
    words
        The reason with what the fit was shown.
    """

    reason: Reason
    rows: int
    first: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    words: str


class Looking:
    """Looks at the rows of a file, chunk by chunk.

    Parameters
    ----------
    count
        Number of rows.
    """

    def __init__(self, response: Response, count: int) -> None:
        self.reason = np.zeros(count, np.int8)
        self._response = response
        self._inputs = np.zeros((len(REASONS), response.weights.shape[1]))
        self._outputs = np.zeros((len(REASONS), response.n_outputs))
        shown = response.shown
        self._weight = None if shown is None else response.input_weight(shown.leverage.noise)

    def look(self, rows: Rows, found: Expected) -> None:
        """Say of each row whether, and why, it is outside; ``found`` is what the response expects of it."""
        response, shown = self._response, self._response.shown
        low, high = response.input_range
        margin = MARGIN * (high - low)
        off = np.maximum(low - margin - rows.inputs, rows.inputs - high - margin)
        reason = np.where((off > 0).any(1), 1, 0)
        self._blame(1, self._inputs, reason == 1, off)
        if shown is not None and self._weight is not None:
            strange = shown.input_excess(rows.inputs, self._weight)
            reason[(reason == 0) & (strange.max(1) > shown.most_input)] = 2
            self._blame(2, self._inputs, reason == 2, strange)
            bright = shown.light_excess(found.light)
            curved = not response.detector_curve.straight
            reason[(reason == 0) & (bright.max(1) > shown.most_light(curved=curved))] = 3
            self._blame(3, self._outputs, reason == 3, bright, rows.output)
            is_open = found.undetermined > NOTICED * (found.variance - found.undetermined)
            self._open(rows, found, reason, (reason == 0) & is_open.any(1))
        self.reason[rows.start : rows.start + len(rows)] = reason

    def _open(self, rows: Rows, found: Expected, reason: NDArray[np.intp], mine: NDArray[np.bool_]) -> None:
        """Tell rows whose combination of inputs was not shown from those where only a curve was not."""
        if not mine.any():
            return
        response, shown = self._response, self._response.shown
        assert shown is not None
        some = rows.taken(mine)
        gains, curves = response.left_open(found.light[mine], some)
        of_gains = gains * found.gradient[mine] ** 2 > NOTICED * (found.variance - found.undetermined)[mine]
        reason[mine] = np.where(of_gains.any(1), 4, 5)
        one = some
        if response.single and some.output is None:  # the directions are those behind the weights of one output
            one = replace(some, output=np.zeros(len(some), np.intp))
        phi, _ = response.seen(found.light[mine], one)
        parts = np.abs(shown.leverage.left(phi)) * shown.leverage.pattern
        self._blame(4, self._inputs, reason[mine] == 4, parts)
        self._blame(5, self._outputs, reason[mine] == 5, curves, some.output)

    def _blame(
        self,
        reason: int,
        total: Float,
        mine: NDArray[np.bool_],
        parts: Float,
        output: NDArray[np.intp] | None = None,
    ) -> None:
        """Count the inputs or outputs whose ``parts`` (n, …) are large in rows that are ``mine``."""
        if not mine.any():
            return
        if output is not None:
            np.add.at(total[reason], output[mine], 1)
            return
        own = parts[mine]
        if own.shape[1] == total.shape[1]:
            total[reason] += (own > CULPABLE * own.max(1, keepdims=True)).sum(0)

    @property
    def count(self) -> int | None:
        """Rows that are outside; None when the response does not hold what the fit was shown."""
        return None if self._response.shown is None else int((self.reason > 0).sum())

    def groups(self) -> tuple[Outside, ...]:
        """Rows by reason, in the order of `REASONS`."""
        found = []
        for i, reason in enumerate(get_args(Reason), start=1):
            at = np.nonzero(self.reason == i)[0]
            if len(at):
                inputs = _most(self._inputs[i])
                outputs = tuple(int(self._response.live[m]) for m in _most(self._outputs[i]))
                words = f"{_rows(len(at))} {self._words(reason, inputs, _most(self._outputs[i]))}"
                found.append(Outside(reason, len(at), int(at[0]), inputs, outputs, words))
        return tuple(found)

    def _words(self, reason: Reason, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> str:
        response, shown = self._response, self._response.shown
        if reason == "range" or shown is None:
            low, high = response.input_range
            return f"with inputs outside {low:.6g} … {high:.6g}, the range of the fit ({_named('input', inputs)})"
        if reason == "input":
            k = inputs[0]
            low, high = shown.inputs[:, k]
            return f"with an input far from where the fit saw it ({_named('input', inputs)}; input {k} was " + (
                f"always {low:.6g})" if low == high else f"{low:.6g} … {high:.6g})"
            )
        if reason == "light":
            m = outputs[0] if outputs else 0
            low, high = shown.light[:, min(m, shown.light.shape[1] - 1)]
            beyond = "through a fitted curve, " if not response.detector_curve.straight else ""
            return (
                f"{beyond}brighter or darker than any row of the fit ({_named('output', outputs)}; there the fit saw "
                f"{low:.6g} … {high:.6g} {response.unit} above the offset)"
            )
        if reason == "combination":
            return (
                f"with inputs in a combination that no row of the fit showed ({_named('input', inputs)}): the fit does "
                "not determine what is read there, and the interval rests on the weights"
            )
        return "where a curve of inputs or detector would show that could not be seen in the rows of the fit"


def _most(counts: Float) -> tuple[int, ...]:
    """The largest ones, largest first."""
    order = np.argsort(-counts, kind="stable")[:MOST_NAMED]
    return tuple(int(i) for i in order if counts[i] > 0)


def _named(kind: str, numbers: tuple[int, ...]) -> str:
    listed = ", ".join(str(i) for i in numbers)
    return f"{kind}s {listed} above all" if len(numbers) > 1 else f"{kind} {listed} above all"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
