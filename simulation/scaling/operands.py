r"""The exponent without a Transformer: photons per MAC for a stated error of one product, under each encoding.

One product is ``y = Σ_k w_k x_k`` over K inputs, shown as ``ŵ = w/s_w`` (clipped at 1) and ``x̂ = x/s_x`` (s_x the
largest |x| of the vector). A pass receives ``n K`` photons at the weight plane, n photons per MAC, so one unit of
``Σ ŵ x̂`` is worth ``g`` counts; shot noise is the only noise. With ``S = Σ |ŵ||x̂|`` and ``A = Σ |x̂|``:

four-pass
    ``y = o₊₊ + o₋₋ − o₊₋ − o₋₊``, four Poisson readings whose means add up to S. The light is n per MAC on average
    over the p ∈ {1, 2} signs of x that are shown: ``g = p n K / A``, and ``var y = S / g = S A / (p n K)``.
offset
    ``x' = (1 + x̂)/2``, ``w' = (1 + ŵ)/2``, one pass of ``O = Σ w'x'``, and ``y = 4 O −`` digital sums:
    ``var y = 16 O / g`` with ``g = n K / Σ x'``.
net-output
    Not a machine but a common shortcut: Poisson noise of the signed result, ``var y = |y| / g``, g as for four-pass.
full-scale
    The light of four-pass, but the error is measured against the light that falls on the detector, S, not against y.

The photons for a relative error ε follow from ``⟨var y⟩ = ε² ⟨y²⟩`` (``ε² ⟨S⟩²`` for full-scale). For independent
zero-mean operands S and A grow as K and y as √K, so that

    four-pass    n = E|ŵ| E|x̂|² / (2 ε² E[ŵ²] E[x̂²])            K⁰
    offset       n = 2 / (ε² E[ŵ²] E[x̂²])                         K⁰, and ln K through s_x
    net-output   n = √(2/π) E|x̂| / (2 ε² √(K E[ŵ²] E[x̂²]))       K^−½
    full-scale   n = 1 / (2 ε² K E|ŵ|)                             K⁻¹

The paper's 1/d is the last line: a constant number of photons per *detector reading*. It holds for operands of one
sign, and wherever the error that can be borne is a fraction of the full scale. A signed product whose error must stay
a fraction of *its own* size needs constant photons per MAC: cancellation makes y smaller than S by √K, and eats the
gain. What a Transformer tolerates lies in between, and is what the sweep measures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, stats

from calibration.frames.products import ProductGroup

Encoding = Literal["four-pass", "offset", "net-output", "full-scale"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
Float = NDArray[np.float64]


def product_light(weight: Float, inputs: Float, encoding: Encoding) -> tuple[Float, Float]:
    """Variance at one photon per MAC, and the square it is compared with.

    Parameters
    ----------
    weight
        (M, K), scaled so that 1 is full transmission; clipped there.
    inputs
        (n, K), each vector scaled by its own largest magnitude.

    Returns
    -------
    variance, square
        (n, M) each.
    """
    w = np.clip(weight, -1, 1)
    k = w.shape[1]
    product = inputs @ w.T
    magnitude = np.abs(inputs) @ np.abs(w).T
    signs = ((inputs > 0).any(1).astype(float) + (inputs < 0).any(1)).clip(1)[:, None]
    per_count = np.abs(inputs).sum(1, keepdims=True) / (signs * k)  # 1/g at one photon per MAC
    if encoding == "offset":
        shown = (1 + inputs) / 2
        light = shown @ ((1 + w) / 2).T
        return 16 * light * shown.sum(1, keepdims=True) / k, product**2
    if encoding == "net-output":
        return np.abs(product) * per_count, product**2
    return magnitude * per_count, product**2 if encoding == "four-pass" else magnitude**2


def photons_for_error(groups: Sequence[ProductGroup], encoding: Encoding, error: float) -> float:
    """Photons per MAC and pass for a relative rms error, over all products of the groups.

    Every group counts by its own mean square, as relative errors do: matrices of different size weigh the same.
    """
    needed = []
    for group in groups:
        variance, square = product_light(
            group.weight.astype(np.float64) / group.weight_scale,
            group.inputs.astype(np.float64) / group.input_scales[:, None],
            encoding,
        )
        scale2 = group.input_scales.astype(np.float64)[:, None] ** 2  # errors add up in the units of the layer's output
        needed.append(float((variance * scale2).mean() / (square * scale2).mean()))
    return float(np.exp(np.mean(np.log(needed)))) / error**2


@dataclass(frozen=True)
class Moments:
    """Of a normal weight clipped at a percentile of its magnitude and scaled there: E|ŵ| and E[ŵ²]."""

    mean: float
    square: float


def clipped_normal(percentile: float) -> Moments:
    """``ŵ = clip(w / s, ±1)`` for normal w, s its ``percentile`` of magnitude."""
    s = float(stats.norm.ppf(0.5 + percentile / 200))
    beyond = 1 - percentile / 100
    phi = float(stats.norm.pdf(s))
    mean = 2 * (1 / math.sqrt(2 * math.pi) - phi) / s + beyond
    square = (1 - beyond - 2 * s * phi) / s**2 + beyond
    return Moments(mean, square)


def random_photons(inputs: int, encoding: Encoding, error: float, percentile: float = 99.0) -> float:
    """Closed form for normal operands: photons per MAC and pass for a relative error, K = ``inputs`` (see above)."""
    w = clipped_normal(percentile)
    mean_x, square_x = math.sqrt(2 / math.pi), 1.0  # of x in units of its own spread; s_x cancels but for offset
    if encoding == "four-pass":
        return w.mean * mean_x**2 / (2 * error**2 * w.square * square_x)
    if encoding == "offset":
        return 2 * _largest_square(inputs) / (error**2 * w.square * square_x)
    if encoding == "net-output":
        return math.sqrt(2 / math.pi) * mean_x / (2 * error**2 * math.sqrt(inputs * w.square * square_x))
    return 1 / (2 * error**2 * inputs * w.mean)


def _largest_square(count: int) -> float:
    """E[max x²] of ``count`` normal numbers: ∫ P(max x² > t) dt."""
    return float(integrate.quad(lambda t: 1 - stats.chi2.cdf(t, 1) ** count, 0, 80, limit=200)[0])
