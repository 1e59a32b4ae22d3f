"""The machine: from operands to gray levels, and from readings to products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.errors import OutOfDomain
from calibration.machine.channel import Channel
from calibration.machine.encoding import Encoding
from calibration.machine.layout import Layout
from calibration.machine.lut import Levels, Lut

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Machine:
    """A calibrated bench: which gray levels show an operand, what is read then, and which product that stands for.

    Weights are shown pre-compensated. Each is multiplied by the smallest gain of all macropixels over the gain of its
    own, and what input columns spill into their neighbours is subtracted beforehand; so one number, `scale_dn`,
    decodes every output. Each panel shows the transmission nearest to what is asked for among those that its gray
    levels give. Everything downstream uses the transmissions really shown, not those asked for.

    Attributes
    ----------
    layout
        Where macropixels and columns lie.
    display, slm
        Look-up table of each panel; its length is the panel's number of gray levels.
    channel
        What is read of given transmissions.
    encoding
        How signed numbers become light.
    """

    layout: Layout
    display: Lut
    slm: Lut
    channel: Channel
    encoding: Encoding

    def __post_init__(self) -> None:
        if self.channel.shape != (self.layout.rows, self.layout.columns):
            raise OutOfDomain(
                "channel and layout have different shapes",
                expected=str((self.layout.rows, self.layout.columns)),
                seen=str(self.channel.shape),
            )

    @property
    def scale_dn(self) -> float:
        """DN per unit of Σ_k V_k v_k, with V and v the non-negative operands of one pass."""
        return float(self.channel.gain_dn.min() * (1 - self.slm.floor) * (1 - self.display.floor))

    def encode_weight(self, weight: Float) -> Levels:
        """Gray levels of the SLM that show a tile of a matrix, one pattern for each weight pass.

        Parameters
        ----------
        weight
            (m, k) scaled to −1 … 1, and clipped there.

        Returns
        -------
        (P, m, k) gray levels.

        Raises
        ------
        OutOfDomain
            When the SLM has too few levels to flatten the gain: where the gain is largest, even a full weight would be
            rounded to dark.
        """
        m, k = weight.shape
        flat = self.channel.gain_dn.min() / self.channel.gain_dn[:m, :k]
        if self.slm.realise(self.slm.encode(flat.min())) <= self.slm.floor:
            raise OutOfDomain(
                f"an SLM of {self.slm.levels} gray levels cannot flatten this gain: some full weights would be dark",
                device="slm",
                action="showing weights",
                expected="gains of macropixels that differ by less than the step from dark to the next level allows",
                seen=f"a largest gain of {1 / flat.min():.3g} times the smallest",
                hint="light the SLM more evenly, or give [layout] of the station file fewer rows and columns",
            )
        parts = self.encoding.split_weight(np.clip(self.channel.compensate(weight), -1.0, 1.0))
        return self.slm.encode(parts * flat)

    def encode_input(self, vectors: Float) -> tuple[Levels, NDArray[np.bool_]]:
        """Gray levels of the display that show input vectors, one vector of levels for each input pass.

        Parameters
        ----------
        vectors
            (n, k) in −1 … 1.

        Returns
        -------
        (Q, n, k) gray levels, and (Q, n) which passes have anything to show.
        """
        parts = self.encoding.split_input(vectors)
        return self.display.encode(parts), np.asarray(parts.any(axis=2))

    def predict(self, slm_levels: Levels, display_levels: Levels) -> tuple[Float, Float]:
        """What is to be read of one SLM pattern and n display vectors.

        Parameters
        ----------
        slm_levels, display_levels
            (m, k) and (n, k) gray levels.

        Returns
        -------
        Expected readings and their variance, both (n, M) [DN, DN²].
        """
        slm, display = self._transmissions(slm_levels, display_levels)
        mean = self.channel.expected(slm, display)
        return mean, self.channel.noise.variance(mean - self.channel.offset_dn, self.channel.offset_dn)

    def predict_with_errors(self, slm_levels: Levels, display_levels: Levels) -> tuple[Float, Float]:
        """What is to be read, as in `predict`, and its variance by what the calibration says that it does not know.

        Returns
        -------
        Both (n, M) [DN, DN²].
        """
        slm, display = self._transmissions(slm_levels, display_levels)
        slm_stderr, display_stderr = np.zeros_like(slm), np.zeros_like(display)
        slm_stderr[: slm_levels.shape[0], : slm_levels.shape[1]] = self.slm.stderr[slm_levels]
        display_stderr[:, : display_levels.shape[1]] = self.display.stderr[display_levels]
        variance = self.channel.stated_variance(slm, display, slm_stderr, display_stderr)
        return self.channel.expected(slm, display), variance

    def decode(self, dn: Float, slm_levels: Levels, display_levels: Levels) -> Float:
        """The sum Σ_k V_k v_k of one pass from its readings.

        Crosstalk between the outputs is undone. The light that passes the panels where an operand is zero, because
        their darkest levels transmit T_f and D_f, is ``Σ_k u (T_f D + D_f T − T_f D_f)``: known, and subtracted, as is
        the light that the display cannot switch off.

        Parameters
        ----------
        dn
            (n, M) dark-subtracted readings [DN].
        slm_levels, display_levels
            (m, k) and (n, k) gray levels that were shown.

        Returns
        -------
        (n, m), in units of the non-negative operands V and v of the pass.
        """
        slm, display = self._transmissions(slm_levels, display_levels)
        dark = self.channel.response(np.full_like(slm, self.slm.floor))
        modulated = self.channel.response(slm) - dark
        pedestal = display @ dark.T + self.display.floor * modulated.sum(axis=1) + self.channel.still(slm)
        return self.channel.unmix(dn - pedestal)[:, : slm_levels.shape[0]] / self.scale_dn

    def decode_variance(self, mean_dn: Float, rows: int, power: Float | float = 1.0) -> Float:
        """Variance (n, rows) of `decode` by noise, for readings of expectation ``mean_dn`` (n, M).

        Parameters
        ----------
        power
            (n,) light at which the readings were taken, over that of the calibration, where they were divided by it.
        """
        return self.channel.unmixed_variance(mean_dn, power)[:, :rows] / self.scale_dn**2

    def decode_flicker_variance(self, mean_dn: Float, rows: int) -> Float:
        """The part of `decode_variance` that all outputs of a frame have in common, (n, rows)."""
        return self.channel.unmixed_flicker_variance(mean_dn)[:, :rows] / self.scale_dn**2

    def still_variance(self, slm_levels: Levels, shown: Float) -> Float:
        """Variance (n, m) of sums of decoded passes by the place of the light that the display cannot switch off.

        It is the same in all passes over one SLM pattern, and cancels between those of opposite signs.

        Parameters
        ----------
        slm_levels
            (P, m, k) gray levels of the weight passes.
        shown
            (n, P) with which factor each pattern counts in each sum, all its passes together.
        """
        rows = slm_levels.shape[1]
        if self.channel.couplings is None or self.channel.couplings.still_stderr_dn is None:
            return np.zeros((len(shown), rows))
        nothing = np.zeros((0, slm_levels.shape[2]), slm_levels.dtype)
        patterns = np.stack([self._transmissions(levels, nothing)[0] for levels in slm_levels])
        alike, index = np.unique(shown, axis=0, return_inverse=True)
        variance = np.stack([self.channel.still_variance(np.tensordot(factors, patterns, 1)) for factors in alike])
        return np.asarray(variance[index.ravel(), :rows] / self.scale_dn**2)

    def decode_drift(self, mean_dn: Float, rows: int) -> Float:
        """(n, rows, 2) what `decode` changes by with the gain's relative deviation [1] and with the offset's [DN].

        What is left of a drift is nearly the same in frames that follow each other, so that it is these changes that
        add up over the passes of a product, and not their variances.
        """
        unmixing = self.channel.unmixing
        follow = np.stack([mean_dn @ unmixing.T, np.broadcast_to(unmixing.sum(axis=1), mean_dn.shape)], axis=2)
        return np.asarray(follow[:, :rows] / self.scale_dn)

    def lut_variance(self, slm_levels: Levels, display_levels: Levels) -> Float:
        """Variance (n, m) of `decode` that comes from the standard errors of the look-up tables.

        Each macropixel is counted as if its level's error were its own. Really all macropixels at one level share one
        error, but operands are spread over many levels, and few share one. Level 0 is the exception, and is left out:
        its error cancels between the passes, but for the signs of the operands.
        """
        m, k = slm_levels.shape
        share2 = (self.channel.gain_dn[:m, :k] / self.scale_dn) ** 2
        slm, display = self.slm.realise(slm_levels) - self.slm.floor, self.display.realise(display_levels)
        slm_error, display_error = (
            np.where(levels > 0, lut.stderr[levels], 0.0)
            for lut, levels in ((self.slm, slm_levels), (self.display, display_levels))
        )
        by_display = display_error**2 @ (share2 * slm**2).T
        by_slm = (display - self.display.floor) ** 2 @ (share2 * slm_error**2).T
        return np.asarray(by_display + by_slm)

    def detected_electrons(self, mean_dn: Float) -> Float:
        """(n,) detected electrons of whole frames of expectation ``mean_dn`` (n, M)."""
        return np.asarray((mean_dn - self.channel.offset_dn).sum(axis=1) / self.channel.noise.shot_dn)

    def photons_per_mac(self, display_levels: Levels, quantum_efficiency: float) -> Float:
        """(n,) photons at the weight plane per MAC and pass, from vectors of ``display_levels`` (n, k)."""
        k = display_levels.shape[1]
        full = self.channel.gain_dn[:, :k].mean() / self.channel.noise.shot_dn / quantum_efficiency
        return np.asarray(self.display.realise(display_levels).mean(axis=1) * full)

    def _transmissions(self, slm_levels: Levels, display_levels: Levels) -> tuple[Float, Float]:
        """Transmissions of the whole bench, (M, K) and (n, K): the floor where the tile does not reach."""
        m, k = self.channel.shape
        slm = np.full((m, k), self.slm.floor)
        slm[: slm_levels.shape[0], : slm_levels.shape[1]] = self.slm.realise(slm_levels)
        display = np.full((len(display_levels), k), self.display.floor)
        display[:, : display_levels.shape[1]] = self.display.realise(display_levels)
        return slm, display
