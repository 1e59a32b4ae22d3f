r"""Photons per multiply-accumulate (MAC) that one product needs for a stated error, under each encoding.

Here the question is asked of a single product, without a Transformer around it; `simulation.scaling.requirement` asks
it of a whole model. How the answer depends on the number of inputs K is the exponent of the scaling law.

One product is ``y = Σ_k w_k x_k`` over K inputs. The panels show ``ŵ = w/s_w``, clipped at 1, and ``x̂ = x/s_x``, where
s_x is the largest |x| of the vector. In one pass the weight plane receives ``n K`` photons, n for each MAC. One unit of
``Σ ŵ x̂`` is then worth ``g`` counts, and shot noise is the only noise. With ``S = Σ |ŵ||x̂|`` and ``A = Σ |x̂|``, the
four cases are:

four-pass
    ``y = o₊₊ + o₋₋ − o₊₋ − o₋₊``: four Poisson readings, the means of which add up to S. Only signs that x really has
    are shown, p ∈ {1, 2} of them, and the light is n per MAC in the mean over these passes. So ``g = p n K / A`` and
    ``var y = S / g = S A / (p n K)``.
offset
    ``x' = (1 + x̂)/2`` and ``w' = (1 + ŵ)/2`` are shown in one pass, which reads ``O = Σ w'x'``. The product is ``4 O``
    less sums that are known digitally. So ``g = n K / Σ x'`` and ``var y = 16 O / g``.
net-output
    No machine does this, but estimates in the literature often assume it: Poisson noise of the signed result alone,
    ``var y = |y| / g`` with the g of four-pass.
full-scale
    The same light as four-pass, but the error is compared with the light that falls on the detector, S, and not with
    the result y.

A relative error ε asks for ``⟨var y⟩ = ε² ⟨y²⟩``, or ``ε² ⟨S²⟩`` in the case of full-scale; n follows from it. For
independent operands of mean zero, S and A grow as K and y as √K, so that

    case         photons per MAC                              grows as
    four-pass    n = E|ŵ| (E|x̂|)² / (2 ε² E[ŵ²] E[x̂²])        K⁰
    offset       n = 2 / (ε² E[ŵ²] E[x̂²])                     K⁰, and ln K through s_x
    net-output   n = √(2/π) E|x̂| / (2 ε² √(K E[ŵ²] E[x̂²]))    K^−½
    full-scale   n = 1 / (2 ε² K E|ŵ|)                        K⁻¹

Optical Transformers (arXiv 2302.10360) states a requirement that falls as 1/d with the width d of the model. That is
the last line: a constant number of photons for each *reading of a detector*. It holds for operands of one sign, and
wherever the error that can be borne is a fraction of full scale. Where the error of a signed product must stay a
fraction of *its own* size, the photons per MAC are constant: positive and negative terms cancel and make y smaller than
S by √K, which uses up what the longer sum gains. What a Transformer tolerates lies between the two, and is measured
(`labctl scaling`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import scipy
from numpy.typing import NDArray

from calibration.frames.products import ProductGroup
from calibration.statistics.tails import chi2_sf, normal_isf, normal_pdf

Encoding = Literal["four-pass", "offset", "net-output", "full-scale"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
Float = NDArray[np.float64]


def product_light(weight: Float, inputs: Float, encoding: Encoding) -> tuple[Float, Float]:
    """Variance of products by shot noise at one photon per MAC, and the square that it is compared with.

    Parameters
    ----------
    weight
        (M, K) weights over the scale of full transmission, ŵ; they are clipped at ±1.
    inputs
        (n, K) vectors, each over its own largest magnitude, x̂.

    Returns
    -------
    variance, square
        (n, M) each: var y · n in the module's symbols, and y² (S² for full-scale), both in units of ŵ and x̂.
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
    """Photons per MAC and pass that the products of a model need for a relative rms error.

    Of each group the photons are found that give the error over its products, variances and squares each in the mean.
    The answer is the geometric mean over the groups, so that each matrix weighs the same, whatever its size.
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
    """E|ŵ| and E[ŵ²] of a normally distributed weight that is clipped at a percentile of its magnitude.

    Attributes
    ----------
    mean
        E|ŵ|.
    square
        E[ŵ²].
    """

    mean: float
    square: float


def clipped_normal(percentile: float) -> Moments:
    """Moments of ``ŵ = clip(w / s, ±1)``, where w is normal and s is the ``percentile`` of |w| [%]."""
    s = float(normal_isf(0.5 - percentile / 200))
    beyond = 1 - percentile / 100
    phi = float(normal_pdf(s))
    mean = 2 * (1 / math.sqrt(2 * math.pi) - phi) / s + beyond
    square = (1 - beyond - 2 * s * phi) / s**2 + beyond
    return Moments(mean, square)


def random_photons(inputs: int, encoding: Encoding, error: float, percentile: float = 99.0) -> float:
    """Photons per MAC and pass for a relative error of products of normal operands: the table of the module.

    Parameters
    ----------
    inputs
        K, the number of inputs of the product.
    encoding
        Which line of the table.
    error
        ε, relative rms error of a product [1].
    percentile
        Of the magnitudes of the weights, which full transmission stands for [%].
    """
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
    return float(scipy.integrate.quad(lambda t: 1 - (1 - chi2_sf(t, 1)) ** count, 0, 80, limit=200)[0])
