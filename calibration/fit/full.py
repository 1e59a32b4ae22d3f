"""A gain of every macropixel, with offset, crosstalk and bleed: output by output, and the few parameters they share.

An output's own parameters (its K gains, its offset, its crosstalk) are solved for exactly, given those that all outputs
share: bleed, a common crosstalk, and the flicker of the source in each frame, which is a parameter with the known
variance ρ². These come from the Schur complement. Only what an output's gains do to its neighbours through the
crosstalk enters by iteration (conjugate gradients, for which all else is the preconditioner).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_banded, solve_triangular

from calibration.errors import FitError
from calibration.fit.averages import Frames
from calibration.fit.crosstalk_forms import CrosstalkForm, everywhere, neighbours
from calibration.fit.structured import (
    JointFit,
    Mean,
    Tell,
    backed_off,
    between,
    bleed_precision,
    bleed_slopes,
    entries_chi2,
    is_settled,
    minimised,
    untold,
)
from calibration.machine.channel import apply_bleed, crosstalk_bands, mix
from calibration.statistics.covariance import Covariance

Float = NDArray[np.float64]

FAR = 100.0
"""A step of so many standard errors, squared and over the misfit, leads to where the solver must be built anew."""
ROUNDS = 20
CONJUGATE_ROUNDS = 60
CONJUGATE_GAIN = 1e-6
EXACT = 1e-10


def full_fit(
    frames: Frames, scatter: Covariance, crosstalk: CrosstalkForm, start: Mean | None = None, tell: Tell = untold
) -> JointFit:
    """Generalised least squares for every macropixel's gain.

    Raises
    ------
    FitError
        When the frames do not determine the gain of every column.
    """
    mean = start or _rough(frames)
    mean = replace(mean, crosstalk=crosstalk.nearest(mean.crosstalk))

    def misfit_of(mean: Mean) -> float:
        return minimised(scatter, frames, mean)

    before, misfits, decrement = mean, list[float](), np.inf
    for round_ in range(ROUNDS):
        tell(f"gain full, crosstalk {crosstalk.name}, round {round_ + 1}")
        mean, found = backed_off(before, mean, between, misfit_of, misfits)
        misfits.append(found)
        moved = frames.at(mean.entries)
        local = _linearise(moved, crosstalk, mean)
        if decrement > FAR * found:
            solver = _factor(moved, scatter, local)
        before, (mean, decrement) = mean, _step(moved, scatter, local, solver, mean)
        if is_settled(decrement, misfits):
            break
    else:
        raise FitError("gain and crosstalk do not settle", action="crosstalk", seen=f"last step {decrement:.2g}")
    moved = frames.at(mean.entries)
    local = _linearise(moved, crosstalk, mean)
    tell(f"gain full, crosstalk {crosstalk.name}, standard errors")
    stderr, leverage = _errors(moved, scatter, local, solver, mean)
    m, k = frames.shape
    chi2 = scatter.quadratic(local.residual) + entries_chi2(mean, frames)
    free = m * k + m + int((bleed_precision(k) == 0).sum()) + crosstalk.parameters(m)
    return JointFit(mean, stderr, chi2, leverage, leverage, free)


@dataclass(frozen=True)
class _Linear:
    """The model and its derivatives at one set of parameters.

    Each output has P = K + 1 + l parameters of its own (K gains, its offset, its crosstalk), and all share q more.

    Attributes
    ----------
    shown
        (F, K) display with its bleed [1].
    total, residual
        (F, M) expected readings, all of which flicker with the source, and what is left [DN].
    sides
        (l, F, M) light of the neighbours, where every output has a crosstalk of its own [DN].
    shared
        (q, F, M) readings by bleed, by the common crosstalk where there is one, and by the look-up table entries.
    common
        Which of the shared parameters are the common crosstalk.
    precision, pulled
        (q,) how well the shared parameters are known beforehand, 1 / stderr², and how far they are from that value.
    """

    shown: Float
    total: Float
    residual: Float
    sides: Float
    shared: Float
    common: slice
    precision: Float
    pulled: Float

    def design(self, frames: Frames, output: int) -> Float:
        """(F, P) of one output."""
        gains = frames.slm[frames.slm_index, output] * self.shown
        return np.column_stack([gains, np.ones(len(gains)), self.sides[:, :, output].T])

    def forward(self, frames: Frames, step: Float) -> Float:
        """(F, M): every output's design times its step (M, P)."""
        k = frames.shape[1]
        found = np.empty_like(self.total)
        for s, members in enumerate(frames.patterns()):
            found[members] = self.shown[members] @ (step[:, :k] * frames.slm[s]).T
        return np.asarray(found + step[:, k] + np.einsum("lnm,ml->nm", self.sides, step[:, k + 1 :]))

    def push(self, frames: Frames, crosstalk: Float, step: Float, shared: Float) -> Float:
        """(F, M): by how much the expected readings move, neighbours included."""
        k = frames.shape[1]
        rest = step.copy()
        rest[:, :k] = 0.0
        moved = mix(crosstalk, self.forward(frames, step - rest)) + self.forward(frames, rest)
        return np.asarray(moved + np.tensordot(shared, self.shared, axes=1))

    def pull(self, frames: Frames, crosstalk: Float, values: Float) -> tuple[Float, Float]:
        """The transpose of `push`: (M, P) and (q,) from ``values`` (F, M)."""
        k = frames.shape[1]
        own = self.adjoint(frames, values)
        turned = np.zeros_like(crosstalk)
        turned[1:, 0], turned[:-1, 1] = crosstalk[:-1, 1], crosstalk[1:, 0]
        own[:, :k] = self.adjoint(frames, mix(turned, values))[:, :k]
        return own, (self.shared * values).sum(axis=(1, 2))

    def adjoint(self, frames: Frames, values: Float) -> Float:
        """(M, P): every output's design, transposed, times its ``values`` (F, M)."""
        m, k = frames.shape
        found = np.zeros((m, k + 1 + len(self.sides)))
        for s, members in enumerate(frames.patterns()):
            found[:, :k] += frames.slm[s] * (values[members].T @ self.shown[members])
        found[:, k] = values.sum(axis=0)
        found[:, k + 1 :] = (self.sides * values).sum(axis=1).T
        return found


def _rough(frames: Frames) -> Mean:
    """Equal gains for each output, from its darkest and its brightest frame."""
    m, k = frames.shape
    shown = frames.display.sum(axis=1) * frames.slm.mean(axis=(1, 2))[frames.slm_index]
    dark, bright = shown.argmin(), shown.argmax()
    row = (frames.dn[bright] - frames.dn[dark]) / (shown[bright] - shown[dark])
    entries = np.zeros(len(frames.entries))
    return Mean(np.tile(row[:, None], k), frames.dn[dark].copy(), np.zeros((m, 2)), np.zeros(2), entries)


def _linearise(frames: Frames, form: CrosstalkForm, mean: Mean) -> _Linear:
    shown = apply_bleed(mean.bleed, frames.display)
    slopes = bleed_slopes(frames.display)
    light, bleeds = np.empty_like(frames.dn), np.empty((2, *frames.dn.shape))
    entries = np.empty((len(frames.entries), *frames.dn.shape))
    for s, members in enumerate(frames.patterns()):
        lit = (mean.gain * frames.slm[s]).T
        light[members] = shown[members] @ lit
        for side in (0, 1):
            bleeds[side, members] = slopes[side][members] @ lit
        entries[:, members] = frames.entry_slopes(members, mean.gain, mean.bleed, shown[members])
    sides, total = neighbours(light), mean.offset + mix(mean.crosstalk, light)
    shared = np.concatenate([mix(mean.crosstalk, bleeds), sides[: form.shared], mix(mean.crosstalk, entries)])
    free, held = 2 + form.shared, bleed_precision(frames.shape[1])
    return _Linear(
        shown,
        total,
        frames.dn - total,
        sides if form.local else sides[:0],
        shared,
        slice(2, free),
        np.concatenate([held, np.zeros(form.shared), frames.entries.stderr**-2.0]),
        np.concatenate([mean.bleed, np.zeros(form.shared), mean.entries]),
    )


@dataclass(frozen=True)
class _Solver:
    """Inverse of the normal equations, in which what an output's gains do to its neighbours is left out.

    Attributes
    ----------
    inverse
        (M, P, P) covariance of each output's parameters, the shared ones given.
    shared
        (q + F, q + F) covariance of the shared parameters and of the flicker of each frame (F = 0 without any).
    """

    inverse: Float
    shared: Float


def _factor(frames: Frames, scatter: Covariance, local: _Linear) -> _Solver:
    q = len(local.shared)
    flicker = bool(scatter.shrink.any())
    size = q + flicker * len(frames)
    total: Float = np.zeros((size, size))
    total[:q, :q] = np.einsum("inm,jnm,nm->ij", local.shared, local.shared, scatter.own_precision, optimize=True)
    total[:q, :q] += np.diag(local.precision)
    if flicker:
        heavy = scatter.own_precision * local.total
        total[:q, q:] = (local.shared * heavy).sum(axis=2)
        total[q:, :q] = total[:q, q:].T
        total[q:, q:] = np.diag((heavy * local.total).sum(axis=1) + scatter.factor_precision)
    inverses = []
    for output in range(frames.shape[0]):
        design = local.design(frames, output)
        root = _root((design * scatter.own_precision[:, output, None]).T @ design, frames, local)
        inverses.append(root.T @ root)
        whitened = root @ _crossed(scatter, local, output, design, size)
        total -= whitened.T @ whitened
    return _Solver(np.stack(inverses), np.asarray(np.linalg.inv(total), np.float64))


def _crossed(scatter: Covariance, local: _Linear, output: int, design: Float, size: int) -> Float:
    """(P, q + F): how an output's own parameters and the shared ones move the same readings."""
    weighted = design * scatter.own_precision[:, output, None]
    crossed = weighted.T @ local.shared[:, :, output].T
    if size > len(local.shared):
        crossed = np.concatenate([crossed, (weighted * local.total[:, output, None]).T], axis=1)
    return np.asarray(crossed)


def _root(normal: Float, frames: Frames, local: _Linear) -> Float:
    """R with Rᵀ R the inverse of a normal matrix."""
    diagonal = np.diag(normal).copy()
    diagonal[diagonal == 0] = 1.0  # no neighbour beyond the edge
    np.fill_diagonal(normal, diagonal)
    scale = np.sqrt(diagonal)
    try:
        factor = cholesky(normal / np.outer(scale, scale), lower=True)
    except np.linalg.LinAlgError as error:
        raise FitError(
            "the display patterns do not determine the gain of every column",
            action="gain",
            expected="independent patterns, as many as columns",
            seen=f"rank {np.linalg.matrix_rank(local.shown)} of {frames.shape[1]}",
        ) from error
    return np.asarray(solve_triangular(factor, np.diag(1 / scale), lower=True))


def _step(frames: Frames, scatter: Covariance, local: _Linear, solver: _Solver, mean: Mean) -> tuple[Mean, float]:
    """The next mean, by preconditioned conjugate gradients, and the square of the step in standard errors."""
    k, q = frames.shape[1], len(local.shared)
    own, shared = local.pull(frames, mean.crosstalk, scatter.solve(local.residual))
    shared = shared - local.precision * local.pulled
    step = np.zeros_like(own), np.zeros(q)
    direction = towards = _precondition(frames, scatter, local, solver, mean, own, shared)
    size = first = _dot((own, shared), towards)
    for _ in range(CONJUGATE_ROUNDS):
        if size <= EXACT + CONJUGATE_GAIN * first:
            break
        pushed = local.push(frames, mean.crosstalk, *direction)
        image = local.pull(frames, mean.crosstalk, scatter.solve(pushed))
        image = image[0], image[1] + local.precision * direction[1]
        length = size / _dot(direction, image)
        step = step[0] + length * direction[0], step[1] + length * direction[1]
        own, shared = own - length * image[0], shared - length * image[1]
        towards = _precondition(frames, scatter, local, solver, mean, own, shared)
        size, last = _dot((own, shared), towards), size
        direction = towards[0] + size / last * direction[0], towards[1] + size / last * direction[1]
    crosstalk = mean.crosstalk.copy()
    if len(local.sides):
        crosstalk += step[0][:, k + 1 :]
    if local.common.stop > 2:
        crosstalk += everywhere(step[1][local.common], len(crosstalk))
    entries = (local.pulled + step[1])[local.common.stop :]
    gain, offset = mean.gain + step[0][:, :k], mean.offset + step[0][:, k]
    return Mean(gain, offset, crosstalk, mean.bleed + step[1][:2], entries), float(first)


def _dot(one: tuple[Float, Float], other: tuple[Float, Float]) -> float:
    return float((one[0] * other[0]).sum() + one[1] @ other[1])


def _precondition(
    frames: Frames, scatter: Covariance, local: _Linear, solver: _Solver, mean: Mean, own: Float, shared: Float
) -> tuple[Float, Float]:
    """The solver, applied as if outputs had no neighbours.

    That is nearly right for the mixed gains ``X u``: the solver works on these, and its result is unmixed.
    """
    k, q = frames.shape[1], len(shared)
    unmixed = own.copy()
    unmixed[:, :k] = solve_banded((1, 1), _bands(mean.crosstalk)[0], own[:, :k])
    left = scatter.own_precision * local.forward(frames, np.einsum("mij,mj->mi", solver.inverse, unmixed))
    right = shared - (local.shared * left).sum(axis=(1, 2))
    if len(solver.shared) > q:
        right = np.concatenate([right, -(local.total * left).sum(axis=1)])
    found = solver.shared @ right
    explained = np.tensordot(found[:q], local.shared, axes=1)
    if len(found) > q:
        explained += found[q:, None] * local.total
    rest = unmixed - local.adjoint(frames, scatter.own_precision * explained)
    step = np.einsum("mij,mj->mi", solver.inverse, rest)
    step[:, :k] = solve_banded((1, 1), _bands(mean.crosstalk)[1], step[:, :k])
    return step, found[:q]


def _bands(crosstalk: Float) -> tuple[Float, Float]:
    """The crosstalk matrix, transposed and as it is, as `scipy.linalg.solve_banded` takes them."""
    straight = crosstalk_bands(crosstalk)
    turned = np.ones_like(straight)
    turned[0, 1:], turned[2, :-1] = straight[2, :-1], straight[0, 1:]
    return turned, straight


def _errors(frames: Frames, scatter: Covariance, local: _Linear, solver: _Solver, mean: Mean) -> tuple[Mean, Float]:
    """Standard errors, and the leverage (F,) of the frames."""
    m, k = frames.shape
    q = len(local.shared)
    own, variance = np.empty(solver.inverse.shape[:2]), np.empty(solver.inverse.shape[:2])
    leverage = np.zeros(len(frames))
    for output in range(m):
        design = local.design(frames, output)
        inverse = solver.inverse[output]
        solved = inverse @ _crossed(scatter, local, output, design, len(solver.shared))
        own[output] = np.diag(inverse)
        variance[output] = np.einsum("pi,ij,pj->p", solved, solver.shared, solved, optimize=True)
        spread = np.einsum("fp,pf->f", design, inverse @ design.T)
        leverage += spread * scatter.own_precision[:, output] / m
    unmixing = solve_banded(
        (1, 1), _bands(mean.crosstalk)[1], np.eye(m)
    )  # a gain makes up for what its neighbours' errors leak
    gain = np.sqrt(unmixing**2 @ own[:, :k] + (unmixing @ np.sqrt(variance[:, :k])) ** 2)
    rest = np.sqrt(own + variance)[:, k:]
    shared = np.sqrt(np.diag(solver.shared)[:q])
    crosstalk = everywhere(shared[local.common], m) if local.common.stop > 2 else np.zeros((m, 2))
    if len(local.sides):
        crosstalk = rest[:, 1:].copy()
        crosstalk[0, 0] = crosstalk[-1, 1] = 0.0
    return Mean(gain, rest[:, 0], crosstalk, shared[:2], shared[local.common.stop :]), np.clip(leverage, 0.0, 0.99)
