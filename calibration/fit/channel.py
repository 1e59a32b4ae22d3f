"""The channel from its probe scans: all frames at once, each of its forms chosen by test, errors joint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadScan
from calibration.fit.averages import Frames, covariance_of_means, stack
from calibration.fit.crosstalk_forms import CLAIMS as CROSSTALK_CLAIMS
from calibration.fit.crosstalk_forms import COMMON, NONE, PER_OUTPUT, CrosstalkForm
from calibration.fit.full import full_fit
from calibration.fit.gain_forms import CLAIMS as GAIN_CLAIMS
from calibration.fit.gain_forms import GainForm, gain_forms
from calibration.fit.noise import NoiseFit, Residuals, contrasts, fit_residuals
from calibration.fit.structured import UNEXPLAINED, JointFit, Mean, Tell, joint_fit, misfit, untold
from calibration.frames.scan import Readings, Scan, repeats
from calibration.machine.channel import Channel
from calibration.machine.findings import GainCandidate
from calibration.machine.lut import Lut
from calibration.machine.noise import Noise
from calibration.statistics.choice import SIGNIFICANCE, Choice, Hypothesis, choose
from calibration.statistics.covariance import Covariance
from calibration.statistics.tails import chi2_sf

Float = NDArray[np.float64]

LIGHT_SNR_MIN = 10.0
FOLLOWED_MIN = 0.5
LENIENCE = 1.0
ALONE = Choice(NONE.name, "", 0.0, 1.0, "", "a single output has no neighbour: crosstalk is left out")
"""What is said of the crosstalk of a layout with one row."""


@dataclass(frozen=True)
class ChannelFit:
    """A fitted channel and the evidence for its form.

    Attributes
    ----------
    structure
        What was chosen for ``gain``, ``crosstalk`` and ``noise``, and why.
    candidates
        All gain structures, simplest first.
    chi2_per_dof
        Of each scan, from the means over equal frames. Frames of a scan that noise cannot explain count less in the
        fit: as if their noise were larger by its root.
    full_gain_dn, full_gain_stderr_dn
        (M, K) the map with a gain for every macropixel [DN].
    """

    channel: Channel
    structure: dict[str, Choice]
    candidates: list[GainCandidate]
    chi2_per_dof: dict[str, float]
    full_gain_dn: Float
    full_gain_stderr_dn: Float


def fit_channel(
    display: Lut,
    slm: Lut,
    noise: Noise,
    scans: Mapping[str, Readings],
    holdout: Readings,
    dark_stderr_dn: Float | float = 0.0,
    tell: Tell = untold,
) -> ChannelFit:
    """Fit gain, offset, crosstalk, bleed and noise from dark-subtracted scans of `calibration.frames.probes`.

    Parameters
    ----------
    display, slm
        Look-up tables of the panels.
    noise
        A first estimate, which weighs the readings until their noise is fitted.
    scans
        ``gain``, ``crosstalk`` and ``noise``; every parameter is fitted to all of them together.
    holdout
        A scan that no fit sees: it says how well each structure of the gain predicts.
    dark_stderr_dn
        (M,) standard error of the dark signal that was subtracted; it adds to that of the offset [DN].
    tell
        Called at each round, with words that say where the fit is.

    Raises
    ------
    BadScan
        When the bright frames are not clearly brighter than the dark ones, or the readings of a scan do not follow
        what was shown.
    FitError
        When gain and crosstalk do not settle, or are not determined.
    """
    _require_light(scans["gain"], noise)
    frames = stack(scans, display, slm)
    _require_following(frames, stack({"holdout": holdout}, display, slm))

    every = _richest(frames.shape[0])
    noise, scatter, plain = _full(noise, scans, frames, every, tell)
    full, weighed = plain, _weighed(frames, plain)
    if weighed is not frames:
        scatter = _scatter(noise, full, weighed)
        full = full_fit(weighed, scatter, every, full.mean, tell)
    scale = _misfit(full, weighed)
    forms = gain_forms(frames.shape)
    fits = {form.name: joint_fit(weighed, scatter, form, every, full.mean, tell) for form in forms}
    gain = choose(_gain_hypotheses(forms, fits, full), scale, claims=GAIN_CLAIMS)
    form = next((f for f in forms if f.name == gain.chosen), None)
    mixed = {every: fits.get(gain.chosen, full)}
    simpler = [x for x in (NONE, COMMON) if x.name in every.contains]
    mixed |= {x: _fit(weighed, scatter, form, x, mixed[every].mean, tell) for x in simpler}
    crosstalk = choose(_crosstalk_hypotheses(mixed), scale, claims=CROSSTALK_CLAIMS) if simpler else ALONE
    mixing = next(x for x in mixed if x.name == crosstalk.chosen)

    found = _noise(noise, scans, frames, mixed[mixing])
    scatter = _scatter(found.noise, mixed[mixing], weighed)
    chosen = _fit(weighed, scatter, form, mixing, mixed[mixing].mean, tell)
    return ChannelFit(
        _channel(chosen, found.noise, np.sqrt(_misfit(chosen, weighed)), dark_stderr_dn),
        {"gain": gain, "crosstalk": crosstalk, "noise": found.choice} | _alone(frames.shape[1]),
        _candidates(fits, full, frames, weighed, found.noise, display, slm, holdout),
        _chi2_per_dof(chosen, frames, _scatter(found.noise, chosen, frames)),
        plain.mean.gain,
        plain.stderr.gain,
    )


def _richest(outputs: int) -> CrosstalkForm:
    """The crosstalk that contains all others: a single output has no neighbour to have any with."""
    return PER_OUTPUT if outputs > 1 else NONE


def _alone(columns: int) -> dict[str, Choice]:
    """That a single column has no bleed of its own, in words; nothing of several columns."""
    words = "a single column has no neighbour: light that it loses is a part of its gain"
    return {"bleed": Choice("none", "", 0.0, 1.0, "", words)} if columns == 1 else {}


def _full(
    noise: Noise, scans: Mapping[str, Readings], frames: Frames, crosstalk: CrosstalkForm, tell: Tell
) -> tuple[Noise, Covariance, JointFit]:
    """A gain of every macropixel, fitted twice: with the noise that was given, and with that of the first fit.

    Returns
    -------
    The noise of the first fit, the covariance of the frames' means that follows from it, and the second fit.
    """
    first = full_fit(frames, _scatter_of_readings(noise, frames), crosstalk, tell=tell)
    noise = _noise(noise, scans, frames, first).noise
    scatter = _scatter(noise, first, frames)
    return noise, scatter, full_fit(frames, scatter, crosstalk, first.mean, tell)


def _fit(
    frames: Frames, scatter: Covariance, form: GainForm | None, crosstalk: CrosstalkForm, start: Mean, tell: Tell
) -> JointFit:
    """With a gain of every macropixel where there is no form with fewer parameters."""
    if form is None:
        return full_fit(frames, scatter, crosstalk, start, tell)
    return joint_fit(frames, scatter, form, crosstalk, start, tell)


def _scatter(noise: Noise, fit: JointFit, frames: Frames) -> Covariance:
    """Covariance of the means, at the light that a fit expects; at the readings where the fit does not explain them."""
    light, offset = fit.mean.light(frames), fit.mean.offset
    scatter = covariance_of_means(noise, light, offset, frames.count)
    explained = misfit(scatter, frames.dn - offset - light) < UNEXPLAINED
    return scatter if explained else _scatter_of_readings(noise, frames)


def _scatter_of_readings(noise: Noise, frames: Frames) -> Covariance:
    darkest = frames.dn.min(axis=0)
    return covariance_of_means(noise, frames.dn - darkest, darkest, frames.count)


def _chi2(fit: JointFit) -> float:
    return float(fit.chi2.sum())


def _misfit(fit: JointFit, frames: Frames) -> float:
    """χ² per degree of freedom where noise cannot explain it, else 1."""
    freedom = frames.dn.size - fit.parameters
    chi2 = _chi2(fit)
    return chi2 / freedom if chi2_sf(chi2, freedom) < SIGNIFICANCE else 1.0


def _chi2_per_dof(fit: JointFit, frames: Frames, scatter: Covariance) -> dict[str, float]:
    """Of each scan's frames, for as many degrees of freedom as the parameters left to them."""
    chi2 = scatter.quadratic(frames.dn - fit.mean.offset - fit.mean.light(frames))
    left = (1 - fit.leverage) * frames.shape[0]
    mine = {name: frames.scan == number for number, name in enumerate(frames.names)}
    return {name: float(chi2[scan].sum() / left[scan].sum()) for name, scan in mine.items()}


def _weighed(frames: Frames, full: JointFit) -> Frames:
    """The frames, those of a scan that noise does not explain as if it had been shown less often.

    Such a scan shows what the model lacks: crosstalk that differs from macropixel to macropixel, say. Counting it by
    its χ² per degree of freedom, it neither bends what the other scans tell nor makes that less certain.
    """
    excess = np.ones(len(frames.names))
    for scan in range(len(excess)):
        mine = frames.scan == scan
        freedom, chi2 = (1 - full.leverage[mine]).sum() * frames.shape[0], full.chi2[mine].sum()
        if chi2_sf(chi2, freedom) < SIGNIFICANCE:
            excess[scan] = max(chi2 / freedom, 1.0)
    return replace(frames, count=frames.count / excess[frames.scan]) if (excess > 1).any() else frames


def _channel(fit: JointFit, noise: Noise, scale: float, dark_stderr_dn: Float | float) -> Channel:
    value, error = fit.mean, fit.stderr
    return Channel(
        value.gain,
        error.gain * scale,
        value.offset,
        np.hypot(error.offset * scale, dark_stderr_dn),
        value.crosstalk,
        error.crosstalk * scale,
        value.bleed,
        error.bleed * scale,
        noise,
    )


def _noise(noise: Noise, scans: Mapping[str, Readings], frames: Frames, fit: JointFit) -> NoiseFit:
    """From the scatter of repeats about their mean, and of the means about a model that explains them.

    A mean over R repeats differs from the model by 1/√R of a frame's noise. Scans that the model does not explain
    are left out: misfit is not noise.
    """
    light = fit.mean.light(frames)
    parts = []
    for number, readings in enumerate(scans.values()):
        mine = frames.scan == number
        residual = (frames.dn - fit.mean.offset - light)[mine]
        own_left = 1 - fit.leverage[mine]
        chi2 = covariance_of_means(noise, light[mine], fit.mean.offset, frames.count[mine]).quadratic(residual).sum()
        freedom = own_left.sum() * frames.shape[0]
        if chi2_sf(chi2 / LENIENCE, freedom) > SIGNIFICANCE:
            root = np.sqrt(frames.count[mine])[:, None]
            common_left = 1 - fit.common_leverage[mine]
            seen = np.maximum(light[mine], 0.0)
            parts.append(Residuals(residual * root, seen, seen + fit.mean.offset, own_left, common_left))
        parts += [contrasts(readings.dn[g], fit.mean.offset) for g in repeats(readings)]
    return fit_residuals(parts)


def _gain_hypotheses(forms: list[GainForm], fits: Mapping[str, JointFit], full: JointFit) -> list[Hypothesis]:
    found = [Hypothesis(f.name, _chi2(fits[f.name]), fits[f.name].parameters, f.contains) for f in forms]
    return [*found, Hypothesis("full", _chi2(full), full.parameters, frozenset(fits))]


def _crosstalk_hypotheses(fits: Mapping[CrosstalkForm, JointFit]) -> list[Hypothesis]:
    return [Hypothesis(form.name, _chi2(fit), fit.parameters, form.contains) for form, fit in fits.items()]


def _candidates(
    fits: Mapping[str, JointFit],
    full: JointFit,
    frames: Frames,
    weighed: Frames,
    noise: Noise,
    display: Lut,
    slm: Lut,
    holdout: Readings,
) -> list[GainCandidate]:
    """Every gain structure, by the crosstalk of each output: frames that no fit has seen say how well each predicts.

    They are judged by noise: errors that are larger because a scan is not explained would hide that there is misfit.
    """
    found = []
    by_noise = float(np.sqrt((weighed.count / frames.count).min()))
    best = min(_chi2(f) + 2 * f.parameters for f in (*fits.values(), full))
    for name, fit in {**fits, "full": full}.items():
        fall, freedom = _chi2(fit) - _chi2(full), full.parameters - fit.parameters
        found.append(
            GainCandidate(
                structure=name,
                parameters=fit.parameters - (full.parameters - full.mean.gain.size),
                chi2_per_dof=_chi2(fit) / (frames.dn.size - fit.parameters),
                aic=_chi2(fit) + 2 * fit.parameters - best,
                chi2=fall,
                freedom=freedom,
                p_value=float(chi2_sf(fall, freedom)) if freedom else 1.0,
                heldout_chi2_per_dof=heldout_chi2(_channel(fit, noise, by_noise, 0.0), display, slm, holdout),
            )
        )
    return found


def heldout_chi2(channel: Channel, display: Lut, slm: Lut, holdout: Readings) -> float:
    """χ² per reading of the hold-out scan, what is left of the drift and of the channel's own errors included [1]."""
    return float(_surprise(channel, display, slm, holdout)[0].mean())


def heldout_log_score(channel: Channel, display: Lut, slm: Lut, holdout: Readings) -> Float:
    """(n,) −2 log likelihood per reading of each frame of the hold-out scan, up to a constant of all channels [1].

    Errors that are stated count as variance: a channel that knows little of its macropixels does not win by saying so.
    """
    square, variance = _surprise(channel, display, slm, holdout)
    return np.asarray((square + np.log(variance)).mean(axis=1))


def _surprise(channel: Channel, display: Lut, slm: Lut, scan: Readings) -> tuple[Float, Float]:
    """Squares of what is read beyond the expectation, over its variance, and that variance: (n, M) each [1], [DN²]."""
    mean = expected_readings(channel, display, slm, scan.scan)
    variance = channel.noise.variance(mean - channel.offset_dn, channel.offset_dn) + scan.drift_variance_dn2(mean)
    variance += stated_variance(channel, display, slm, scan.scan)
    return (scan.dn - mean) ** 2 / variance, variance


def stated_variance(channel: Channel, display: Lut, slm: Lut, scan: Scan) -> Float:
    """(n, M) variance of `expected_readings` by the standard errors of the channel and of the look-up tables [DN²]."""
    lit, lit_error = display.realise(scan.display), display.stderr[scan.display]
    variance = np.empty((len(scan), channel.shape[0]))
    for s, pattern in enumerate(scan.slm):
        frames = scan.slm_index == s
        shown = slm.realise(pattern), lit[frames], slm.stderr[pattern], lit_error[frames]
        variance[frames] = channel.stated_variance(*shown)
    return variance


def expected_readings(channel: Channel, display: Lut, slm: Lut, scan: Scan) -> Float:
    """(n, M) what a channel and the look-up tables of the panels say of each frame of a scan [DN]."""
    lit = display.realise(scan.display)
    mean = np.empty((len(scan), channel.shape[0]))
    for s, pattern in enumerate(scan.slm):
        frames = scan.slm_index == s
        mean[frames] = channel.expected(slm.realise(pattern), lit[frames])
    return mean


def _require_light(gain: Readings, noise: Noise) -> None:
    """Bright frames against dark ones; where any frame is bright, whichever, it is not the light that is missing."""
    lit = gain.scan.display.any(axis=1)
    rise = gain.dn[lit].mean() - gain.dn[~lit].mean()
    needed = LIGHT_SNR_MIN * gain.dn[~lit].std() / np.sqrt(max(gain.dn[~lit].size, 1))
    frames = gain.dn.mean(axis=1)
    dark = np.ptp(frames) < LIGHT_SNR_MIN * noise.read_dn / np.sqrt(gain.dn.shape[1])
    if dark and not rise > needed:
        raise BadScan(
            "no light: bright frames are no brighter than dark ones",
            device="camera",
            action="gain",
            expected=f"more than {needed:.3g} DN above dark",
            seen=f"{rise:.3g} DN",
            hint="is the source on and unblocked? labctl devices list",
        )


def _require_following(frames: Frames, holdout: Frames) -> None:
    """Gains from the gain scan alone, and all scans as they foretell: frames in another order foretell nothing."""
    mine = np.nonzero(frames.scan == frames.names.index("gain"))[0]
    design = np.column_stack([np.ones(len(mine)), frames.display[mine]])
    root = np.sqrt(frames.count[mine, None])
    solution = np.linalg.lstsq(design * root, frames.dn[mine] * root, rcond=None)[0]
    rough = Mean(solution[1:].T, solution[0], np.zeros((frames.shape[0], 2)), np.zeros(2))
    for scans in (frames, holdout):
        residual = scans.dn - rough.offset - rough.light(scans)
        for number, name in enumerate(scans.names):
            members = scans.scan == number
            count = scans.count[members, None]
            mean = (scans.dn[members] * count).sum(axis=0) / count.sum()
            left = float((residual[members] ** 2 * count).sum() / ((scans.dn[members] - mean) ** 2 * count).sum())
            if name == "gain":
                left *= len(mine) / max(len(mine) - design.shape[1], 1)
            if not 1 - left > FOLLOWED_MIN:
                raise BadScan(
                    f"the readings of the {name} scan do not follow the patterns that were shown",
                    device="camera",
                    action=name,
                    expected=f"patterns that explain more than {FOLLOWED_MIN:.0%} of the variance",
                    seen=f"{max(1 - left, 0.0):.0%}",
                    hint="are frames out of order, does a panel not change, or has the image moved since? "
                    "labctl devices probe   ·   labctl align",
                )
