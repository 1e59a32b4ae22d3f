"""A quick line through a recording, before any fit: what a row should have read, and about how noisy that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from calibration.response.observations import Observations, Rows

Float = NDArray[np.float64]
Light = Callable[[Rows], Float]

SAMPLE = 20_000  # rows that the line is fitted to
BLOCKS = 20  # of consecutive rows, spread over the recording
WIDEST = 512  # inputs up to which every one has a slope of its own
PLENTY = 4  # rows per input that this takes
ROUNDS = 4
TRIMMED = 9.0  # mean square of a row, in robust variances, beyond which it takes no part in the next round
BINS = 12  # of the predicted reading, in which the noise is measured
SMALLEST_BIN = 30  # rows
NONE = 1e-200  # variance of an output that always reads zero: to be divided by
INNER = 0.95  # of the residuals
INNER_SHARE = 0.759  # of the variance of a normal law that its inner 95 % have, taken as a law of their own


@dataclass(frozen=True)
class Preview:
    """What a line says the inputs of every row should give.

    Attributes
    ----------
    mean, sd
        (n, M), or (n, 1) of a single detector: expected reading and its standard deviation [unit].
    """

    mean: Float
    sd: Float

    def at(self, source: NDArray[np.intp]) -> Preview:
        """The same for readings that belong to the inputs of the rows ``source``; NaN where that is negative."""
        known = (source >= 0)[:, None]
        return Preview(np.where(known, self.mean[source], np.nan), np.where(known, self.sd[source], np.nan))

    def score(self, readings: Float) -> Float:
        """(n,) mean square of what a row misses, in variances of the line."""
        return np.asarray((((readings - self.mean) / self.sd) ** 2).mean(axis=1))


def preview(
    observations: Observations,
    readings: Float,
    usable: NDArray[np.bool_],
    source: NDArray[np.intp] | None = None,
    light: Light | None = None,
) -> Preview:
    """Draw a line through the rows that are usable, and say what it expects of all.

    Parameters
    ----------
    readings
        (n, M) or (n, 1)
    usable
        (n,) rows that may be fitted.
    source
        (n,) row whose inputs each reading belongs to, negative where there is none; its own if None.
    light
        What a fitted response expects, if there is one: the line is then one slope and offset per output on it. On
        ``Σ w x`` otherwise, with a slope of its own for every input where the rows suffice.
    """
    n = observations.count
    source = np.arange(n) if source is None else source
    of_row = np.full(n, -1, np.intp)  # reading that each row's inputs gave
    known = source >= 0
    of_row[source[known]] = np.nonzero(known)[0]
    chosen = _spread(n)
    chosen = chosen[(of_row[chosen] >= 0) & usable[of_row[chosen]]]
    x, z = _operands(observations, chosen, light)
    y = readings[of_row[chosen]]
    wide = light is None and x.shape[1] <= WIDEST and len(x) >= PLENTY * x.shape[1]
    line = _robust_line(x if wide else x[:, :0], z, y)
    parts = []
    for rows in observations.chunks():
        xr, zr = _of_rows(observations, rows, light)
        parts.append(line.expected(xr if wide else xr[:, :0], zr))
    mean = np.concatenate(parts)
    return Preview(mean, line.noise.sd(mean))


def _spread(n: int) -> NDArray[np.intp]:
    if n <= SAMPLE:
        return np.arange(n)
    edges = np.linspace(0, n, BLOCKS + 1).astype(int)
    return np.concatenate([np.arange(a, min(b, a + SAMPLE // BLOCKS)) for a, b in pairwise(edges)])


def _operands(observations: Observations, chosen: NDArray[np.intp], light: Light | None) -> tuple[Float, Float]:
    if not len(chosen):
        return np.zeros((0, observations.n_inputs)), np.zeros((0, 1 if observations.single else observations.n_outputs))
    edges = np.nonzero(np.diff(chosen, prepend=-2, append=chosen[-1] + 2) > 1)[0]
    parts = [
        _of_rows(observations, observations.rows(int(chosen[a]), int(chosen[b - 1]) + 1), light)
        for a, b in pairwise(edges)
    ]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _of_rows(observations: Observations, rows: Rows, light: Light | None) -> tuple[Float, Float]:
    """Inputs, of a single detector behind its weights, and the product (n, M) that each output should follow."""
    if light is not None:
        return rows.inputs, light(rows)
    if rows.output is None:
        return rows.inputs, rows.inputs @ observations.weights.T
    seen = rows.inputs * observations.weights[rows.output]
    return seen, seen.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class _Noise:
    """``variance = level + slope·(mean − lowest)``, never below ``least``; each (M,)."""

    level: Float
    slope: Float
    lowest: Float
    least: Float

    def sd(self, mean: Float) -> Float:
        return np.asarray(
            np.sqrt(np.maximum(self.level + self.slope * (mean - self.lowest), np.maximum(self.least, NONE)))
        )


@dataclass(frozen=True)
class _Line:
    offset: Float
    slope: Float
    own: Float
    noise: _Noise

    def expected(self, x: Float, z: Float) -> Float:
        return np.asarray(self.offset + z * self.slope + x @ self.own)


def _robust_line(x: Float, z: Float, y: Float) -> _Line:
    kept = np.ones(len(y), bool)
    for _ in range(ROUNDS):
        line = _least_squares(x[kept], z[kept], y[kept])
        mean = line.expected(x, z)
        noise = _noise(mean[kept], (y - mean)[kept])
        line = _Line(line.offset, line.slope, line.own, noise)
        score = (((y - mean) / noise.sd(mean)) ** 2).mean(axis=1) if len(y) else np.zeros(0)
        middle = float(np.median(score[kept])) if kept.any() else 1.0
        fresh = score <= max(TRIMMED, 3 * middle)
        if fresh.sum() < max(4, len(y) // 4) or (fresh == kept).all():
            break
        kept = fresh
    mean = line.expected(x, z)
    noise = _noise(mean[kept], (y - mean)[kept], _spread_of)
    half_step = np.array([_smallest_step(column) for column in y[kept].T]) / 2
    return _Line(line.offset, line.slope, line.own, replace(noise, least=np.maximum(noise.least, half_step**2)))


def _least_squares(x: Float, z: Float, y: Float) -> _Line:
    m = y.shape[1]
    none = _Noise(*(np.ones(m) for _ in range(4)))
    if len(y) < 3:
        return _Line(y.mean(axis=0) if len(y) else np.zeros(m), np.zeros(m), np.zeros((x.shape[1], m)), none)
    middle_z, middle_y = z.mean(axis=0), y.mean(axis=0)
    zc, yc = z - middle_z, y - middle_y
    slope = (zc * yc).sum(axis=0) / np.maximum((zc**2).sum(axis=0), 1e-300)
    own = np.zeros((x.shape[1], m))
    if x.shape[1]:
        middle_x = x.mean(axis=0)
        xc = x - middle_x
        gram = xc.T @ xc
        ridge = 1e-9 * max(float(np.diag(gram).max(initial=0.0)), 1e-300)
        own = np.linalg.solve(gram + ridge * np.eye(len(gram)), xc.T @ (yc - zc * slope))
        middle_y = middle_y - middle_x @ own
    return _Line(middle_y - middle_z * slope, slope, own, none)


def _noise(mean: Float, residual: Float, variance_of: Callable[[Float], float] | None = None) -> _Noise:
    """Robust variance in bins of the expected reading, and a line through the bins, output by output."""
    variance_of = variance_of or _robust_variance
    m = residual.shape[1]
    level, slope, lowest, least = (np.zeros(m) for _ in range(4))
    for k in range(m):
        order = np.argsort(mean[:, k], kind="stable")
        bins = np.array_split(order, min(BINS, max(len(order) // SMALLEST_BIN, 1)))
        at = np.array([mean[b, k].mean() if len(b) else 0.0 for b in bins])
        variance = np.array([variance_of(residual[b, k]) for b in bins])
        lowest[k] = at[0]
        tiny = (1e-9 * max(float(np.abs(mean[:, k]).max(initial=0.0)), 1e-300)) ** 2
        least[k] = max(0.05 * float(variance.min()), tiny)
        level[k] = max(float(np.median(variance)), tiny)
        if len(bins) >= 4 and at[-1] > at[0]:
            shape = np.polynomial.polynomial.polyfit(at - at[0], variance, 1, w=1 / np.maximum(variance, least[k]))
            level[k], slope[k] = float(shape[0]), max(float(shape[1]), 0.0)
    return _Noise(level, slope, lowest, least)


def _robust_variance(residual: Float) -> float:
    if len(residual) < 2:
        return 0.0
    return (1.4826 * float(np.median(np.abs(residual - np.median(residual))))) ** 2


def _spread_of(residual: Float) -> float:
    """Variance of the inner 95 % or, where that is larger, the robust one: readings of few levels have no median."""
    if len(residual) < 2:
        return 0.0
    off = np.sort(np.abs(residual - np.median(residual)))
    inner = off[: max(int(INNER * len(off)), 1)]
    return max(_robust_variance(residual), float((inner**2).mean()) / INNER_SHARE)


def _smallest_step(values: Float) -> float:
    """Between readings that differ: what rounding alone may change."""
    levels = np.unique(values)
    return float(np.diff(levels).min()) if len(levels) > 1 else 0.0
