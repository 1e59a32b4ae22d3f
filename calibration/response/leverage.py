"""How far a row lies from the rows of a fit: the variance that they leave open, gain by gain and curve by curve.

The bench is taken as a line per output with two things beside it, each with a normal prior: a deviation of every single
gain, and a curvature of the inputs and one of the detector. What the rows of the fit do not tell of these is what a
prediction cannot know, whatever structure was chosen: the structure was tested along the directions that were shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from calibration.statistics.tails import chi2_isf

Float = NDArray[np.float64]

CURVATURE = 0.3  # prior width of a curvature at the end of the range [1]
LEAST_WIDTH, WIDEST = 0.1, 3.0  # of the prior of a gain that no row showed [1]
LEAK = 0.1  # of the mean weight: what a gain may be where the weight is zero
RANK = 1e-12  # of the largest moment
BEYOND = 2.0  # times the variance that held-out rows leave open, which the hold-out has tested


class Moments:
    """Sums over rows of features φ, their squares, two curvatures q and residuals r, of one fold.

    Parameters
    ----------
    features, outputs
        Lengths of φ and of q and r.
    """

    def __init__(self, features: int, outputs: int) -> None:
        n, s = features, outputs
        self.rows = 0.0
        self.phi, self.phi_phi = np.zeros(n), np.zeros((n, n))
        self.q, self.q_phi, self.q_q = np.zeros((2, s)), np.zeros((2, s, n)), np.zeros((s, 2, 2))
        self.r, self.r_phi = np.zeros(s), np.zeros((s, n))

    def add(self, phi: Float, q: Float, residual: Float) -> None:
        """Rows of φ (n, N), q (2, n, S) and residuals (n, S)."""
        self.rows += len(phi)
        self.phi += phi.sum(0)
        self.phi_phi += phi.T @ phi
        self.q += q.sum(1)
        self.q_phi += q.swapaxes(1, 2) @ phi
        self.q_q += np.einsum("ins,jns->sij", q, q)
        self.r += residual.sum(0)
        self.r_phi += residual.T @ phi

    @classmethod
    def total(cls, parts: Iterable[Moments]) -> Moments:
        """Sums of several folds together."""
        first, *rest = parts
        found = cls(len(first.phi), len(first.r))
        for part in (first, *rest):
            for name in vars(found):
                setattr(found, name, getattr(found, name) + getattr(part, name))
        return found

    @property
    def s(self) -> Float:
        """(N, N) products of φ about their mean."""
        return np.asarray(self.phi_phi - np.outer(self.phi, self.phi) / self.rows)

    @property
    def rs(self) -> Float:
        """(S, N) products of residuals and φ about their means."""
        return np.asarray(self.r_phi - np.outer(self.r, self.phi) / self.rows)


@dataclass(frozen=True)
class Scales:
    """Sizes that tell a direction which the rows show from one that they do not.

    Attributes
    ----------
    pattern
        (N,) size of a gain of each input, over all outputs, relative to that of its output.
    size
        (S,) rms gain of each output [unit per input].
    base
        (S,) what one unit of weight adds to an output, by the line of each.
    noise
        (S,) variance of a reading, as light [unit²].
    reach
        (2, S) ranges that the curvatures are relative to.
    width
        Prior width of a gain's deviation from the line of its output [1].
    ratio
        Moment of a direction at which its rows tell as much as the prior does.
    """

    pattern: Float
    size: Float
    base: Float
    noise: Float
    reach: Float
    width: float
    ratio: float


@dataclass(frozen=True)
class Leverage:
    """What the rows of a fit determined; S is the number of outputs, or 1 of a single detector.

    Attributes
    ----------
    centre
        (N,) mean of φ, the inputs behind their curve (and behind the weights, of a single detector).
    pattern
        (N,) sizes that φ is multiplied by for the directions.
    basis, known
        (r, N) orthonormal directions of ``pattern·φ`` that the rows show, and (r,) their moments.
    size, base, noise, width, ratio
        As of `Scales`; (S,), (S,), (S,) and numbers.
    curve_mean, curve_slope, curve_covariance
        (2, S), (2, S, N) and (S, 2, 2): the line through each curvature over φ where the rows are, and the covariance
        of the curvatures' coefficients.
    reach
        (2, S) ranges that the curvatures are relative to.
    reference
        (S,) variance that is open of 95 % of the rows when they are held out [unit²].
    """

    centre: Float
    pattern: Float
    basis: Float
    known: Float
    size: Float
    base: Float
    noise: Float
    curve_mean: Float
    curve_slope: Float
    curve_covariance: Float
    reach: Float
    width: float
    ratio: float
    reference: Float = field(default_factory=lambda: np.zeros(1))

    @classmethod
    def of(cls, moments: Moments, scales: Scales) -> Leverage:
        """What rows with these moments determine."""
        known, basis = directions(moments.s, scales.pattern)
        rows, reach = moments.rows, scales.reach
        q_phi = (moments.q_phi - moments.q[:, :, None] * moments.phi / rows) / reach[:, :, None]
        q_q = moments.q_q - np.einsum("is,js->sij", moments.q, moments.q) / rows
        q_q = q_q / np.einsum("is,js->sij", reach, reach)
        along = (q_phi * scales.pattern) @ basis.T
        slope = ((along / (known + scales.ratio)) @ basis) * scales.pattern
        left = q_q - np.einsum("isk,jsk->sij", slope, q_phi)
        left = (left + left.swapaxes(1, 2)) / 2 / scales.noise[:, None, None]
        values, vectors = np.linalg.eigh(left)
        values = 1 / (np.maximum(values, 0) + 1 / CURVATURE**2)
        covariance = np.einsum("sij,sj,skj->sik", vectors, values, vectors)
        return cls(
            moments.phi / rows, scales.pattern, basis, known, scales.size, scales.base, scales.noise,
            moments.q / reach / rows, slope, covariance, reach, scales.width, scales.ratio,
        )  # fmt: skip

    def left(self, phi: Float) -> Float:
        """(n, N) what of each row the rows of the fit do not show, in the unit of φ."""
        away = (phi - self.centre) * self.pattern
        return np.asarray((away - ((away @ self.basis.T) * self._kept) @ self.basis) / self.pattern)

    def variance(self, phi: Float, q: Float, gain: Float, weights: Float) -> tuple[Float, Float]:
        """What is open of the gains and of the curvatures, both (n, S) [unit²].

        Parameters
        ----------
        phi, q
            (n, N) and (2, n, S) as `Moments` takes them.
        gain, weights
            (S, N) of the response; ones for the weights of a single detector.
        """
        off = phi - self.centre
        along = (off * self.pattern) @ self.basis.T
        left = (off * self.pattern - (along * self._kept) @ self.basis) / self.pattern
        told = ((along * self._kept) ** 2 / np.maximum(self.known, 1e-300)).sum(1)
        unknown = (self.width * self.size) ** 2 * (left**2 @ shape_of(weights).T ** 2)
        # where nothing was shown, the structure and the plain line are two guesses
        apart = (left @ (gain - self.base[:, None] * weights).T) ** 2
        gains = unknown + apart + told[:, None] * self.noise
        bent = q / self.reach[:, None, :] - self.curve_mean[:, None, :]
        bent -= np.einsum("nk,isk->ins", off, self.curve_slope, optimize=True)
        curves = np.einsum("ins,sij,jns->ns", bent, self.curve_covariance, bent, optimize=True)
        return np.asarray(gains), np.maximum(curves, 0)

    @property
    def _kept(self) -> Float:
        """(r,) share of each direction that the rows tell."""
        return np.asarray(self.known / (self.known + self.ratio))


LEVERAGE_ARRAYS = tuple(f.name for f in fields(Leverage) if f.name not in ("width", "ratio"))
"""Of a file, behind ``leverage_``."""


def directions(s: Float, pattern: Float) -> tuple[Float, Float]:
    """Moments (r,) and orthonormal rows (r, N) of ``pattern·φ``, of what rows with products ``s`` show at all."""
    values, vectors = np.linalg.eigh(s * np.outer(pattern, pattern))
    shown = values > RANK * max(float(values[-1]), 1e-300)
    return values[shown], np.ascontiguousarray(vectors[:, shown].T)


def shape_of(weights: Float) -> Float:
    """(S, N) size of the gains of an output relative to their rms, from its weights: a dark one leaks."""
    rms = np.sqrt((weights**2).mean(1, keepdims=True))
    return np.asarray(np.hypot(weights / np.where(rms > 0, rms, 1), LEAK))


def scales(moments: Moments, gain: Float, weights: Float, noise: Float, reach: Float) -> Scales:
    """Sizes from the gains (S, N) of a fit; the prior's width is what the gains show along the directions shown."""
    s, shape = moments.s, shape_of(weights)
    pattern = np.sqrt((shape**2).mean(0))
    size = np.maximum(np.sqrt((gain**2).mean(1)), 1e-300)
    line = ((weights @ s) * weights).sum(1)
    crossed = ((gain @ s) * weights).sum(1)
    varies = line > RANK * np.maximum((weights**2).sum(1) * np.trace(s), 1e-300)
    common = crossed[varies].sum() / max(line[varies].sum(), 1e-300)
    base = np.where(varies, crossed / np.where(varies, line, 1), common)
    known, basis = directions(s, pattern)
    toward = (moments.rs + (gain - base[:, None] * weights) @ s) * pattern @ basis.T
    width = _width(known[None] * (size**2 / noise)[:, None], toward * (size / noise)[:, None])
    ratio = float(np.median(noise / size**2)) / width**2
    return Scales(pattern, size, base, noise, reach, width, ratio)


def _width(information: Float, toward: Float) -> float:
    """Upper 95 % bound of the width of deviations, from their information and score (S, r): MacKay's fixed point."""
    width, determined = LEAST_WIDTH, 0.0
    for _ in range(60):
        posterior = information + 1 / width**2
        determined = max(float((information / posterior).sum()) - len(information), 1.0)
        fresh = float(np.clip(np.sqrt(((toward / posterior) ** 2).sum() / determined), 1e-6, WIDEST))
        done, width = abs(np.log(fresh / width)) < 1e-3, fresh
        if done:
            break
    return float(np.clip(width * np.sqrt(determined / chi2_isf(0.95, determined)), LEAST_WIDTH, WIDEST))
