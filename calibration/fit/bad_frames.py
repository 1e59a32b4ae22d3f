"""Frames that are not what was asked for: which, and what they are instead.

Under the channel, frame i reads ``y = b + (1 + g) s + noise``: s is the light that its levels give, g the flicker of
the source, of standard deviation ρ and the same for every output, and the noise of an output is read noise and photons
and nothing else. Three statistics ask whether that holds: χ² over all outputs, the common factor against that of the
frames around it, and the output that is farthest off. Each alone is exceeded by noise once in ten million frames.
What a frame is instead is whichever alternative has the highest likelihood among those that its reading fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.machine.noise import Noise
from calibration.statistics.bad_frame import BadFrame, normal_score
from calibration.statistics.tails import chi2_isf, normal_isf

Float = NDArray[np.float64]
Reason = Literal["stale", "swapped", "duplicated", "blank", "saturated", "flickering", "partial", "garbage"]
"""What a frame is instead of what was asked for.

``stale``: shows what the frame before it was asked to. ``swapped``: has changed places with a neighbour.
``duplicated``: a copy, noise and all, of a reading farther away. ``blank``: no light. ``saturated``: pixels at full
scale. ``flickering``: all outputs off by one factor that the source does not explain. ``partial``: some outputs are
wrong and the others right. ``garbage``: none of these.
"""

FALSE_ALARM = 1e-7
FITS = 1e-4
LEAST_READ = 0.01  # of an electron: read noise that a law is taken to have at least
WINDOW = 31
MISFIT_FRAMES_MIN = 20
BLANK = 0.05
OFF_SIGMAS = 4.0
INTACT_MIN = 0.25


@dataclass(frozen=True)
class Deviance:
    """How far the readings of n frames are from what is expected of them.

    Attributes
    ----------
    score
        (n, M) signed root of each output's deviance once the frame's most likely flicker is taken out; normal with
        variance 1.
    chi2
        (n,) sum of the squares of ``score``, and of the flicker over ρ. In the normal limit it is rᵀ C⁻¹ r with the
        covariance C of the frame (`calibration.machine.noise.Noise.covariance`).
    log_det
        (n,) log det C.
    factor, factor_stderr
        (n,) by which relative factor all outputs together are off, and the standard error of that with the source's
        flicker included [1].
    """

    score: Float
    chi2: Float
    log_det: Float
    factor: Float
    factor_stderr: Float

    @property
    def log_likelihood(self) -> Float:
        """(n,) of each frame, up to a constant."""
        return -0.5 * (self.chi2 + self.log_det)


def deviance(dn: Float, mean_dn: Float, offset_dn: Float, noise: Noise) -> Deviance:
    """Compare readings (n, M) with their expectations (n, M), above offsets (M,) [DN].

    The most likely flicker has a closed form (`calibration.statistics.covariance`); the deviance of an output is exact
    for Poisson counts with normal read noise (`score`), so that a few photons raise no alarm.
    """
    light = np.maximum(mean_dn - offset_dn, 0.0)
    covariance = noise.covariance(light, light + offset_dn)
    rho2 = noise.flicker**2
    flicker = np.maximum(covariance.factor(dn - mean_dn), -1.0)
    grown = (1 + flicker)[:, None]
    z = score(dn - grown * offset_dn, grown * light, noise)
    chi2 = (z**2).sum(axis=1) + (flicker**2 / rho2 if rho2 > 0 else 0.0)
    weighted = light * covariance.own_precision
    known = np.maximum((light * weighted).sum(axis=1), 1e-300)
    factor = ((dn - mean_dn) * weighted).sum(axis=1) / known
    moved = (covariance.along * weighted).sum(axis=1) / known  # the factor, by all of the flicker
    return Deviance(z, chi2, covariance.log_det, factor, np.sqrt(1 / known + rho2 * moved**2))


def score(signal_dn: Float, light_dn: Float, noise: Noise) -> Float:
    """Signed root of the deviance of signals under ``light_dn``: Poisson counts of κ DN each, normal read noise.

    From the cumulant generating function ``K(t) = (s/κ)(e^{κt} − 1) + σ²t²/2`` at its saddle point ``K′(t) = signal``
    (Daniels, Ann. Math. Stat. 25, 631 (1954)): ``r = sign(t) √(2 (t · signal − K(t)))``.
    """
    kappa = noise.shot_dn
    least = (LEAST_READ * kappa) ** 2  # a law without read noise calls a reading below zero impossible
    variance = np.maximum(noise.own_variance(light_dn), max(least, 1e-300))
    found = np.asarray((signal_dn - light_dn) / np.sqrt(variance))
    if kappa <= 0:
        return found
    upper = np.clip(
        kappa * (signal_dn - light_dn) / variance, -1e100, 1e100
    )  # beyond the saddle point on either side: e^w ≥ 1 + w
    skewed = np.abs(upper) > 1e-3  # elsewhere the normal limit is exact to a part in a thousand
    x, s, w = signal_dn[skewed], light_dn[skewed], upper[skewed]
    a = max(noise.read_dn**2, least) / kappa
    bright = (x > s) & (s > 0)
    w[bright] = np.minimum(w[bright], np.log(x[bright] / s[bright]))
    for _ in range(30):  # a convex function from its right: Newton's steps only go left, and do not overshoot
        grown = _grown(s, w)
        step = (grown + a * w - x) / (grown + a)
        w = w - step
        if np.abs(step).max(initial=0.0) < 1e-9:
            break
    half = (w * (x - s) - (_grown(s, w) - s - s * w) - 0.5 * a * w**2) / kappa
    found[skewed] = np.sign(w) * np.sqrt(2 * np.maximum(half, 0.0))
    return found


def _grown(light: Float, w: Float) -> Float:
    """``light e^w``, and no light where there is none, however large w."""
    return np.where(light > 0, light * np.exp(np.where(light > 0, w, 0.0)), 0.0)


def find_bad_frames(
    dn: Float,
    mean_dn: Float,
    offset_dn: Float,
    noise: Noise,
    saturated: NDArray[np.bool_],
    *,
    dof_share: Float | float = 1.0,
) -> list[BadFrame]:
    """Bad frames of one scan, in order.

    Where the channel misfits all frames, none of them is a bad frame for that: χ² is judged against the median χ² if
    that exceeds what noise gives, and each output is compared with itself in the other frames.

    Parameters
    ----------
    dn, mean_dn
        (n, M) dark-subtracted readings and their expectations [DN], in the order shown.
    offset_dn
        (M,) [DN]
    noise
        Of the channel.
    saturated
        (n,) frames with too many saturated pixels.
    dof_share
        (n,) or one for all: degrees of freedom per reading, below 1 where the expectations were fitted to it [1].
    """
    if not len(dn):
        return []
    asked = deviance(dn, mean_dn, offset_dn, noise)
    suspects = _Suspects(dn, mean_dn, offset_dn, noise, asked, dof_share)
    bad = saturated | suspects.improbable(FALSE_ALARM) | suspects.off_by_a_factor() | suspects.off_in_one_output()
    return [suspects.explain(int(i), bool(saturated[i])) for i in np.nonzero(bad)[0]]


class _Suspects:
    """Which frames of a scan are improbable under what was asked, and what else each of them may be."""

    def __init__(
        self, dn: Float, mean: Float, offset: Float, noise: Noise, asked: Deviance, dof_share: Float | float
    ) -> None:
        self._dn, self._mean, self._offset, self._noise, self._asked = dn, mean, offset, noise, asked
        self._m = dn.shape[1]
        self._chi2 = asked.chi2 / dof_share
        self._scale = max(1.0, float(np.median(self._chi2) / chi2_isf(0.5, self._m)))
        self._copies: dict[bytes, list[int]] = {}
        for i, reading in enumerate(dn):
            self._copies.setdefault(reading.tobytes(), []).append(i)

    def improbable(self, alarm: float) -> NDArray[np.bool_]:
        """(n,) frames whose χ² is exceeded with probability ``alarm``."""
        return np.asarray(self._chi2 > self._scale * chi2_isf(alarm, self._m))

    def off_by_a_factor(self) -> NDArray[np.bool_]:
        """(n,) frames whose common factor is not that of the frames around them; slow drift is no alarm."""
        factor, stderr = self._asked.factor, self._asked.factor_stderr
        limit = float(normal_isf(FALSE_ALARM / 2))
        good = ~self.improbable(FALSE_ALARM)
        z, window = np.zeros(len(factor)), np.ones(min(WINDOW, len(factor)))
        for _ in range(3):
            weight = np.where(good, 1 / stderr**2, 0.0)
            total, known = (np.convolve(v, window, "same") for v in (weight * factor, weight))
            others = np.maximum(known - weight, 1e-300)
            reference = np.where(known > weight * (1 + 1e-9), (total - weight * factor) / others, factor)
            z = (factor - reference) / np.sqrt(stderr**2 + np.minimum(1 / others, stderr**2))
            z /= max(1.0, _spread(z[good]))
            good &= np.abs(z) < limit
        return np.asarray(np.abs(z) > limit)

    def off_in_one_output(self) -> NDArray[np.bool_]:
        """(n,) frames one output of which is off as it is in no other frame."""
        return np.asarray(np.abs(self._outputs).max(axis=1, initial=0.0) > normal_isf(FALSE_ALARM / 2 / self._m))

    @property
    def _outputs(self) -> Float:
        """(n, M) scores of the outputs compared with the same output in the other frames.

        The median of an output over the frames is subtracted, and the rest divided by the output's spread over the
        frames and by the spread over the frame's outputs, each no smaller than what noise gives.
        """
        z = self._asked.score
        if len(z) >= MISFIT_FRAMES_MIN:
            centre = np.median(z, axis=0)
            z = (z - centre) / np.maximum(1.0, 1.4826 * np.median(np.abs(z - centre), axis=0))
        own = 1.4826 * np.median(np.abs(z), axis=1, keepdims=True)
        return np.asarray(z / np.maximum(1.0, own))

    def explain(self, i: int, saturated: bool) -> BadFrame:
        """What frame ``i`` is, given that it is not what was asked."""
        chi2 = float(self._chi2[i]) / self._m
        z = float(normal_score(self._chi2[i] / self._scale, self._m))

        def bad(reason: Reason, evidence: str) -> BadFrame:
            return BadFrame(i, reason, chi2, evidence, z)

        if saturated:
            return bad("saturated", "pixels at full scale")
        copies = [j for j in self._copies[self._dn[i].tobytes()] if j != i]
        if i - 1 in copies:
            return bad("stale", f"a copy of the reading before it, frame {i - 1}, noise and all")
        if copies:
            return bad("duplicated", f"a copy of the reading of frame {copies[0]}, noise and all")
        fitting = [found for found in self._alternatives(i) if found[0] > -np.inf]
        if fitting:
            _, reason, evidence = max(fitting)
            return bad(reason, evidence)
        left = 1 + float(self._asked.factor[i])
        if left <= BLANK:
            return bad("blank", f"{max(left, 0.0):.1%} of the light that was asked for")
        part = self._part(i)
        if part:
            return bad("partial", part)
        return bad("garbage", "no other frame's reading, and no factor on its own")

    def _alternatives(self, i: int) -> Iterator[tuple[float, Reason, str]]:
        """Log-likelihood (−∞ where the reading does not fit), reason and evidence."""
        for j in (i - 1, i + 1):
            if not 0 <= j < len(self._dn):
                continue
            likelihood, chi2 = self._as(i, self._mean[j])
            back, _ = self._as(j, self._mean[i])
            mutual = back > -np.inf and bool(self.improbable(FALSE_ALARM)[j])
            if mutual:
                yield likelihood, "swapped", f"reads what frame {j} should (χ²/dof {chi2:.2f}), and frame {j} what this"
            elif j < i:
                yield likelihood, "stale", f"reads what the frame before it, {j}, should: χ²/dof {chi2:.2f}"
        factor = max(1 + float(self._asked.factor[i]), 0.0)
        scaled = self._offset + factor * (self._mean[i] - self._offset)
        likelihood, chi2 = self._as(i, scaled)
        penalty = 0.5 * np.log(self._m)  # one parameter more (Schwarz)
        if factor <= BLANK:
            yield likelihood - penalty, "blank", f"{factor:.1%} of the light that was asked for"
        else:
            sigmas = abs(factor - 1) / float(self._asked.factor_stderr[i])
            words = f"all outputs × {factor:.4f}, {sigmas:.1f} σ of the source and the noise; χ²/dof {chi2:.2f} then"
            yield likelihood - penalty, "flickering", words

    def _as(self, i: int, mean: Float) -> tuple[float, float]:
        """Log-likelihood of reading ``i`` as one of expectation ``mean`` (M,), −∞ where it does not fit; χ²/dof."""
        found = deviance(self._dn[i : i + 1], mean[None], self._offset, self._noise)
        fits = found.chi2[0] <= self._scale * chi2_isf(FITS, self._m)
        return float(found.log_likelihood[0]) if fits else -np.inf, float(found.chi2[0]) / self._m

    def _part(self, i: int) -> str:
        """Says which outputs of frame ``i`` are wrong if all others are right; empty if it is not so."""
        lit = self._mean[i] > self._offset  # where no light is asked for, no reading is a share of it
        light = self._mean[i, lit] - self._offset[lit]
        median = float(np.median((self._dn[i, lit] - self._mean[i, lit]) / light)) if len(light) else 0.0
        for factor in (0.0, median):  # the part may have drawn the most likely flicker to itself
            near = self._offset + (1 + factor) * (self._mean[i] - self._offset)
            z = score((self._dn[i] - self._offset)[None], np.maximum(near - self._offset, 0.0)[None], self._noise)[0]
            off = np.nonzero(np.abs(z) > OFF_SIGMAS)[0]
            if not len(off):
                continue
            run = np.arange(off[0], off[-1] + 1)
            for wrong, words in (
                (run, f"outputs {off[0]}–{off[-1]}"),
                (off, f"{len(off)} outputs, {off[0]} the first"),
            ):
                right = np.setdiff1d(np.arange(self._m), wrong)
                if len(right) < max(INTACT_MIN * self._m, 2):
                    continue
                pick = np.ix_(np.array([i]), right)
                rest = deviance(self._dn[pick], self._mean[pick], self._offset[right], self._noise)
                if rest.chi2[0] <= self._scale * chi2_isf(FITS, len(right)):
                    far = f"{words} off by up to {np.abs(z[wrong]).max():.0f} σ"
                    return f"{far}, the others as asked{self._torn(i, wrong)}"
        return ""

    def _torn(self, i: int, wrong: NDArray[np.intp]) -> str:
        """Words that say so if the outputs ``wrong`` show the frame before (a torn frame); empty otherwise."""
        if i == 0:
            return ""
        pick = np.ix_(np.array([i]), wrong)
        before = self._mean[i - 1, wrong][None]
        found = deviance(self._dn[pick], before, self._offset[wrong], self._noise)
        return "; they show the frame before" if found.chi2[0] <= chi2_isf(FITS, len(wrong)) else ""


def _spread(values: Float) -> float:
    """Robust standard deviation; 0 without values."""
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if len(values) else 0.0
