"""Gain, offset, crosstalk and bleed from all frames at once: Gauss–Newton on structured normal equations.

The Jacobian is never built. Offsets, crosstalk and row gains of an output touch its own and the neighbouring outputs
only, so that their part of the normal equations is banded; the parameters that all outputs share are few; and the
flicker of the source subtracts one vector per frame. The inverse of the normal equations is the joint covariance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from calibration.errors import FitError
from calibration.fit.averages import Frames
from calibration.fit.crosstalk_forms import CrosstalkForm, everywhere, neighbours
from calibration.fit.gain_forms import GainForm
from calibration.machine.channel import apply_bleed, mix
from calibration.statistics.covariance import Covariance

Float = NDArray[np.float64]
T = TypeVar("T")

CHUNK = 32
ROUNDS = 40
SETTLED = 1e-4
"""Square of the last step in standard errors: a hundredth of one, scaled by the misfit where the model misfits."""
WORSE, HALVINGS = 1e-4, 6
"""A step that adds more than this share to the misfit is halved, so many times at most: on a bench that needs another
model, whole steps swing about the best fit."""
HELD = 1e18
"""Precision of a parameter that is 0 whatever the frames say: a standard error of 1e-9."""
UNEXPLAINED = 10.0
"""Misfit above which it is another model that the bench needs: a thousandth of χ² is then as near as one need come."""


@dataclass(frozen=True)
class Mean:
    """What the expectation of a reading depends on.

    Attributes
    ----------
    gain
        (M, K) [DN]
    offset
        (M,) [DN]
    crosstalk
        (M, 2) [1]
    bleed
        (2,) [1]
    entries
        (L,) by how much the transmissions of `Frames.entries` differ from their look-up tables [1]; empty: not at all.
    """

    gain: Float
    offset: Float
    crosstalk: Float
    bleed: Float
    entries: Float = field(default_factory=lambda: np.zeros(0))

    def light(self, frames: Frames) -> Float:
        """(F, M) above the offset, crosstalk included [DN]."""
        frames = frames.at(self.entries)
        z = np.empty((len(frames), len(self.offset)))
        shown = apply_bleed(self.bleed, frames.display)
        for s, members in enumerate(frames.patterns()):
            z[members] = shown[members] @ (self.gain * frames.slm[s]).T
        return mix(self.crosstalk, z)


def between(one: Mean, other: Mean) -> Mean:
    """Halfway from one to the other."""
    return Mean(*((getattr(one, part.name) + getattr(other, part.name)) / 2 for part in fields(Mean)))


@dataclass(frozen=True)
class JointFit:
    """A fitted mean with the joint standard errors of all its parts, and how well it fits.

    Attributes
    ----------
    mean, stderr
        `Mean`, and the same with standard errors in place of values.
    chi2
        (F,) of each frame.
    leverage, common_leverage
        (F,) share of a frame's degrees of freedom that the parameters took: of what each output has of its own, and of
        the one number that all outputs have in common [1].
    parameters
        Number of free parameters.
    """

    mean: Mean
    stderr: Mean
    chi2: Float
    leverage: Float
    common_leverage: Float
    parameters: int


def entries_chi2(mean: Mean, frames: Frames) -> float:
    """χ² of moving the look-up table entries away from their tables, divided evenly over the frames."""
    return float(((mean.entries / frames.entries.stderr) ** 2).sum()) / len(frames)


def misfit(scatter: Covariance, residual: Float, besides: float = 0.0) -> float:
    """χ² per reading of residuals (F, M), 1 at least, with what each frame's has ``besides``."""
    return max(float((scatter.quadratic(residual) + besides).sum()) / residual.size, 1.0)


def minimised(scatter: Covariance, frames: Frames, mean: Mean) -> float:
    """What a fit makes as small as it can: χ² per reading, that of the look-up table entries with it, 1 at least.

    Without the entries a step that puts them back where their tables have them would look like one that leads astray.
    """
    return misfit(scatter, frames.dn - mean.offset - mean.light(frames), entries_chi2(mean, frames))


def is_settled(step2: float, misfits: list[float]) -> bool:
    """Whether the last step's square, in standard errors, ends a fit with these `misfit`s so far."""
    last = misfits[-1]
    still = len(misfits) > 1 and abs(misfits[-2] - last) < 1e-3 * last
    return step2 < SETTLED * last or (still and last > UNEXPLAINED)


def backed_off(
    before: T, after: T, halfway: Callable[[T, T], T], misfit_of: Callable[[T], float], misfits: list[float]
) -> tuple[T, float]:
    """Where a step leads to, or a place nearer to where it began if it misfits more than there; and its misfit."""
    found = misfit_of(after)
    for _ in range(HALVINGS):
        if not misfits or found <= (1 + WORSE) * misfits[-1]:
            break
        after = halfway(before, after)
        found = misfit_of(after)
    return after, found


def bleed_precision(columns: int) -> Float:
    """(2,) how well β₋ and β₊ are known beforehand: 0, but for a single column, which has no neighbour.

    Its bleed would only dim its own light: it is part of its gain, and 0.
    """
    return np.full(2, 0.0 if columns > 1 else HELD)


def bleed_slopes(display: Float) -> tuple[Float, Float]:
    """Derivatives of `calibration.machine.channel.apply_bleed` with respect to β₋ and β₊: two arrays (n, K)."""
    left, right = np.zeros_like(display), np.zeros_like(display)
    left[:, 1:], right[:, :-1] = display[:, :-1], display[:, 1:]
    return left - display, right - display


Tell = Callable[[str], None]
"""Called at each round of a long fit, with where it is in words."""


def untold(words: str) -> None:
    """Report nothing: for fits that nobody watches."""


def joint_fit(
    frames: Frames, scatter: Covariance, form: GainForm, crosstalk: CrosstalkForm, start: Mean, tell: Tell = untold
) -> JointFit:
    """Generalised least squares for one form of the gain and one of the crosstalk.

    Raises
    ------
    FitError
        When the frames do not determine the parameters, or Gauss–Newton does not converge.
    """
    equations = _Equations(frames, scatter, form, crosstalk)

    def misfit_of(theta: Float) -> float:
        return minimised(scatter, frames, equations.mean(theta))

    before = theta = equations.start(start)
    misfits: list[float] = []
    for round_ in range(ROUNDS):
        tell(f"gain {form.name}, crosstalk {crosstalk.name}, round {round_ + 1}")
        theta, found = backed_off(before, theta, lambda one, other: (one + other) / 2, misfit_of, misfits)
        misfits.append(found)
        normal, right, by_scan = equations.at(theta)
        factor, scale = _factor(normal, form)
        step = cho_solve(factor, right / scale) / scale
        before, theta = theta, theta + step
        if is_settled(step @ right, misfits):
            break
    else:
        raise FitError(
            f"gain ({form.name}) and crosstalk ({crosstalk.name}) do not settle",
            action="crosstalk",
            seen=f"last step {float(np.sqrt(max(step @ right, 0.0))):.2g} standard errors",
        )
    covariance = cho_solve(factor, np.eye(len(scale))) / np.outer(scale, scale)
    leverage = np.array([(covariance * part).sum() for part in by_scan])
    size = np.bincount(frames.scan, minlength=len(by_scan)) * frames.shape[0]
    mean = equations.mean(theta)
    chi2 = scatter.quadratic(frames.dn - mean.offset - mean.light(frames)) + entries_chi2(mean, frames)
    share = np.clip(leverage / size, 0.0, 0.99)[frames.scan]
    taken = ((equations.along @ covariance) * equations.along).sum(axis=1)
    common = np.clip(taken / scatter.weighted_variance, 0.0, 0.99)
    return JointFit(mean, equations.stderr(theta, covariance), chi2, share, common, equations.parameters)


def _factor(normal: Float, form: GainForm) -> tuple[tuple[Float, bool], Float]:
    scale = np.sqrt(np.diag(normal))
    try:
        return cho_factor(normal / np.outer(scale, scale)), scale
    except np.linalg.LinAlgError as error:
        raise FitError(
            f"the frames do not determine a gain that is {form.name}, with offset and crosstalk",
            action="gain",
            expected="probe scans of calibration.frames.probes",
        ) from error


class _Equations:
    """Parameters in order: each output's (gain, offset, crosstalk) | shared gains, bleed, common crosstalk, entries."""

    def __init__(self, frames: Frames, scatter: Covariance, form: GainForm, crosstalk: CrosstalkForm) -> None:
        self.frames, self.scatter, self.form, self.crosstalk = frames, scatter, form, crosstalk
        m = frames.shape[0]
        self.outputs = m
        self.offset = np.arange(m) + form.local * m
        self.pairs = np.arange(crosstalk.local * m).reshape(crosstalk.local, m) + (form.local + 1) * m
        self.first_shared = (form.local + 1 + crosstalk.local) * m
        self.bleed = slice(self.first_shared + form.shared, self.first_shared + form.shared + 2)
        self.pair = slice(self.bleed.stop, self.bleed.stop + crosstalk.shared)
        self.entries = slice(self.pair.stop, self.pair.stop + len(frames.entries))
        self.size = self.entries.stop
        self.gains = np.r_[0 : form.local * m, self.first_shared : self.first_shared + form.shared]
        self.along = np.zeros((len(frames), self.size))
        self.held = bleed_precision(frames.shape[1])
        self.parameters = form.parameters + m + int((self.held == 0).sum()) + crosstalk.parameters(m)

    def start(self, mean: Mean) -> Float:
        theta = np.zeros(self.size)
        theta[self.gains] = self.form.start(mean.gain)
        theta[self.offset] = mean.offset
        theta[self.bleed] = mean.bleed
        crosstalk = self.crosstalk.nearest(mean.crosstalk)
        if self.crosstalk.local:
            theta[self.pairs] = crosstalk.T
        if self.crosstalk.shared:
            theta[self.pair] = crosstalk[-1, 0], crosstalk[0, 1]
        if len(mean.entries):
            theta[self.entries] = mean.entries
        return theta

    def mean(self, theta: Float) -> Mean:
        gain = self.form.gain(theta[self.gains])
        return Mean(gain, theta[self.offset], self._mixing(theta), theta[self.bleed], theta[self.entries])

    def stderr(self, theta: Float, covariance: Float) -> Mean:
        error = np.sqrt(np.diag(covariance))
        gain = self.form.stderr(theta[self.gains], covariance[np.ix_(self.gains, self.gains)])
        return Mean(gain, error[self.offset], self._mixing(error), error[self.bleed], error[self.entries])

    def _mixing(self, values: Float) -> Float:
        """(M, 2) crosstalk, or errors of it."""
        if self.crosstalk.shared:
            return everywhere(values[self.pair], self.outputs)
        crosstalk = np.zeros((self.outputs, 2))
        if self.crosstalk.local:
            crosstalk = values[self.pairs].T.copy()
            crosstalk[0, 0] = crosstalk[-1, 1] = 0.0
        return crosstalk

    def at(self, theta: Float) -> tuple[Float, Float, list[Float]]:
        """Normal matrix (p, p), right side (p,), and the part of the matrix that each scan contributes."""
        mean = self.mean(theta)
        frames = self.frames.at(mean.entries)
        right = np.zeros(self.size)
        by_scan = [np.zeros((self.size, self.size)) for _ in self.frames.names]
        for scan, total in enumerate(by_scan):
            for s, members in enumerate(frames.patterns()):
                mine = members[self.frames.scan[members] == scan]
                for first in range(0, len(mine), CHUNK):
                    self._add(theta, mean, frames, s, mine[first : first + CHUNK], total, right)
        normal = sum(by_scan, np.zeros((self.size, self.size)))
        precision = frames.entries.stderr**-2.0
        normal[self.entries, self.entries] += np.diag(precision)
        right[self.entries] -= precision * mean.entries
        normal[self.bleed, self.bleed] += np.diag(self.held)
        right[self.bleed] -= self.held * mean.bleed
        gauge = self.form.gauge(theta[self.gains])
        if gauge is not None:
            unit = gauge / np.linalg.norm(gauge)
            normal[np.ix_(self.gains, self.gains)] += np.outer(unit, unit) * np.diag(normal)[self.gains].mean()
        if self.crosstalk.local:  # no neighbour beyond the edges
            edge = [self.pairs[0, 0], self.pairs[1, -1]]
            normal[edge, edge] = 1.0
        return normal, right, by_scan

    def _add(
        self, theta: Float, mean: Mean, frames: Frames, s: int, members: NDArray[np.intp], normal: Float, right: Float
    ) -> None:
        """Frames of one SLM pattern."""
        index, local, shared, expected = self._slopes(theta, mean, frames, s, members)
        scatter = self.scatter[members]
        w, q = scatter.own_precision, shared.shape[2]
        residual = frames.dn[members] - expected
        first, end = self.first_shared, self.size
        weighted = local * w
        banded = np.einsum("anm,bnm->abm", weighted, local, optimize=True)
        crossed = np.matmul(weighted.transpose(2, 0, 1), shared.transpose(1, 0, 2))  # (M, a, q)
        along = np.zeros((len(members), self.size))
        for a, at in enumerate(index):
            for b, to in enumerate(index):
                normal[at, to] += banded[a, b]
            normal[at, first:end] += crossed[:, a]
            normal[first:end, at] += crossed[:, a].T
            right[at] += (weighted[a] * residual).sum(axis=0)
            along[:, at] += local[a] * scatter.weight
        flat = shared.reshape(-1, q)
        heavy = (shared * w[..., None]).reshape(-1, q)
        normal[first:end, first:end] += heavy.T @ flat
        right[first:end] += heavy.T @ residual.ravel()
        along[:, first:end] = np.einsum("nmq,nm->nq", shared, scatter.weight, optimize=True)
        self.along[members] = along
        shrunk = along * scatter.shrink[:, None]
        normal -= shrunk.T @ along
        right -= shrunk.T @ (residual * scatter.weight).sum(axis=1)

    def _slopes(
        self, theta: Float, mean: Mean, frames: Frames, s: int, members: NDArray[np.intp]
    ) -> tuple[list[NDArray[np.intp]], Float, Float, Float]:
        """Derivatives of the readings of frames with one SLM pattern.

        Returns
        -------
        For each of the a kinds of local parameters the (M,) places of those parameters; the derivatives with respect
        to them, (a, n, M), and to the q shared ones, (n, M, q); and the expected readings (n, M).
        """
        m = self.outputs
        slm, display = frames.slm[s], frames.display[members]
        shown = apply_bleed(mean.bleed, display)
        lit = (mean.gain * slm).T
        light = shown @ lit
        sides = neighbours(light)
        own, shared_gain = self.form.slopes(theta[self.gains], slm, shown)
        index, local = [self.offset], [np.ones_like(light)]
        if own is not None:
            row = np.arange(m)
            before, after = neighbours(own)
            index += [row, np.roll(row, 1), np.roll(row, -1)]  # beyond the edges the slopes are 0
            local += [own, mean.crosstalk[:, 0] * before, mean.crosstalk[:, 1] * after]
        if self.crosstalk.local:
            index += list(self.pairs)
            local += list(sides)
        shared = [mix(mean.crosstalk, np.moveaxis(shared_gain, 2, 0))]
        shared.append(np.stack([mix(mean.crosstalk, slope @ lit) for slope in bleed_slopes(display)]))
        if self.crosstalk.shared:
            shared.append(sides)
        if len(frames.entries):
            shared.append(mix(mean.crosstalk, frames.entry_slopes(members, mean.gain, mean.bleed, shown)))
        stacked = np.moveaxis(np.concatenate(shared), 0, 2)
        return index, np.stack(local), np.ascontiguousarray(stacked), mean.offset + mix(mean.crosstalk, light)
