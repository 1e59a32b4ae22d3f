"""The channel: light through the bench and its counts, as one model with few parameters.

For output m of one pass, in DN after dark subtraction::

    z_m = Σ_k u_mk T_mk (B D)_k                        light of row m
    (B D)_k = D_k + β₋ (D_{k−1} − D_k) + β₊ (D_{k+1} − D_k)      input bleed
    y_m = b_m + z_m + X₋ z_{m−1} + X₊ z_{m+1}          crosstalk between neighbouring outputs
    var(y_m) = σ² + κ (y_m − b_m) + (ρ (y_m − b_m))²   read, shot and relative intensity noise

T and D are the transmissions that SLM and display really show (`calibration.lut`), full transmission being 1;
panels are dark (level 0) outside the operands. Per-output crosstalk is allowed: X₋ and X₊ are (M,) arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """Noise of a region sum.

    Attributes
    ----------
    read_dn
        σ: read noise, quantisation and the shot noise of dark and ambient light [DN].
    shot_dn
        κ: DN per detected electron, weighted as the region sums weight their pixels [DN/e-].
    intensity
        ρ: relative intensity noise of the source, common to all outputs of a frame [1].
    stderr
        (3,) standard errors of ``read_dn``, ``shot_dn``, ``intensity``.
    """

    read_dn: float
    shot_dn: float
    intensity: float
    stderr: Float

    def variance(self, light_dn: Float) -> Float:
        """Variance [DN²] of readings with ``light_dn`` above the offset."""
        light = np.maximum(light_dn, 0.0)
        return self.read_dn**2 + self.shot_dn * light + (self.intensity * light) ** 2


@dataclass(frozen=True)
class Channel:
    """Gain, offset, crosstalk, bleed and noise of a bench, each with its standard error.

    Attributes
    ----------
    gain_dn, gain_stderr_dn
        (M, K) u: light of macropixel (m, k) at full transmission, in its own region [DN].
    offset_dn, offset_stderr_dn
        (M,) b: light that no modulator controls [DN].
    crosstalk, crosstalk_stderr
        (M, 2) share of row m−1's and of row m+1's light that region m collects [1]; 0 beyond the edge.
    bleed, bleed_stderr
        (2,) β₋, β₊: share of column k−1's and k+1's light that falls on column k [1].
    noise
        `Noise`
    """

    gain_dn: Float
    gain_stderr_dn: Float
    offset_dn: Float
    offset_stderr_dn: Float
    crosstalk: Float
    crosstalk_stderr: Float
    bleed: Float
    bleed_stderr: Float
    noise: Noise

    @property
    def shape(self) -> tuple[int, int]:
        """(M, K): outputs and inputs of one frame."""
        m, k = self.gain_dn.shape
        return m, k

    def light(self, slm: Float, display: Float) -> Float:
        """z: (M, K) SLM transmissions × (n, K) display transmissions → (n, M) [DN]."""
        return apply_bleed(self.bleed, display) @ (self.gain_dn * slm).T

    def mean(self, light_dn: Float) -> Float:
        """Expected readings (n, M) [DN] from the light z."""
        return self.offset_dn + mix(self.crosstalk, light_dn)

    def unmix(self, reading_dn: Float) -> Float:
        """z: undo offset and crosstalk of readings (n, M) [DN]."""
        return np.asarray(solve_banded((1, 1), self._bands, (reading_dn - self.offset_dn).T).T)

    def unmixed_variance(self, mean_dn: Float) -> Float:
        """Variance (n, M) [DN²] of `unmix` for readings of expectation ``mean_dn``.

        Read and shot noise are independent from output to output; the source flickers for all of them at once, so
        that its noise unmixes as the light does.
        """
        independent = replace(self.noise, intensity=0.0).variance(mean_dn - self.offset_dn)
        return np.asarray(independent @ (self.unmixing**2).T + (self.noise.intensity * self.unmix(mean_dn)) ** 2)

    @property
    def unmixing(self) -> Float:
        """(M, M) inverse of the crosstalk matrix."""
        return np.asarray(solve_banded((1, 1), self._bands, np.eye(len(self.offset_dn))))

    @property
    def _bands(self) -> Float:
        m = len(self.offset_dn)
        bands = np.ones((3, m))
        bands[0, 1:] = self.crosstalk[:-1, 1]
        bands[2, :-1] = self.crosstalk[1:, 0]
        return bands


def mix(crosstalk: Float, light: Float) -> Float:
    """Add to each output (…, M) its neighbours' light, weighted with (M, 2) ``crosstalk``."""
    mixed = light.copy()
    mixed[..., 1:] += crosstalk[1:, 0] * light[..., :-1]
    mixed[..., :-1] += crosstalk[:-1, 1] * light[..., 1:]
    return mixed


def apply_bleed(bleed: Float, display: Float) -> Float:
    """B D: blend each input (…, K) with its neighbours; beyond the edges the display is dark."""
    before, after = np.zeros_like(display), np.zeros_like(display)
    before[..., 1:], after[..., :-1] = display[..., :-1], display[..., 1:]
    return np.asarray(display + bleed[0] * (before - display) + bleed[1] * (after - display))


def undo_bleed(bleed: Float, weight: Float) -> Float:
    """Weights W′ (…, K) with ``W′·(B x) = W·x``: solve ``W′ B = W``."""
    k = weight.shape[-1]
    bands = np.zeros((3, k))
    bands[1] = 1 - bleed.sum()
    bands[0, 1:] = bleed[0]
    bands[2, :-1] = bleed[1]
    return np.asarray(solve_banded((1, 1), bands, weight.reshape(-1, k).T).T.reshape(weight.shape))
