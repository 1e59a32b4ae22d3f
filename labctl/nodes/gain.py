"""Node *gain*: gain and offset, fitted together with crosstalk and noise, bad frames left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from calibration.fit.channel import ChannelFit
from calibration.fit.run_drift import steady
from calibration.fit.screening import FEW, ScreenedFit
from calibration.frames import probes
from calibration.frames.probes import ProbePlan
from calibration.frames.scan import PanelLevels, Scan
from calibration.machine.findings import GainCandidate
from labctl.nodes.evidence import Evidence
from labctl.nodes.lut import LUT_NODE
from labctl.nodes.node import HARDWARE, Results, Setting, Titled
from labctl.nodes.noise import NOISE_NODE
from labctl.nodes.registration import REGISTRATION_NODE
from labctl.nodes.scans import CROSSTALK, GAIN, HOLDOUT, NOISE, Float, ScanNode, clean_scan, drift_of_epoch
from labctl.summary import BadFrame, Choice, Metric

HOLDOUT_SEED = 20230220
"""The hold-out patterns are the same on every bench and every night."""


class GainNode(ScanNode[ScreenedFit]):
    """Its scans serve the crosstalk, too: the fit is one of all parameters, and the hold-out frames choose its form."""

    name = "gain"
    parents = (NOISE_NODE,)
    max_age_h = 24.0
    keys = (
        *HARDWARE,
        "acquisition.gain_repeats",
        "acquisition.crosstalk_repeats",
        "acquisition.holdout_frames",
    )
    scans = (GAIN, CROSSTALK, HOLDOUT)

    def patterns(self, shape: tuple[int, int], plan: ProbePlan, levels: PanelLevels) -> Iterator[Scan]:
        yield probes.gain_scan(shape, plan, levels=levels)
        yield probes.crosstalk_scan(shape, plan, levels=levels)
        yield probes.holdout_scan(shape, plan, np.random.default_rng(HOLDOUT_SEED), levels=levels)

    def analyse(self, evidence: Evidence, results: Results, setting: Setting, metrics: list[Metric]) -> ScreenedFit:
        geometry, luts, limits = results[REGISTRATION_NODE], results[LUT_NODE], setting.station.limits
        course = drift_of_epoch(evidence, geometry, setting.station.acquisition.drift_monitor)
        names = (GAIN, CROSSTALK, NOISE, HOLDOUT)
        screened = ScreenedFit(
            luts.display,
            luts.slm,
            results[NOISE_NODE],
            {name: steady(course, clean_scan(evidence, name, geometry, limits, FEW)) for name in names},
            geometry.tolerant(limits).saturated_fraction_max,
            geometry.dark_stderr_dn,
            setting.tell,
        )
        fit, c = screened.fit, screened.fit.channel
        metrics += [
            Metric.judge("gain_mean", float(c.gain_dn.mean()), "DN", stderr=_mean_error(c.gain_stderr_dn)),
            Metric.judge("offset_mean", float(c.offset_dn.mean()), "DN", stderr=_mean_error(c.offset_stderr_dn)),
            Metric.judge("common_probe_chi2_per_dof", chosen(fit).heldout_chi2_per_dof, "1"),
            Metric.judge("gain_parameters", chosen(fit).parameters, "1"),
            Metric.judge("bad_probe_frames", sum(map(len, screened.bad.values())), "1"),
        ]
        return screened

    def summary(self, result: ScreenedFit, results: Results) -> Mapping[str, Any]:
        return {
            "structure": {name: Choice.of(choice) for name, choice in result.fit.structure.items()},
            "bad_frames": [BadFrame.of(scan, frame) for scan, frames in result.bad.items() for frame in frames],
        }

    def figures(self, evidence: Evidence, results: Results, setting: Setting) -> Iterator[Titled]:
        from labctl.nodes import figures

        yield Titled(
            "Gain",
            "Light of each macropixel at full transmission, in its own camera region.",
            figures.gain(results[self].fit),
        )


def chosen(fit: ChannelFit) -> GainCandidate:
    """The gain structure that was chosen."""
    return next(x for x in fit.candidates if x.structure == fit.structure["gain"].chosen)


def _mean_error(stderr: Float) -> float:
    """Upper bound of the standard error of a mean whose terms may be fully correlated."""
    return float(stderr.mean())


GAIN_NODE = GainNode()
