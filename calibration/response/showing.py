"""Find what the rows of a fit determined, and by its held-out folds how far rows lie from those that tell of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.response.following import Followed
from calibration.response.leverage import Leverage, Moments, Scales, scales
from calibration.response.model import Response
from calibration.response.observations import Observations, Rows
from calibration.response.residuals import columns
from calibration.response.shown import Shown, beyond_inputs, beyond_light

Float = NDArray[np.float64]

MOST_ROWS = 20000
MOST_HELD_OUT = 4000
BLOCK = 64  # neighbours that stay together in a sample
EVERY_FOLD = 400  # inputs up to which each fold is held out
STILL = 1e-6  # of the largest range of light, below which an output has none of its own
HELD_OUT = 0.95  # share of held-out rows whose leverage counts as tested
HELD_OUT_RANGES = 0.99


@dataclass
class _Part:
    """What one fold showed."""

    moments: Moments
    inputs: Float
    light: Float

    @classmethod
    def empty(cls, features: int, outputs: int) -> _Part:
        def nothing(n: int) -> Float:
            return np.stack([np.full(n, np.inf), np.full(n, -np.inf)])

        return cls(Moments(features, outputs), nothing(features), nothing(outputs))

    @classmethod
    def total(cls, parts: list[_Part]) -> _Part:
        def widest(ranges: list[Float]) -> Float:
            return np.stack([np.min([r[0] for r in ranges], axis=0), np.max([r[1] for r in ranges], axis=0)])

        whole = Moments.total([p.moments for p in parts])
        return cls(whole, widest([p.inputs for p in parts]), widest([p.light for p in parts]))


def find_shown(
    response: Response, observations: Observations, followed: Followed, bad: NDArray[np.bool_], fold: NDArray[np.intp]
) -> Shown:
    """What the good rows of a fit show.

    Parameters
    ----------
    response
        Of the last round, before it is referred to the end of the file.
    bad
        (n,) rows that are left out.
    fold
        (n,) parts of the hold-out.
    """
    return _Showing(response, observations, followed, bad, fold).found()


class _Showing:
    """Two passes: sums by fold, then what each fold is to the others."""

    def __init__(
        self,
        response: Response,
        observations: Observations,
        followed: Followed,
        bad: NDArray[np.bool_],
        fold: NDArray[np.intp],
    ) -> None:
        self._response, self._observations, self._followed = response, observations, followed
        self._good, self._fold = ~bad, fold
        single, n = response.single, response.weights.shape[1]
        outputs = 1 if single else response.n_outputs
        self._gain = response.input_map[None] if single else response.gain
        self._weights = np.ones((1, n)) if single else response.weights
        self._middle = (self._gain @ np.broadcast_to(response.centre, self._gain.shape)[0]) * np.ones(outputs)
        self._parts = {int(k): _Part.empty(n, outputs) for k in np.unique(fold[self._good])}
        self._noise, self._rows = np.zeros(outputs), 0
        self._gather()

    def _sampled(self, rows: Rows, most: int) -> NDArray[np.bool_]:
        at = np.arange(rows.start, rows.start + len(rows))
        stride = -(-self._observations.count // most)
        return np.asarray(self._good[at] & ((at // BLOCK) % stride == 0))

    def _gather(self) -> None:
        response, followed = self._response, self._followed
        for rows in self._observations.chunks():
            at = np.arange(rows.start, rows.start + len(rows))
            light, level = response.light(rows), followed.level[at]
            kept = self._sampled(rows, MOST_ROWS)
            drifted = light * (1 + level[:, :1])
            gradient = response.gradient(drifted, rows)
            noise = response.noise_variance(drifted, rows) / gradient**2
            residual = (columns(rows) - response.mean(light, rows, level)) / gradient / (1 + level[:, :1])
            phi, q = response.seen(light, rows, self._middle)
            self._noise += noise[kept].sum(0)
            self._rows += int(kept.sum())
            for k, part in self._parts.items():
                own = kept & (self._fold[at] == k)
                if own.any():
                    part.moments.add(phi[own], q[:, own], residual[own])
                whole = self._good[at] & (self._fold[at] == k)
                if whole.any():
                    _widen(part.inputs, rows.inputs[whole])
                    _widen(part.light, light[whole])

    def found(self) -> Shown:
        whole = _Part.total(list(self._parts.values()))
        low, high = self._response.input_range
        ends = self._response.curved(np.array([[low, high]]))[0]
        half = (whole.light[1] - whole.light[0]) / 2
        half = np.where(half > STILL * half.max(), half, max(float(half.mean()), 1e-300))
        reach = np.stack([np.full_like(half, max(abs(float(ends[1] - ends[0])) / 2, 1e-300)), half])
        noise = np.maximum(self._noise / max(self._rows, 1), 1e-300)
        known = scales(whole.moments, self._gain, self._weights, noise, reach)
        shown = Shown(Leverage.of(whole.moments, known), whole.inputs, whole.light, self._middle, 0.0, 0.0)
        return self._tested(shown, known)

    def _tested(self, shown: Shown, known: Scales) -> Shown:
        """With what is open of held-out rows, and how far they leave the ranges of the others."""
        if len(self._parts) < 2:
            return shown
        every = max(1, len(self._parts) // 2) if len(self._gain[0]) > EVERY_FOLD else 1
        folds = list(self._parts)[::every]
        others = {k: _Part.total([p for j, p in self._parts.items() if j != k]) for k in folds}
        levers = {k: Leverage.of(part.moments, known) for k, part in others.items()}
        variances, inputs, lights = [], [], []
        weight = self._response.input_weight(known.noise)
        for rows in self._observations.chunks():
            kept = self._sampled(rows, MOST_HELD_OUT)
            fold = self._fold[rows.start : rows.start + len(rows)]
            for k in folds:
                own = kept & (fold == k)
                if not own.any():
                    continue
                part = rows.taken(own)
                light = self._response.light(part)
                phi, q = self._response.seen(light, part, self._middle)
                gains, curves = levers[k].variance(phi, q, self._gain, self._weights)
                variances.append(gains + curves)
                inputs.append(beyond_inputs(part.inputs, others[k].inputs, weight).max(1))
                lights.append(beyond_light(light, others[k].light).max(1))
        reference = np.quantile(np.concatenate(variances), HELD_OUT, axis=0)
        held_input, held_light = (float(np.quantile(np.concatenate(v), HELD_OUT_RANGES)) for v in (inputs, lights))
        lever = replace(shown.leverage, reference=reference)
        return replace(shown, leverage=lever, held_input=held_input, held_light=held_light)


def _widen(ranges: Float, values: Float) -> None:
    np.minimum(ranges[0], values.min(0), out=ranges[0])
    np.maximum(ranges[1], values.max(0), out=ranges[1])
