"""The variance law of single readings from squared residuals in bins of light."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import chi2 as chi2_law

from calibration.response.model import Choice, NoiseLaw

Float = NDArray[np.float64]

BINS = 48
CORRELATED = 32  # most outputs whose correlations are looked at
TERMS = ("read", "shot", "intensity")
PREFERRED = (1, 0, 2)  # of terms alone that explain the data equally well: what light must have comes first
LEVEL = 1e-4


class Squares:
    """Squared residuals of good rows, by output and by light, without what the outputs of a row have in common.

    With four outputs or more, the gain and the offset of each row are fitted and taken off, so that neither drift nor
    flicker is counted as noise of a reading; the lost degrees of freedom are counted.
    """

    def __init__(self, outputs: int, light: tuple[float, float]) -> None:
        self.edges = np.linspace(min(light[0], 0.0), max(light[1], 1e-12), BINS + 1)[1:-1]
        self.square, self.count, self.light = (np.zeros((outputs, BINS)) for _ in range(3))
        self.raw = np.zeros((outputs, BINS))
        self.cross = np.zeros((outputs, outputs))
        self.rows, self.fourth, self.total, self.n = 0, 0.0, 0.0, 0

    def add(
        self,
        light: Float,
        slope: Float,
        variance: Float,
        residual: Float,
        output: NDArray[np.intp] | None,
        jitter: Float | None,
    ) -> None:
        """Rows (n, M) or (n, 1) whose drift has been taken off.

        Parameters
        ----------
        output
            (n,) of a single detector.
        jitter
            (2, 2) gain and offset that the outputs of a row share, as far as it is known.
        """
        if residual.shape[1] > 3:
            rest, left = without_common(slope, variance, residual)
            taken: Float | float = 0.0
        else:  # too few outputs to take two directions off: what is known to be common is subtracted from the squares
            rest, left = residual, np.ones_like(residual)
            taken = 0.0 if jitter is None else slope**2 * jitter[0, 0] + jitter[1, 1]
        of = np.broadcast_to(np.arange(light.shape[1]) if output is None else output[:, None], light.shape)
        cell = of * BINS + np.searchsorted(self.edges, light)
        shape = self.square.shape
        for total, value in ((self.square, rest**2 - taken), (self.count, left), (self.light, left * light)):
            total += np.bincount(cell.ravel(), value.ravel(), shape[0] * BINS).reshape(shape)
        if jitter is not None and output is None and self.correlated:
            self._add_cross(cell, slope, variance, residual, jitter)
        kept = left > 0.05
        ratio = rest[kept] ** 2 / (variance[kept] * left[kept])
        self.fourth += float((ratio**2).sum())
        self.total += float(ratio.sum())
        self.n += int(kept.sum())

    @property
    def least_light(self) -> float:
        """Mean light of the dimmest bin with more than a few readings."""
        n = self.count.sum(0)
        dimmest = int(np.argmax(n > 3))
        return max(float(self.light.sum(0)[dimmest] / max(n[dimmest], 1e-12)), 1e-6 * float(self.edges[-1]))

    @property
    def correlated(self) -> bool:
        """Whether correlations of the outputs are looked at: few outputs."""
        return 2 < len(self.square) <= CORRELATED  # of two, a common gain is all there is to see

    def _add_cross(self, cell: NDArray[np.intp], slope: Float, variance: Float, residual: Float, jitter: Float) -> None:
        """Products of the residuals of a row less what its common gain and offset account for."""
        shape = self.raw.shape
        beyond = residual**2 - slope**2 * jitter[0, 0] - jitter[1, 1]
        self.raw += np.bincount(cell.ravel(), beyond.ravel(), self.raw.size).reshape(shape)
        inverse = 1 / np.sqrt(variance)
        e, g = residual * inverse, slope * inverse
        self.cross += e.T @ e - jitter[0, 0] * (g.T @ g) - jitter[1, 1] * (inverse.T @ inverse)
        self.rows += len(residual)

    def correlation(self) -> tuple[Float | None, float]:
        """(M, M) correlation of the outputs if the data prove one, and χ² of it."""
        m = len(self.square)
        if self.rows < 30 * m:
            return None, 0.0
        covariance = self.cross / self.rows
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        covariance = (vectors * np.maximum(values, 0.05 * values[-1])) @ vectors.T
        size = np.sqrt(np.diag(covariance))
        correlation = covariance / np.outer(size, size)
        chi2 = -self.rows * float(np.linalg.slogdet(correlation)[1]) / self.dispersion()
        proven = chi2_law.sf(chi2, m * (m - 1) / 2) < 0.01 * LEVEL
        return (np.asarray(correlation) if proven else None), chi2

    def dispersion(self) -> float:
        """Variance of the squares over that of normal residuals; 1 or more."""
        mean = self.total / self.n
        return max((self.fourth / self.n / mean**2 - 1) / 2, 1.0)


def without_common(slope: Float, variance: Float, residual: Float) -> tuple[Float, Float]:
    """Residuals without each row's own gain and offset, and the fraction of a degree of freedom left in each."""
    offset = 1 / np.sqrt(variance)
    gain, rest = slope * offset, residual * offset
    a, b, d = _dot(gain, gain), _dot(gain, offset), _dot(offset, offset)
    d = d * (1 + 1e-9)  # outputs of equal light cannot tell gain from offset
    determinant = a * d - b * b
    s, t = _dot(gain, rest), _dot(offset, rest)
    rest -= gain * ((d * s - b * t) / determinant)[:, None] + offset * ((a * t - b * s) / determinant)[:, None]
    a, b, d = ((v / determinant)[:, None] for v in (a, b, d))
    left = 1 - (d * gain - 2 * b * offset) * gain - a * offset**2
    return rest / offset, np.clip(left, 0.0, 1.0)


def _dot(a: Float, b: Float) -> Float:
    return np.asarray(np.einsum("rm,rm->r", a, b))


@dataclass(frozen=True)
class _Fit:
    theta: Float
    stderr: Float
    deviance: float


def fit_noise_law(squares: Squares, parameters: float, unit: str) -> tuple[NoiseLaw, Choice]:
    """Likeliest law and the terms that the data prove.

    Parameters
    ----------
    squares
        Of all good rows.
    parameters
        Degrees of freedom that the fit of the mean took.
    unit
        Of the readings.
    """
    grow = squares.count.sum() / max(squares.count.sum() - parameters, 1.0)
    dispersion = squares.dispersion()
    outputs = len(squares.square)
    one = np.ones(outputs)
    scale, scaled = one, False
    terms, fits = _select(squares, scale, grow, dispersion)
    free = _scales(squares, fits[terms], grow)
    for _ in range(4):
        free_fit = _law(squares, free, grow, terms)
        free = _scales(squares, free_fit, grow) * 1.0
    drop = (fits[terms].deviance - _law(squares, free, grow, terms).deviance) / dispersion
    if outputs > 1 and chi2_law.sf(drop, outputs - 1) < LEVEL:
        for _ in range(3):
            terms, fits = _select(squares, free, grow, dispersion)
            free = _scales(squares, fits[terms], grow)
        scale, scaled = free, True
    best = fits[terms]
    root = np.sqrt(best.theta)
    values = {"read": root[0], "shot": best.theta[1], "intensity": root[2]}
    errors = {}
    for i in terms:
        error = best.stderr[i] * np.sqrt(dispersion)
        errors[TERMS[i]] = float(error if i == 1 else error / (2 * max(root[i], 1e-300)))
    correlation, _ = squares.correlation()
    if correlation is not None:
        # an output that the common gain follows closely has little left of its own, but not nothing
        scale, scaled = np.maximum(_raw_scales(squares, best, grow), 0.4 * scale), True
    law = NoiseLaw(
        values["read"],
        values["shot"],
        values["intensity"],
        scale,
        stderr=errors,
        unit=unit,
        correlation=correlation,
        least_light=squares.least_light,
    )
    others = {t: f for t, f in fits.items() if t != terms}
    bigger = {t: f for t, f in others.items() if set(terms) < set(t)}
    runner = min(bigger or others, key=lambda t: others[t].deviance)
    gained = max((best.deviance - others[runner].deviance) / dispersion, 0.0)
    extra = max(len(runner) - len(terms), 1)
    p = float(chi2_law.sf(gained, extra))
    name, other = _name(terms), _name(runner)
    reason = f"{name} explains the scatter; {other} is no better (χ²({extra}) = {gained:.2f}, p = {p:.2g})"
    if not bigger:
        gained = (others[runner].deviance - best.deviance) / dispersion
        p = float(chi2_law.sf(gained, 1))
        reason = f"{name}: better than {other} (χ²(1) = {gained:.1f}, p = {p:.2g})"
    if scaled:
        reason += f"; the variance of the outputs differs ({scale.min():.2g} … {scale.max():.2g} of the law)"
    return law, Choice(name, f"χ²({extra})", float(gained), p, other, reason)


def _select(
    squares: Squares, scale: Float, grow: float, dispersion: float
) -> tuple[tuple[int, ...], dict[tuple[int, ...], _Fit]]:
    fits = {t: _law(squares, scale, grow, t) for size in (1, 2, 3) for t in combinations(range(3), size)}
    lowest = min(fits[(i,)].deviance for i in range(3))
    chosen: tuple[int, ...] = next((i,) for i in PREFERRED if fits[(i,)].deviance < lowest + 10 * dispersion)
    while True:
        more = [t for t in fits if len(t) == len(chosen) + 1 and set(chosen) < set(t)]
        best = min(more, key=lambda t: fits[t].deviance, default=None)
        if best is None or chi2_law.sf((fits[chosen].deviance - fits[best].deviance) / dispersion, 1) > LEVEL:
            return chosen, fits
        chosen = best


def _law(squares: Squares, scale: Float, grow: float, terms: tuple[int, ...]) -> _Fit:
    """Non-negative terms by Fisher scoring of the gamma likelihood of the bins' mean squares."""
    n, square, light = _pool(squares, scale)
    full = np.stack([np.ones_like(light), light, light**2], axis=1)
    basis = full[:, list(terms)]
    seen = grow * square / n
    size = np.maximum(basis.max(0), 1e-300)
    variance = np.full_like(seen, float(np.average(seen, weights=n)))
    for _ in range(40):
        weight = np.sqrt(n) / variance
        theta, _ = nnls(basis / size * weight[:, None], seen * weight)
        fitted = basis @ (theta / size)
        fresh = np.maximum(fitted, 1e-9 * seen.max())
        if np.allclose(fresh, variance, rtol=1e-9):
            break
        variance = fresh
    information = (basis / variance[:, None] * (n / 2)[:, None]).T @ (basis / variance[:, None])
    error = np.sqrt(np.abs(np.diag(np.linalg.pinv(information))))
    values, stderr = np.zeros(3), np.zeros(3)
    values[list(terms)], stderr[list(terms)] = theta / size, error
    counts = squares.count.sum(1)
    deviance = float((n * (np.log(variance) + seen / variance)).sum() + (counts * np.log(scale)).sum())
    return _Fit(values, stderr, deviance)


def _pool(squares: Squares, scale: Float) -> tuple[Float, Float, Float]:
    n, square = squares.count.sum(0), (squares.square / scale[:, None]).sum(0)
    kept = n > 1.0
    return n[kept], square[kept], np.maximum(squares.light.sum(0)[kept] / n[kept], 0.0)


def _scales(squares: Squares, fit: _Fit, grow: float) -> Float:
    light = squares.light / np.maximum(squares.count, 1e-12)
    law = np.stack([np.ones_like(light), np.maximum(light, 0), np.maximum(light, 0) ** 2], axis=2) @ fit.theta
    count = squares.count.sum(1)
    ratio = grow * (squares.square / np.maximum(law, 1e-12 * law.max())).sum(1) / np.maximum(count, 1.0)
    ratio = np.where(count > 5, np.maximum(ratio, 1e-3), 1.0)
    return np.asarray(ratio / np.average(ratio, weights=count))


def _raw_scales(squares: Squares, fit: _Fit, grow: float) -> Float:
    """Variance of each output over the law, correlated part included."""
    count = squares.count
    light = np.maximum(squares.light / np.maximum(count, 1e-12), 0)
    law = np.stack([np.ones_like(light), light, light**2], axis=2) @ fit.theta
    rows = count.sum(1)
    mean = (count * law).sum(1) / np.maximum(rows, 1e-12)
    return np.asarray(np.maximum(grow * squares.raw.sum(1) / squares.rows / np.maximum(mean, 1e-300), 1e-3))


def _name(terms: tuple[int, ...]) -> str:
    return " + ".join(TERMS[i] for i in terms)
