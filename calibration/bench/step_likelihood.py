"""Which latencies and time constants explain a step of a panel about as well as the best ones do.

A camera frame is the mean of the light over its exposure. After a step at time 0 that takes effect at the latency L and
relaxes with the time constant τ, the frame that starts at t reads ::

    y(t) = end + (start − end) · 1/E ∫_t^{t+E} r(t') dt',     r = 1 before L, exp(−(t' − L)/τ) from then on

Where a step falls into one exposure, or between two, one frame or none tells of it, and many pairs of L and τ explain
it alike: they lie along a curve, at no place of which a least-squares fit has a reason to stop. The profile of the
misfit goes along it: for each τ the least misfit over L, start and end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

NOISE_FLOORS = np.geomspace(0.01, 10.0, 31)
"""Noise that does not follow the light, in units of that which the brightest light has."""
NEAREST = 1e-5
"""Parts of an exposure from its start or end at which latencies are tried first; rounding is not far below."""
LATENCIES, TAUS = 8, 49
"""Latencies on either side of an exposure's start and end, and time constants, at which the misfit is looked at."""
LATENCIES_MAX = 300
HALVINGS = 24
GOLDEN = (np.sqrt(5) - 1) / 2
ZOOMS, CLOSER = 6, 17
"""How often a range of time constants is narrowed, and how many are looked at then: a millionth of it is left."""


@dataclass(frozen=True)
class StepMisfit:
    """How badly a latency and a time constant explain the light of a step.

    Attributes
    ----------
    light, noise
        (n,) light of each frame and its standard deviation, in any one unit up to a common factor.
    at_s
        (n,) when each exposure starts, from the step on [s].
    exposure_s
        How long each lasts [s].
    latest_s
        By when the step has taken effect [s].
    """

    light: Float
    noise: Float
    at_s: Float
    exposure_s: float
    latest_s: float

    def __call__(self, latency_s: Float | float, tau_s: Float | float) -> Float:
        """Sum of the squared residuals in units of ``noise``, of the start and the end that fit best."""
        return self._fitted(latency_s, tau_s)[0]

    def levels(self, latency_s: float, tau_s: float) -> tuple[float, float]:
        """Light before and long after that fits best."""
        _, step, end = self._fitted(latency_s, tau_s)
        return float(end + step), float(end)

    def best_latency_s(self, tau_s: Float) -> Float:
        """(k,) latencies with the least misfit for time constants (k,) [s]."""
        grid = self._latencies_s
        best = np.argmin(self(grid, tau_s[:, None]), axis=1)
        low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
        for _ in range(HALVINGS):
            a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
            left, right = self(np.stack([a, b]), tau_s)
            low, high = np.where(left <= right, low, a), np.where(left <= right, b, high)
        return np.asarray((low + high) / 2)

    def profile(self, tau_s: Float) -> Float:
        """(k,) least misfit for each time constant (k,) [s]."""
        return self(self.best_latency_s(tau_s), tau_s)

    def latencies_within(self, limit: float, tau_s: Float) -> tuple[Float, Float]:
        """(k,) shortest and longest latencies with a misfit up to ``limit``, where there is any [s]."""
        best, grid = self.best_latency_s(tau_s), self._latencies_s
        within = self(grid, tau_s[:, None]) <= limit
        ends = []
        for sign in (-1, 1):
            farthest = np.where(within, sign * grid, -np.inf).max(axis=1)
            inside = sign * np.maximum(farthest, sign * best)
            beyond = np.where(sign * grid > sign * inside[:, None], sign * grid, np.inf).min(axis=1)
            outside = np.where(np.isfinite(beyond), sign * beyond, inside)
            for _ in range(HALVINGS):
                middle = (inside + outside) / 2
                fits = self(middle, tau_s) <= limit
                inside, outside = np.where(fits, middle, inside), np.where(fits, outside, middle)
            ends.append(inside)
        return ends[0], ends[1]

    def best_tau_s(self, range_s: tuple[float, float]) -> float:
        """The time constant with the least misfit in a range [s]."""
        grid = np.linspace(math.log(range_s[0]), math.log(range_s[1]), TAUS)
        for _ in range(ZOOMS):
            best = int(np.argmin(self.profile(np.exp(grid))))
            grid = np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)], CLOSER)
        return float(np.exp(grid[CLOSER // 2]).clip(*range_s))

    def likely_taus_s(self, limit: float, best_s: float, range_s: tuple[float, float]) -> Float:
        """(k,) ascending time constants in a range with a misfit up to ``limit``, around the best one [s].

        The first or last is that of the range where the frames set no limit on that side.
        """
        grid = np.linspace(math.log(range_s[0]), math.log(range_s[1]), TAUS)
        at_best = math.log(best_s)
        for _ in range(2 * ZOOMS):
            misfits = self.profile(np.exp(grid))
            likely = np.nonzero(misfits <= limit)[0]
            if len(likely) > TAUS // 3:
                break
            after = int(np.searchsorted(grid, at_best))
            around = np.append(likely, [after - 1, after])
            grid = np.linspace(grid[max(around.min() - 1, 0)], grid[min(around.max() + 1, TAUS - 1)], TAUS)
        first, last = likely[0], likely[-1]
        ends = [
            np.interp(limit, misfits[[i, j]], grid[[i, j]]) if 0 <= j < TAUS else grid[i]
            for i, j in ((first, first - 1), (last, last + 1))
        ]
        taus = np.asarray(np.exp(np.concatenate([ends[:1], grid[first : last + 1], ends[1:]])))
        for end in range_s:
            taus[np.isclose(taus, end, rtol=1e-9, atol=0)] = end
        return taus

    def likeliest_noise(self, tau_s: float) -> tuple[Float, float]:
        """(n,) noise by the law √(c² + y²) whose c the residuals make the most likely, and minus its log likelihood.

        Light y and c are in units of the brightest light: from flicker alone to noise that is alike in all frames.
        """
        latency_s = float(self.best_latency_s(np.array([tau_s]))[0])
        start, end = self.levels(latency_s, tau_s)
        expected = end + (start - end) * missing(self.at_s, self.exposure_s, latency_s, tau_s)
        noise = noise_law(NOISE_FLOORS[:, None], expected)
        squares = (((self.light - expected) / noise) ** 2).sum(axis=1) + np.finfo(float).tiny
        unlikely = len(self.light) / 2 * np.log(squares) + np.log(noise).sum(axis=1)
        likeliest = int(np.argmin(unlikely))
        return noise[likeliest], float(unlikely[likeliest])

    @cached_property
    def _weight(self) -> Float:
        """(n,) of each frame in a mean."""
        return np.asarray(self.noise**-2 / (self.noise**-2).sum())

    @cached_property
    def _latencies_s(self) -> Float:
        """(m,) ascending latencies [s], closest together where an exposure starts or ends.

        A fast panel's misfit has its minima there, as narrow as the noise is small.
        """
        period_s = float(self.at_s[-1] - self.at_s[-2])
        periods = int(self.latest_s / period_s) + 2
        near = np.geomspace(NEAREST, 0.5, max(min(LATENCIES, LATENCIES_MAX // (4 * periods)), 2))
        part = np.concatenate([[0.0], near, 1 - near, [1.0]])
        gap_s = max(period_s - self.exposure_s, 0.0)
        once = np.concatenate([self.exposure_s * part, self.exposure_s + gap_s * part])
        grid = np.unique(np.arange(periods)[:, None] * period_s + once)
        return np.append(grid[grid < self.latest_s], self.latest_s)

    def _fitted(self, latency_s: Float | float, tau_s: Float | float) -> tuple[Float, Float, Float]:
        """Misfit, height of the step and end, by weighted regression of the light on what is missing."""
        left = missing(self.at_s, self.exposure_s, np.asarray(latency_s)[..., None], np.asarray(tau_s)[..., None])
        weight = self._weight
        mean_left, mean = left @ weight, float(self.light @ weight)
        centred = left - mean_left[..., None]
        step = (centred * (weight * (self.light - mean))).sum(axis=-1)
        step = step / np.maximum((weight * centred**2).sum(axis=-1), np.finfo(float).tiny)
        residual = (self.light - mean - step[..., None] * centred) / self.noise
        return np.asarray((residual**2).sum(axis=-1)), step, mean - step * mean_left


def noise_law(floor: Float | float, light: Float) -> Float:
    """Standard deviation of readings of a light, in units of that of light 1, which has no floor."""
    return np.hypot(floor, light)


def missing(at_s: Float, exposure_s: float, latency_s: Float | float, tau_s: Float | float) -> Float:
    """Share of a step that is still missing, on average over the exposures that start at ``at_s`` [1]."""
    begin, finish = at_s - latency_s, at_s + exposure_s - latency_s
    before = np.clip(-begin, 0.0, exposure_s)
    a, b = np.maximum(begin, 0.0), np.maximum(finish, 0.0)
    return np.asarray((before + tau_s * (np.exp(-a / tau_s) - np.exp(-b / tau_s))) / exposure_s)


def settled_s(share: float, exposure_s: float, latency_s: Float | float, tau_s: Float | float) -> Float:
    """When an exposure starts in which ``share`` of a step is missing; in every later one less is [s].

    An exposure may begin before the latency where what is missing lasts a small part of it.
    """
    at_latency = missing(np.zeros(1), exposure_s, 0.0, np.asarray(tau_s)[..., None])[..., 0]
    return np.asarray(
        latency_s
        + np.where(
            at_latency >= share,
            tau_s * np.log(np.maximum(at_latency, share) / share),
            -exposure_s * (share - np.minimum(at_latency, share)),
        )
    )
