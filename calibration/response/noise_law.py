"""How the variance of a reading depends on its light, fitted to squared residuals in bins of light."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import scipy
from numpy.typing import NDArray

from calibration.response.laws import NoiseLaw
from calibration.statistics.choice import Choice
from calibration.statistics.tails import chi2_sf, p_in_words

Float = NDArray[np.float64]

BINS = 48
CORRELATED = 32  # most outputs whose correlations are looked at
LEAST_FREEDOM = 1e-3
TERMS = ("read", "shot", "intensity")
PREFERRED = (1, 0, 2)  # of terms alone that explain the data equally well: what light must have comes first
LEVEL = 1e-4


class Squares:
    """Sums of squared residuals by output and bin of light, without what all outputs of a row have in common.

    What they have in common is known from the same residuals, so that each of them tells less than one of its own; they
    are counted by how much.

    Parameters
    ----------
    outputs
        M
    brightest
        Light at which the bins end [unit].
    correlated
        Whether to look for correlations beyond that, once it is known.
    """

    def __init__(self, outputs: int, brightest: float, *, correlated: bool) -> None:
        # of two outputs, a common gain is all there is to see
        self.correlated = correlated and 2 < outputs <= CORRELATED
        self.edges = np.linspace(0.0, max(brightest, 1e-300), BINS + 1)[1:-1]
        self.square, self.count, self.light = (np.zeros((outputs, BINS)) for _ in range(3))
        self.cross, self.cross_shared = np.zeros((outputs, outputs)), np.zeros((outputs, outputs))
        self.pairs = np.zeros((outputs, outputs))
        self.rows, self.second, self.fourth, self.weight = 0, 0.0, 0.0, 0.0

    def add(
        self,
        light: Float,
        slope: Float,
        variance: Float,
        residual: Float,
        output: NDArray[np.intp] | None,
        shared: Float,
        read: NDArray[np.bool_],
    ) -> None:
        """Add rows (n, M), or (n, 1) of a single detector, from which the drift has been taken off.

        Parameters
        ----------
        output
            (n,) of a single detector.
        shared
            (n, 2, 2) covariance of gain and offset that the outputs of a row share, as far as it is known: how they
            scatter from row to row, and how well the other rows tell the drift of each.
        read
            (n, M) which readings count: the others were drawn.
        """
        left, freedom, mixed = _apart(slope, variance, residual, shared, read)
        of = np.broadcast_to(np.arange(light.shape[1]) if output is None else output[:, None], light.shape)
        cell = (of * BINS + np.searchsorted(self.edges, light)).ravel()
        for total, value in ((self.square, left**2), (self.count, freedom), (self.light, freedom * light)):
            total += np.bincount(cell, value.ravel(), total.size).reshape(total.shape)
        ratio = left**2 / variance
        self.second += float(ratio.sum())
        self.fourth += float((ratio**2 / np.maximum(freedom, LEAST_FREEDOM)).sum())
        self.weight += float(freedom.sum())
        if output is None and self.correlated:
            inverse = 1 / np.sqrt(variance)
            e = left * inverse
            self.cross += e.T @ e
            self.cross_shared += np.einsum("nmi,nki->mk", mixed * inverse[:, :, None], mixed * inverse[:, :, None])
            self.pairs += read.T.astype(float) @ read
            self.rows += len(residual)

    @property
    def least_light(self) -> float:
        """Mean light of the dimmest bin with more than a few readings."""
        n = self.count.sum(0)
        dimmest = int(np.argmax(n > 3))
        return max(float(self.light.sum(0)[dimmest] / max(n[dimmest], 1e-12)), 1e-6 * float(self.edges[-1]))

    def correlation(self) -> tuple[Float | None, float]:
        """(M, M) correlation of the outputs if the data prove one, and χ² of it."""
        m = len(self.cross)
        if self.rows < 30 * m:
            return None, 0.0
        covariance = (self.cross + self.cross_shared) / np.maximum(self.pairs, 1)
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        covariance = (vectors * np.maximum(values, 0.05 * values[-1])) @ vectors.T
        size = np.sqrt(np.diag(covariance))
        correlation = covariance / np.outer(size, size)
        chi2 = -self.rows * float(np.linalg.slogdet(correlation)[1]) / self.dispersion()
        proven = chi2_sf(chi2, m * (m - 1) / 2) < 0.01 * LEVEL
        return (np.asarray(correlation) if proven else None), chi2

    def dispersion(self) -> float:
        """How much more the squares scatter than those of normal residuals would: a ratio of variances, at least 1."""
        return max((self.fourth / self.weight / (self.second / self.weight) ** 2 - 1) / 2, 1.0)


def _apart(
    slope: Float, variance: Float, residual: Float, shared: Float, read: NDArray[np.bool_]
) -> tuple[Float, Float, Float]:
    """Residuals without what is likeliest common to the outputs of their row; 0 of those that were not read.

    Returns
    -------
    The residuals; by what the variance of each is less than its own noise, which is how much of a witness it is; and
    (n, M, 2), whose product with itself is the covariance that was so taken off each row.
    """
    h = np.stack([slope, np.ones_like(slope)], axis=2) * read[:, :, None]
    residual = np.where(read, residual, 0.0)
    over = h / variance[:, :, None]
    information = h.swapaxes(1, 2) @ over
    known = shared @ np.linalg.inv(np.eye(2) + information @ shared)
    values, vectors = np.linalg.eigh((known + known.swapaxes(1, 2)) / 2)
    mixed = h @ (vectors * np.sqrt(np.maximum(values, 0))[:, None, :])
    left = residual - (mixed @ (mixed.swapaxes(1, 2) @ (residual / variance)[:, :, None]))[:, :, 0]
    freedom = np.where(read, np.maximum(1 - (mixed**2).sum(2) / variance, LEAST_FREEDOM), 0.0)
    return left, freedom, mixed


@dataclass(frozen=True)
class _Fit:
    theta: Float
    stderr: Float
    deviance: float


def fit_noise_law(squares: Squares, parameters: float, unit: str) -> tuple[NoiseLaw, Choice]:
    """Fit the noise law, with those of its terms that the data prove; say why.

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
        free = _scales(squares, free_fit, grow)
    drop = (fits[terms].deviance - _law(squares, free, grow, terms).deviance) / dispersion
    if outputs > 1 and chi2_sf(drop, outputs - 1) < LEVEL:
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
        scale, scaled = np.maximum(free, 0.1), True
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
    choice = _choice(terms, fits, dispersion)
    if scaled:
        differs = f"the variance of the outputs differs ({scale.min():.2g} … {scale.max():.2g} of the law)"
        choice = replace(choice, reason=f"{choice.reason}; {differs}")
    return law, choice


def _choice(terms: tuple[int, ...], fits: dict[tuple[int, ...], _Fit], dispersion: float) -> Choice:
    """Why these terms: against the best law with more of them; where there is none, against the best other law."""
    best = fits[terms]
    others = {t: f for t, f in fits.items() if t != terms}
    bigger = {t: f for t, f in others.items() if set(terms) < set(t)}
    runner = (
        min(bigger, key=lambda t: _chance(fits, terms, t, dispersion))
        if bigger
        else min(others, key=lambda t: others[t].deviance)
    )
    gained = max((best.deviance - others[runner].deviance) / dispersion, 0.0)
    extra = max(len(runner) - len(terms), 1)
    p = float(chi2_sf(gained, extra))
    name, other = _name(terms), _name(runner)
    test = f"χ²({extra}) = {gained:.2f}, {p_in_words(p)}"
    reason = f"{name} explains the scatter; {other} is no better at a level of {LEVEL:g} ({test})"
    if not bigger:
        gained = (others[runner].deviance - best.deviance) / dispersion
        p = float(chi2_sf(gained, 1))
        reason = f"{name}: better than {other} (χ²(1) = {gained:.1f}, {p_in_words(p)})"
    return Choice(name, f"χ²({extra})", float(gained), p, other, reason)


def _select(
    squares: Squares, scale: Float, grow: float, dispersion: float
) -> tuple[tuple[int, ...], dict[tuple[int, ...], _Fit]]:
    fits = {t: _law(squares, scale, grow, t) for size in (1, 2, 3) for t in combinations(range(3), size)}
    lowest = min(fits[(i,)].deviance for i in range(3))
    chosen: tuple[int, ...] = next((i,) for i in PREFERRED if fits[(i,)].deviance < lowest + 10 * dispersion)
    while True:
        more = [t for t in fits if set(chosen) < set(t)]
        chances = {t: _chance(fits, chosen, t, dispersion) for t in more}
        best = min(more, key=lambda t: (chances[t], len(t)), default=None)
        if best is None or chances[best] > LEVEL:
            break
        chosen = best
    while True:  # what came in with others may be needed no longer
        fewer = {t: _chance(fits, t, chosen, dispersion) for t in fits if set(t) < set(chosen)}
        superfluous = max(fewer, key=lambda t: fewer[t], default=None)
        if superfluous is None or fewer[superfluous] <= LEVEL:
            return chosen, fits
        chosen = superfluous


def _chance(
    fits: dict[tuple[int, ...], _Fit], small: tuple[int, ...], large: tuple[int, ...], dispersion: float
) -> float:
    """Probability that a law with more terms would seem as much better by chance."""
    gained = max(fits[small].deviance - fits[large].deviance, 0.0) / dispersion
    return float(chi2_sf(gained, len(large) - len(small)))


def _law(squares: Squares, scale: Float, grow: float, terms: tuple[int, ...]) -> _Fit:
    """Fit some terms, none of them negative, to the mean squares of the bins: Fisher scoring of a gamma likelihood."""
    n, square, light = _pool(squares, scale)
    full = np.stack([np.ones_like(light), light, light**2], axis=1)
    basis = full[:, list(terms)]
    seen = grow * square / n
    level = max(float(np.average(seen, weights=n)), 1e-300)  # numbers about one, whatever the unit of the readings
    seen = seen / level
    size = np.maximum(basis.max(0), 1e-300)
    variance = np.full_like(seen, float(np.average(seen, weights=n)))
    for _ in range(40):
        weight = np.sqrt(n) / variance
        theta, _ = scipy.optimize.nnls(basis / size * weight[:, None], seen * weight)
        fitted = basis @ (theta / size)
        fresh = np.maximum(fitted, 1e-9 * seen.max())
        if np.allclose(fresh, variance, rtol=1e-9):
            break
        variance = fresh
    scaled = basis / size  # columns of one size, or the smallest terms would be cut off as if they were none
    information = (scaled / variance[:, None] * (n / 2)[:, None]).T @ (scaled / variance[:, None])
    error = np.sqrt(np.abs(np.diag(np.linalg.pinv(information)))) / size
    values, stderr = np.zeros(3), np.zeros(3)
    values[list(terms)], stderr[list(terms)] = level * theta / size, level * error
    counts = squares.count.sum(1)
    deviance = float((n * (np.log(level * variance) + seen / variance)).sum() + (counts * np.log(scale)).sum())
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


def _name(terms: tuple[int, ...]) -> str:
    return " + ".join(TERMS[i] for i in terms)
