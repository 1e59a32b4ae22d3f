"""Nodes that show probe scans: their steps, their quick check, and what makes readings unfit for any fit."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadScan
from calibration.fit.run_drift import drift_of_probes
from calibration.frames.probes import ProbePlan
from calibration.frames.scan import PanelLevels, Readings, Scan
from calibration.machine.channel import Channel
from calibration.machine.noise import Noise
from calibration.statistics.bad_frame import BadFrame
from calibration.statistics.drift import DriftTrack
from labctl.bench.steps import Place, Step, blocks
from labctl.nodes.evidence import PROBE, PRODUCTS, Evidence
from labctl.nodes.node import Node, Results, Setting, T
from labctl.nodes.registration import REGISTRATION_NODE, Geometry, layout_of
from labctl.nodes.saturation import require_light_to_the_end, unsaturated
from labctl.station.model import Acquisition, Limits
from labctl.summary import Metric

Float = NDArray[np.float64]

NOISE, GAIN, CROSSTALK, COUPLINGS, HOLDOUT = "noise", "gain", "crosstalk", "couplings", "holdout"
SLM_RAMP, DISPLAY_RAMP = "slm_ramp", "display_ramp"
"""Names of the scans."""
EPOCH = (NOISE, GAIN, CROSSTALK, HOLDOUT)
WHOLE_RUN = (*EPOCH, COUPLINGS, PRODUCTS)
DRIFT_KEYS = ("acquisition.reference_spacing_frames", "acquisition.drift_monitor")
CHECK_FRAMES = 16
FOLLOWED_MIN = 0.5


def plan_of(settings: Acquisition) -> ProbePlan:
    """The station's numbers of repeats."""
    return ProbePlan(
        lut_repeats=settings.lut_repeats,
        gain_repeats=settings.gain_repeats,
        crosstalk_repeats=settings.crosstalk_repeats,
        coupling_repeats=settings.coupling_repeats,
        noise_repeats=settings.noise_repeats,
        holdout_frames=settings.holdout_frames,
    )


class ScanNode(Node[T]):
    """A node that shows scans.

    Attributes
    ----------
    scans
        Their names.
    """

    kind = PROBE
    scans: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        """Every scan has reference frames, is corrected for the drift, and saturated ones are refused."""
        super().__init_subclass__()
        cls.keys = (*cls.keys, *DRIFT_KEYS, "limits.saturated_fraction_max")

    @abstractmethod
    def patterns(self, shape: tuple[int, int], plan: ProbePlan, levels: PanelLevels) -> Iterator[Scan]:
        """The scans, in the order of their names, for so many rows and columns of macropixels."""

    def place(self, geometry: Geometry) -> Place:
        """Where they are shown and read."""
        return geometry.place

    def dark_dn(self, geometry: Geometry) -> Float:
        """(M,) dark signal of the regions that they are read from [DN]."""
        return geometry.dark_dn

    def steps(self, setting: Setting, results: Results) -> Iterator[Step]:
        for name, scan in self._named(setting):
            yield from self._blocks(name, scan, setting, results)

    def owns(self, kind: str, attrs: Mapping[str, Any]) -> bool:
        return kind == self.kind and attrs.get("scan") in self.scans

    def missing(self, evidence: Evidence, setting: Setting) -> list[str]:
        return [f"scan {name}" for name in self.scans if name not in evidence.scans]

    def check_steps(self, setting: Setting, results: Results) -> Iterator[Step]:
        for name, scan in self._named(setting):
            frames = _checked(len(scan))
            few = Scan(scan.slm, scan.slm_index[frames], scan.display[frames])
            yield from self._blocks(name, few, setting, results)

    def check(self, readings: Evidence, evidence: Evidence, results: Results, setting: Setting) -> list[Metric]:
        """Frames shown again may differ from those of then by one factor each and by noise.

        The factor is the source, which drifts and flickers; it may not have left the range that a jump may have. No
        model of the channel is needed, so that every scan is checked in the same way.
        """
        geometry, noise = results[REGISTRATION_NODE], results.one(Noise)
        metrics, limits = [], setting.station.limits
        for name in self.scans:
            dark_dn, then = self.dark_dn(geometry), evidence.scans[name]
            frames = np.zeros(len(then), np.bool_)
            frames[_checked(len(then))] = True
            chi2, factor = compared(
                readings.scans[name].minus(dark_dn).dn, then.where(frames).minus(dark_dn).dn, noise, name
            )
            maximum, jump = limits.probe_chi2_per_dof_max, limits.gain_jump_max
            metrics.append(Metric.judge(f"{name}_check_chi2_per_dof", chi2, "1", maximum=maximum))
            metrics.append(Metric.judge(f"{name}_check_light", factor, "1", minimum=1 - jump, maximum=1 + jump))
        return metrics

    def _named(self, setting: Setting) -> Iterator[tuple[str, Scan]]:
        facts = setting.facts
        assert facts is not None
        layout = layout_of(setting.station, facts.slm_shape)
        patterns = self.patterns((layout.rows, layout.columns), plan_of(setting.station.acquisition), facts.levels)
        return zip(self.scans, patterns, strict=True)

    def _blocks(self, name: str, scan: Scan, setting: Setting, results: Results) -> Iterator[Step]:
        """The scan with its reference frames, in steps."""
        shown, reference = setting.references.into(scan, around=True)
        geometry = results.get(REGISTRATION_NODE)
        place = None if geometry is None else self.place(geometry)
        return blocks(PROBE, shown, reference, place, {"scan": name}, setting.station.acquisition.segment_frames)


def epoch_of(channel: Channel, references: Mapping[str, Sequence[Readings]]) -> tuple[str, ...]:
    """Scans that a channel is fitted to, over which the drift is zero in the mean.

    Couplings that were measured but not kept say nothing of the channel: the light of their scan is not its light.
    """
    return (COUPLINGS,) if channel.couplings is not None and COUPLINGS in references else EPOCH


def drift_of_epoch(evidence: Evidence, geometry: Geometry, monitor: str = "") -> DriftTrack | None:
    """Course of the light over the scans that the channel is fitted to; None where no reference tells.

    Parameters
    ----------
    monitor
        Name of the monitor that may explain it; empty for none.
    """
    return drift_of_probes(
        evidence.references,
        evidence.scans,
        EPOCH,
        geometry.dark_dn,
        (NOISE,),
        evidence.levels,
        evidence.monitor(monitor, EPOCH),
    )


def compared(now_dn: Float, then_dn: Float, noise: Noise | None, name: str) -> tuple[float, float]:
    """χ² per degree of freedom of frames read again, each with a factor of its own, and the mean factor.

    Parameters
    ----------
    now_dn, then_dn
        (n, M) dark-subtracted readings of the same frames [DN].
    noise
        Of single readings; None where it is not known yet: then only the factor is judged.

    Raises
    ------
    BadScan
        When the readings of now do not follow those of then: they are another bench's, or nobody's.
    """
    if np.corrcoef(now_dn.ravel(), then_dn.ravel())[0, 1] < FOLLOWED_MIN:
        raise BadScan(
            "the frames shown again do not follow those of then",
            device="camera",
            action=f"quick check of the {name} scan",
            expected=f"a correlation of at least {FOLLOWED_MIN:g}",
            seen=f"{np.corrcoef(now_dn.ravel(), then_dn.ravel())[0, 1]:.2f}",
            hint="look at the bench: is the source on, does anything block the light?",
        )
    weight = 1.0 / replace(noise, flicker=0.0).variance(np.maximum(then_dn, 0.0)) if noise else np.ones_like(then_dn)
    factor = (weight * now_dn * then_dn).sum(axis=1) / (weight * then_dn**2).sum(axis=1)
    lit = then_dn.sum(axis=1) > FOLLOWED_MIN * np.median(then_dn.sum(axis=1))
    if noise is None:
        return float("nan"), float(factor[lit].mean())
    factor = np.where(lit, factor, factor[lit].mean())
    left2 = (now_dn - factor[:, None] * then_dn) ** 2 * weight / (1 + factor[:, None] ** 2)
    return float(left2.sum() / (left2.size - lit.sum())), float(factor[lit].mean())


def clean_scan(evidence: Evidence, name: str, geometry: Geometry, limits: Limits, few: float = 0.0) -> Readings:
    """A scan less the dark signal, of which no more than the share ``few`` of frames is saturated."""
    require_light_to_the_end(evidence, name, geometry.dark_dn)
    return unsaturated(evidence, name, geometry.tolerant(limits), few).minus(geometry.dark_dn)


def all_but(bad: list[BadFrame], n: int) -> NDArray[np.bool_]:
    """(n,) mask of the frames that are not bad."""
    keep = np.ones(n, np.bool_)
    keep[[frame.index for frame in bad]] = False
    return keep


def _checked(n: int) -> NDArray[np.intp]:
    """Which of n frames are shown again: spread over the whole scan."""
    return np.unique(np.linspace(0, n - 1, min(n, CHECK_FRAMES)).astype(np.intp))
