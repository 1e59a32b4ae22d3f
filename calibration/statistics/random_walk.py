"""Coefficients that walk at random, seen through observations in information form: smoothing by banded algebra.

The state θ(t) of p coefficients moves from one time to the next by independent normal increments of variance
``q_j Δt``; at given times it may step besides. What is seen at time t_i is a quadratic log-likelihood
``s_iᵀ θ − ½ θᵀ Λ_i θ``; Λ_i may be singular or zero. The posterior precision of all states is block tridiagonal, so
that its Cholesky factor, the smoothed states, their covariance and the marginal likelihood cost O(n): Kalman filter and
Rauch–Tung–Striebel smoother in information form (Rue & Held, *Gaussian Markov Random Fields* (2005), ch. 2; Rauch,
Tung & Striebel, AIAA J. 3 (1965) 1445).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpbtrf, dpbtrs

from calibration.errors import FitError

Float = NDArray[np.float64]

ROUNDING = 1e-13
STEP = 1e-4  # of log q, by which a slope is told
"""Relative rounding of a factorisation: several hundred units of the last digit."""


@dataclass(frozen=True)
class CourseObservations:
    """What is known of the coefficients at each of k different times.

    Attributes
    ----------
    at_s
        (k,) increasing [s].
    information
        (k, p, p) Λ, symmetric, positive semidefinite.
    score
        (k, p) s.
    """

    at_s: Float
    information: Float
    score: Float
    _stepping: dict[tuple[int, ...], tuple[Float, Float, Float, Float]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        return len(self.at_s)

    @cached_property
    def band(self) -> Float:
        """(p + 1, k, p) lower band of the (k·p, k·p) matrix with Λ_i on its diagonal: what no walk changes."""
        k, p = self.score.shape
        band = np.zeros((p + 1, k, p))
        for below in range(p):
            column = np.arange(p - below)
            band[below][:, column] = self.information[:, column + below, column]
        return band

    def stepping(self, steps: tuple[int, ...]) -> tuple[Float, Float, Float, Float]:
        """How the level goes with the sizes of c ``steps``, and what is seen of that, whatever walks besides.

        Returns
        -------
        (k, p, c·p) ∂level/∂size, Λ times that, and the information (c·p, c·p) and score (c·p,) of the sizes.
        """
        if steps not in self._stepping:
            (k, p), c = self.score.shape, len(steps)
            reach = np.repeat(np.arange(k)[:, None] > np.array(steps, np.intp), p, axis=1)  # (k, c·p)
            direction = np.tile(np.eye(p), c) * reach[:, None, :]
            seen = self.information @ direction
            known = np.einsum("kia,kib->ab", direction, seen)
            self._stepping.clear()  # a search asks hundreds of times about the same steps, and then about others
            self._stepping[steps] = direction, seen, known, np.einsum("kia,ki->a", direction, self.score)
        return self._stepping[steps]

    @cached_property
    def total(self) -> Float:
        """(p, p) Σ Λ_i: what is known of coefficients that stand still."""
        return np.asarray(self.information.sum(axis=0))

    def until(self, count: int) -> CourseObservations:
        """The first ``count`` times."""
        return CourseObservations(self.at_s[:count], self.information[:count], self.score[:count])

    def less(self, level: Float) -> CourseObservations:
        """The observations as they are of θ − ``level`` instead of θ; ``level`` is (k, p)."""
        return CourseObservations(
            self.at_s, self.information, self.score - np.einsum("kij,kj->ki", self.information, level)
        )

    def thinned(self, count: int, cuts: Sequence[int]) -> tuple[CourseObservations, list[int]]:
        """At most about ``count`` blocks of equal information, each at its mean time; none reaches over a cut.

        Parameters
        ----------
        cuts
            Indices after which a block ends.

        Returns
        -------
        The blocks, and the cuts as indices of blocks.
        """
        if len(self) <= count:
            return self, list(cuts)
        scale = np.maximum(np.diag(self.total), 1e-300)
        weight = (np.diagonal(self.information, axis1=1, axis2=2) / scale).sum(axis=1)
        weight = weight + weight.mean() * 1e-6
        before = np.concatenate([[0.0], weight.cumsum()[:-1]])
        block = np.floor(before / weight.sum() * count * (1 - 1e-12)).astype(np.int64)
        for cut in cuts:
            block[cut + 1 :] += 1 if block[cut + 1] == block[cut] else 0
        _, start = np.unique(block, return_index=True)
        at_s = np.add.reduceat(weight * self.at_s, start) / np.add.reduceat(weight, start)
        return (
            CourseObservations(at_s, np.add.reduceat(self.information, start), np.add.reduceat(self.score, start)),
            [int(np.searchsorted(start, cut, side="right") - 1) for cut in cuts],
        )


class Posterior:
    """All states given all observations, for given walks and given times of steps.

    Parameters
    ----------
    observations
        `CourseObservations`
    walk2
        (p,) q: variance per second, positive; `still2` gives values that are as good as zero.
    steps
        Indices after which the state steps by an unknown amount in every coefficient; the amounts are fitted.

    Attributes
    ----------
    value
        (k, p) smoothed states, steps included.
    size, size_covariance
        (c, p) sizes of the c steps, and their (c·p, c·p) covariance; both are 0 for a coefficient that is never
        observed on one side of the step.
    log_likelihood
        log ∫ p(data | θ) over the walk, flat in the first state, at the likeliest steps, relative to p(data | θ = 0).
    """

    def __init__(self, observations: CourseObservations, walk2: Float, steps: Sequence[int] = ()) -> None:
        self.observations, self.walk2, self.steps = observations, walk2, tuple(steps)
        k, p = observations.score.shape
        self._stiffness = 1.0 / (np.diff(observations.at_s)[:, None] * walk2)
        self._factor = self._cholesky(self._stiffness)
        walk = self._solve(observations.score)
        determinant = _half_log_determinant(self._factor, self._stiffness)
        self.log_likelihood = 0.5 * float((observations.score * walk).sum()) - determinant
        self._walk, self.value = walk, walk
        self.size, self.size_covariance = np.zeros((0, p)), np.zeros((0, 0))
        self._leverage = np.zeros((k, p, 0))
        if self.steps:
            self._step(walk)

    def _step(self, walk: Float) -> None:
        """Fit the sizes of the steps, given the ``walk`` (k, p) that the data would ask for without any."""
        direction, seen, known, slope = self.observations.stepping(self.steps)
        follows = self._solve(seen)
        self._leverage = direction - follows
        known = known - np.einsum("kia,kib->ab", seen, follows)
        slope = slope - np.einsum("kia,ki->a", seen, walk)
        self.size_covariance = _inverse(known)
        size = self.size_covariance @ slope
        self.log_likelihood += 0.5 * float(slope @ size)
        self.size = size.reshape(len(self.steps), -1)
        self._walk = walk - follows @ size
        self.value = walk + self._leverage @ size

    @property
    def level(self) -> Float:
        """(k, p) of the steps alone."""
        level: Float = np.zeros_like(self.value)
        for step, size in zip(self.steps, self.size, strict=True):
            level[step + 1 :] += size
        return level

    def covariances(self) -> tuple[Float, Float]:
        """(k, p, p) of every state, and (k − 1, p, p) of every state with the next."""
        covariance, lag = self._walk_covariances()
        spread = self._leverage @ self.size_covariance
        return (
            covariance + spread @ self._leverage.swapaxes(1, 2),
            lag + spread[:-1] @ self._leverage[1:].swapaxes(1, 2),
        )

    def covariance_with_mean(self, among: NDArray[np.bool_]) -> Float:
        """(k, p, p) covariance of every state with the mean of the states in the (k,) mask ``among``."""
        p = len(self.walk2)
        mean = np.where(among[:, None, None], np.eye(p) / among.sum(), 0.0)
        average = self._leverage[among].mean(axis=0)
        return np.asarray(self._solve(mean) + self._leverage @ self.size_covariance @ average.T)

    def gradient(self) -> Float:
        """(p,) slope of `log_likelihood` in log q.

        The determinant's by differences: 2 p more factors, which is several times quicker than covariances, since those
        need a loop over the times.
        """
        second = 0.5 * (np.diff(self._walk, axis=0) ** 2 * self._stiffness).sum(axis=0)
        apart = np.zeros(len(second))
        for j in range(len(second)):
            faster, slower = (self._stiffness * np.exp(sign * STEP * (np.arange(len(second)) == j)) for sign in (-1, 1))
            at_faster, at_slower = (_half_log_determinant(self._cholesky(s), s) for s in (faster, slower))
            apart[j] = at_faster - at_slower
        return np.asarray(second - apart / (2 * STEP))

    def step_chi2(self) -> Float:
        """(k − 1,) χ² with p degrees of freedom of one more step between each two times.

        From the auxiliary residuals: the smoothed increments in units of what the data can say of them beyond the walk
        (Harvey & Koopman, J. Bus. Econ. Stat. 10 (1992) 377).
        """
        increment, spread = self._increments()
        scale = np.sqrt(self._stiffness)
        unit = increment * scale
        free = np.eye(len(self.walk2)) - spread * scale[:, :, None] * scale[:, None, :]
        return np.asarray(np.einsum("ki,kij,kj->k", unit, _inverse(free), unit))

    def _cholesky(self, stiffness: Float) -> Float:
        """(p + 1, k·p) lower band of the Cholesky factor of the precision of a walk of ``stiffness`` (k − 1, p)."""
        k, p = self.observations.score.shape
        band = self.observations.band.copy()
        band[0, 1:] += stiffness
        band[0, :-1] += stiffness
        band[p, :-1] -= stiffness
        for firmer in (0.0, ROUNDING, 1e3 * ROUNDING):  # walks that hardly move: rounding may cost the last pivot
            band[0] *= 1 + firmer
            # LAPACK itself, here and below: a search asks thousands of times, and scipy's wrapper takes as long again
            factor, failed = dpbtrf(band.reshape(p + 1, k * p), lower=1)
            if not failed:
                return np.asarray(factor)
        raise FitError(
            "the drift's course is not determined",
            action="drift",
            expected="reference frames that tell the light",
            seen=f"walks of {', '.join(f'{rate:.2g}' for rate in self.walk2)} per second",
        )

    def _solve(self, right: Float) -> Float:
        """The walk's posterior covariance times ``right`` (k, p) or (k, p, r)."""
        k, p = self.observations.score.shape
        if not right.size:
            return right
        flat = right.reshape(k * p, -1)
        return np.asarray(dpbtrs(self._factor, flat, lower=1)[0].reshape(right.shape))

    def _walk_covariances(self) -> tuple[Float, Float]:
        """Those of the walk at given steps, by the backward recursion ``Σ_i = D_i⁻¹ + G_i Σ_{i+1} G_iᵀ``."""
        k, p = self.observations.score.shape
        factor = self._factor.reshape(p + 1, k, p)
        lower, link = np.zeros((k, p, p)), np.zeros((k, p, p))  # L_ii, and L_{i+1,i}
        for below in range(p + 1):
            for column in range(p):
                row = column + below
                (lower if row < p else link)[:, row % p, column] = factor[below, :, column]
        inverse = np.linalg.inv(lower).swapaxes(1, 2)
        own, gain = inverse @ inverse.swapaxes(1, 2), -inverse @ link.swapaxes(1, 2)
        covariance, lag = np.empty((k, p, p)), np.empty((k - 1, p, p))
        covariance[-1] = own[-1]
        for i in range(k - 2, -1, -1):
            lag[i] = gain[i] @ covariance[i + 1]
            covariance[i] = own[i] + lag[i] @ gain[i].T
        return covariance, lag

    def _increments(self) -> tuple[Float, Float]:
        """(k − 1, p) increments of the walk and their covariance (k − 1, p, p)."""
        covariance, lag = self._walk_covariances()
        return np.diff(self._walk, axis=0), covariance[1:] + covariance[:-1] - lag - lag.swapaxes(1, 2)


def _half_log_determinant(factor: Float, stiffness: Float) -> float:
    """Of a walk's posterior precision, relative to that of the walk itself."""
    return float(np.log(factor[0]).sum()) - 0.5 * float(np.log(stiffness).sum())


def still2(observations: CourseObservations) -> Float:
    """(p,) walks q so slow that nobody can tell them from none.

    Over the whole run such a walk adds no more than 10⁻⁴ of the variance with which a constant would be known.
    """
    span_s = observations.at_s[-1] - observations.at_s[0]
    return np.asarray(1e-4 * np.diag(np.linalg.inv(observations.total)) / max(span_s, 1e-300))


def still_step_chi2(observations: CourseObservations) -> Float:
    """(k − 1,) χ² of a step in coefficients that otherwise stand still; closed form."""
    information, score = observations.information.cumsum(axis=0), observations.score.cumsum(axis=0)
    before, total = information[:-1], np.linalg.inv(information[-1])
    known = before - before @ total @ before
    slope = score[:-1] - before @ (total @ score[-1])
    return np.asarray(np.einsum("ki,kij,kj->k", slope, _inverse(known), slope))


def _inverse(matrices: Float) -> Float:
    """Of positive semidefinite matrices (…, p, p); directions of which nothing is known give zero."""
    if not matrices.size:
        return matrices
    diagonal = np.diagonal(matrices, axis1=-2, axis2=-1)
    largest = np.maximum(diagonal.max(axis=-1, keepdims=True), 0.0)  # a difference of equals may round below zero
    unit = np.sqrt(np.maximum(diagonal, 1e-12 * largest + 1e-300))
    scale = unit[..., :, None] * unit[..., None, :]
    value, direction = np.linalg.eigh(matrices / scale)
    inverse = np.divide(1.0, value, out=np.zeros_like(value), where=value > 1e-9)
    return np.asarray((direction * inverse[..., None, :]) @ direction.swapaxes(-1, -2) / scale)
