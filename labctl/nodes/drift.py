"""Drift of a run: from its reference frames to readings as they would be without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from calibration.frames.scan import Readings, Scan
from calibration.machine.channel import Noise
from calibration.machine.machine import Machine
from calibration.statistics.drift import DriftTrack, track
from labctl.nodes.evidence import PRODUCTS, Evidence
from labctl.station.model import Limits
from labctl.summary import Metric

Float = NDArray[np.float64]

NAMES = ("gain", "offset")
EPOCH = ("noise", "gain", "crosstalk", "holdout")
COUPLINGS = "couplings"
"""Over the scan that the channel is fitted to, `COUPLINGS` if it was measured, the drift is zero in the mean."""
REFERENCES_MIN = 4
LIT = 0.05
"""Of the usual light of a reference: one with less tells of the offset."""
STRAY, STRAY_WINDOW = 0.05, 5
INSTANTS = 4096


@dataclass(frozen=True)
class Drift:
    """How gain and offset drifted, as the reference frames tell it.

    Attributes
    ----------
    track
        Of the gain's relative deviation [1] and the offset's [DN].
    alone
        (n,) the gain's deviation as each reference alone has it, given the offset's [1]; NaN where it has no light.
    misfit
        (n,) χ² per output of each reference over a pattern, under the tracked gain and offset; NaN for others.
    """

    track: DriftTrack
    alone: Float
    misfit: Float

    def steady(self, readings: Readings) -> Readings:
        """Readings as they would be without the drift."""
        return steady(self.track, readings)

    def summary(self) -> dict[str, Any]:
        """Its figures as plain JSON types."""
        course = self.track
        return {
            "model": course.model,
            "gain_walk_per_sqrt_s": float(course.walk_per_sqrt_s[0]),
            "offset_walk_dn_per_sqrt_s": float(course.walk_per_sqrt_s[1]),
            "gain_drift": float(np.ptp(course.value[:, 0])),
            "jumps": [{"at_s": jump.at_s, "gain": float(jump.size[0])} for jump in course.jumps],
            "held_out_log_likelihood": course.held_out_log_likelihood,
        }

    @property
    def change_of_misfit(self) -> float:
        """Largest over smallest median misfit of the thirds of the run.

        A change of power leaves it near 1; the references of an image that has moved fit no gain and no offset.
        """
        thirds = np.array_split(self.misfit[np.isfinite(self.misfit)], 3)
        medians = [float(np.median(third)) for third in thirds if len(third)]
        return max(medians) / max(min(medians), 1e-300) if medians else 1.0

    @property
    def gain_left(self) -> float:
        """Relative standard error of the gain anywhere between the first and the last reference, rms [1]."""
        at_s = self.track.at_s
        _, covariance = self.track.at(np.linspace(at_s.min(), at_s.max(), INSTANTS))
        return float(np.sqrt(covariance[:, 0, 0].mean()))

    def widened(self, noise: Noise) -> Noise:
        """The noise of readings without the drift: what is left of it is common to all outputs, as flicker is."""
        if self.track.model == "still":
            return noise
        left = float(np.sqrt(self.track.covariance[:, 0, 0].mean()))
        return replace(noise, intensity=float(np.hypot(noise.intensity, left)))


def steady(course: DriftTrack | None, readings: Readings) -> Readings:
    """Dark-subtracted readings less their drift; as they are where nothing drifts or nobody noted the time."""
    if course is None or course.model == "still" or readings.at_s is None:
        return readings
    return readings.steadied(*_both(course, readings.at_s))


def drift_of_probes(
    evidence: Evidence, names: Sequence[str], dark_dn: Float, repeated: Sequence[str]
) -> DriftTrack | None:
    """Course over some scans, from references that show the same over a bright SLM: no model of the channel is needed.

    Parameters
    ----------
    names
        Scans of the same regions.
    dark_dn
        (M,) dark signal of these regions.
    repeated
        Scans in which the same bright or dark frame follows itself: the noise of a reference.

    Returns
    -------
    None where there are too few references.
    """
    references = [readings.minus(dark_dn) for name in names for readings in evidence.references.get(name, [])]
    if not references:
        return None
    bright, slm_bright = evidence.levels.display_bright, evidence.levels.slm_bright
    found = [_over_bright_slm(readings, slm_bright) for readings in references]
    at_s, total, level = (np.concatenate(parts) for parts in zip(*found, strict=True))
    good = ~_strays(total, level == bright)
    at_s, total, level = at_s[good], total[good], level[good]
    kinds = [kind for kind in (0, bright) if (level == kind).any()]
    if np.count_nonzero(level == bright) < REFERENCES_MIN:
        return None
    information, score = np.zeros((len(total), 2, 2)), np.zeros((len(total), 2))
    for kind in kinds:
        mine = level == kind
        mean = total[mine].mean()
        noise2 = _noise2([evidence.scans[name].minus(dark_dn) for name in repeated], kind, slm_bright)
        design = np.array([mean, 1.0])
        information[mine] = np.outer(design, design) / noise2
        score[mine] = (total[mine] - mean)[:, None] * design / noise2
    known = len(kinds)  # bright frames alone do not tell an offset from a gain
    return track(at_s, information[:, :known, :known], score[:, :known], NAMES[:known], reference_s=_span(at_s))


def drift_of_run(
    evidence: Evidence, machine: Machine, dark_dn: Float, names: Sequence[str] = (*EPOCH, COUPLINGS, PRODUCTS)
) -> Drift | None:
    """Course over a run, from what the channel predicts of every reference, whatever the SLM shows.

    Parameters
    ----------
    names
        Whose references count.

    Returns
    -------
    None for a run without references.
    """
    fitted = (COUPLINGS,) if COUPLINGS in evidence.references else EPOCH
    epoch = [readings for name in fitted for readings in evidence.references.get(name, [])]
    references = [readings.minus(dark_dn) for name in names for readings in evidence.references.get(name, [])]
    if len(epoch) == 0 or sum(map(len, references)) < REFERENCES_MIN:
        return None
    at_s = np.concatenate([readings.at_s for readings in references if readings.at_s is not None])
    first = _span(np.concatenate([readings.at_s for readings in epoch if readings.at_s is not None]))
    dn = np.concatenate([readings.dn for readings in references])
    # frame by frame, so that the same frames give the same bits however they were put together
    mean = np.concatenate(
        [
            machine.predict(readings.scan.slm[s], readings.scan.display[i : i + 1])[0]
            for readings in references
            for i, s in enumerate(readings.scan.slm_index)
        ]
    )
    light = np.maximum(mean - machine.channel.offset_dn, 0.0)
    design = np.stack([mean, np.ones_like(mean)], axis=2)  # (n, M, 2)
    shown = np.concatenate(
        [_is_bright(readings.scan, machine.slm.levels - 1)[readings.scan.slm_index] for readings in references]
    )
    lit = light.sum(axis=1) > LIT * np.median(light.sum(axis=1))
    model = _model_error(machine.channel.noise, light[lit & ~shown], design[lit & ~shown], (dn - mean)[lit & ~shown])
    weigh = _Weights(machine.channel.noise, light, mean, np.where(shown, 0.0, model))
    weighted = weigh(design)
    # each reference counts as one number, its total light: to the differences between outputs a small error of the
    # channel's crosstalk looks like an offset, and is none
    along = np.where(lit[:, None], mean, 1.0)
    own = np.einsum("nm,nmi->ni", along, weighted)
    size = (along * weigh(along[:, :, None])[:, :, 0]).sum(axis=1)
    seen = np.einsum("nm,nm->n", along, weigh((dn - mean)[:, :, None])[:, :, 0])
    good = ~_strays(dn.mean(axis=1) / np.where(lit, mean.mean(axis=1), mean[lit].mean()), lit)
    information = own[:, :, None] * own[:, None, :] * (good / size)[:, None, None]
    score = own * (seen * good / size)[:, None]
    course = track(at_s, information, score, NAMES, reference_s=first)
    left = dn - mean - np.einsum("nmi,ni->nm", design, course.value)
    misfit = (left * weigh(left[:, :, None])[:, :, 0]).mean(axis=1)
    alone = (seen - own[:, 1] * course.value[:, 1]) / own[:, 0]
    return Drift(course, np.where(lit & good, alone, np.nan), np.where(lit & ~shown & good, misfit, np.nan))


WORDS = {
    "gain_jump": "the light jumped by more than a correction can be trusted with; see what switches the source",
    "reference_misfit": "the reference frames fit no change of gain and offset: something has moved, calibrate again",
}
"""What it means when one of `metrics_of` is out of spec."""


def metrics_of(drift: Drift, limits: Limits) -> list[Metric]:
    """How far and how fast gain and offset drifted, where they jumped, and whether that was all that changed."""
    course = drift.track
    gain, offset_dn = course.value.T
    walk, error = course.walk_per_sqrt_s, course.walk_relative_stderr
    jump = max((abs(float(j.size[0])) for j in course.jumps), default=0.0)
    return [
        Metric.judge("gain_drift", float(np.ptp(gain)), "1"),
        Metric.judge("gain_walk", float(walk[0]), "1/√s", stderr=float(walk[0] * error[0])),
        Metric.judge("offset_drift", float(np.ptp(offset_dn)), "DN"),
        Metric.judge("jumps", len(course.jumps), "1"),
        Metric.judge("gain_jump", jump, "1", maximum=limits.gain_jump_max),
        Metric.judge("reference_misfit", drift.change_of_misfit, "1", maximum=limits.reference_misfit_max),
    ]


@dataclass(frozen=True)
class _Weights:
    """C⁻¹ of readings with covariance ``diag(σ² + κ s + τ² s²) + ρ² y yᵀ`` (Sherman–Morrison).

    τ is how far the channel misses single outputs of SLM patterns that no fit has seen [1].
    """

    noise: Noise
    light_dn: Float  # (n, M)
    total_dn: Float  # (n, M) with the offset
    model: Float  # (n,)

    def __call__(self, columns: Float) -> Float:
        """(n, M, r) → (n, M, r)."""
        light, total = self.light_dn[:, :, None], self.total_dn[:, :, None]
        independent = replace(self.noise, intensity=0.0).variance(light) + (self.model[:, None, None] * light) ** 2
        solved, along = columns / independent, total / independent
        rho2 = self.noise.intensity**2
        size = (total * along).sum(axis=1, keepdims=True)
        inside = (total * solved).sum(axis=1, keepdims=True)
        return np.asarray(solved - rho2 / (1 + rho2 * size) * along * inside)


def _model_error(noise: Noise, light: Float, design: Float, residual: Float) -> float:
    """τ: what is left of each reference beyond its own gain and offset and beyond noise; median over the references."""
    if not len(light):
        return 0.0
    variance = replace(noise, intensity=0.0).variance(light)
    weighted = design / variance[:, :, None]
    normal = np.einsum("nmi,nmj->nij", design, weighted)
    own = np.linalg.solve(normal, np.einsum("nmi,nm->ni", weighted, residual)[:, :, None])
    left = residual - (design @ own)[:, :, 0]
    share = 1 - design.shape[2] / light.shape[1]
    excess = ((left**2 / share - variance) * light**2 / variance**2).sum(axis=1) / (light**4 / variance**2).sum(axis=1)
    return float(np.sqrt(max(np.median(excess), 0.0)))


def _strays(light: Float, lit: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) references that differ from those around them: frames that are not what was asked for, not a drift."""
    stray = np.zeros(len(light), np.bool_)
    for kind in (lit, ~lit):
        if kind.any():
            usual = median_filter(light[kind], STRAY_WINDOW, mode="nearest")
            stray[kind] = np.abs(light[kind] - usual) > STRAY * np.median(light[lit])
    return stray


def _both(course: DriftTrack, at_s: Float) -> tuple[Float, Float]:
    """Course of gain and offset and its covariance, (n, 2) and (n, 2, 2); an offset that nobody saw does not drift."""
    value, covariance = course.at(at_s)
    missing = len(NAMES) - len(course.names)
    return np.pad(value, ((0, 0), (0, missing))), np.pad(covariance, ((0, 0), (0, missing), (0, missing)))


def _over_bright_slm(readings: Readings, slm_bright: int) -> tuple[Float, Float, Float]:
    """Times, mean readings and display levels of the frames with a bright SLM and a uniform display."""
    scan = readings.scan
    uniform = (scan.display == scan.display[:, :1]).all(axis=1)
    bright = _is_bright(scan, slm_bright)[scan.slm_index] & uniform
    at_s = readings.at_s if readings.at_s is not None else np.full(len(readings), np.nan)
    return at_s[bright], readings.dn[bright].mean(axis=1), scan.display[bright, 0].astype(np.float64)


def _noise2(scans: Sequence[Readings], kind: int, slm_bright: int) -> float:
    """Variance of the mean reading of a frame, from frames that follow one that showed the same [DN²]."""
    squares = []
    for readings in scans:
        _, total, level = _over_bright_slm(readings, slm_bright)
        same = (level[1:] == kind) & (level[:-1] == kind)
        squares.append(np.diff(total)[same] ** 2 / 2)
    return float(np.concatenate(squares).mean())


def _span(at_s: Float) -> tuple[float, float]:
    return float(at_s.min()), float(at_s.max())


def _is_bright(scan: Scan, slm_bright: int) -> NDArray[np.bool_]:
    """(s,) which SLM patterns show the brightest level all over."""
    return np.asarray((scan.slm == slm_bright).all(axis=(1, 2)))
