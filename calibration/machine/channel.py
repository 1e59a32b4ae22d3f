"""The channel: light through the bench and its counts, as one model with few parameters.

For output m of one pass, in DN after dark subtraction::

    z_m = Σ_k u_mk T_mk (B D)_k                        light of row m
    (B D)_k = D_k + β₋ (D_{k−1} − D_k) + β₊ (D_{k+1} − D_k)      input bleed
    y_m = b_m + z_m + X₋ z_{m−1} + X₊ z_{m+1}          crosstalk between neighbouring outputs
    var(y_m) = σ² + κ (y_m − b_m) + (ρ y_m)²           read noise, shot noise, flicker of the source

b is light that the source sends past the modulators: it flickers with the rest, its shot noise counts as σ.

T and D are the transmissions that SLM and display really show (`calibration.machine.lut`), full transmission being 1;
panels are dark (level 0) outside the operands. Per-output crosstalk is allowed: X₋ and X₊ are (M,) arrays.

Where guards are narrow and panels turned against each other, β and X differ from macropixel to macropixel, and the
light through a dark SLM does not spread like that through its macropixels. A channel with `Couplings` says so::

    y_n = b_n + Σ_k C_nk D_k + Σ_mk c_nmk u_mk (T_mk − T_0) (D_k + β₋_mk (D_{k−1} − D_k) + β₊_mk (D_{k+1} − D_k))

with c_mmk = 1, and c_{m−1,m,k} and c_{m+1,m,k} the shares of the macropixel's light that its neighbour regions collect.
Pixels of the display that are stuck send light whatever is shown, ``Σ_mk c_nmk s_mk (T_mk − T_0)`` where that was seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from calibration.machine.noise import Noise

Float = NDArray[np.float64]

COMPENSATION_ROUNDS = 6


@dataclass(frozen=True)
class Couplings:
    """How each macropixel differs from the common bleed and crosstalk.

    Attributes
    ----------
    before, after
        (M, K) β₋_mk, β₊_mk: share of its light that comes from display columns k−1 and k+1 [1].
    above, below
        (M, K) share of its light, over what its own region collects, that regions m−1 and m+1 collect [1].
    dark_dn
        (M, K) C: what region n reads of display column k through a dark SLM [DN].
    dark_transmission
        T_0 of that SLM [1].
    stderr
        (4, M, K) standard errors of ``before``, ``after``, ``above``, ``below``.
    dark_stderr_dn
        (M, K) of ``dark_dn`` [DN].
    still_dn, still_stderr_dn
        (M, K) s: light of each macropixel at full transmission of the SLM though the display shows what its look-up
        table calls no light; and the standard error of its place in the row, since the sum over a row is known much
        better [DN]. None where no such light was found.
    """

    before: Float
    after: Float
    above: Float
    below: Float
    dark_dn: Float
    dark_transmission: float
    stderr: Float
    dark_stderr_dn: Float
    still_dn: Float | None = None
    still_stderr_dn: Float | None = None


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
    couplings
        `Couplings`, of which ``crosstalk`` and ``bleed`` are then the means; None where those tell everything.
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
    couplings: Couplings | None = None

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

    def response(self, slm: Float) -> Float:
        """(M, K) what each output reads per unit transmission of each display column, SLM at ``slm`` (M, K) [DN]."""
        if self.couplings is None:
            return self._fold(self.gain_dn * slm)
        c = self.couplings
        return c.dark_dn + self._fold(self.gain_dn * (slm - c.dark_transmission))

    def expected(self, slm: Float, display: Float) -> Float:
        """Expected readings (n, M) [DN] of one SLM pattern (M, K) under n display vectors (n, K)."""
        return np.asarray(self.offset_dn + self.still(slm) + display @ self.response(slm).T)

    def still(self, slm: Float) -> Float:
        """(M,) what each output reads through ``slm`` (M, K) of light that the display cannot switch off [DN]."""
        c = self.couplings
        if c is None or c.still_dn is None:
            return np.zeros(len(self.offset_dn))
        light = c.still_dn * (slm - c.dark_transmission)
        collected = light.sum(axis=1)
        collected[:-1] += (c.above * light).sum(axis=1)[1:]
        collected[1:] += (c.below * light).sum(axis=1)[:-1]
        return np.asarray(collected)

    def still_variance(self, slm: Float) -> Float:
        """(M,) variance of `still`: through which macropixel of a row it shines is known less well than how much it is.

        A pattern ``slm`` (M, K) that is the same all over a row is not concerned [DN²].
        """
        c = self.couplings
        if c is None or c.still_stderr_dn is None:
            return np.zeros(len(self.offset_dn))
        apart = slm - slm.mean(axis=1, keepdims=True)
        return np.asarray((c.still_stderr_dn**2 * apart**2).sum(axis=1))

    def stated_variance(self, slm: Float, display: Float, slm_stderr: Float, display_stderr: Float) -> Float:
        """Variance (n, M) of `expected` by what the channel says that it does not know [DN²].

        Errors of single macropixels and of single entries of the look-up tables count as independent of each other;
        those of the crosstalk and bleed that all macropixels share do not.

        Parameters
        ----------
        slm, display
            (M, K) and (n, K) transmissions [1].
        slm_stderr, display_stderr
            Their standard errors [1].
        """
        c = self.couplings
        light = self.gain_dn * (slm - (c.dark_transmission if c is not None else 0.0))
        square = display**2
        own2 = square @ ((self.gain_stderr_dn / self.gain_dn * light) ** 2 + (self.gain_dn * slm_stderr) ** 2).T
        own2 += display_stderr**2 @ (self.gain_dn * slm).T ** 2 + self.offset_stderr_dn**2 + self.still_variance(slm)
        before, after = (_shifted(display, step) - display for step in (1, -1))
        if c is None:
            shared = self.light(slm, display)
            for side, step in ((0, 1), (1, -1)):
                own2 += (self.crosstalk_stderr[:, side] * _shifted(shared, step)) ** 2
                own2 += (self.bleed_stderr[side] * (before, after)[side] @ light.T) ** 2
            return np.asarray(own2)
        own2 += before**2 @ (light * c.stderr[0]).T ** 2 + after**2 @ (light * c.stderr[1]).T ** 2
        own2 += square @ (c.dark_stderr_dn**2).T
        for share, step in ((2, -1), (3, 1)):
            own2 += _shifted(square @ (light * c.stderr[share]).T ** 2, step)
        return np.asarray(own2)

    def compensate(self, weight: Float) -> Float:
        """Light (m, k) to send through the macropixels of a tile so that the *unmixed* outputs see ``weight`` (m, k).

        The common part is solved exactly; what single macropixels add to it is small, and a few rounds undo it.
        """
        light = undo_bleed(self.bleed, weight)
        if self.couplings is not None:
            for _ in range(COMPENSATION_ROUNDS):
                light = light + undo_bleed(self.bleed, weight - self.seen(light))
        return light

    def seen(self, light: Float) -> Float:
        """What the unmixed outputs of a tile see of its macropixels' ``light`` (m, k), by display column."""
        m, k = light.shape
        padded = np.zeros(self.shape)
        padded[:m, :k] = light
        return np.asarray(solve_banded((1, 1), self._bands, self._fold(padded))[:m, :k])

    @property
    def relative_variance(self) -> Float:
        """(M, K) variance of what is known of each macropixel, over its gain squared [1]."""
        gain = (self.gain_stderr_dn / self.gain_dn) ** 2
        return gain if self.couplings is None else gain + (self.couplings.stderr**2).sum(axis=0)

    def unmix(self, reading_dn: Float) -> Float:
        """z: undo offset and crosstalk of readings (n, M) [DN]."""
        return np.asarray(solve_banded((1, 1), self._bands, (reading_dn - self.offset_dn).T).T)

    def unmixed_variance(self, mean_dn: Float, power: Float | float = 1.0) -> Float:
        """Variance (n, M) [DN²] of `unmix` for readings of expectation ``mean_dn``.

        Read noise and shot noise are each output's own; the flicker is common to a frame, so that it unmixes as the
        light does.

        Parameters
        ----------
        mean_dn
            (n, M) expected readings [DN].
        power
            (n,) relative light at which the readings were taken, if they were divided by it afterwards: their noise
            is that of this light, divided, too [1].
        """
        p = np.reshape(power, (-1, 1))
        own = self.noise.own_variance(p * (mean_dn - self.offset_dn)) / p**2
        return np.asarray(own @ (self.unmixing**2).T + self.unmixed_flicker_variance(mean_dn))

    def unmixed_flicker_variance(self, mean_dn: Float) -> Float:
        """The part of `unmixed_variance` that all outputs of a frame have in common, (n, M) [DN²]."""
        return np.asarray((self.noise.flicker * self.unmix(mean_dn + self.offset_dn)) ** 2)

    @property
    def unmixing(self) -> Float:
        """(M, M) inverse of the crosstalk matrix."""
        return np.asarray(solve_banded((1, 1), self._bands, np.eye(len(self.offset_dn))))

    def _fold(self, light: Float) -> Float:
        """(M, K): light of macropixels, by the region that collects it and the display column that it comes from."""
        if self.couplings is not None:
            c = self.couplings
            before, after, above, below = c.before, c.after, c.above, c.below
        else:
            before, after = self.bleed
            above, below = np.zeros((len(light), 1)), np.zeros((len(light), 1))
            above[1:, 0], below[:-1, 0] = self.crosstalk[:-1, 1], self.crosstalk[1:, 0]
        parts = []
        for share in (1 - before - after, before, after):
            own = share * light
            collected = own.copy()
            collected[:-1] += (above * own)[1:]
            collected[1:] += (below * own)[:-1]
            parts.append(collected)
        folded, from_before, from_after = parts
        folded[:, :-1] += from_before[:, 1:]
        folded[:, 1:] += from_after[:, :-1]
        return folded

    @property
    def _bands(self) -> Float:
        return crosstalk_bands(self.crosstalk)


def crosstalk_bands(crosstalk: Float) -> Float:
    """(3, M) the matrix of ``crosstalk`` (M, 2) between outputs, as `scipy.linalg.solve_banded` takes it."""
    bands = np.ones((3, len(crosstalk)))
    bands[0, 1:], bands[2, :-1] = crosstalk[:-1, 1], crosstalk[1:, 0]
    return bands


def _shifted(values: Float, step: int) -> Float:
    """``values`` (n, k) with each entry where the one after it was (``step`` 1) or before it (−1), zeros at the end."""
    shifted = np.zeros_like(values)
    if step > 0:
        shifted[:, 1:] = values[:, :-1]
    else:
        shifted[:, :-1] = values[:, 1:]
    return shifted


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
