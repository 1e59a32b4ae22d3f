"""The final gate: real Transformer products, never used in a fit, against what the calibration says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from calibration.channel import Noise
from calibration.errors import BadScan
from calibration.schedule import ProductResult

Float = NDArray[np.float64]

BAD_FRAME_FALSE_ALARM = 1e-7


@dataclass(frozen=True)
class Validation:
    """How well held-out products came out.

    Attributes
    ----------
    products
        Matrix–vector products compared, all outputs and passes of each.
    nrmse
        rms of measured − realised over the output range of its group [1].
    nrmse_model
        The same against the model's own float products: encoding errors included [1].
    r2
        1 − residual / total variance, measured against realised.
    effective_bits
        log2(1 / nrmse).
    chi2_per_dof
        Mean of (measured − realised)² / predicted variance; 1 when the noise is what was predicted.
    coverage95
        Share of outputs inside their 95 % interval.
    bad_frames
        Indices of frames whose residual the noise cannot explain.
    """

    products: int
    nrmse: float
    nrmse_model: float
    r2: float
    effective_bits: float
    chi2_per_dof: float
    coverage95: float
    bad_frames: list[int]

    def misses(self, limits: Mapping[str, tuple[float, float]]) -> list[str]:
        """Which figures lie outside ``limits`` (name → (low, high)), in words; empty when all hold."""
        found = []
        for name, (low, high) in limits.items():
            value = float(getattr(self, name))
            if not low <= value <= high:
                found.append(f"{name} is {value:.4g}, not in {low:g} … {high:g}")
        return found


def validate(results: list[ProductResult], bad_frames: list[int]) -> Validation:
    """Pool all groups, each in units of its own output range; one that has none (all spoiled, or zero) says nothing."""
    results = [r for r in results if r.exact.size and np.ptp(r.exact) > 0]
    if not results:
        raise BadScan("no products to validate", action="validation", hint="labctl measure WORKLOAD")
    error, error_model, z, centred = [], [], [], []
    for r in results:
        span = float(np.ptp(r.exact))
        error.append(((r.measured - r.realised) / span).ravel())
        error_model.append(((r.measured - r.exact) / span).ravel())
        z.append(r.z)
        centred.append(((r.realised - r.realised.mean()) / span).ravel())
    e, em, zz, y = (np.concatenate(parts) for parts in (error, error_model, z, centred))
    nrmse = float(np.sqrt(np.mean(e**2)))
    return Validation(
        products=sum(len(r.measured) for r in results),
        nrmse=nrmse,
        nrmse_model=float(np.sqrt(np.mean(em**2))),
        r2=float(1 - (e**2).sum() / (y**2).sum()),
        effective_bits=float(-np.log2(nrmse)),
        chi2_per_dof=float(np.mean(zz**2)),
        coverage95=float(np.mean(np.abs(zz) < stats.norm.ppf(0.975))),
        bad_frames=bad_frames,
    )


def find_bad_frames(
    residual_dn: Float, light_dn: Float, noise: Noise, saturated: NDArray[np.bool_], offset_dn: Float | float = 0.0
) -> list[int]:
    """Frames that are not what was asked for: stale, swapped, garbage, saturated.

    The χ² of a frame over its M outputs has the covariance ``diag(σ² + κ s) + ρ² s sᵀ`` of light s: the source
    flickers for all outputs of a frame at once, which is one pattern and not M noises. (Inverted by Sherman and
    Morrison.) A frame is bad when its χ² exceeds what noise gives once in ten million frames, allowing for a misfit
    common to all frames (the median χ² sets the scale where it exceeds 1).

    Parameters
    ----------
    residual_dn, light_dn
        (n, M) reading − expectation, and expectation above the offset [DN].
    noise
        Of the channel.
    saturated
        (n,) frames with too many saturated pixels.
    offset_dn
        (M,) stray light of the source, which flickers too [DN].
    """
    light = np.maximum(light_dn, 0.0)
    independent = replace(noise, intensity=0.0).variance(light)
    rho2 = noise.intensity**2
    flickering = light + offset_dn
    common = (residual_dn * flickering / independent).sum(axis=1)
    shrink = rho2 / (1 + rho2 * (flickering**2 / independent).sum(axis=1))
    chi2 = (residual_dn**2 / independent).sum(axis=1) - shrink * common**2
    m = residual_dn.shape[1]
    scale = max(1.0, float(np.median(chi2)) / float(stats.chi2.median(m)))
    limit = scale * float(stats.chi2.isf(BAD_FRAME_FALSE_ALARM, m))
    return [int(i) for i in np.nonzero((chi2 > limit) | saturated)[0]]
