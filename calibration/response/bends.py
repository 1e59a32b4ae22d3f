"""Curvature of every single input at every output: which terms of it held-out rows want, held by a prior."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from calibration.response.joint import Sample, State, shared_noise
from calibration.response.power_curve import ROOT, Bend

Float = NDArray[np.float64]

MOST_TERMS = 400  # inputs times terms, beyond which the normal equations take longer than the rest of the fit
CHANCE = 9.2  # log-likelihood that chance gains once in ten thousand
AS_GOOD = 3.0
ROUNDS = 40


@dataclass(frozen=True)
class Bent:
    """A curvature of single inputs that was fitted.

    Attributes
    ----------
    bend
        `Bend`; empty where held-out rows do not want one.
    without
        (J, M, N) its gains without each fold, by fold.
    freedom
        (S,) how many numbers the data determine of each output.
    state
        Gains and offsets that go with it.
    reason
        In words.
    """

    bend: Bend
    without: dict[int, Float]
    freedom: Float
    state: State
    reason: str


def fit_bend(state: State, sample: Sample, outputs: int) -> Bent:
    """Choose and fit the curvature of single inputs beside free gains; curves and drift stay as they are.

    Parameters
    ----------
    outputs
        Of the bench; where the sample has not all of them nothing is fitted.
    """
    none = Bent(Bend(), {}, np.zeros(len(state.gain)), state, "")
    n = sample.x.shape[1]
    whole = sample.weights is not None or len(state.gain) == outputs
    if not sample.free or not whole or n > MOST_TERMS:
        return none
    roots = [(ROOT,), (2.0,), (ROOT, 2.0)] if sample.x.min() >= 0 else [(2.0,)]
    tried = (_Trial(powers, state, sample) for powers in roots if n * len(powers) <= MOST_TERMS)
    best = reduce(_better, tried)  # one after another: the sums of a trial are the most that a fit holds in memory
    named = " and ".join("square root" if p == ROOT else "square" for p in best.bend.powers)
    words = f"curvature of each input ({named}): held-out log-likelihood {best.gained:+.1f}"
    if best.gained < CHANCE:
        return Bent(Bend(), {}, np.zeros(len(state.gain)), state, f"no evidence for a {words}")
    return best.bent(words)


def _better(one: _Trial, other: _Trial) -> _Trial:
    return max(one, other, key=lambda t: t.gained - AS_GOOD * len(t.bend.powers))


class _Trial:
    """One choice of terms: their normal equations, the width of the prior that the data give, and the hold-out."""

    def __init__(self, powers: tuple[float, ...], state: State, sample: Sample) -> None:
        self._state, self._sample = state, sample
        low, high = float(sample.x.min()), float(sample.x.max())
        scale = max(abs(low), abs(high)) or 1.0
        n = sample.x.shape[1]
        blank = np.zeros((len(powers), n))
        bare = Bend(powers, scale, low / scale, high / scale, blank, blank)
        raw, x = bare.terms(sample.x), sample.x
        mean = x.mean(0)
        spread = ((x - mean) ** 2).sum(0)
        along = np.einsum("jnk,nk->jk", raw, x - mean)
        slope = np.divide(along, spread, out=np.zeros_like(along), where=spread > 0)
        self.bend = Bend(powers, scale, low / scale, high / scale, raw.mean(1) - slope * mean, slope)
        terms = self.bend.terms(x)
        columns = np.concatenate([state.seen(sample, t) for t in terms], axis=1)
        self._size = np.maximum(columns.std(0), 1e-12 * max(float(columns.std()), 1e-300))
        self._grams = self._normal(columns / self._size)
        self._a = 1 + n
        self._width, self.freedom = self._prior()
        plain, bent = self._held_out(None), self._held_out(self._width)
        self.gained = 0.5 * (plain - bent) / shared_noise(state, sample)

    def _normal(self, columns: Float) -> Float:
        """(folds, S, c, c) of (1, gains, terms, residual)."""
        state, sample = self._state, self._sample
        light = state.light(sample)
        drifted = 1 + state.level(sample)[:, :1]
        slope, residual = state.detectors.slope(light) * drifted, state.residual(sample)
        inner = np.concatenate([state.seen(sample, state.inputs.value(sample.x)), columns], axis=1)
        size = inner.shape[1] + 2
        grams = np.zeros((len(sample.folds), light.shape[1], size, size))
        for m in range(light.shape[1]):
            q = np.concatenate([np.ones((len(inner), 1)), slope[:, m : m + 1] * inner, residual[:, m : m + 1]], axis=1)
            q *= np.sqrt(sample.precision[:, m : m + 1])
            for i, k in enumerate(sample.folds):
                own = q[sample.fold == k]
                grams[i, m] = own.T @ own
        return grams

    def _projected(self, gram: Float) -> tuple[Float, Float, Float, Float]:
        """Of one output: products of the terms and of terms and residual beside free gains; what the gains are then."""
        a = self._a
        base = gram[:a, :a]
        unit = 1 / np.sqrt(np.maximum(np.diag(base), 1e-300))
        scaled = base * unit * unit[:, None] + 1e-10 * np.eye(a)
        solved = unit[:, None] * np.linalg.solve(scaled, unit[:, None] * gram[:a, a:])
        rest = gram[a:, a:] - gram[a:, :a] @ solved
        return rest[:-1, :-1], rest[:-1, -1], solved[:, :-1], solved[:, -1]

    def _prior(self) -> tuple[float, Float]:
        """Width of the coefficients by the fixed point of the marginal likelihood, and what the data determine."""
        whole = self._grams.sum(0)
        spectra = []
        for gram in whole:
            s, r, _, _ = self._projected(gram)
            values, vectors = np.linalg.eigh(s)
            spectra.append((np.maximum(values, 0), vectors.T @ r))
        width = max(float(np.mean([np.sqrt((r**2).sum() / max((v**2).sum(), 1e-300)) for v, r in spectra])), 1e-12)
        known = np.zeros(len(spectra))
        for _ in range(ROUNDS):
            squares = sum(float(((r / (v + 1 / width**2)) ** 2).sum()) for v, r in spectra)
            known = np.array([float((v / (v + 1 / width**2)).sum()) for v, _ in spectra])
            fresh = max(float(np.sqrt(squares / max(known.sum(), 1e-3))), 1e-12)
            done, width = abs(np.log(fresh / width)) < 1e-2, fresh
            if done:
                break
        return width, known

    def _solved(self, gram: Float, width: float | None) -> tuple[Float, Float]:
        """Gains with offset (1 + N,) and coefficients (J N,) of one output."""
        s, r, through, alone = self._projected(gram)
        if width is None:
            return alone, np.zeros(len(r))
        c = np.asarray(np.linalg.solve(s + np.eye(len(s)) / width**2, r), np.float64)
        return alone - through @ c, c

    def _held_out(self, width: float | None) -> float:
        whole, lost = self._grams.sum(0), 0.0
        for fold in self._grams:
            for m, gram in enumerate(fold):
                left = np.concatenate([*(-v for v in self._solved(whole[m] - gram, width)), [1.0]])
                lost += float(left @ gram @ left)
        return lost

    def bent(self, words: str) -> Bent:
        """The fit to all rows, and to all but each fold."""
        whole = self._grams.sum(0)
        found = [self._solved(gram, self._width) for gram in whole]
        base = np.stack([b for b, _ in found])
        state = self._state
        state = State(state.gain + base[:, 1:], state.offset + base[:, 0], state.inputs, state.detectors, state.drift)
        bend = self._with(np.stack([c for _, c in found]))
        without = {
            int(k): self._with(self._coefficients(whole - fold)).gain
            for k, fold in zip(self._sample.folds, self._grams, strict=True)
        }
        return Bent(bend, without, self.freedom, state, words)

    def _coefficients(self, grams: Float) -> Float:
        """(S, J N) by the normal equations of each output."""
        return np.stack([self._solved(gram, self._width)[1] for gram in grams])

    def _with(self, coefficients: Float) -> Bend:
        """The bend with coefficients (S, J N)."""
        b, n = self.bend, self._sample.x.shape[1]
        gain = (coefficients / self._size).reshape(len(coefficients), len(b.powers), n).swapaxes(0, 1)
        return Bend(b.powers, b.scale, b.low, b.high, b.level, b.slope, gain)
