"""How a panel settles: latency and time constant from the step responses that the camera sees, frame by frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.bench.step_likelihood import NOISE_FLOORS, StepMisfit, missing, noise_law, settled_s
from calibration.errors import BadScan
from calibration.statistics.tails import t_isf

Float = NDArray[np.float64]

BEFORE = 4
"""Frames at rest that a step starts with: without them a fast panel's start is not known apart from its latency."""
STEP_SNR_MIN = 10.0
OUTSIDE = 0.01
"""Probability with which noise alone puts the true time constant, latency or settling outside of what is reported."""
TAU_STEPS = 1000.0
"""The time constants that are tried: from that part of an exposure to all frames together."""
ROUNDING = 1e-6
"""Of the brightest light: no reading is more exact."""


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
    """A fitted step response, and every other one that explains the frames about as well.

    Where a step falls into one exposure or between two, the frames tell latency and time constant together and not one
    from the other. What is reported is then the middle of what may be, with an error that reaches to its ends.

    Attributes
    ----------
    tau_s, tau_stderr_s
        Time constant; a panel that may as well be much faster than the exposure has the shortest one that is tried [s].
    tau_range_s
        The shortest and longest that noise allows, with a probability of 1 − `OUTSIDE` [s].
    latency_s, latency_stderr_s
        From the hand-over of the frame until it takes effect: the one that goes with ``tau_s`` [s].
    latency_range_s
        The shortest and longest that noise allows [s].
    start_dn, end_dn
        Light before and long after [DN].
    likely_s
        (2, k) latencies and time constants around all pairs that noise allows [s].
    step
        What it was fitted to.
    """

    tau_s: float
    tau_stderr_s: float
    tau_range_s: tuple[float, float]
    latency_s: float
    latency_stderr_s: float
    latency_range_s: tuple[float, float]
    start_dn: float
    end_dn: float
    likely_s: Float
    step: Step

    @property
    def is_instant(self) -> bool:
        """Whether the frames are explained as well by a panel that takes no time once it begins."""
        return self.tau_s <= self.tau_range_s[0]

    def tau_in_words(self) -> str:
        """``"τ = 4.01 ± 0.02 ms"``, or how short it must be where it was not seen: ``"τ < 0.6 ms"``."""
        if self.is_instant:
            return f"τ < {1e3 * self.tau_range_s[1]:.2g} ms"
        digits = max(1, 1 + math.floor(math.log10(self.tau_s)) - math.floor(math.log10(self.tau_stderr_s)))
        return f"τ = {1e3 * self.tau_s:#.{digits}g}".rstrip(".") + f" ± {1e3 * self.tau_stderr_s:.1g} ms"

    def residue(self, frame: float, latency_s: float | None = None) -> float:
        """Share of the step that is still missing in one camera frame [1].

        Parameters
        ----------
        frame
            Periods of the camera from the step to the start of that frame.
        latency_s
            Other than the fitted one [s].
        """
        at = np.array([frame * self.step.period_s], np.float64)
        latency = self.latency_s if latency_s is None else latency_s
        return float(missing(at, self.step.exposure_s, latency, self.tau_s)[0])

    def settling_range_s(self, share: float) -> tuple[float, float]:
        """When an exposure could start, at the earliest and the latest, in which ``share`` of this step was missing.

        This is often known where latency and time constant are not [s].
        """
        times = settled_s(share, self.step.exposure_s, *self.likely_s)
        return max(float(times.min()), 0.0), max(float(times.max()), 0.0)

    def settle_frames(self, share: float, latency_s: float) -> int:
        """How many frames to let pass until less than ``share`` of a step is missing, whichever likely panel it is.

        Parameters
        ----------
        share
            Of the step [1].
        latency_s
            The longest to expect: a frame may wait a whole refresh, however long this one waited [s].
        """
        return int(self._frames(share, latency_s).max())

    def settle_frames_at_least(self, share: float, latency_s: float) -> int:
        """The same for the likely panel that settles earliest."""
        return int(self._frames(share, latency_s).min())

    def _frames(self, share: float, latency_s: float) -> NDArray[np.int64]:
        latencies, taus = self.likely_s
        times = settled_s(share, self.step.exposure_s, np.maximum(latencies, latency_s), taus)
        return np.maximum(np.floor(times / self.step.period_s + 1e-9).astype(np.int64) + 1, 0)


def fit_step(step: Step, panel: str) -> StepFit:
    """Latency and time constant by the profile of the likelihood; the noise is flicker and what is alike in all frames.

    Raises
    ------
    BadScan
        When the light does not follow the step, or has not come to rest when the frames end.
    """
    high = float(np.abs(step.light_dn).max())
    light = step.light_dn / max(high, 1e-300)
    n = len(light)
    _require_step(step, light, panel)
    freedom = max(n - 5, 1)  # latency, time constant, start, end and the law of the noise are fitted
    t = float(t_isf(OUTSIDE / 2, freedom))
    range_s = step.exposure_s / TAU_STEPS, (n - BEFORE) * step.period_s
    noises = []
    for floor in NOISE_FLOORS[[0, -1]]:  # where the light ends dark, what one calls noise the other calls a slow panel
        guess = _misfit(step, light, noise_law(floor, light))
        noises.append(guess.likeliest_noise(guess.best_tau_s(range_s)))
    noise, _ = min(noises, key=lambda found: found[1])
    misfit = _misfit(step, light, noise)
    best = misfit.best_tau_s(range_s)
    least = float(misfit.profile(np.array([best]))[0])
    limit = max(least, freedom * ROUNDING**2) * (1 + t**2 / freedom)
    taus = misfit.likely_taus_s(limit, best, range_s)
    if taus[-1] >= range_s[1]:
        raise _unsettled(step, panel)
    shortest, longest = misfit.latencies_within(limit, taus)
    tau = float(taus[0] if taus[0] <= range_s[0] else (taus[0] + taus[-1]) / 2)
    latency = float(misfit.best_latency_s(np.array([tau]))[0])
    start, end = misfit.levels(latency, tau)
    taus_s, latencies_s = (float(taus[0]), float(taus[-1])), (float(shortest.min()), float(longest.max()))
    return StepFit(
        tau,
        _reach(tau, taus_s) / t,
        taus_s,
        latency,
        _reach(latency, latencies_s) / t,
        latencies_s,
        start * high,
        end * high,
        np.stack([np.concatenate([shortest, longest]), np.concatenate([taus, taus])]),
        step,
    )


def _require_step(step: Step, light: Float, panel: str) -> None:
    """Refuse light that does not change, or that is in motion to the end."""
    settled = light[2 * len(light) // 3 :]
    change, spread = abs(float(settled.mean() - light[:BEFORE].mean())), float(settled.std(ddof=1))
    if not change > STEP_SNR_MIN * spread:
        at = np.arange(len(settled))
        if change > STEP_SNR_MIN * float((settled - np.polyval(np.polyfit(at, settled, 1), at)).std(ddof=2)):
            raise _unsettled(step, panel)
        raise BadScan(
            f"the light does not follow a step of the {panel}",
            device=panel,
            action="timing",
            expected=f"a change of more than {STEP_SNR_MIN * spread:.3g} of the light",
            seen=f"{change:.3g}",
            hint=f"does the {panel} get its frames (or another monitor), and is it in the beam? labctl align",
        )


def _misfit(step: Step, light: Float, noise: Float) -> StepMisfit:
    at = np.asarray((np.arange(len(light)) - BEFORE) * step.period_s, np.float64)
    at[:BEFORE] = -step.exposure_s  # at rest, however long before
    rest, settled = float(light[:BEFORE].mean()), float(light[2 * len(light) // 3 :].mean())
    gone = np.abs(light[BEFORE:] - rest) > abs(settled - rest) / 2
    latest = float(at[BEFORE + int(np.argmax(gone))]) + step.exposure_s
    return StepMisfit(light, noise, at, step.exposure_s, latest)


def _reach(value: float, range_: tuple[float, float]) -> float:
    return max(range_[1] - value, value - range_[0])


def _unsettled(step: Step, panel: str) -> BadScan:
    frames = len(step.light_dn) - BEFORE
    return BadScan(
        f"the {panel} is still in motion when its step ends: its time constant could be of any length",
        device=panel,
        action="timing",
        expected=f"light at rest within {1e3 * frames * step.period_s:.3g} ms, {frames} frames",
        seen="light that goes on changing, or noise that hides whether it does",
        hint=f"acquisition.{panel}_settle_frames = {2 * frames} reads more frames; more light has less noise",
    )
