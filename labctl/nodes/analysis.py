"""The results of the nodes that make a machine, together: what reports, studies and exports look at."""

from __future__ import annotations

from dataclasses import dataclass, field

from calibration.bench.lut_fit import LutFit
from calibration.fit.channel import ChannelFit
from calibration.machine.machine import Machine
from calibration.statistics.bad_frame import BadFrame
from labctl.nodes.couplings import COUPLINGS_NODE
from labctl.nodes.gain import GAIN_NODE
from labctl.nodes.lut import LUT_NODE
from labctl.nodes.node import Results
from labctl.nodes.registration import REGISTRATION_NODE, Geometry
from labctl.nodes.timing import TIMING_NODE, StepFits


@dataclass(frozen=True)
class Analysis:
    """A calibrated machine and how it was reached; bad frames of the probe scans by name of the scan."""

    geometry: Geometry
    luts: LutFit
    fit: ChannelFit
    machine: Machine
    timing: StepFits
    bad_frames: dict[str, list[BadFrame]] = field(default_factory=dict)


def analysis_of(results: Results) -> Analysis:
    """What the nodes up to the last one before the products have found."""
    calibrated = results[COUPLINGS_NODE]
    return Analysis(
        results[REGISTRATION_NODE],
        results[LUT_NODE],
        calibrated.fit,
        calibrated.machine,
        results[TIMING_NODE],
        results[GAIN_NODE].bad,
    )
