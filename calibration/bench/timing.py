"""How a panel settles: latency and time constant from the step responses that the camera sees, frame by frame.

A camera frame is the mean of the light over its exposure. After a step at time 0 that takes effect at the latency L and
relaxes with the time constant τ, the frame that starts at t reads ::

    y(t) = end + (start − end) · 1/E ∫_t^{t+E} r(t') dt',     r = 1 before L, exp(−(t' − L)/τ) from then on
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from calibration.errors import BadScan
from calibration.statistics.tails import t_isf

Float = NDArray[np.float64]

BEFORE = 4
"""Frames at rest that a step starts with: without them a fast panel's start is not known apart from its latency."""
STEP_SNR_MIN = 10.0
SINGULAR = 1e-9
"""Information along a direction, relative to the best, below which nothing is known of it but rounding."""
REST_CHANCE = 0.01
"""Probability that any frame of a panel at rest is taken for one that is not, by noise alone."""
FRAMES_MAX = 10_000
TAU_STEPS = 1000.0
NO_WORSE = 0.05
"""Probability with which noise alone makes a panel without a time constant fit so much worse than the best fit."""


@dataclass(frozen=True)
class Step:
    """A panel that changed at time 0, and frames around it.

    Attributes
    ----------
    light_dn
        (n,) summed light: `BEFORE` frames at rest, then consecutive ones from the step on [DN].
    exposure_s, period_s
        Of the camera; the frames after those at rest start at 0, ``period_s``, … [s].
    """

    light_dn: Float
    exposure_s: float
    period_s: float


@dataclass(frozen=True)
class StepFit:
    """A fitted step response.

    Attributes
    ----------
    tau_s, tau_stderr_s
        Time constant; a panel that may as well be much faster than the exposure has the shortest one that is tried, and
        an error that reaches as far as the frames allow [s].
    latency_s, latency_stderr_s
        From the hand-over of the frame until it takes effect [s].
    tau_limit_s
        The largest time constant with which the light could have come to rest as early as it did [s]. Where the whole
        step falls between two exposures, the fit cannot tell τ, and this limit is what is known.
    start_dn, end_dn
        Light before and long after [DN].
    step
        What it was fitted to.
    """

    tau_s: float
    tau_stderr_s: float
    latency_s: float
    latency_stderr_s: float
    tau_limit_s: float
    start_dn: float
    end_dn: float
    step: Step

    def residue(self, frame: float, latency_s: float | None = None, tau_s: float | None = None) -> float:
        """Share of the step that is still missing in one camera frame [1].

        Parameters
        ----------
        frame
            Periods of the camera from the step to the start of that frame.
        latency_s, tau_s
            Other than the fitted ones [s].
        """
        at = np.array([frame * self.step.period_s], np.float64)
        latency, tau = self.latency_s if latency_s is None else latency_s, tau_s or self.tau_s
        return float(_residue(at, self.step.exposure_s, latency, tau)[0])

    def settle_frames(self, share: float, latency_s: float) -> int:
        """How many frames to let pass until less than ``share`` of a step is missing.

        Parameters
        ----------
        share
            Of the step [1].
        latency_s
            The longest to expect: a frame may wait a whole refresh, however long this one waited [s].
        """
        tau = min(self.tau_s + self.tau_stderr_s, max(self.tau_limit_s, self.tau_s))
        return self._frames(share, latency_s, tau)

    def settle_frames_at_least(self, share: float, latency_s: float) -> int:
        """The same for the shortest time constant that the step allows: two standard errors below the fitted one."""
        shortest = self.step.exposure_s / TAU_STEPS
        return self._frames(share, latency_s, max(self.tau_s - 2 * self.tau_stderr_s, shortest))

    def _frames(self, share: float, latency_s: float, tau: float) -> int:
        latency = max(latency_s, self.latency_s)
        return next(n for n in range(FRAMES_MAX) if self.residue(n, latency, tau) < share)


def fit_step(step: Step, panel: str) -> StepFit:
    """Fit latency and time constant by least squares; the noise is taken to be flicker, in proportion to the light.

    Raises
    ------
    BadScan
        When the light does not follow the step.
    """
    n = len(step.light_dn)
    high = float(np.abs(step.light_dn).max())
    light = step.light_dn / max(high, 1e-300)
    at = np.asarray((np.arange(n) - BEFORE) * step.period_s, np.float64)
    at[:BEFORE] = -step.exposure_s  # at rest, however long before
    settled = light[2 * n // 3 :]
    end, spread = float(settled.mean()), float(settled.std(ddof=1))
    start = float(light[:BEFORE].mean())
    if not abs(end - start) > STEP_SNR_MIN * spread:
        raise BadScan(
            f"the light does not follow a step of the {panel}",
            device=panel,
            action="timing",
            expected=f"a change of more than {STEP_SNR_MIN * spread:.3g} of the light",
            seen=f"{abs(end - start):.3g}",
            hint=f"does the {panel} get its frames (or another monitor), and is it in the beam? labctl align",
        )
    shortest = step.exposure_s / TAU_STEPS

    def misfit(p: Float) -> Float:
        expected = p[3] + (p[2] - p[3]) * _residue(at, step.exposure_s, p[0], p[1])
        return np.asarray((light - expected) / (0.01 + np.abs(expected)))

    def slopes(p: Float) -> Float:
        """(n, 4) derivatives of the misfit."""
        missing = _residue(at, step.exposure_s, p[0], p[1])
        expected = p[3] + (p[2] - p[3]) * missing
        by = (p[2] - p[3]) * _residue_slopes(at, step.exposure_s, p[0], p[1])
        noise = 0.01 + np.abs(expected)
        falls = -1 / noise - (light - expected) * np.sign(expected) / noise**2
        return np.asarray(np.column_stack([by, missing, 1 - missing]) * falls[:, None])

    upper = [at[-1], at[-1], np.inf, np.inf]
    tries = [
        scipy.optimize.least_squares(
            misfit, [latency, tau, start, end], slopes, bounds=([0.0, shortest, -np.inf, -np.inf], upper), x_scale="jac"
        )
        for latency in (0.1 * step.period_s, 0.7 * step.period_s, 1.5 * step.period_s)
        for tau in (0.05 * step.exposure_s, 0.5 * step.exposure_s, 2 * step.exposure_s)
    ]
    best = min(tries, key=lambda found: found.cost)
    apart = np.abs(light - settled.mean())
    noise = float(t_isf(REST_CHANCE / (2 * n), len(settled) - 1)) * max(spread, 1e-6)
    resting = int(np.nonzero(apart > noise)[0].max(initial=0)) + 1 - BEFORE
    moving_s = max(resting, 1) * step.period_s
    error = np.minimum(_errors(best.jac, 2 * best.cost / max(n - 4, 1)), moving_s)
    latency, tau, start, end = (float(v) for v in best.x)
    if (fast := _without_tau(tries, misfit, slopes, shortest)) is not None:
        error[1] += tau
        latency, tau, start, end = (float(v) for v in fast)
    limit = moving_s / np.log(abs(settled.mean() - light[:BEFORE].mean()) / noise)
    return StepFit(tau, float(error[1]), latency, float(error[0]), float(limit), start * high, end * high, step)


def _without_tau(
    tries: list[Any], misfit: Callable[[Float], Float], slopes: Callable[[Float], Float], shortest_s: float
) -> Float | None:
    """(4,) parameters with the shortest time constant, where they fit no worse than chance allows; None elsewhere.

    Where a step falls between two exposures, or whole into one, noise alone would choose a time constant, and one
    cannot be chosen below zero: its mean would be too long.
    """
    best = min(tries, key=lambda found: found.cost)
    scale = np.maximum(np.abs(best.x), 1e-300)
    starts = {tuple(np.round(t.x / scale, 4)): np.delete(t.x, 1) for t in tries}  # most tries end at one place
    fast = min(
        (
            scipy.optimize.least_squares(
                lambda p: misfit(np.insert(p, 1, shortest_s)),
                start,
                lambda p: np.delete(slopes(np.insert(p, 1, shortest_s)), 1, axis=1),
                x_scale="jac",
            )
            for start in starts.values()
        ),
        key=lambda found: found.cost,
    )
    freedom = max(fast.fun.size - 4, 1)
    if fast.cost > best.cost * (1 + float(t_isf(NO_WORSE / 2, freedom)) ** 2 / freedom):
        return None
    return np.insert(fast.x, 1, shortest_s)


def _errors(jacobian: Float, variance: float) -> Float:
    """(4,) standard errors of the parameters of a fit; infinite for those of which the frames say nothing.

    Where the whole step falls into one exposure, that frame tells the sum of latency and time constant, and no frame
    tells one from the other: the information has no inverse.
    """
    scale = np.maximum(np.linalg.norm(jacobian, axis=0), 1e-300)
    information = (jacobian / scale).T @ (jacobian / scale)
    values, vectors = np.linalg.eigh(information)
    known = values > SINGULAR * values.max()
    told = vectors[:, known]
    errors = np.sqrt(variance * (told**2 / values[known]).sum(axis=1)) / scale
    silent = np.abs(vectors[:, ~known]).max(axis=1, initial=0.0) > 1e-3
    return np.where(silent, np.inf, errors)


def _residue(at_s: Float, exposure_s: float, latency_s: float, tau_s: float) -> Float:
    """(n,) share of a step that is still missing, on average over the exposures that start at ``at_s`` (n,) [1]."""
    begin, finish = at_s - latency_s, at_s + exposure_s - latency_s
    before = np.clip(-begin, 0.0, exposure_s)
    a, b = np.maximum(begin, 0.0), np.maximum(finish, 0.0)
    return np.asarray((before + tau_s * (np.exp(-a / tau_s) - np.exp(-b / tau_s))) / exposure_s)


def _residue_slopes(at_s: Float, exposure_s: float, latency_s: float, tau_s: float) -> Float:
    """(n, 2) derivatives of `_residue` by latency and time constant [1/s]; zero where rounding hides what they do.

    A fit scales its parameters by their derivatives, and cannot by those that have all but vanished.
    """
    begin, finish = at_s - latency_s, at_s + exposure_s - latency_s
    a, b = np.maximum(begin, 0.0) / tau_s, np.maximum(finish, 0.0) / tau_s
    by_latency = ((begin < 0) & (finish > 0)) + np.exp(-a) * (begin > 0) - np.exp(-b) * (finish > 0)
    by_exposures = np.column_stack([by_latency, (1 + a) * np.exp(-a) - (1 + b) * np.exp(-b)])
    return np.where(np.abs(by_exposures) > 1e-12, by_exposures, 0.0) / exposure_s
