"""What a fitted response says of weights that were not on its bench, and what nobody measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.errors import OutOfDomain
from calibration.response.model import Response
from calibration.response.other_weights import SAME

Float = NDArray[np.float64]

WEAKEST = 0.1
"""Of the median slope: inputs that weights move by less are left unused, because all others would be dimmed to them."""

NORMAL_95, WIDER = 1.96, 1.1
"""Half of the 95 % interval of normal noise [σ], and by which factor held-out readings must leave it to be said."""


@dataclass(frozen=True)
class Cells:
    """How the gain of every cell goes with its weight: a line through what the fit measured.

        gain(w) = gain of the fit + (1 + X) (slope ∘ (w − weights of the fit))

    Where the fit found gains in proportion to the weights, the slope is input map times output gain, and the line is
    that of `calibration.response.other_weights.with_weights`. Where each pair has a gain of its own, measured at one
    weight, the slope is that of a straight line through all cells of its output.

    Attributes
    ----------
    slope
        (M, N) [unit per input unit].
    mix
        (M, M) I + X.
    low, high
        Weights between which the bench was seen.
    bend_slope, bend_scatter
        (J,) how the curvature of single inputs goes with the weight, as the gain does; and rms about that line, of full
        weight [unit per unit of x].
    proportional
        Whether the fit tested it.
    scatter
        Rms of the gains about the line, relative to what full weights add; 0 where it goes through all of them.
    """

    response: Response
    slope: Float
    mix: Float
    low: float
    high: float
    bend_slope: Float
    bend_scatter: Float
    proportional: bool
    scatter: float

    @classmethod
    def of(cls, response: Response) -> Cells:
        """From a fit.

        Raises
        ------
        OutOfDomain
            When it tells nothing of other weights: they were all alike, or the readings do not follow them.
        """
        old = response.weights
        low, high = max(float(old.min()), 0.0), float(old.max())
        mix = np.eye(response.n_outputs) + response.crosstalk
        rank_one = response.output_gain[:, None] * response.input_map
        missed = np.abs(mix @ (rank_one * old) - response.gain).max()
        proportional = bool(missed <= SAME * np.abs(response.gain).max())
        if not high > low:
            raise cannot(response, "weights that differ", f"{high:g} everywhere")
        if proportional:
            slope, scatter = rank_one, 0.0
        else:
            slope = np.repeat(_slopes(old, response.gain)[:, None], old.shape[1], axis=1)
            mix = np.eye(response.n_outputs)
            about = response.gain - slope * old
            scatter = float(np.std(about - about.mean(1, keepdims=True)) / (np.abs(slope).mean() * (high - low)))
        if not (np.median(slope, axis=1) > 0).all():
            raise cannot(response, "readings that rise with the weights", "outputs whose gain does not")
        bends = np.array([_slopes(old.reshape(1, -1), each.reshape(1, -1))[0] for each in response.bend.gain])
        apart = np.array([np.std(each - b * old) for each, b in zip(response.bend.gain, bends, strict=True)])
        return cls(response, slope, mix, low, high, bends, apart, proportional, scatter)

    def gain(self, weights: Float) -> Float:
        """(…, M, N) of weights of that shape."""
        added = self.slope * (weights - self.response.weights)
        is_mixed = bool(np.any(self.mix != np.eye(len(self.mix))))
        return np.asarray(self.response.gain + (self.mix @ added if is_mixed else added))

    def bend(self, weights: Float) -> Float:
        """(J, …, M, N) curvature of single inputs with these weights."""
        if not self.response.bend.powers:
            return np.empty((0, *weights.shape))
        more = self.bend_slope[(slice(None),) + (None,) * weights.ndim] * (weights - self.response.weights)
        own = self.response.bend.gain
        return np.asarray(own.reshape(len(own), *(1,) * (weights.ndim - 2), *own.shape[1:]) + more)

    def transmitted(self, inputs: Float) -> Float:
        """(n, N) what inputs do behind full weights, in input units: their curve, and what goes with the weight of that
        of single inputs, for the mean output."""
        found = self.response.curved(inputs)
        if self.response.bend.powers:
            shares = self.bend_slope / self.slope.mean()
            found = found + np.einsum("j,jnk->nk", shares, self.response.bend.terms(inputs))
        return np.asarray(found)

    @property
    def used(self) -> NDArray[np.intp]:
        """Inputs that weights move by enough, at every output."""
        return np.flatnonzero((self.slope >= WEAKEST * np.median(self.slope, axis=1, keepdims=True)).all(0))

    def not_measured(self) -> list[str]:
        """What is taken and not known, in words."""
        found, response = [], self.response
        if not self.proportional:
            found.append(
                "the gain of each pair was measured at one weight only: with others it is taken to move along the line "
                f"that the gains of its output have over their weights, about which single cells scatter by "
                f"{100 * self.scatter:.2g} % of full weight"
            )
        levels = (
            f"which weights between {self.low:g} and {self.high:g} the bench can show: all are taken to be possible"
        )
        found.append(
            levels + f", and all inputs between {response.input_range[0]:.6g} and {response.input_range[1]:.6g}"
        )
        if response.bend.powers:
            found.append("how the curvature of single inputs goes with the weight: as a line over those of the fit")
        if not response.crosstalk.any():
            found.append("light that goes from one output to the next as weights change: none, as in the fit")
        else:
            found.append("crosstalk with other weights: that of the fit")
        if len(self.used) < self.slope.shape[1]:
            lost = sorted(set(range(self.slope.shape[1])) - set(self.used.tolist()))
            found.append(f"inputs {', '.join(map(str, lost))} hardly answer to weights and are not used")
        if response.dead:
            found.append(f"outputs {', '.join(map(str, response.dead))} are dead and are not used")
        wide = float(response.interval.max()) / NORMAL_95
        if wide > WIDER:
            found.append(f"why held-out readings of the fit scatter {wide:.2g} times as widely as its noise law says")
        found.append("drift after the last row of the fit")
        found.append("photons at the weight plane, which are given as those that would be detected")
        return found

    def drawn(self, rng: np.random.Generator) -> Drawn:
        """One of the benches that the fit could have come from."""
        r = self.response
        rank = r.factor.shape[1]
        if r.mean_variance is None:
            normal = rng.standard_normal((len(r.factor), rank))
            error = np.einsum("mr,mrk->mk", normal, r.factor)
            level = np.sqrt(r.offset_variance) * rng.standard_normal(r.n_outputs)
        else:
            error = np.zeros((len(r.factor), r.factor.shape[2]))
            level = np.sqrt(r.mean_variance + r.offset_variance) * rng.standard_normal(r.n_outputs)
        relative = np.sqrt(r.row_variance) * rng.standard_normal(r.n_outputs)
        cells = rng.standard_normal((1 + len(self.bend_slope), *self.slope.shape))
        return Drawn(error, level, relative, self.scatter * cells[0], self.bend_scatter[:, None, None] * cells[1:])

    def error(self, drawn: Drawn, weights: Float) -> tuple[Float, Float]:
        """By how much the gain of a drawn bench differs, (…, M, N), and its readings besides, (…, M)."""
        r = self.response
        if r.single:
            gain = drawn.gain * weights
            level = drawn.level - (drawn.gain * r.centre).sum(-1)
        else:
            known = self.gain(weights)
            seen = np.abs(r.gain) > SAME * np.abs(r.gain).max()  # of a cell that was dark, no error is known either
            ratio = np.where(seen, np.abs(known / np.where(seen, r.gain, 1.0)), 0.0)
            gain = drawn.gain * (ratio if self.proportional else 1.0)
            level = drawn.level - (gain * r.centre).sum(-1)
        unknown = drawn.cells * self.slope * (weights - r.weights)
        return gain + drawn.relative[:, None] * self.gain(weights) + unknown, level

    def bend_error(self, drawn: Drawn, weights: Float) -> Float:
        """By how much the curvature of single inputs of a drawn bench differs, (J, …, M, N)."""
        distance = (weights - self.response.weights) / (self.high - self.low)
        return np.stack([each * distance for each in drawn.bends]) if len(drawn.bends) else self.bend(weights)


@dataclass(frozen=True)
class Drawn:
    """Errors of a fit, as one bench has them: of gains (M, N), readings (M,), outputs (M,) [1], and slopes (M, N) [1];
    of the curvature of single inputs (J, M, N).

    The slope of a cell of which one weight was seen is as uncertain as gains lie off the line: at the other end of the
    weights its gain is wrong by `Cells.scatter` of full weight.
    """

    gain: Float
    level: Float
    relative: Float
    cells: Float
    bends: Float


def certain(response: Response) -> Response:
    """The response without its own uncertainty: what remains is the noise of readings and the drift that is left."""
    return replace(
        response,
        factor=np.zeros_like(response.factor),
        offset_variance=np.zeros_like(response.offset_variance),
        row_variance=np.zeros_like(response.row_variance),
        mean_variance=None if response.mean_variance is None else np.zeros_like(response.mean_variance),
    )


def cannot(response: Response, expected: str, seen: str) -> OutOfDomain:
    """A refusal to carry other weights, or to carry them in one way."""
    return OutOfDomain(
        "the bench of this calibration cannot be simulated so",
        device=response.id,
        action="simulating",
        expected=expected,
        seen=seen,
        hint="leave out --encoding if it is stated; with the weights of the recording: labctl predict CALIB FILE",
    )


def _slopes(weights: Float, gain: Float) -> Float:
    """(M,) of a straight line of each row of gains over its weights."""
    off = weights - weights.mean(1, keepdims=True)
    square = (off**2).sum(1)
    return np.asarray(np.divide((off * gain).sum(1), square, out=np.zeros(len(gain)), where=square > 0))
