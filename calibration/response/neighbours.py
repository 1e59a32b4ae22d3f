"""Readings that hold more than their own row: averages, differences, sums, and a detector that remembers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.response.leftover import Explained, Leftover, least_squares

Float = NDArray[np.float64]

BEFORE, AFTER = 8, 4  # rows before and after each row that are looked at
ROWS_PER_LAG = 6
SAME = 0.2  # relative difference of two coefficients that are one
NOTHING = 0.12  # of the largest coefficient
LITTLE, SURE = 0.015, 8.0  # of the largest coefficient, and standard errors: it is held all the same
MOVED = 0.2  # of the square of its gain that an input has in its own row, where it acts in another
SEEN = 0.02  # of the middle square of the gains, that such an input has at least
ORDERS = 4  # of the polynomials of time
PLENTY = 3  # rows for each number
TWICE = 0.2  # share of the rows that repeat the readings of the row before though their inputs differ


def twice(left: Leftover) -> str:
    """Readings of which many repeat those of the row before, though the inputs are others; empty where they do not."""
    consecutive = np.diff(left.index) == 1
    same = (np.diff(left.readings, axis=0) == 0).all(axis=1) & (np.diff(left.inputs, axis=0) != 0).any(axis=1)
    pairs = int(consecutive.sum())
    levels = min(len(np.unique(column)) for column in left.readings.T)
    share = float((same & consecutive).sum()) / max(pairs, 1)
    if share < TWICE or levels < pairs / 8:
        return ""
    return f"{100 * share:.0f} % of the rows repeat the readings of the row before, though their inputs are others"


def of_neighbours(left: Leftover) -> Explained | None:
    """Readings as sums over what the fit expects of the rows about them; None where there are too few rows."""
    lags = np.arange(-AFTER, BEFORE + 1)
    n = len(left.index)
    at = np.arange(BEFORE, n - AFTER)
    whole = (left.index[at + AFTER] - left.index[at - BEFORE] == BEFORE + AFTER) & left.good[at]
    at = at[whole]
    if len(at) < ROWS_PER_LAG * len(lags):
        return None
    before = left.apart((left.good,), wide=False)
    signals = [left.signal]
    if left.suffices(int(left.good.sum()), wide=True):
        signals.append(left.scaled(left.design @ least_squares(left.design[left.good], left.readings[left.good])))
    found, coefficients = min((_lagged(left, s, at, lags) for s in signals), key=lambda f: float(f[0].mean()))
    # signals have the spread 1, so that a coefficient is known as well as a mean of what is left
    named = _named(coefficients.mean(axis=0), lags, SURE * float(np.sqrt(found.mean() / (len(at) * left.outputs))))
    return None if named is None or before is None else Explained(*named, found, before)


def _lagged(left: Leftover, signal: Float, at: NDArray[np.intp], lags: NDArray[np.intp]) -> tuple[Float, Float]:
    """Mean square (M,) left of the rows ``at`` beside sums of the signal of rows at lags, and their weights (M, L)."""
    y = (left.readings - left.readings[left.good].mean(axis=0)) / left.rms
    found, weights = np.empty(left.outputs), np.empty((left.outputs, len(lags)))
    for m in range(left.outputs):
        design = np.stack([np.ones(len(at)), *(signal[at - lag, m] for lag in lags)], axis=1)
        c = least_squares(design, y[at, m : m + 1])
        found[m] = ((y[at, m] - (design @ c)[:, 0]) ** 2).sum() / (len(at) - len(lags) - 1)
        weights[m] = c[1:, 0]
    return found, weights


def _named(c: Float, lags: NDArray[np.intp], sure: float) -> tuple[str, str] | None:
    """What coefficients (L,) of the rows at ``lags`` make of the readings; those below ``sure`` are none."""
    largest = float(np.abs(c).max())
    held = np.nonzero(np.abs(c) > min(NOTHING * largest, max(LITTLE * largest, sure)))[0]
    if len(held) < 2 or largest <= 0:
        return None
    values, at = c[held], lags[held]
    alike = bool(np.ptp(values) < 2 * SAME * largest)
    if alike and held[-1] - held[0] == len(held) - 1:
        if at[-1] == BEFORE:
            return "the readings are sums over all rows before", "take the differences of neighbouring rows"
        return f"each reading is a running average over {len(held)} rows", "record or export single readings"
    if at.tolist() == [0, 1] and abs(values[1] / values[0] + 1) < SAME:
        return "each reading is the difference to the row before", "record or export the readings themselves"
    if at[0] == 0:
        own = float(c[lags == 0][0])
        kept = 100 * float(c[lags == 1][0]) / own if own else 0.0
        return f"the readings hold {kept:.0f} % of those of the row before", "wait longer between the rows"
    which = ", ".join(f"{int(lag):+d}" for lag in -at if lag)
    return f"the readings hold those of other rows, too ({which})", "look at what was done to the rows in time"


def of_other_outputs(left: Leftover) -> Explained | None:
    """Readings that hold those of other outputs in the row before, as of a converter that all share."""
    n = len(left.index)
    at = np.arange(1, n)
    at = at[(np.diff(left.index) == 1) & left.good[1:] & left.good[:-1]]
    if left.outputs < 2 or len(at) < ROWS_PER_LAG * (left.outputs + 2):
        return None
    found, before, share = np.empty(left.outputs), np.empty(left.outputs), np.empty((left.outputs, left.outputs))
    earlier = (left.mean - left.mean[left.good].mean(axis=0))[at - 1]
    scale = np.maximum(earlier.std(axis=0), 1e-300)
    for m in range(left.outputs):
        design = np.concatenate([np.ones((len(at), 1)), left.signal[at, m : m + 1], earlier / scale], axis=1)
        own = design[:, [0, 1, 2 + m]]  # what an output keeps of itself is afterglow
        e = left.error[at, m : m + 1]
        c = least_squares(design, e)
        found[m], before[m] = (
            ((e - d @ least_squares(d, e)) ** 2).sum() / (len(at) - d.shape[1]) for d in (design, own)
        )
        share[m] = c[2:, 0] * left.rms[m] / scale
    np.fill_diagonal(share, 0.0)
    worst, other = np.unravel_index(int(np.argmax(np.abs(share))), share.shape)
    words = (
        "the readings hold those of other outputs in the row before (output "
        f"{left.names[worst]} has {100 * share[worst, other]:.2g} % of output {left.names[other]})"
    )
    return Explained(words, "let the converter settle, or read the outputs in another order", found, before)


def late_inputs(left: Leftover) -> Explained | None:
    """Single inputs that are those of the row before or after; None where there are none, or too few rows."""
    n, best = len(left.index), None
    before = left.apart((left.good,), wide=True)
    if before is None:
        return None
    for lag in (1, -1):
        at = np.arange(max(lag, 0), n + min(lag, 0))
        at = at[(left.index[at] - left.index[at - lag] == lag) & left.good[at]]
        if not left.suffices(len(at) // 2, wide=True):
            return None
        x = left.design[:, 1:]
        design = np.concatenate([left.design[at], x[at - lag]], axis=1)
        y = (left.readings[at] - left.readings[left.good].mean(axis=0)) / left.rms
        c = least_squares(design, y)
        found = ((y - design @ c) ** 2).sum(axis=0) / (len(at) - design.shape[1])
        own, other = np.split((c[1:] ** 2).sum(axis=1), 2)
        late = np.nonzero((own < MOVED * other) & (other > SEEN * np.median(own)))[0]
        if len(late) and len(late) < len(own) and (best is None or found.mean() < best.left.mean()):
            which = ", ".join(map(str, late[:8].tolist()))
            words = f"input {which} acts one row {'late' if lag > 0 else 'early'}"
            best = Explained(words, "move its values by one row", np.asarray(found), before)
    return best


def own_drift(left: Leftover) -> Explained | None:
    """Gains and offsets of single outputs that drift each on its own: polynomials of time."""
    n = int(left.good.sum())
    before = left.apart((left.good,), wide=False)
    if before is None or n < ROWS_PER_LAG * 2 * ORDERS:
        return None
    time = np.polynomial.legendre.legvander(np.linspace(-1, 1, len(left.index)), ORDERS - 1)
    found, change = np.empty(left.outputs), np.empty(left.outputs)
    for m in range(left.outputs):
        design = np.concatenate([time, time * left.signal[:, m : m + 1]], axis=1)
        e = left.error[:, m : m + 1]
        c = least_squares(design[left.good], e[left.good])
        found[m] = ((e - design @ c)[left.good] ** 2).sum() / (n - 2 * ORDERS)
        course = time @ c[ORDERS:, 0] * left.rms[m]
        change[m] = float(course[-1] - course[0]) / max(float(left.mean[left.good, m].std()), 1e-300)
    worst = int(np.argmax(np.abs(change)))
    how = f"the gain of output {left.names[worst]} by {100 * change[worst]:+.1f} % from start to end"
    words = f"outputs drift each on its own ({how})"
    return Explained(words, "fit shorter parts of the recording, or record it faster", found, before)


def own_drift_of_inputs(left: Leftover) -> Explained | None:
    """Gains of single inputs that drift each on its own, as straight lines and parabolas of time."""
    good = left.good
    before = left.apart((good,), wide=True)
    numbers = ORDERS + (ORDERS - 1) * left.inputs.shape[1]
    if before is None or int(good.sum()) < PLENTY * numbers:
        return None
    time = np.polynomial.legendre.legvander(np.linspace(-1, 1, len(good)), ORDERS - 1)
    x = left.design[:, 1:]
    parts = [left.design, time[:, 1:], *(time[:, k : k + 1] * x for k in range(1, ORDERS - 1))]
    design = np.concatenate(parts, axis=1)
    c = least_squares(design[good], left.error[good])
    found = ((left.error - design @ c)[good] ** 2).sum(axis=0) / (int(good.sum()) - design.shape[1])
    # from start to end a straight line goes by twice its coefficient
    first = left.design.shape[1] + ORDERS - 1
    change = 2 * c[first : first + x.shape[1]] * left.rms
    gain = np.maximum(np.abs(left.gain.T) * left.inputs[good].std(axis=0)[:, None], 1e-300)
    worst = int(np.argmax((change**2).sum(axis=1)))
    of = int(np.argmax(gain[worst]))
    percent = 100 * float(change[worst, of] / gain[worst, of]) * float(np.sign(left.gain[of, worst]))
    words = f"inputs drift each on its own (the gain of input {worst} by {percent:+.1f} % from start to end)"
    return Explained(words, "fit shorter parts of the recording, or record it faster", found, before)
