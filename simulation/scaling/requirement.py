"""Photons that a model needs to stay near its digital perplexity, with an interval from the text and the noise.

Excess nats against the 8-bit model, or the one in float, on the same windows are averaged over the noise seeds. Between
the levels runs a curve that never rises with light: isotonic regression, then monotone cubic interpolation of
``asinh(excess / tolerance)`` over ``log(photons)``, which is straight both for a power law far above the tolerance and
for an excess near zero. The requirement is where it crosses the tolerance. The bootstrap draws documents with all
their windows (the same ones at every level and every width, because they read the same text) and noise seeds, and finds
the crossing anew each time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import scipy
from numpy.typing import NDArray

from calibration.errors import BadOperands

Float = NDArray[np.float64]
Reference = Literal["int8", "digital"]
REFERENCES: tuple[Reference, ...] = get_args(Reference)
"""What light is compared with: the same model with 8-bit operands, or in float."""
INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Sweep:
    """One model at every light level.

    Attributes
    ----------
    width
        d.
    photons
        (L,) ascending, at the weight plane per MAC and pass.
    nats
        (L, S, W) summed over each of W windows, for S noise seeds.
    int8, digital
        (W,) the same for the 8-bit model and in float.
    tokens
        (W,) scored in each window.
    documents
        (W,) the number of the document that each window is cut from; None where each counts as one.
    """

    width: int
    photons: Float
    nats: Float
    int8: Float
    digital: Float
    tokens: Float
    documents: NDArray[np.int64] | None = None

    @property
    def perplexity(self) -> Float:
        """(L,) over all windows and seeds."""
        return np.asarray(np.exp(self.nats.mean(axis=1).sum(axis=1) / self.tokens.sum()))

    def reference(self, run_as: Reference = "int8") -> float:
        """Perplexity of the digital model."""
        return float(np.exp(self.reference_nats(run_as).sum() / self.tokens.sum()))

    def reference_nats(self, run_as: Reference) -> Float:
        """(W,) nats of the digital model."""
        return self.int8 if run_as == "int8" else self.digital

    def excess(self, run_as: Reference = "int8") -> Float:
        """(L,) nats per token above the digital model."""
        above = self.nats.mean(axis=1) - self.reference_nats(run_as)
        return np.asarray(above.sum(axis=1) / self.tokens.sum())


@dataclass(frozen=True)
class Resamples:
    """Draws with replacement, shared by the widths: (B, W) counts of windows, and (B, S) of seeds for each width."""

    windows: Float
    seeds: Float

    @property
    def tell(self) -> bool:
        """Whether draws differ: of one document and one seed all are the same, which says nothing of either."""
        return bool(np.ptp(self.windows, axis=0).any() or np.ptp(self.seeds, axis=0).any())

    def interval(self, draws: Float) -> tuple[Float, Float]:
        """95 % of (B, …) numbers of the draws; nan where draws tell nothing."""
        low, high = interval(draws)
        return (low, high) if self.tell else (low * math.nan, high * math.nan)

    def excess(self, sweep: Sweep, run_as: Reference = "int8") -> Float:
        """(B, L) excess nats per token of each draw."""
        above = sweep.nats - sweep.reference_nats(run_as)  # (L, S, W)
        per_seed = np.einsum("lsw,bw->bls", above, self.windows)
        summed = np.einsum("bls,bs->bl", per_seed, self.seeds) / self.seeds.sum(axis=1)[:, None]
        return np.asarray(summed / (self.windows @ sweep.tokens)[:, None])

    def perplexity(self, sweep: Sweep) -> Float:
        """(B, L) perplexity of each draw."""
        base = self.windows @ sweep.int8 / (self.windows @ sweep.tokens)
        return np.asarray(np.exp(base[:, None] + self.excess(sweep)))


def resample(sweep: Sweep, count: int, windows: np.random.Generator, seeds: np.random.Generator) -> Resamples:
    """``count`` draws of documents; generators in equal states give every width the same ones."""
    n_seeds, n_windows = sweep.nats.shape[1:]
    own = np.arange(n_windows) if sweep.documents is None else np.unique(sweep.documents, return_inverse=True)[1]
    n_documents = int(own.max()) + 1
    drawn = windows.multinomial(n_documents, np.full(n_documents, 1 / n_documents), size=count)[:, own]
    drawn_seeds = seeds.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=count)
    return Resamples(drawn.astype(np.float64), drawn_seeds.astype(np.float64))


@dataclass(frozen=True)
class Requirement:
    """Photons at the weight plane per MAC and pass that keep one model within a tolerance.

    Attributes
    ----------
    width
        d.
    reference
        The digital model that it is compared with.
    tolerance
        Allowed perplexity above it: 0.01 is 1 %.
    photons
        None where the tolerance is not crossed between the dimmest and the brightest level.
    low, high
        95 % bootstrap interval; None on a side where draws leave the levels, and on both where draws tell nothing.
    draws
        (B,) the bootstrap; −inf and inf beyond the levels.
    reason
        Why there is no number; empty if there is one.
    """

    width: int
    reference: Reference
    tolerance: float
    photons: float | None
    low: float | None
    high: float | None
    draws: Float
    reason: str = ""


def requirement(sweep: Sweep, tolerance: float, draws: Resamples, reference: Reference = "int8") -> Requirement:
    """Where the perplexity comes within ``tolerance`` of the digital model's.

    Raises
    ------
    BadOperands
        When there are fewer than three levels.
    """
    if len(sweep.photons) < 3:
        raise BadOperands(
            "too few light levels for a curve",
            expected="at least 3",
            seen=str(len(sweep.photons)),
            hint="--photons-per-mac",
        )
    nats = math.log1p(tolerance)
    excess = sweep.excess(reference)
    value = crossing(sweep.photons, excess, nats)
    found = np.array([crossing(sweep.photons, drawn, nats) for drawn in draws.excess(sweep, reference)])
    low, high = np.percentile(found, INTERVAL, method="inverted_cdf")
    return Requirement(
        sweep.width,
        reference,
        tolerance,
        value if math.isfinite(value) else None,
        float(low) if math.isfinite(low) and draws.tell else None,
        float(high) if math.isfinite(high) and draws.tell else None,
        found,
        _reason(sweep.photons, excess, value),
    )


def crossing(photons: Float, excess: Float, tolerance: float) -> float:
    """Light at which the monotone curve through (photons, excess) falls to ``tolerance`` [nats].

    Returns
    -------
    −inf if it is below at the dimmest level, inf if it is above at the brightest.
    """
    falling = scipy.optimize.isotonic_regression(excess, increasing=False).x
    height = np.arcsinh(falling / tolerance) - math.asinh(1.0)
    if height[0] <= 0:
        return -math.inf
    if height[-1] > 0:
        return math.inf
    last = int(np.nonzero(height > 0)[0][-1])
    x = np.log(photons)
    return math.exp(
        scipy.optimize.brentq(scipy.interpolate.PchipInterpolator(x, height), x[last], x[last + 1], xtol=1e-6)
    )


def bright_cost(sweep: Sweep, draws: Resamples, below: float = 0.05) -> tuple[float, float, float]:
    """C of ``excess = C / n`` above the model in float, from the bright levels of a sweep, with its 95 % interval.

    Parameters
    ----------
    below
        Levels with an excess of more nats per token, or dimmer than such a level, are left out: there the second order
        of the expansion in the noise is not enough.

    Returns
    -------
    C, low, high [nats per token at one photon per MAC]; nan where no level is bright enough, and low and high where
    draws tell nothing. Noise of the sweep falls as ``n^−½``, and levels are weighted by it: ``C = Σ excess / Σ 1/n``.
    """
    excess = sweep.excess("digital")
    dim = np.nonzero(excess > below)[0]
    bright = slice(int(dim[-1]) + 1 if len(dim) else 0, None)
    per_photon = float((1 / sweep.photons[bright]).sum())
    if not per_photon:
        return math.nan, math.nan, math.nan
    low, high = draws.interval(draws.excess(sweep, "digital")[:, bright].sum(1) / per_photon)
    return float(excess[bright].sum() / per_photon), float(low), float(high)


def interval(draws: Float) -> tuple[Float, Float]:
    """95 % of (B, …) draws along the first axis."""
    low, high = np.percentile(draws, INTERVAL, axis=0)
    return np.asarray(low), np.asarray(high)


def _reason(photons: Float, excess: Float, value: float) -> str:
    if value == math.inf:
        over = math.expm1(float(excess[-1]))
        return f"{over:+.1%} still at {photons[-1]:g} photons per MAC: brighter levels, or an error without light"
    if value == -math.inf:
        return f"already within it at {photons[0]:g} photons per MAC: dimmer levels are needed"
    return ""
