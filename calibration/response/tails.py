"""How heavy the tails of the noise are, by the rows that are no outliers, and where the bar for bad rows then lies."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from calibration.statistics.tails import chi2_isf, chi2_sf, t_isf

Float = NDArray[np.float64]

DEGREES = (3.0, 4.0, 5.0, 6.0, 8.0, 11.0, 16.0, 30.0)
SHARES = (0.1, 0.05)  # of the rows, by whose χ² the tail is told: wrong rows are fewer and farther off
PROVEN = 3.5  # standard errors
FALSE_ALARM = 1e-6  # of a good row of a normal bench
OF_TAILS = 1e-4  # of a good row of a bench with heavy tails, of which no bar leaves fewer and still finds anything
DRAWN = 4000  # rows from which the law of a sum of squares is known well enough
FAR = 2.0  # times the bar of normal noise, beyond which a row says nothing about the tail
MOST_OUTPUTS = 256
MILD = 2.0  # times the bar of normal noise, up to which no tail is proven


def heavy_tail(chi2: Float, outputs: int, heavy: bool = True) -> float:
    """By what the bar for bad rows must be raised: 1 where the noise is normal as far as the rows prove.

    The noise of each reading is taken to follow Student's t where more rows exceed a χ² than would if it were normal.
    Of so few readings that nothing is proven, the χ² that one row in 50 exceeds decides, within a factor of two.

    Parameters
    ----------
    chi2
        (n,) of good rows, relative to their median.
    heavy
        Whether the tail may be a Student one.
    """
    mild = float(np.clip(np.quantile(chi2, 0.98) / chi2_isf(0.02, outputs), 1.0, MILD))
    if not heavy:
        return mild
    mild = max(mild, _slower(chi2, outputs))
    degrees = degrees_of_freedom(chi2, outputs)
    if degrees is None or _contaminated(chi2, outputs, degrees):
        return mild
    return max(mild, _bar(degrees, outputs))


def _slower(chi2: Float, outputs: int) -> float:
    """By what the bar rises where the χ² of the rows falls off more slowly than that of normal noise.

    The mean excess of the largest twentieth over its threshold says how slowly, as of speckle; rows far
    beyond the bar do not count. 1 where chance would show as much.
    """
    limit, bar = (float(chi2_isf(p, outputs)) for p in (SHARES[1], FALSE_ALARM))
    scaled = chi2 * float(chi2_isf(0.5, outputs)) / max(float(np.median(chi2)), 1e-300)
    over = scaled[(scaled > limit) & (scaled < FAR * bar)] - limit
    normal = outputs * float(chi2_sf(limit, outputs + 2)) / SHARES[1] - limit
    ratio = float(over.mean()) / normal if len(over) else 1.0
    if ratio < 1 + 2 / np.sqrt(max(len(over), 1)):
        return 1.0
    return (limit + ratio * (bar - limit)) / bar


def _contaminated(chi2: Float, outputs: int, degrees: float) -> bool:
    """Whether more rows are beyond the bar of normal noise than a tail would leave there: wrong rows are among them."""
    limit = float(chi2_isf(FALSE_ALARM, outputs) / chi2_isf(0.5, outputs))
    expected = len(chi2) * float((_drawn(degrees, min(outputs, MOST_OUTPUTS)) > limit).mean())
    seen = float((chi2 / max(float(np.median(chi2)), 1e-300) > limit).sum())
    return bool(seen > 1.5 * expected + 3 * np.sqrt(expected) + 1)


def degrees_of_freedom(chi2: Float, outputs: int) -> float | None:
    """Of the Student law that the rows' χ² show; None where they show no other than the normal one."""
    relative = chi2 / max(float(np.median(chi2)), 1e-300)
    found = None
    for share in SHARES:
        expected = share * len(chi2)
        limit = chi2_isf(share, outputs) / chi2_isf(0.5, outputs)
        seen = float((relative > limit).sum())
        if seen < expected + PROVEN * np.sqrt(expected) + 1:
            continue
        m = min(outputs, MOST_OUTPUTS)
        heavier = [d for d in DEGREES if float((_drawn(d, m) > limit).mean()) * len(chi2) >= seen]
        told = max(heavier, default=DEGREES[0])
        found = told if found is None else min(found, told)
    return found


def student_degrees(tail: float, outputs: int) -> float | None:
    """Degrees of freedom of the Student noise for which the bar is raised by ``tail``; None where none is proven."""
    if tail <= MILD:
        return None
    bars = [_bar(degrees, outputs) for degrees in DEGREES]
    return DEGREES[int(np.argmin(np.abs(np.array(bars) - tail)))]


@cache
def _squares(degrees: float, outputs: int) -> Float:
    """Sums of squares of rows of Student noise."""
    rng = np.random.default_rng(0)
    return np.asarray((rng.standard_t(degrees, (DRAWN, outputs)) ** 2).sum(1))


def _drawn(degrees: float, outputs: int) -> Float:
    """The same, relative to their median."""
    squares = _squares(degrees, outputs)
    return np.asarray(squares / np.median(squares))


def _bar(degrees: float, outputs: int) -> float:
    """χ² that a good row exceeds with probability `OF_TAILS`, relative to the bar of normal noise.

    A sum of squares of heavy tails is large where one of them is.
    """
    m = min(outputs, MOST_OUTPUTS)
    median = float(np.median(_squares(degrees, m)))
    largest = float(t_isf(OF_TAILS / (2 * m), degrees)) ** 2 + median
    normal = float(chi2_isf(FALSE_ALARM, m) / chi2_isf(0.5, m))
    return largest / median / normal
