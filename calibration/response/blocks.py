"""Forms of the gain matrix: blocks of small deviations from a simple one, each with a prior whose width the data give.

All outputs read: ``G = s·(I + X)·diag(1 + out)·(W ∘ (1 + in))``. The deviations ``out`` (M,), ``in`` (N,), ``X`` have
zero-mean normal priors, each block with one width (MacKay's fixed point of the marginal likelihood); a direction of the
design that the data do not determine therefore stays where the simpler structure has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri

from calibration.response.sums import Moments

Float = NDArray[np.float64]

GAINS: dict[str, tuple[str, ...]] = {
    "scalar": (),
    "per output": ("out",),
    "smooth": ("smooth",),
    "smooth 2-D": ("smooth2",),
    "per input": ("in",),
    "separable, smooth": ("out", "smooth"),
    "separable, smooth 2-D": ("out", "smooth2"),
    "separable": ("out", "in"),
}
CROSSTALK = {
    "none": (),
    "neighbours": ("near",),
    "each neighbour": ("near", "each"),
    "banded": ("near", "band"),
    "full": ("all",),
}
REACH = {"each": 1, "band": 3}  # how far away the outputs are of which each pair has a crosstalk of its own
FULL_OUTPUTS = 8  # most outputs for which that is so of all pairs
BANDED_OUTPUTS = 64  # most outputs for which more than neighbours are looked at
COSINES = 9
SAME = 1e-9  # of the largest weight, by which others are the same
PRIOR = 0.3  # width that a block starts from [1]
WIDTHS = 1e-6, 3.0
STEPS = 25


@dataclass(frozen=True)
class Estimate:
    """Deviations of one structure.

    Attributes
    ----------
    blocks
        Names, in the order of `values`; ``"scale"`` is the first.
    values, widths, covariance
        Deviations and prior widths by block, posterior covariance of all of them in one matrix.
    extra
        (M, N) what a full gain map has beyond, and its prior width; None if the structure is not full.
    extra_width
        [1]
    """

    blocks: tuple[str, ...]
    values: dict[str, Float]
    widths: dict[str, float] = field(default_factory=dict)
    covariance: Float = field(default_factory=lambda: np.zeros((0, 0)))
    extra: Float | None = None
    extra_width: float = 0.0


def _in_proportion(weights: Float) -> bool:
    """Whether every row of a matrix (M, N) is a multiple of one; an output without weights has no light but others'."""
    squares = (weights**2).sum(axis=1)
    if not squares.min():
        return False
    row = weights[np.argmax(squares)]
    size = float(row @ row)
    rest = weights - np.outer(weights @ row / size, row)
    return bool(np.abs(rest).max() <= SAME * np.abs(weights).max())


class AllOutputs:
    """Deviations of a gain matrix when every output is read in every row.

    Parameters
    ----------
    weights
        (M, N)
    """

    linear = False  # whether the gains are linear in the deviations

    def __init__(self, weights: Float) -> None:
        self.weights = weights
        self.m, self.n = weights.shape
        side = round(np.sqrt(self.n))
        line = _cosines(self.n, min(COSINES, self.n))[:, 1:]
        self.bases = {"smooth": line}
        if side * side == self.n and side >= 4:
            few = _cosines(side, 4)
            self.bases["smooth2"] = np.einsum("ia,jb->ijab", few, few).reshape(self.n, -1)[:, 1:]
        apart = np.abs(np.subtract.outer(np.arange(self.m), np.arange(self.m)))
        self.pairs = {"all": np.argwhere(apart > 0)}
        self.pairs |= {b: np.argwhere((apart > 0) & (apart <= reach)) for b, reach in REACH.items()}
        self.in_proportion = _in_proportion(weights)

    def gains(self) -> list[str]:
        """Names of the gain structures that this number of outputs and inputs can distinguish."""
        names = [n for n, blocks in GAINS.items() if all(b in ("out", "in") or b in self.bases for b in blocks)]
        names = [n for n in names if self.m > 1 or "out" not in GAINS[n]]
        return [*names, "full"] if self.m > 1 else names

    def crosstalks(self) -> list[str]:
        """Names of the crosstalk structures that can be distinguished.

        With one output there is only ``"none"``, and where the weights of all outputs are in proportion, as with one
        input: what another output gives is then as if an output had another gain.
        """
        if self.m == 1 or self.in_proportion:
            return ["none"]
        if self.m == 2:
            return ["none", "neighbours"]
        wide = ["full"] if self.m <= FULL_OUTPUTS else ["banded"] if self.m <= BANDED_OUTPUTS else []
        return ["none", "neighbours", "each neighbour", *wide]

    def start(self, blocks: tuple[str, ...]) -> Estimate:
        """An estimate with these blocks, every deviation zero and the scale one: where Gauss–Newton starts."""
        sizes = {b: np.zeros(self._size(b)) for b in blocks}
        return Estimate(("scale", *blocks), {"scale": np.ones(1), **sizes}, dict.fromkeys(blocks, PRIOR))

    def gain(self, e: Estimate) -> Float:
        """(M, N) gain matrix G of an estimate."""
        gain = (np.eye(self.m) + self.crosstalk(e)) @ self._light(e)
        return gain if e.extra is None else gain + e.extra

    def _light(self, e: Estimate) -> Float:
        """(M, N) gains before the outputs mix."""
        return np.asarray(self.output_gain(e)[:, None] * self.weights * self.input_map(e))

    def input_map(self, e: Estimate) -> Float:
        """(N,) common factor of each input over all outputs, s (1 + in)."""
        deviation = np.zeros(self.n)
        for b in e.blocks:
            if b == "in":
                deviation = deviation + e.values[b]
            elif b in self.bases:
                deviation = deviation + self.bases[b] @ e.values[b]
        return np.asarray(e.values["scale"][0] * (1 + deviation))

    def output_gain(self, e: Estimate) -> Float:
        """(M,) factor of each output over all inputs, 1 + out."""
        return np.asarray(1 + e.values.get("out", np.zeros(self.m)))

    def crosstalk(self, e: Estimate) -> Float:
        """(M, M) crosstalk X: share of output n's light that output m reads, zero on the diagonal."""
        x = np.zeros((self.m, self.m))
        if "near" in e.values:
            up, down = e.values["near"]
            x += np.diag(np.full(self.m - 1, up), -1) + np.diag(np.full(self.m - 1, down), 1)
        for b in self.pairs:
            if b in e.values:
                m, n = self.pairs[b].T
                x[m, n] += e.values[b]
        return x

    def _size(self, block: str) -> int:
        sizes = {"scale": 1, "out": self.m, "in": self.n, "near": 2} | {b: len(p) for b, p in self.pairs.items()}
        return sizes[block] if block in sizes else int(self.bases[block].shape[1])

    def quadratic(self, e: Estimate, moments: Moments, residual: Float, omega: Float) -> tuple[Float, Float]:
        """``(H, h)``: the loss around ``e`` is ``cᵀ H c − 2 cᵀ h`` in increments c of the blocks.

        ``residual`` (M, N) is ``Σ a r φᵀ`` of what ``e`` leaves.
        """
        base = self.gain(replace(e, extra=None))
        mix = np.eye(self.m) + self.crosstalk(e)
        rows = self.weights * self.input_map(e)  # ∂G/∂out_m is column m of mix times row m of this
        columns = base / np.where(self.input_map(e) == 0, 1, self.input_map(e) / e.values["scale"][0])
        weighed = _weighing(omega)
        k = weighed(residual)
        s, oc = moments.s, weighed(columns)
        # dense directions (scale, crosstalk that many pairs share): few, written out
        dense = {b: self._directions(b, e, base) for b in e.blocks if b in ("scale", "near")}
        sides = {b: np.stack([weighed(one) for one in d]) @ s for b, d in dense.items()}
        is_mixed = bool(self.crosstalk(e).any())  # else mix is the identity: M³ operations for nothing
        mixed = np.ascontiguousarray(weighed(mix).T) @ mix if is_mixed else omega
        rs = rows @ s
        light = self._light(e)
        ls = light @ s

        def of_pairs(a: str, b: str) -> Float:
            m, n = self.pairs[a].T  # ∂G/∂x_mn is the light of n in row m
            if b in self.pairs:
                m2, n2 = self.pairs[b].T
                return np.asarray(omega[np.ix_(m, m2)] * (ls @ light.T)[np.ix_(n, n2)])
            if b in dense:
                return np.asarray((sides[b] @ light.T)[:, m, n].T)
            if b == "out":
                return np.asarray((weighed(mix).T[:, m] * (rows @ ls.T)[:, n]).T)
            return self._fold(b, (oc[m] * ls[n]).T).T

        def pair(a: str, b: str) -> Float:
            if a in self.pairs:
                return of_pairs(a, b)
            if b in self.pairs:
                return of_pairs(b, a).T
            if a in dense and b in dense:
                return np.asarray(np.einsum("imk,jmk->ij", dense[a], sides[b]))
            if b in dense:
                return pair(b, a).T
            if a in dense:
                if b == "out":
                    return np.asarray(((mix.T @ sides[a]) * rows).sum(2))
                return self._fold(b, (sides[a] * columns).sum(1).T).T
            if a == "out" and b == "out":
                return np.asarray(mixed * (rs @ rows.T))
            if a == "out":
                return self._fold(b, ((mix.T @ oc) * rs).T).T
            if b == "out":
                return pair(b, a).T
            h = s * (columns.T @ oc)
            return self._fold(b, self._fold(a, h).T).T

        h = np.block([[pair(a, b) for b in e.blocks] for a in e.blocks])
        right = []
        for b in e.blocks:
            if b in dense:
                right.append((dense[b] * k).sum((1, 2)))
            elif b in self.pairs:
                m, n = self.pairs[b].T
                right.append((k[m] * light[n]).sum(1))
            elif b == "out":
                right.append((rows * (mix.T @ k)).sum(1))
            else:
                right.append(self._fold(b, (columns * k).sum(0)))
        return h, np.concatenate(right)

    def _fold(self, block: str, per_input: Float) -> Float:
        """Project values of N inputs (first axis) onto the parameters of a block."""
        return per_input if block == "in" else self.bases[block].T @ per_input

    def _directions(self, block: str, e: Estimate, base: Float) -> Float:
        """(J, M, N) ∂G/∂parameter"""
        if block == "scale":
            return np.asarray((base / e.values["scale"][0])[None])
        light = self._light(e)
        d = np.zeros((2, self.m, self.n))
        d[0, 1:], d[1, :-1] = light[:-1], light[1:]
        return d

    def jacobians(self, e: Estimate) -> Iterator[tuple[Float, NDArray[np.intp]]]:
        """Of each output (N, J) ∂G_m/∂(its parameters), and where these are in the covariance."""
        base = self.gain(replace(e, extra=None))
        columns = base / (self.input_map(e) / e.values["scale"][0])
        light, mixes = self._light(e), np.eye(self.m) + self.crosstalk(e)
        before_gain = self.weights * self.input_map(e)
        shared = {b: self._directions(b, e, base) for b in ("scale", "near") if b in e.blocks}
        for output in range(self.m):
            parts, places, at = [], [], 0
            for b in e.blocks:
                size = self._size(b)
                where = np.arange(at, at + size)
                if b == "out":
                    near = np.nonzero(mixes[output])[0]
                    part, where = (mixes[output, near, None] * before_gain[near]).T, at + near
                elif b in self.pairs:
                    own = np.nonzero(self.pairs[b][:, 0] == output)[0]
                    part, where = light[self.pairs[b][own, 1]].T, at + own
                elif b in shared:
                    part = shared[b][:, output].T
                else:
                    part = np.diag(columns[output]) if b == "in" else columns[output][:, None] * self.bases[b]
                parts.append(part)
                places.append(where)
                at += size
            yield np.concatenate(parts, axis=1), np.concatenate(places)


class OneDetector(AllOutputs):
    """Deviations when a single detector reads one output per row, through one map of the inputs for all outputs.

    Features are ``(w∘x, z·onehot(output))``, with z the light that the map of the last pass predicts. The deviations
    ``out`` sum to zero: a common one would let z stand in for the map.
    """

    linear = True

    def __init__(self, weights: Float) -> None:
        super().__init__(np.ones((1, weights.shape[1])))
        self.outputs = len(weights)
        self.contrasts = _cosines(self.outputs, self.outputs)[:, 1:] / np.sqrt(self.outputs)

    def gains(self) -> list[str]:
        names = [n for n, blocks in GAINS.items() if all(b in ("out", "in") or b in self.bases for b in blocks)]
        return [n for n in names if self.outputs > 1 or "out" not in GAINS[n]]

    def crosstalks(self) -> list[str]:
        return ["none"]

    def gain(self, e: Estimate) -> Float:
        """(1, N + M) coefficients of the features."""
        return np.concatenate([self.input_map(e), self.output_gain(e) - 1])[None]

    def output_gain(self, e: Estimate) -> Float:
        return np.asarray(1 + self.contrasts @ e.values.get("out", np.zeros(self.outputs - 1)))

    def _size(self, block: str) -> int:
        return self.outputs - 1 if block == "out" else super()._size(block)

    def quadratic(self, e: Estimate, moments: Moments, residual: Float, omega: Float) -> tuple[Float, Float]:
        j = self.design(e)
        return omega[0, 0] * (j.T @ moments.s @ j), omega[0, 0] * (j.T @ residual[0])

    def design(self, e: Estimate) -> Float:
        """(N + M, J) ∂coefficients/∂parameters"""
        scale, n = e.values["scale"][0], self.n
        parts = []
        for b in e.blocks:
            part = np.zeros((n + self.outputs, self._size(b)))
            if b == "scale":
                part[:n, 0] = self.input_map(e) / scale
            elif b == "out":
                part[n:] = self.contrasts
            else:
                part[:n] = scale * (np.eye(n) if b == "in" else self.bases[b])
            parts.append(part)
        return np.concatenate(parts, axis=1)


def fit_blocks(
    design: AllOutputs, e: Estimate, moments: Moments, absolute: Float, omega: Float, *, fixed_widths: bool = False
) -> Estimate:
    """Fit the deviations of the blocks of ``e`` by Gauss–Newton, and the widths of their priors by their fixed point.

    Parameters
    ----------
    e
        Where to start.
    absolute
        (M, p) ``Σ a y φᵀ`` of the readings themselves.
    omega
        (M, M) inverse covariance of a row.
    fixed_widths
        Keep the widths of ``e`` (within a hold-out).
    """
    at = _slices(design, e.blocks)
    widths = dict(e.widths)
    settled = 0.0
    for _ in range(STEPS):
        residual = absolute - design.gain(e) @ moments.s
        h, right = design.quadratic(e, moments, residual, omega)
        precision = np.zeros(len(h))
        pulled = right.copy()
        for b, width in widths.items():
            precision[at[b]] = 1 / width**2
            pulled[at[b]] -= e.values[b] / width**2
        ridge = 1e-12 * np.diag(h).max()
        factor = cho_factor(h + np.diag(precision + ridge))
        step = cho_solve(factor, pulled)
        values = {b: e.values[b] + step[at[b]] for b in e.blocks}
        e = replace(e, values=values)
        moved = float(np.sqrt(abs(step @ (h @ step))))
        if fixed_widths:  # a hold-out starts next to its solution: one step is enough
            break
        if not fixed_widths:
            covariance = inverse(factor)
            e = replace(e, covariance=covariance)
            for b, width in widths.items():
                known = max(at[b].stop - at[b].start - float(np.diag(covariance)[at[b]].sum()) / width**2, 1e-3)
                widths[b] = float(np.clip(np.sqrt(float((values[b] ** 2).sum()) / known), *WIDTHS))
            e = replace(e, widths=dict(widths))
        change = max((abs(np.log(widths[b] / w)) for b, w in e.widths.items()), default=0.0) if settled else 1.0
        settled = 1.0
        if moved < 1e-3 and change < 1e-2:
            break
    return e


def _weighing(omega: Float) -> Callable[[Float], Float]:
    """``omega @ a`` for (M, …) a; row by row where omega is diagonal, as it is for many outputs."""
    level = np.diag(omega)
    if np.count_nonzero(omega) > np.count_nonzero(level):
        return lambda a: np.asarray(omega @ a)
    return lambda a: np.asarray(level[:, None] * a)


def inverse(factor: tuple[Float, bool]) -> Float:
    """Inverse of a positive definite matrix, from its Cholesky factor."""
    half, _ = dpotri(factor[0], lower=factor[1])
    half = np.tril(half) if factor[1] else np.triu(half)
    return np.asarray(half + half.T - np.diag(np.diag(half)))


def fit_extra(
    design: AllOutputs, e: Estimate, moments: Moments, absolute: Float, omega: Float, *, width: float | None = None
) -> tuple[Estimate, Float]:
    """Add to a structure a deviation of every single gain; return the estimate and, (M,), how many the data determine.

    The prior of ``G_mk`` has a width proportional to |w_mk| and a tenth of the mean weight (a dark macropixel leaks).
    """
    e = replace(e, extra=None)
    base = design.gain(e)
    residual = absolute - base @ moments.s
    scale = prior_scale(design, e)
    tau = width or e.extra_width or PRIOR
    known = np.zeros(design.m)
    spectra = [np.linalg.eigh(scale[m][:, None] * moments.s * scale[m]) for m in range(design.m)]
    level = np.diag(omega)
    for _ in range(1 if width else 60):
        squares = 0.0
        for m, (values, vectors) in enumerate(spectra):
            values = np.maximum(values, 0) * level[m]
            coefficient = (vectors.T @ (scale[m] * residual[m])) * level[m] / (values + 1 / tau**2)
            squares += float((coefficient**2).sum())
            known[m] = float((values / (values + 1 / tau**2)).sum())
        if width:
            break
        fresh = float(np.clip(np.sqrt(squares / max(known.sum(), 1e-3)), *WIDTHS))
        done, tau = abs(np.log(fresh / tau)) < 1e-3, fresh
        if done:
            break
    extra = np.empty_like(base)
    for m, (values, vectors) in enumerate(spectra):
        values = np.maximum(values, 0) * level[m]
        extra[m] = scale[m] * (vectors @ ((vectors.T @ (scale[m] * residual[m])) * level[m] / (values + 1 / tau**2)))
    return replace(e, extra=extra, extra_width=tau), known


def prior_scale(design: AllOutputs, e: Estimate) -> Float:
    """(M, N) standard deviations of the prior of single gains, for a prior of width 1."""
    w = np.abs(design.weights)
    return np.asarray(np.abs(e.values["scale"][0]) * np.hypot(w, 0.1 * w.mean()))


def _slices(design: AllOutputs, blocks: tuple[str, ...]) -> dict[str, slice]:
    found, at = {}, 0
    for b in blocks:
        size = design._size(b)
        found[b] = slice(at, at + size)
        at += size
    return found


def _cosines(n: int, count: int) -> Float:
    """(n, count) orthogonal cosines with mean square 1."""
    k = (np.arange(n) + 0.5) / n
    table = np.cos(np.pi * np.outer(k, np.arange(count)))
    return np.asarray(table / np.sqrt((table**2).mean(0)))
