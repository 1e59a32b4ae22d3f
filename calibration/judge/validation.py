"""The final gate: real Transformer products, never used in a fit, against what the calibration says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadScan, OutOfDomain
from calibration.frames.schedule import ProductResult
from calibration.statistics.bad_frame import BadFrame
from calibration.statistics.tails import normal_isf

Float = NDArray[np.float64]

NOTHING = 1e-9
"""Part of an output range that only rounding of float64 leaves."""


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
    bad
        Frames that are not what was asked for.
    values
        How many independent values were compared: outputs of products, fewer where they have errors in common.
    """

    products: int
    nrmse: float
    nrmse_model: float
    r2: float
    effective_bits: float
    chi2_per_dof: float
    coverage95: float
    bad: list[BadFrame]
    values: float

    @property
    def chi2_stderr(self) -> float:
        """By which χ² per degree of freedom scatters where all is as predicted: √(2 / values)."""
        return float(np.sqrt(2 / max(self.values, 1)))

    @property
    def coverage_stderr(self) -> float:
        """By which the share inside 95 % intervals scatters where these are right."""
        return float(np.sqrt(0.95 * 0.05 / max(self.values, 1)))

    @property
    def bad_frames(self) -> list[int]:
        """Indices of the bad frames."""
        return [frame.index for frame in self.bad]

    @property
    def bad_frame_reasons(self) -> list[str]:
        """What each of them is instead."""
        return [frame.reason for frame in self.bad]

    def misses(self, limits: Mapping[str, tuple[float, float]]) -> list[str]:
        """Which figures lie outside ``limits`` (name → (low, high)), in words; empty when all hold."""
        found = []
        for name, (low, high) in limits.items():
            value = float(getattr(self, name))
            if not low <= value <= high:
                found.append(f"{name} is {value:.4g}, not in {low:g} … {high:g}")
        return found


def validate(results: list[ProductResult], bad: list[BadFrame]) -> Validation:
    """Validate the products of all groups together, each group in units of its own output range.

    A group without a range (all its products were spoiled, or all are zero) is left out.

    Raises
    ------
    BadScan
        When no group is left.
    OutOfDomain
        When all realised products are equal: rounding operands to the panels' gray levels has left nothing of them.
    """
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
    if np.abs(y).max() < NOTHING:
        raise OutOfDomain(
            "no product can be told from another as the panels show it: their gray levels are too coarse for it",
            action="validation",
            expected="products that differ after rounding to the nearest gray level",
            seen="the same realised value for all outputs",
            hint="compare slm_quantisation and display_quantisation of node lut with the operands",
        )
    nrmse = float(np.sqrt(np.mean(e**2)))
    return Validation(
        products=sum(len(r.measured) for r in results),
        nrmse=nrmse,
        nrmse_model=float(np.sqrt(np.mean(em**2))),
        r2=float(1 - (e**2).sum() / (y**2).sum()),
        effective_bits=float(-np.log2(nrmse)),
        chi2_per_dof=float(np.mean(zz**2)),
        coverage95=float(np.mean(np.abs(zz) < normal_isf(0.025))),
        bad=bad,
        values=len(zz) ** 2 / max(sum(r.squares_covariance for r in results), 1.0),
    )
