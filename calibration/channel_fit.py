"""The channel from its probe scans: gain and crosstalk in turn until they agree, then the structure of the gain."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.channel import Channel, Noise
from calibration.crosstalk_fit import CrosstalkFit, fit_crosstalk
from calibration.errors import BadScan, FitError
from calibration.gain_fit import FullGain, GainMap, fit_full_gain, gain_structure, gain_structures, likeliest
from calibration.lut import Lut
from calibration.scan import Readings, repeats

Float = NDArray[np.float64]

ROUNDS = 40
UNDECIDED = 4
LIGHT_SNR_MIN = 10.0
SETTLED = 1e-6


@dataclass(frozen=True)
class Candidate:
    """A gain structure and the evidence for it.

    Attributes
    ----------
    chi2_per_dof
        Of the structure against the full map, given that map's covariance [1]; None for the full map.
    aic
        Akaike's criterion relative to the best candidate (0 is best).
    heldout_chi2_per_dof
        Of the hold-out scan under this structure [1].
    """

    structure: str
    parameters: int
    chi2_per_dof: float | None
    aic: float
    heldout_chi2_per_dof: float


@dataclass(frozen=True)
class ChannelFit:
    """A fitted channel and the evidence for its form."""

    channel: Channel
    gain_structure: str
    candidates: list[Candidate]
    crosstalk: CrosstalkFit
    full_gain: FullGain


def fit_channel(
    display: Lut,
    slm: Lut,
    noise: Noise,
    gain: Readings,
    crosstalk: Readings,
    holdout: Readings,
    dark_stderr_dn: Float | float = 0.0,
) -> ChannelFit:
    """Fit gain, offset, crosstalk and bleed from dark-subtracted scans of `calibration.probes`.

    Parameters
    ----------
    dark_stderr_dn
        (M,) standard error of the dark signal that was subtracted: part of the offset's [DN].

    Raises
    ------
    BadScan
        When the bright frames are not clearly brighter than the dark ones.
    FitError
        When gain and crosstalk do not settle.
    """
    _require_light(gain)
    m = gain.dn.shape[1]
    crosstalk_now, bleed_now, structure = np.zeros((m, 2)), np.zeros(2), ""
    mixing: str | None = None  # decided once: an F test at its edge would go to and fro
    for round_ in range(ROUNDS):
        full, offset, offset_error = _gain(display, noise, gain, crosstalk_now, bleed_now)
        if not structure:
            structure = likeliest(gain_structures(full)).structure
        found = _crosstalk(display, slm, noise, crosstalk, gain_structure(structure, full).gain_dn, offset, mixing)
        mixing = found.structure if round_ >= UNDECIDED else None
        change = max(np.abs(found.crosstalk - crosstalk_now).max(), np.abs(found.bleed - bleed_now).max())
        crosstalk_now, bleed_now = found.crosstalk, found.bleed
        if change < SETTLED:
            break
    else:
        raise FitError("gain and crosstalk do not settle", action="crosstalk", seen=f"last change {change:.3g}")
    full, offset, offset_error = _gain(display, noise, gain, crosstalk_now, bleed_now)
    base = Channel(
        full.gain_dn,
        full.stderr_dn,
        offset,
        np.hypot(offset_error, dark_stderr_dn),
        crosstalk_now,
        found.crosstalk_stderr,
        bleed_now,
        found.bleed_stderr,
        noise,
    )
    chosen, candidates = _choose(base, gain_structures(full), display, slm, holdout)
    channel = replace(base, gain_dn=chosen.gain_dn, gain_stderr_dn=chosen.stderr_dn)
    return ChannelFit(channel, chosen.structure, candidates, found, full)


def _require_light(gain: Readings) -> None:
    lit = gain.scan.display.any(axis=1)
    bright, dark = gain.dn[lit].mean(), gain.dn[~lit].mean()
    spread = gain.dn[~lit].std() / np.sqrt(max(gain.dn[~lit].size, 1))
    if not bright - dark > LIGHT_SNR_MIN * spread:
        raise BadScan(
            "no light: bright frames are no brighter than dark ones",
            device="camera",
            action="gain",
            expected=f"more than {LIGHT_SNR_MIN * spread:.3g} DN above dark",
            seen=f"{bright - dark:.3g} DN",
            hint="is the source on and unblocked? labctl devices list",
        )


def _dark_frames(gain: Readings) -> Float:
    """Rough offsets (M,) from the frames with a dark display alone, for weights [DN]."""
    return np.asarray(gain.dn[~gain.scan.display.any(axis=1)].mean(axis=0))


def _gain(display: Lut, noise: Noise, gain: Readings, crosstalk: Float, bleed: Float) -> tuple[FullGain, Float, Float]:
    """Two passes: the second weights frames by the variance of what the first predicts."""
    d = display.realise(gain.scan.display)
    expected = gain.dn - _dark_frames(gain)
    for _ in range(2):
        full, offset, error = fit_full_gain(d, gain.dn, noise, expected, crosstalk, bleed)
        expected = d @ full.gain_dn.T
    return full, offset, error


def _crosstalk(
    display: Lut, slm: Lut, noise: Noise, scan: Readings, gain: Float, offset: Float, structure: str | None
) -> CrosstalkFit:
    variance = noise.variance(_mean_of_repeats(scan) - offset)
    return fit_crosstalk(
        gain,
        offset,
        slm.realise(scan.scan.slm),
        scan.scan.slm_index,
        display.realise(scan.scan.display),
        scan.dn,
        variance,
        structure,
    )


def _mean_of_repeats(scan: Readings) -> Float:
    """Each frame's reading replaced by the mean over its repeats: weights must not follow a frame's own noise."""
    mean = scan.dn.copy()
    for group in repeats(scan):
        mean[group] = scan.dn[group].mean(axis=0)
    return mean


def _choose(
    base: Channel, maps: list[GainMap], display: Lut, slm: Lut, holdout: Readings
) -> tuple[GainMap, list[Candidate]]:
    """The structure with the best Akaike criterion; frames that no fit has seen say how well each predicts."""
    best = likeliest(maps)
    candidates = []
    for g in maps:
        dof = g.gain_dn.size - g.parameters
        heldout = _heldout_chi2(replace(base, gain_dn=g.gain_dn), display, slm, holdout)
        candidates.append(
            Candidate(g.structure, g.parameters, g.chi2 / dof if dof else None, g.aic - best.aic, heldout)
        )
    return best, candidates


def _heldout_chi2(channel: Channel, display: Lut, slm: Lut, holdout: Readings) -> float:
    """χ² per reading of the hold-out scan."""
    d = display.realise(holdout.scan.display)
    mean = np.empty_like(holdout.dn)
    for s in range(len(holdout.scan.slm)):
        frames = holdout.scan.slm_index == s
        mean[frames] = channel.mean(channel.light(slm.realise(holdout.scan.slm[s]), d[frames]))
    return float(((holdout.dn - mean) ** 2 / channel.noise.variance(mean - channel.offset_dn)).mean())
