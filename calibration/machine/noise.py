"""The noise of a region sum: what a frame has in common, and what each output has of its own.

A reading of the light s above an offset b scatters with the variance ::

    var(y) = σ² + κ s + (ρ (s + b))²

The words, which mean the same everywhere in `calibration`:

read noise σ [DN]
    An output's own: read noise and quantisation of the camera, and the shot noise of dark, ambient and stray light.
shot noise κ [DN/e-]
    An output's own: photons, in DN per detected electron, weighted as a region sum weights its pixels.
flicker ρ [1]
    Common to a frame: the source is brighter or darker by one factor while the frame is exposed, so that all outputs
    are off by the same relative amount. ρ is the standard deviation of that factor. It moves the stray light b, too.
    On a bench that we do not drive nobody knows that it is the source: what the outputs of a row have in common is
    called common gain and common offset there (`calibration.response`).
intensity noise [1]
    An output's own: a relative error that each output makes for itself, as unstable macropixels do. The channel of a
    bench that we drive has none; the noise law of a bench that we do not drive may have it (`calibration.response`).
drift
    Flicker is independent from frame to frame. What changes slowly is drift, of gain and of offset, and is followed
    with reference frames (`calibration.fit.run_drift`).

Together the outputs of one frame have the covariance ``diag(σ² + κ s) + ρ² y yᵀ`` with y = s + b
(`calibration.statistics.covariance`).

Files keep the names of before there were two: the third entry of a calibration's array ``noise`` and the part
``"intensity"`` of a noise form such as ``"read + shot + intensity"`` are the flicker of a bench that we drive, and so
are the metrics ``intensity_noise`` of a run (of the noise scan alone) and ``calibration_intensity_noise`` (of its
calibration).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.statistics.covariance import Covariance

Float = NDArray[np.float64]

ROUNDING_DN2 = 1 / 12
"""Variance of rounding to whole counts [DN²]."""


@dataclass(frozen=True)
class Noise:
    """Noise of a region sum.

    Attributes
    ----------
    read_dn
        σ, of each output's own: read noise, quantisation, and the shot noise of dark, ambient and stray light [DN].
    shot_dn
        κ, of each output's own: DN per detected electron, weighted as the region sums weight their pixels [DN/e-].
    flicker
        ρ, common to all outputs of a frame: relative standard deviation of the source from frame to frame [1].
    stderr
        (3,) standard errors of ``read_dn``, ``shot_dn``, ``flicker``.
    """

    read_dn: float
    shot_dn: float
    flicker: float
    stderr: Float

    def own_variance(self, light_dn: Float) -> Float:
        """Variance [DN²] that each output has of its own, of readings with ``light_dn`` above the offset."""
        return np.asarray(self.read_dn**2 + self.shot_dn * np.maximum(light_dn, 0.0))

    def own_scatter(self, light_dn: Float) -> Float:
        """The same, of readings in whole counts: one that is dark, on a bench without read noise, is rounded, too."""
        return np.maximum(self.own_variance(light_dn), ROUNDING_DN2)

    def variance(self, light_dn: Float, offset_dn: Float | float = 0.0) -> Float:
        """Variance [DN²] of readings with ``light_dn`` above an offset of light that flickers with it."""
        total_dn = np.maximum(light_dn, 0.0) + offset_dn
        return self.own_variance(light_dn) + (self.flicker * total_dn) ** 2

    def covariance(self, light_dn: Float, total_dn: Float, extra_dn2: Float | float = 0.0) -> Covariance:
        """Covariance of the outputs of each frame.

        Parameters
        ----------
        light_dn
            (n, M) light above the offset: it has shot noise [DN].
        total_dn
            (n, M) light with the offset: all of it flickers [DN].
        extra_dn2
            (n, M) variance that each output has of its own besides, or one for all [DN²].
        """
        return Covariance.of(self.own_scatter(light_dn) + extra_dn2, total_dn, self.flicker**2)

    def with_common(self, relative: float) -> Noise:
        """The same with one more relative error that all outputs of a frame share, as they share the flicker [1]."""
        return replace(self, flicker=float(np.hypot(self.flicker, relative)))
