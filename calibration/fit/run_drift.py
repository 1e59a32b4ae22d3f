"""Drift of a run: from its reference frames to readings as they would be without it.

Reference frames show known light again and again between the frames that a run is about. While gain and offset drift,
they read ``y = (1 + g) ŷ + o`` instead of the expected ŷ: g is the gain's relative deviation [1], o the offset's [DN],
and both follow a course over the run that `calibration.statistics.drift` finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from calibration.frames.scan import PanelLevels, Readings, Scan
from calibration.machine.machine import Machine
from calibration.machine.noise import ROUNDING_DN2, Noise
from calibration.statistics import tails
from calibration.statistics.drift import DriftTrack
from calibration.statistics.drift_beside import MonitorReadings, track_beside

Float = NDArray[np.float64]

NAMES = ("gain", "offset")
REFERENCES_MIN = 4
LIT = 0.05
"""Share of the usual light of a reference; one with less tells of the offset alone."""
STRAY, STRAY_WINDOW = 0.05, 5
"""A reference further than this share of the usual light from the median of so many around it is not counted."""
INSTANTS = 4096
LIKELIER = 0.16
"""Probability with which the light is taken to walk between probes where it stands still: as often as Akaike's
criterion prefers two idle numbers. A walk that is followed in vain costs some noise, which is stated; one that is not
followed bends a ramp, and nothing says so."""
BY_CHANCE = 1e-4
"""Probability with which a run in which nothing moves may seem to have moved."""


@dataclass(frozen=True)
class RunDrift:
    """How gain and offset drifted, as the reference frames tell it.

    Attributes
    ----------
    track
        Course of the gain's relative deviation [1] and of the offset's [DN].
    alone
        (n,) the gain's deviation as each of the n references alone has it, the offset's taken from the course [1]; NaN
        for a reference without light.
    misfit
        (n,) χ² per output of each reference over an SLM pattern that no fit has seen, under the gain and offset of the
        course [1]; NaN for the other references and for those without light.
    outputs
        Outputs of a reference.
    """

    track: DriftTrack
    alone: Float
    misfit: Float
    outputs: int

    def steady(self, readings: Readings) -> Readings:
        """Dark-subtracted readings as they would be without the drift."""
        return steady(self.track, readings)

    def summary(self) -> dict[str, Any]:
        """Model, walks, range and jumps as plain JSON types."""
        course = self.track
        beside = {"monitor": course.beside.reason} if course.beside else {}
        return {
            **beside,
            "model": course.model,
            "gain_walk_per_sqrt_s": float(course.walk_per_sqrt_s[0]),
            "offset_walk_dn_per_sqrt_s": float(course.walk_per_sqrt_s[1]),
            "gain_drift": float(np.ptp(course.value[:, 0])),
            "jumps": [{"at_s": jump.at_s, "gain": float(jump.size[0])} for jump in course.jumps],
            "held_out_log_likelihood": course.held_out_log_likelihood,
        }

    @property
    def change_of_misfit(self) -> float:
        """Median misfit of each third of the run: the largest over the smallest, 1 where noise explains it [1].

        A change of power leaves it near 1. Where the image has moved, no gain and no offset fit the references any
        more, and the later thirds misfit.
        """
        medians = [max(float(np.median(third)), 1.0) for third in self._thirds]
        return max(medians) / min(medians) if medians else 1.0

    @property
    def change_by_chance(self) -> float:
        """What `change_of_misfit` exceeds with a probability of `BY_CHANCE` where nothing has moved [1].

        The largest of as many χ² per degree of freedom as there are thirds, each of as many degrees as a third of the
        references has outputs; a median of n > 2 is worth 2/π of them. It matters where a run has few references.
        """
        thirds = self._thirds
        if len(thirds) < 2:
            return 1.0
        fewest = min(map(len, thirds))
        freedom = fewest * self.outputs * (2 / np.pi if fewest > 2 else 1.0)
        return float(tails.chi2_isf(BY_CHANCE / len(thirds), freedom) / freedom)

    @property
    def _thirds(self) -> list[Float]:
        """Misfits of each third of the run that has any."""
        thirds = np.array_split(self.misfit[np.isfinite(self.misfit)], 3)
        return [third for third in thirds if len(third)]

    @property
    def gain_left(self) -> float:
        """Relative standard error of the gain between the first and the last reference, rms over that time [1]."""
        at_s = self.track.at_s
        _, covariance = self.track.at(np.linspace(at_s.min(), at_s.max(), INSTANTS))
        return float(np.sqrt(covariance[:, 0, 0].mean()))

    def widened(self, noise: Noise) -> Noise:
        """The noise of readings without the drift: what is left of it is common to a frame, as flicker is."""
        if self.track.model == "still":
            return noise
        return noise.with_common(float(np.sqrt(self.track.covariance[:, 0, 0].mean())))


def steady(course: DriftTrack | None, readings: Readings) -> Readings:
    """Dark-subtracted readings less their drift; as they are where nothing drifts or nobody noted the time."""
    if course is None or course.model == "still" or readings.at_s is None:
        return readings
    return readings.steadied(*_both(course, readings.at_s))


def drift_of_probes(
    references: Mapping[str, Sequence[Readings]],
    scans: Mapping[str, Readings],
    names: Sequence[str],
    dark_dn: Float,
    repeated: Sequence[str],
    levels: PanelLevels,
    monitor: MonitorReadings | None = None,
) -> DriftTrack | None:
    """Course over some scans, from references that show the same over a bright SLM: no model of the channel is needed.

    Parameters
    ----------
    references
        Raw readings of the reference frames, by the name of the scan that they were shown in.
    scans
        Raw readings of the scans themselves, by name.
    names
        Scans, all of the same camera regions, whose references count.
    dark_dn
        (M,) dark signal of these regions [DN].
    repeated
        Scans in which the same bright or dark frame follows itself: they tell the noise of a reference.
    levels
        Gray levels of the panels: the last of each is bright.
    monitor
        That may explain the drift; None where none is asked.

    Returns
    -------
    None where there are too few references.
    """
    chosen = _of(references, names, dark_dn)
    if not chosen:
        return None
    bright, slm_bright = levels.display_bright, levels.slm_bright
    parts = [_over_bright_slm(readings, slm_bright) for readings in chosen]
    at_s, total, level = (np.concatenate(part) for part in zip(*parts, strict=True))
    good = ~_strays(total, level == bright)
    at_s, total, level = at_s[good], total[good], level[good]
    kinds = [kind for kind in (0, bright) if (level == kind).any()]
    if np.count_nonzero(level == bright) < REFERENCES_MIN:
        return None
    information, score = np.zeros((len(total), 2, 2)), np.zeros((len(total), 2))
    for kind in kinds:
        mine = level == kind
        mean = total[mine].mean()
        noise2 = _noise2([scans[name].minus(dark_dn) for name in repeated], kind, slm_bright)
        design = np.array([mean, 1.0])
        information[mine] = np.outer(design, design) / noise2
        score[mine] = (total[mine] - mean)[:, None] * design / noise2
    known = len(kinds)  # bright frames alone do not tell an offset from a gain
    return track_beside(
        monitor,
        at_s,
        information[:, :known, :known],
        score[:, :known],
        NAMES[:known],
        reference_s=_span(at_s),
        walk_false_alarm=LIKELIER,
    )


def drift_of_run(
    references: Mapping[str, Sequence[Readings]],
    machine: Machine,
    dark_dn: Float,
    names: Sequence[str],
    epoch: Sequence[str],
    monitor: MonitorReadings | None = None,
) -> RunDrift | None:
    """Course over a run, from what the machine predicts of every reference, whatever the SLM shows.

    Parameters
    ----------
    references
        Raw readings of the reference frames, by the name of the scan that they were shown in.
    machine
        Fitted to the scans of the epoch.
    dark_dn
        (M,) dark signal of the machine's regions [DN].
    names
        Scans whose references count.
    epoch
        Scans over whose time the drift is zero in the mean: those that the machine was fitted to.
    monitor
        That may explain the drift; None where none is asked.

    Returns
    -------
    None for a run without references.
    """
    fitted = _of(references, epoch, dark_dn)
    chosen = _of(references, names, dark_dn)
    if len(fitted) == 0 or sum(map(len, chosen)) < REFERENCES_MIN:
        return None
    at_s = np.concatenate([readings.at_s for readings in chosen if readings.at_s is not None])
    first = _span(np.concatenate([readings.at_s for readings in fitted if readings.at_s is not None]))
    seen = _Seen.of(chosen, machine)
    information, score = seen.information()
    course = track_beside(monitor, at_s, information, score, NAMES, reference_s=first)
    fresh = np.concatenate(
        [np.full(len(readings), name not in epoch) for name in names for readings in references.get(name, [])]
    )
    misfit = np.where(fresh, seen.misfit(course), np.nan)
    return RunDrift(course, seen.gain_alone(course), misfit, seen.dn.shape[1])


class _Seen:
    """References and what the machine expects of them.

    Each reference counts as one number, its total light: to the differences between outputs a small error of the
    channel's crosstalk looks like an offset, and is none.

    Attributes
    ----------
    dn, mean
        (n, M) readings and their expectations [DN].
    lit, patterned, good
        (n,) references with light, those over an SLM that is not bright all over, and those that are no strays.
    """

    def __init__(self, dn: Float, mean: Float, stated: Float, patterned: NDArray[np.bool_], machine: Machine) -> None:
        self.dn, self.mean, self.patterned = dn, mean, patterned
        light = np.maximum(mean - machine.channel.offset_dn, 0.0)
        self.lit = light.sum(axis=1) > LIT * np.median(light.sum(axis=1))
        self.good = ~_strays(dn.mean(axis=1) / np.where(self.lit, mean.mean(axis=1), mean[self.lit].mean()), self.lit)
        self._design = np.stack([mean, np.ones_like(mean)], axis=2)  # (n, M, 2): by gain and by offset
        stated = np.where(patterned[:, None], stated, 0.0)
        model = np.where(patterned, self._model_error(machine.channel.noise, light, stated), 0.0)
        self._covariance = machine.channel.noise.covariance(light, mean, (model[:, None] * light) ** 2 + stated)
        along = np.where(self.lit[:, None], mean, 1.0)
        self._own = np.einsum("nm,nmi->ni", along, self._covariance.solve(self._design))
        weighted = self._covariance.solve(along)
        self._size = (along * weighted).sum(axis=1)
        self._excess = np.einsum("nm,nm->n", along, self._covariance.solve(dn - mean))

    @classmethod
    def of(cls, references: Sequence[Readings], machine: Machine) -> _Seen:
        """From dark-subtracted references; predicted one by one, so that equal frames give equal bits in any order."""
        expected = [
            machine.predict_with_errors(readings.scan.slm[s], readings.scan.display[i : i + 1])
            for readings in references
            for i, s in enumerate(readings.scan.slm_index)
        ]
        mean, stated = (np.concatenate(part) for part in zip(*expected, strict=True))
        bright = machine.slm.levels - 1
        shown = np.concatenate([_is_bright(readings.scan, bright)[readings.scan.slm_index] for readings in references])
        return cls(np.concatenate([readings.dn for readings in references]), mean, stated, ~shown, machine)

    def information(self) -> tuple[Float, Float]:
        """What each reference tells of gain and offset: (n, 2, 2) and (n, 2), as `track` takes them."""
        own = self._own
        information = own[:, :, None] * own[:, None, :] * (self.good / self._size)[:, None, None]
        return information, own * (self._excess * self.good / self._size)[:, None]

    def gain_alone(self, course: DriftTrack) -> Float:
        """(n,) `RunDrift.alone`."""
        alone = (self._excess - self._own[:, 1] * course.value[:, 1]) / self._own[:, 0]
        return np.where(self.lit & self.good, alone, np.nan)

    def misfit(self, course: DriftTrack) -> Float:
        """(n,) `RunDrift.misfit`."""
        left = self.dn - self.mean - np.einsum("nmi,ni->nm", self._design, course.value)
        misfit = (left * self._covariance.solve(left)).mean(axis=1)
        return np.where(self.lit & self.patterned & self.good, misfit, np.nan)

    def _model_error(self, noise: Noise, light: Float, stated: Float) -> float:
        """How far the channel misses single outputs of SLM patterns that no fit has seen, relative to their light [1].

        From what is left of each reference beyond its own gain and offset, beyond noise and beyond the errors (n, M)
        that the channel states [DN²]: the median of those references, by thirds of the run, that are missed least. An
        image that moves in the run is no error of the channel.
        """
        asked = self.lit & self.patterned
        if not asked.any() or light.shape[1] <= len(NAMES):  # gain and offset of its own leave nothing of a reference
            return 0.0
        light, design, residual = light[asked], self._design[asked], (self.dn - self.mean)[asked]
        variance = noise.own_variance(light) + stated[asked]
        weighted = design / variance[:, :, None]
        normal = np.einsum("nmi,nmj->nij", design, weighted)
        own = np.linalg.solve(normal, np.einsum("nmi,nm->ni", weighted, residual)[:, :, None])
        left = residual - (design @ own)[:, :, 0]
        share = 1 - design.shape[2] / light.shape[1]
        excess = ((left**2 / share - variance) * light**2 / variance**2).sum(axis=1)
        square = excess / (light**4 / variance**2).sum(axis=1)
        return float(np.sqrt(max(min(np.median(third) for third in np.array_split(square, 3) if len(third)), 0.0)))


def _of(references: Mapping[str, Sequence[Readings]], names: Sequence[str], dark_dn: Float) -> list[Readings]:
    """Dark-subtracted references of the named scans, in that order."""
    return [readings.minus(dark_dn) for name in names for readings in references.get(name, [])]


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
    """Variance of the mean reading of a frame, from frames that follow one that showed the same [DN²].

    Dark frames of a camera without noise are all equal; they are known no better than to what a count is rounded.
    """
    squares = []
    for readings in scans:
        _, total, level = _over_bright_slm(readings, slm_bright)
        same = (level[1:] == kind) & (level[:-1] == kind)
        squares.append(np.diff(total)[same] ** 2 / 2)
    return max(float(np.concatenate(squares).mean()), ROUNDING_DN2)


def _span(at_s: Float) -> tuple[float, float]:
    return float(at_s.min()), float(at_s.max())


def _is_bright(scan: Scan, slm_bright: int) -> NDArray[np.bool_]:
    """(s,) which SLM patterns show the brightest level all over."""
    return np.asarray((scan.slm == slm_bright).all(axis=(1, 2)))
