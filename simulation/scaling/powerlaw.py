"""``photons ∝ d^exponent`` through a few widths, with what can honestly be said about the exponent.

Least squares on logarithms. Two intervals: the bootstrap's (documents and noise seeds: what a longer sweep would
narrow), and Student's from the scatter of the widths about the line (also what another training of the same widths
would change). With four widths the second has two degrees of freedom and is wide; it is the one to quote.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadOperands
from calibration.statistics.tails import t_isf
from simulation.scaling.requirement import interval

Float = NDArray[np.float64]
INSIDE = 0.95
"""Share of the draws that must lie between the dimmest and the brightest level for an interval."""


@dataclass(frozen=True)
class PowerLaw:
    """A straight line in log–log.

    Attributes
    ----------
    exponent, at_one
        ``photons = at_one · d^exponent``.
    bootstrap
        95 % interval of the exponent over documents and noise seeds; None without draws that differ, or where more than
        one in twenty of them leaves the levels, so that it has no end.
    scatter
        95 % interval from the residuals (Student, n − 2 degrees of freedom), None for two widths.
    without
        Exponent with each width left out, by width.
    rivals
        Leave-one-out rms error of log10(photons): ``"power law"``, ``"1/d"``, ``"constant"``.
    widths
        The d that were used.
    """

    exponent: float
    at_one: float
    bootstrap: tuple[float, float] | None
    scatter: tuple[float, float] | None
    without: dict[int, float]
    rivals: dict[str, float]
    widths: tuple[int, ...]

    def photons(self, width: Float) -> Float:
        """The line at (n,) widths."""
        return np.asarray(self.at_one * width**self.exponent)


def power_law(widths: Float, photons: Float, draws: Float | None = None) -> PowerLaw:
    """Fit (n,) photons against (n,) widths.

    Parameters
    ----------
    draws
        (B, n) bootstrap of the photons; draws that leave the levels are not finite.

    Raises
    ------
    BadOperands
        With fewer than two different widths.
    """
    if len(np.unique(widths)) < 2:
        raise BadOperands("no exponent from one width", expected="at least two", seen=str(widths.tolist()))
    x, y = np.log(widths), np.log(photons)
    slope, intercept = np.polyfit(x, y, 1)
    bootstrap = None
    if draws is not None:
        whole = draws[np.isfinite(draws).all(axis=1)]
        if len(whole) >= INSIDE * len(draws) > 0 and np.ptp(whole, axis=0).any():
            low, high = interval(np.polyfit(x, np.log(whole).T, 1)[0])
            bootstrap = float(low), float(high)
    n = len(x)
    scatter = None
    if n > 2:
        error = np.sqrt(np.sum((y - slope * x - intercept) ** 2) / (n - 2) / np.sum((x - x.mean()) ** 2))
        half = float(t_isf(0.025, n - 2) * error)
        scatter = float(slope) - half, float(slope) + half
    left = [np.arange(n) != i for i in range(n)] if n > 2 else []
    return PowerLaw(
        exponent=float(slope),
        at_one=float(np.exp(intercept)),
        bootstrap=bootstrap,
        scatter=scatter,
        without={int(widths[~keep][0]): float(np.polyfit(x[keep], y[keep], 1)[0]) for keep in left},
        rivals=_left_out_errors(x, y, left),
        widths=tuple(int(width) for width in widths),
    )


def _left_out_errors(x: Float, y: Float, left: list[NDArray[np.bool_]]) -> dict[str, float]:
    """How well each law predicts the width that it has not seen, rms of log10."""
    if not left:
        return {}
    errors: dict[str, list[float]] = {"power law": [], "1/d": [], "constant": []}
    for keep in left:
        one = (~keep).argmax()
        errors["power law"].append(float(y[one] - np.polyval(np.polyfit(x[keep], y[keep], 1), x[one])))
        errors["1/d"].append(float(y[one] + x[one] - np.mean(y[keep] + x[keep])))
        errors["constant"].append(float(y[one] - np.mean(y[keep])))
    return {name: float(np.sqrt(np.mean(np.square(e))) / np.log(10)) for name, e in errors.items()}
