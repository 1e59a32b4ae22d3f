"""Node *noise*: read, shot and intensity noise of single readings, a first estimate for the weights of the fits."""

from __future__ import annotations

from collections.abc import Iterator

from calibration.fit.noise import fit_noise
from calibration.frames import probes
from calibration.frames.probes import ProbePlan
from calibration.frames.scan import PanelLevels, Scan
from calibration.machine.noise import Noise
from labctl.nodes.evidence import Evidence
from labctl.nodes.lut import LUT_NODE
from labctl.nodes.node import HARDWARE, Results, Setting
from labctl.nodes.registration import REGISTRATION_NODE
from labctl.nodes.scans import NOISE, ScanNode, clean_scan
from labctl.summary import Metric


class NoiseNode(ScanNode[Noise]):
    """From its own scan alone; the channel is fitted with the noise of all scans."""

    name = "noise"
    parents = (LUT_NODE,)
    max_age_h = 24.0
    keys = (*HARDWARE, "acquisition.noise_repeats")
    scans = (NOISE,)

    def patterns(self, shape: tuple[int, int], plan: ProbePlan, levels: PanelLevels) -> Iterator[Scan]:
        yield probes.noise_scan(shape, plan, levels=levels)

    def analyse(self, evidence: Evidence, results: Results, setting: Setting, metrics: list[Metric]) -> Noise:
        scan = clean_scan(evidence, NOISE, results[REGISTRATION_NODE], setting.station.limits)
        noise = fit_noise(scan, results[LUT_NODE].display.floor).noise
        metrics += noise_metrics(noise)
        return noise


def noise_metrics(noise: Noise, prefix: str = "") -> list[Metric]:
    """Read noise, DN per electron, and relative intensity noise, each with its standard error."""
    return [
        Metric.judge(f"{prefix}read_noise", noise.read_dn, "DN", stderr=float(noise.stderr[0])),
        Metric.judge(f"{prefix}system_gain", noise.shot_dn, "DN/e-", stderr=float(noise.stderr[1])),
        Metric.judge(f"{prefix}intensity_noise", noise.flicker, "1", stderr=float(noise.stderr[2])),
    ]


NOISE_NODE = NoiseNode()
