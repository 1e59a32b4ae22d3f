"""The first look at a file: ranges, and whether the readings follow the inputs at all."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from calibration.errors import FitError, NoResponse
from calibration.response.copies import refuse_readings_among_inputs
from calibration.response.observations import Observations, Rows
from calibration.response.residuals import columns
from calibration.statistics.tails import f_sf, p_in_words

Float = NDArray[np.float64]

LEVEL = 1e-6
MOST_OFFSET = 1e4  # times the spread of the inputs: beyond, too few digits of a gain are left
MOST_APART = 100.0  # times the spread of the middle output, that an output may have and its weights do not explain
QUIETEST = 1e-6  # of the spread of the readings, that a line through them leaves at least
COPIED = 1e-13  # of the variance, that an output leaves beside a line through another one
COPIED_ROWS, FEWEST_COPIED = 500, 12
SAMPLE = 20000  # rows that decide whether readings follow inputs


@dataclass(frozen=True)
class Survey:
    """Ranges of a file.

    Attributes
    ----------
    inputs, readings
        Smallest and largest value.
    mean, variance
        (M,) or (1,) of the readings.
    """

    inputs: tuple[float, float]
    readings: tuple[float, float]
    mean: Float
    variance: Float


def survey(observations: Observations) -> Survey:
    """Look through the file once."""
    low, high, total, square = np.inf, -np.inf, 0.0, 0.0
    parts = []
    about = columns(observations.rows(0, 1))[0]  # squares about it keep their digits beside a large offset
    for rows in observations.chunks():
        y = columns(rows)
        low, high = min(low, float(rows.inputs.min())), max(high, float(rows.inputs.max()))
        parts.append((y.min(0), y.max(0)))
        off = y - about
        total, square = total + off.sum(0), square + (off**2).sum(0)
    n = observations.count
    mean = np.asarray(total) / n
    variance = np.maximum(np.asarray(square) / n - mean**2, 0.0)
    mean = mean + about
    lowest, highest = np.min([p[0] for p in parts], axis=0), np.max([p[1] for p in parts], axis=0)
    return Survey((low, high), (float(lowest.min()), float(highest.max())), mean, variance)


@dataclass(frozen=True)
class FirstLine:
    """A line through all readings of a file.

    Attributes
    ----------
    slope
        Of the readings on Σ w x [unit].
    middle
        (M,) mean of Σ w x.
    brightest
        Largest light above the offset that it says, or the range of the readings: where bins of light end [unit].
    """

    slope: float
    middle: Float
    brightest: float


def refuse_unrelated(observations: Observations, seen: Survey) -> FirstLine:
    """The line over Σ w x that all outputs have in common; a refusal where no linear function explains the readings.

    Raises
    ------
    NoResponse
        With the reason: no light, constant inputs, rows out of order.
    """
    x, y, z, shown = _sample(observations)
    if not (np.ptp(x, axis=0) > 0).any():
        raise _refuse("the inputs never change", "inputs that differ from row to row", "the same in every row")
    if not (seen.variance > 0).any():
        raise _refuse(
            "the readings never change", "readings that follow the inputs", "the same in every row; no light?"
        )
    _refuse_units(x, y, z, observations.unit)
    f, p, r2 = _follows(x, y)
    if p > LEVEL:
        for lag in (1, -1, 2, -2):
            shifted = _follows(x[max(-lag, 0) : len(x) - max(lag, 0)], y[max(lag, 0) : len(y) - max(-lag, 0)])
            if shifted[1] < LEVEL:
                raise _refuse(
                    f"the readings are shifted by {lag} rows against the inputs",
                    f"row r of the readings belongs to row r of the inputs (R² = {r2:.2f})",
                    f"R² = {shifted[2]:.2f} against the inputs {abs(lag)} rows {'before' if lag > 0 else 'after'}",
                )
        contrast = float(np.sqrt(seen.variance.mean()) / max(np.abs(seen.mean).mean(), 1e-300))
        spread = float(z.std() / max(abs(z).mean(), 1e-300))
        why = "no light reaches the detector" if contrast < 0.3 * spread else "rows out of order, or no light"
        raise _refuse(
            f"the readings do not follow the inputs: {why}",
            f"readings that a linear function of the inputs predicts (F test, p < {LEVEL:g})",
            f"F = {f:.2f}, {p_in_words(p)}, R² = {r2:.3f}; they vary by {100 * contrast:.2g} % of their mean, Σ w x by "
            f"{100 * spread:.2g} %",
        )
    refuse_readings_among_inputs(shown, y, observations.weights)
    _refuse_noiseless(x, y)
    _refuse_repeated_outputs(y)
    y1, z1 = (y - y.mean(0)), (z - z.mean(0))
    slope = float((y1 * z1).sum() / max((z1**2).sum(), 1e-300))
    slope = slope if slope > 0 else float(np.sqrt((y1**2).sum() / max((z1**2).sum(), 1e-300)))
    return FirstLine(slope, z.mean(0), max(float(np.ptp(y, axis=0).max()), slope * float(z.max())))


def _refuse_units(x: Float, y: Float, z: Float, unit: str) -> None:
    """Refuse inputs that hardly vary beside their offset, and outputs whose readings are of another size altogether.

    Raises
    ------
    FitError
        With the offset, or the outputs.
    """
    spread = np.where(np.ptp(x, axis=0) > 0, x.std(0), 0.0)  # that of equal numbers is what rounding makes of it
    offset = float(np.median(np.abs(x.mean(0)[spread > 0])))
    varied = float(np.median(spread[spread > 0]))
    if offset > MOST_OFFSET * varied:
        raise FitError(
            "the inputs hardly vary beside their offset",
            action="fit response",
            expected=f"inputs whose mean is at most {MOST_OFFSET:g} times what they vary by",
            seen=f"a mean of {offset:.6g}, and a standard deviation of {varied:.3g}",
            hint=f"take off what all inputs have in common (inputs - {offset:.6g}) and import again",
        )
    ratio, gain = _of_middle(y.std(0)), _of_middle(y.std(0) / np.maximum(z.std(0), 1e-300))
    far = (np.abs(np.log(ratio)) > np.log(MOST_APART)) & (np.abs(np.log(gain)) > np.log(MOST_APART))
    odd = np.nonzero(far & (y.std(0) > 0))[0].tolist()
    if odd:
        order = 10.0 ** round(float(np.log10(ratio[odd[0]])))
        which, worst, size = ", ".join(map(str, odd[:8])), float(ratio[odd[0]]), float(y[:, odd[0]].std())
        raise FitError(
            f"output {which} is in another unit than the other outputs",
            action="fit response",
            expected=f"readings of all outputs in one unit: spreads within a factor of {MOST_APART:g} of their median",
            seen=f"readings of output {odd[0]} vary by {size:.3g} {unit}, {worst:.3g} times the median output",
            hint=f"divide the readings of output {odd[0]} by about {order:.0e} (or leave it out) and import again",
        )


def _refuse_noiseless(x: Float, y: Float) -> None:
    """Refuse readings that a line over the inputs gives to the last digit: nothing tells how far they may be off.

    Raises
    ------
    FitError
        With what the line leaves.
    """
    design = np.concatenate([np.ones((len(x), 1)), (x - x.mean(0)) / max(float(x.std()), 1e-300)], axis=1)
    if len(x) < 2 * design.shape[1]:
        return
    spread = y.std(0)
    left = (y - y.mean(0)) / np.where(spread > 0, spread, np.inf)
    u, size, _ = np.linalg.svd(design, full_matrices=False)
    u = u[:, size > 1e-9 * size.max()]
    rest = float(np.abs(left - u @ (u.T @ left)).max())
    if rest < QUIETEST:
        raise FitError(
            "the readings hold no noise",
            action="fit response",
            expected="readings that scatter about what the inputs ask for, as those of a detector do",
            seen=f"a line over the inputs leaves at most {rest:.1e} of their spread: computed, or rounded more "
            "coarsely than they scatter",
            hint="record with more digits; to computed readings add the noise of a detector: readings += "
            "np.random.default_rng(0).normal(0, 1e-3 * np.ptp(readings), readings.shape)",
        )


def _refuse_repeated_outputs(y: Float) -> None:
    """Refuse outputs that hold the readings of another one, noise and all: they are one measurement.

    Raises
    ------
    FitError
        With the two outputs.
    """
    some = y[np.unique(np.linspace(0, len(y) - 1, min(len(y), COPIED_ROWS)).astype(int))]
    z = some - some.mean(0)
    z = z / np.maximum(np.sqrt((z**2).sum(0)), 1e-300)
    rest = np.tril(1 - (z.T @ z) ** 2 + np.where(z.any(0), 0.0, 1.0), -1) + np.triu(np.ones((y.shape[1],) * 2))
    second, first = np.unravel_index(int(np.argmin(rest)), rest.shape)
    if rest[second, first] < COPIED and len(some) >= FEWEST_COPIED:
        factor = "" if np.array_equal(y[:, first], y[:, second]) else ", scaled"
        raise FitError(
            f"output {second} holds the readings of output {first} once more{factor}",
            action="fit response",
            expected="outputs with a noise of their own",
            seen=f"readings that differ by less than {COPIED**0.5:.0e} of their spread",
            hint=f"leave output {second} out, of the readings and of the weights (--map), or look at how the columns "
            "were written, and import again",
        )


def _of_middle(values: Float) -> Float:
    """Values over the middle one of those that are not zero; 1 for zero."""
    known = values > 0
    return np.asarray(np.where(known, np.maximum(values, 1e-300) / float(np.median(values[known])), 1.0))


def _sample(observations: Observations) -> tuple[Float, Float, Float, Float]:
    """Blocks of rows over the whole file: inputs, readings (n, M), Σ w x (n, M), inputs as shown.

    Of a single detector, the first ones are w∘x.
    """
    parts: list[Rows] = []
    blocks = max(1, min(20, observations.count // (SAMPLE // 20)))
    edges = np.linspace(0, observations.count, blocks + 1).astype(int)
    for start, stop in pairwise(edges):
        parts.append(observations.rows(int(start), int(min(stop, start + SAMPLE // blocks))))
    x, y = np.concatenate([p.inputs for p in parts]), np.concatenate([columns(p) for p in parts])
    if parts[0].output is None:
        return x, y, x @ observations.weights.T, x
    behind = x * observations.weights[np.concatenate([p.output for p in parts if p.output is not None])]
    return behind, y, behind.sum(1, keepdims=True), x


def _follows(x: Float, y: Float) -> tuple[float, float, float]:
    """F test and R² of the readings' first component on the leading components of the inputs."""
    n = len(x)
    x1, y1 = x - x.mean(0), y - y.mean(0)
    y1 = y1 / np.maximum(y1.std(0), 1e-300)
    target = y1.mean(1) if y.shape[1] < 3 else y1 @ np.linalg.eigh(y1.T @ y1)[1][:, -1]
    total = x1.sum(1, keepdims=True)
    few = min(8, n // 10)
    _, vectors = np.linalg.eigh(x1.T @ x1)
    basis = np.concatenate([total, x1 @ vectors[:, -few:]], axis=1) if few else total
    q, size, _ = np.linalg.svd(basis, full_matrices=False)  # not QR: a sum that is always one takes part of the others
    q = q[:, size > 1e-9 * size.max()]
    explained, whole = float(((q.T @ target) ** 2).sum()), float((target**2).sum())
    k = q.shape[1]
    r2 = explained / max(whole, 1e-300)
    f = (explained / k) / max((whole - explained) / max(n - k - 1, 1), 1e-300)
    return f, float(f_sf(f, k, max(n - k - 1, 1))), r2


def _refuse(what: str, expected: str, seen: str) -> NoResponse:
    return NoResponse(
        what,
        action="fit response",
        expected=expected,
        seen=seen,
        hint="look at the order of the rows, the shutter and the dark level, then fit again",
    )
