"""Gains, offsets and curves together: damped Gauss–Newton, of which no step is kept that does not lower the loss."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotrs

from calibration.response.power_curve import PowerCurve

Float = NDArray[np.float64]

STEPS = 12
DAMPINGS = (0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0)
STEEPEST_FALL = -0.1  # of the mean slope: how far a curve may turn back, which a slope of zero needs by chance
RIDGE = 1e-10


@dataclass(frozen=True)
class Sample:
    """Rows that the curves are fitted to.

    Attributes
    ----------
    x
        (n, N)
    readings
        (n, S)
    weights
        (n, N) of a single detector, through which each row was read; None where the gains are those of S outputs.
    level
        (n, 2) gain deviation and offset of each row.
    precision
        (n, S) inverse variances, zero for rows that do not count.
    fold
        (n,)
    free
        Whether every gain is free; otherwise one factor of each output's gains.
    segment
        (n,) parts of the file whose gain and offset may be another than ``level`` says; the first is as it says.
    """

    x: Float
    readings: Float
    weights: Float | None
    level: Float
    precision: Float
    fold: NDArray[np.intp]
    free: bool
    segment: NDArray[np.intp]

    @property
    def segments(self) -> int:
        """How many there are beside the first."""
        return int(self.segment.max(initial=0))

    @property
    def folds(self) -> NDArray[np.intp]:
        """Which folds there are."""
        return np.unique(self.fold)


@dataclass(frozen=True)
class State:
    """Gains (S, N), offsets (S,), curves of inputs and detectors, and what the level is more by, (segments + 1, 2)."""

    gain: Float
    offset: Float
    inputs: PowerCurve
    detectors: PowerCurve
    drift: Float

    def level(self, sample: Sample) -> Float:
        """(n, 2) gain deviation and offset of each row."""
        return np.asarray(sample.level + self.drift[sample.segment])

    @property
    def powers(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Exponents of the two curves."""
        return self.inputs.powers, self.detectors.powers

    def seen(self, sample: Sample, x: Float) -> Float:
        """Inputs, or terms of them, as the gains meet them."""
        return x if sample.weights is None else x * sample.weights

    def light(self, sample: Sample) -> Float:
        """(n, S) before the detectors, at each row's drift."""
        light = self.seen(sample, self.inputs.value(sample.x)) @ self.gain.T
        return np.asarray(light * (1 + self.level(sample)[:, :1]))

    def residual(self, sample: Sample) -> Float:
        """(n, S)"""
        return np.asarray(
            sample.readings - self.detectors.value(self.light(sample)) - self.level(sample)[:, 1:] - self.offset
        )

    def loss(self, sample: Sample) -> float:
        """Weighted sum of squares."""
        return float((sample.precision * self.residual(sample) ** 2).sum())

    @property
    def monotone(self) -> bool:
        """Whether neither curve turns back in its range."""
        return all(c.straight or float(c.least_slope().min()) > STEEPEST_FALL for c in (self.inputs, self.detectors))


@dataclass(frozen=True)
class Normal:
    """Normal equations of the increments about a state, by output and fold.

    Columns are (1, gains, shared and own curve terms, residual): the curve terms stand behind the gains.

    Attributes
    ----------
    gram
        (folds, S, c, c)
    local
        Leading columns that belong to one output only.
    curves, drifts
        How many columns the curves have behind them, and how many of these are the drift's, the last ones.
    """

    gram: Float
    local: int
    curves: int
    drifts: int

    @property
    def whole(self) -> Float:
        """(S, c, c) of all folds."""
        return np.asarray(self.gram.sum(0))

    def step(self, gram: Float, own: NDArray[np.bool_], used: NDArray[np.bool_], damping: float = 0.0) -> Float:
        """(S, c − 1) increments that a quadratic loss asks for.

        Parameters
        ----------
        own
            (curves,) terms of which each output has a coefficient of its own.
        used
            (curves,) terms that count at all.
        """
        c = self.local + self.curves
        outputs = len(gram)
        h, right = gram[:, :c, :c], gram[:, :c, c]
        behind = self.local + np.nonzero(used)[0]
        mine = np.concatenate([np.arange(self.local), behind[own[used]]])
        shared = behind[~own[used]]
        found = np.zeros((outputs, c))
        unit = 1 / np.sqrt(np.maximum(np.einsum("mii->mi", h), 1e-300))
        scaled, toward = h * unit[:, :, None] * unit[:, None, :], right * unit
        local = scaled[:, mine[:, None], mine] + (RIDGE + damping * 1e-3) * np.eye(len(mine))
        own_damping = damping * np.isin(mine, behind)
        local = local + np.diag(own_damping)
        factors = [_cholesky(local[m]) for m in range(outputs)]
        solved = np.stack([dpotrs(factors[m], toward[m, mine])[0] for m in range(outputs)])
        if len(shared):
            # shared terms have one scale for all outputs, or they could not share a coefficient
            common = 1 / np.sqrt(np.maximum((1 / unit[:, shared] ** 2).sum(0), 1e-300))
            ratio = common / unit[:, shared]
            cross = scaled[:, mine[:, None], shared] * ratio[:, None, :]
            a = np.stack([dpotrs(factors[m], cross[m])[0] for m in range(outputs)])
            reduced = (scaled[:, shared[:, None], shared] * ratio[:, :, None] * ratio[:, None, :]).sum(0)
            reduced -= np.einsum("mis,mit->st", cross, a)
            rest = (toward[:, shared] * ratio).sum(0) - np.einsum("mis,mi->s", cross, solved)
            theta = np.linalg.lstsq(reduced + (RIDGE + damping) * np.eye(len(shared)), rest, rcond=1e-10)[0]
            solved = solved - a @ theta
            found[:, shared] = common * theta
        found[:, mine] = solved * unit[:, mine]
        return found

    def loss(self, gram: Float, step: Float) -> float:
        """Sum of squares that a step leaves, of the rows of a Gram matrix (S, c, c)."""
        left = np.concatenate([-step, np.ones((len(step), 1))], axis=1)
        return float((left * (gram @ left[:, :, None])[:, :, 0]).sum())

    def held_out(self, own: NDArray[np.bool_], used: NDArray[np.bool_]) -> float:
        """Sum of squares of each fold under the step that the other folds ask for.

        The drift stays as it is: other folds do not tell the drift of one.
        """
        whole, used = self.whole, used & (np.arange(self.curves) < self.curves - self.drifts)
        return sum(self.loss(gram, self.step(whole - gram, own, used)) for gram in self.gram)


def _cholesky(matrix: Float) -> Float:
    """Upper Cholesky factor; by LAPACK itself, since scipy's wrapper takes longer than so small a matrix."""
    factor, failed = dpotrf(matrix, clean=0)
    if failed:
        raise np.linalg.LinAlgError("the normal equations of the curves are not positive definite")
    return np.asarray(factor)


def normal(state: State, sample: Sample, inputs: PowerCurve, detectors: PowerCurve) -> Normal:
    """Normal equations about a state, with the terms of the curves ``inputs`` and ``detectors`` (which it may lack)."""
    light = state.light(sample)
    slope = state.detectors.slope(light)
    drifted = 1 + state.level(sample)[:, :1]
    part = sample.segment[:, None] == np.arange(1, sample.segments + 1)
    curved = state.seen(sample, state.inputs.value(sample.x))
    terms = [state.seen(sample, t) for t in inputs.terms(sample.x)]
    residual = state.residual(sample)
    by_detector = detectors.terms(light)
    outputs = light.shape[1]
    local = 1 + (sample.x.shape[1] if sample.free else 1)
    curves = len(terms) + len(by_detector) + 2 * sample.segments
    gram = np.zeros((len(sample.folds), outputs, local + curves + 1, local + curves + 1))
    for m in range(outputs):
        factor = slope[:, m : m + 1] * drifted
        bare = curved if sample.free else curved @ state.gain[m][:, None]
        columns = [np.ones_like(factor), factor * bare]
        columns += [factor * (t @ state.gain[m][:, None]) for t in terms]
        columns += [t[:, m : m + 1] for t in by_detector]
        columns += [part * (light[:, m : m + 1] * factor / drifted**2), part, residual[:, m : m + 1]]
        q = np.concatenate(columns, axis=1) * np.sqrt(sample.precision[:, m : m + 1])
        for i, k in enumerate(sample.folds):
            own = q[sample.fold == k]
            gram[i, m] = own.T @ own
    return Normal(gram, local, curves, 2 * sample.segments)


def moved(state: State, sample: Sample, step: Float, local: int) -> State:
    """The state after increments (S, c) of which the first ``local`` are offset and gains."""
    gain = state.gain + step[:, 1:local] if sample.free else state.gain * (1 + step[:, 1:2])
    q = len(state.inputs.powers)
    inputs = state.inputs
    if q:
        inputs = replace(inputs, coefficients=inputs.coefficients + step[:1, local : local + q].T)
    detectors = state.detectors
    if detectors.powers:
        change = step[:, local + q : local + q + len(detectors.powers)].T
        if detectors.coefficients.shape[1] == 1:
            change = change[:, :1]
        detectors = replace(detectors, coefficients=detectors.coefficients + change)
    drift = state.drift
    if sample.segments:
        change = step[0, -2 * sample.segments :].reshape(2, sample.segments).T
        drift = drift + np.concatenate([np.zeros((1, 2)), change])
    return State(gain, state.offset + step[:, 0], inputs, detectors, drift)


def own_terms(state: State, sample: Sample) -> NDArray[np.bool_]:
    """(curves,) which terms of a state have a coefficient for each output."""
    q, a = state.powers
    each = state.detectors.coefficients.shape[1] > 1
    return np.array([False] * len(q) + [each] * len(a) + [False] * 2 * sample.segments, bool)


def descend(state: State, sample: Sample) -> State:
    """The nearest minimum: steps that lower the loss and leave the curves monotone, damped until they do."""
    now = state.loss(sample)
    enough = 0.1 * now / max(int((sample.precision > 0).sum()), 1)
    for _ in range(STEPS):
        equations = normal(state, sample, state.inputs, state.detectors)
        whole, own = equations.whole, own_terms(state, sample)
        better = None
        for damping in DAMPINGS:
            trial = moved(state, sample, equations.step(whole, own, np.ones(len(own), bool), damping), equations.local)
            if trial.monotone and (lower := trial.loss(sample)) < now:
                better = trial, now - lower
                break
        if better is None:
            return state
        state, gained = better
        now -= gained
        if gained < enough:
            break
    return state


def shared_noise(state: State, sample: Sample) -> float:
    """By how much more the sum of a row's residuals scatters than if its outputs had no noise in common, at least 1.

    Outputs that flicker together are fewer witnesses than there are: what a common term gains is less by this.
    """
    if sample.readings.shape[1] == 1:
        return 1.0
    residual = state.residual(sample) * np.sqrt(sample.precision)
    light = state.light(sample)
    patterns = [np.ones_like(light), light / np.maximum(light.std(0), 1e-300)]
    seen = [((residual * g).sum(1) ** 2).sum() / max(((residual * g) ** 2).sum(), 1e-300) for g in patterns]
    return float(max(1.0, *seen))
