"""Calibrate a bench: for each node, show what it needs, read, analyse; the next node uses the result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from calibration.bench.registration import DOT_PX, SQUARE_PX, draw, grid_centres, square_centres
from calibration.bench.timing import BEFORE
from calibration.frames import probes
from calibration.frames.references import References
from calibration.frames.scan import EIGHT_BIT, PanelLevels, Scan
from calibration.machine.layout import Layout
from calibration.machine.lut import Levels, level_dtype
from drivers.protocols import Modulator, Roi
from labctl.bench.acquirer import REST_FRAMES, Acquirer
from labctl.nodes import analysis
from labctl.nodes.analysis import Analysis, Geometry, Nodes
from labctl.nodes.evidence import DARK, FIDUCIALS, PROBE, TIMING, Evidence, Fiducials, PanelSteps
from labctl.station.model import Acquisition, Station
from labctl.summary import Metric

HOLDOUT_SEED = 20230220  # the hold-out patterns are the same on every bench and every night
GRID_FRAMES = 4
STEP_FRAMES, STEP_WINDOW_PX = 14, 128
NODE_SCANS = {
    "lut": ("slm_ramp", "display_ramp"),
    "noise": ("noise",),
    "gain": ("gain", "crosstalk", "holdout"),
    "couplings": ("couplings",),
}


def plan_of(settings: Acquisition) -> probes.ProbePlan:
    """The station's numbers of repeats."""
    return probes.ProbePlan(
        lut_repeats=settings.lut_repeats,
        gain_repeats=settings.gain_repeats,
        crosstalk_repeats=settings.crosstalk_repeats,
        coupling_repeats=settings.coupling_repeats,
        noise_repeats=settings.noise_repeats,
        holdout_frames=settings.holdout_frames,
    )


def probe_scans(layout: Layout, settings: Acquisition, levels: PanelLevels = EIGHT_BIT) -> Iterator[tuple[str, Scan]]:
    """Name and scan of every probe, in the order shown."""
    shape, plan = (layout.rows, layout.columns), plan_of(settings)
    yield "slm_ramp", probes.slm_ramp(shape, plan.lut_corner_repeats, plan.lut_repeats, levels=levels)
    yield "display_ramp", probes.display_ramp(shape, plan.lut_corner_repeats, plan.lut_repeats, levels=levels)
    yield "noise", probes.noise_scan(shape, plan, levels=levels)
    yield "gain", probes.gain_scan(shape, plan, levels=levels)
    yield "crosstalk", probes.crosstalk_scan(shape, plan, levels=levels)
    yield "couplings", probes.coupling_scan(shape, plan, levels=levels)
    yield "holdout", probes.holdout_scan(shape, plan, np.random.default_rng(HOLDOUT_SEED), levels=levels)


@dataclass(frozen=True)
class Planned:
    """What a node of the calibration costs.

    Attributes
    ----------
    node
        Its name.
    kept
        Frames that are read, reference frames not counted.
    exposed
        Frames that the camera exposes, settling and references included.
    seconds
        They take on the device [s].
    """

    node: str
    kept: int
    exposed: int
    seconds: float


def planned(
    station: Station,
    slm_shape: tuple[int, int],
    frame_period_s: float | None = None,
    levels: PanelLevels = EIGHT_BIT,
) -> list[Planned]:
    """Frames and device time of each node that reads any, at most: couplings are measured only where they are needed.

    Parameters
    ----------
    frame_period_s
        Of the camera; as long as an exposure if None, which a slow read-out exceeds.
    levels
        Gray levels of the panels.
    """
    settings = station.acquisition
    slm, display = settings.slm_settle_frames, settings.display_settle_frames
    period = frame_period_s or settings.exposure_s
    frames = {
        "dark": (settings.dark_frames, settings.dark_frames + slm),
        "timing": (4 * (BEFORE + STEP_FRAMES), 4 * (REST_FRAMES + BEFORE + STEP_FRAMES)),
        "registration": (2 * (4 + GRID_FRAMES), 2 * (4 + GRID_FRAMES) + 2 * max(slm, display) + 4 * slm + 4 * display),
    }
    settling: dict[str, int] = {}
    scans, before = dict(probe_scans(analysis.layout_of(station, slm_shape), settings, levels)), None
    references = References(settings.reference_spacing_frames, levels)
    for name, scan in scans.items():
        shown, reference = references.into(scan, around=True)
        settling[name] = int(reference.sum()) + _settling(shown, before, slm, display)
        before = shown
    for node, names in NODE_SCANS.items():
        kept = sum(len(scans[name]) for name in names)
        frames[node] = kept, kept + sum(settling[name] for name in names)
    return [Planned(node, kept, exposed, exposed * period) for node, (kept, exposed) in frames.items()]


def planned_frames(station: Station, slm_shape: tuple[int, int], levels: PanelLevels = EIGHT_BIT) -> int:
    """Frames that `calibrate` keeps, settling and reference frames not counted, at most."""
    return sum(node.kept for node in planned(station, slm_shape, levels=levels))


def _settling(scan: Scan, before: Scan | None, slm_frames: int, display_frames: int) -> int:
    """Frames that pass while panels settle; what the scan ``before`` showed last is not shown again."""
    slm = np.diff(scan.slm_index, prepend=-1) != 0
    display = np.ones(len(scan), np.bool_)
    display[1:] = (scan.display[1:] != scan.display[:-1]).any(axis=1)
    if before is not None:
        slm[0] = not np.array_equal(before.slm[before.slm_index[-1]], scan.slm[scan.slm_index[0]])
        display[0] = not np.array_equal(before.display[-1], scan.display[0])
    return int(np.maximum(slm * slm_frames, display * display_frames).sum())


def calibrate(acquirer: Acquirer, station: Station, nodes: Nodes) -> tuple[Analysis, Evidence]:
    """Run all nodes on an open bench.

    Raises
    ------
    CalibrationError
        When a node's data make no sense; the node is listed as failed, and what was read stays sealed.
    DeviceError
        When an instrument fails.
    """
    evidence = Evidence()

    def measure(node: str, geometry: Geometry | None) -> None:
        if node == "dark":
            _dark(acquirer, evidence)
        elif node == "timing":
            acquirer.light(True)
            for panel in ("slm", "display"):
                _steps(acquirer, evidence, panel)
        elif geometry is None:
            for panel in ("slm", "display"):
                _fiducials(acquirer, evidence, panel)
        else:
            _probes(acquirer, evidence, geometry, NODE_SCANS[node])

    found = analysis.analyse(evidence, station, nodes, measure)
    nodes.done[-1].metrics.append(Metric.judge("calibration_device_time", acquirer.device_s, "s"))
    return found, evidence


def _probes(acquirer: Acquirer, evidence: Evidence, geometry: Geometry, names: tuple[str, ...]) -> None:
    """Read the scans of one node."""
    scans = dict(probe_scans(geometry.layout, acquirer.settings, acquirer.bench.levels))
    for name in names:
        regions = geometry.lut_regions if name in NODE_SCANS["lut"] else geometry.regions
        evidence.scans[name], references = acquirer.read(
            PROBE, scans[name], geometry.layout, regions, geometry.display_index, {"scan": name}, around=True
        )
        evidence.add_references(name, references)


def _dark(acquirer: Acquirer, evidence: Evidence) -> None:
    bench = acquirer.bench
    acquirer.light(False)
    acquirer.show_slm(_uniform(bench.slm, 0))
    acquirer.show_display(_uniform(bench.display, 0))
    evidence.dark = acquirer.frames(acquirer.settings.dark_frames).frames
    evidence.full_scale_dn = 2**bench.camera.bit_depth - 1
    about = {"exposure_s": acquirer.exposure_s, "full_scale_dn": evidence.full_scale_dn}
    acquirer.record_frames(DARK, evidence.dark, about)


def _steps(acquirer: Acquirer, evidence: Evidence, panel: str) -> None:
    """Dark → bright and bright → dark on one panel, the other bright, read frame by frame in the sensor's middle."""
    bench = acquirer.bench
    modulator, other = (bench.slm, bench.display) if panel == "slm" else (bench.display, bench.slm)
    show_other = acquirer.show_display if panel == "slm" else acquirer.show_slm
    show_other(_uniform(other, other.levels - 1))
    dark, bright = (_uniform(modulator, level) for level in (0, modulator.levels - 1))
    whole = acquirer.sensor
    width, height = min(STEP_WINDOW_PX, whole.width), min(STEP_WINDOW_PX, whole.height)
    middle = Roi((whole.width - width) // 2, (whole.height - height) // 2, width, height)
    counts = BEFORE, STEP_FRAMES
    blocks = [acquirer.step(panel, levels, counts, middle) for levels in ((dark, bright), (bright, dark))]
    light = [np.concatenate([part.frames.sum(axis=(1, 2), dtype=np.float64) for part in parts]) for parts in blocks]
    about = {
        "exposure_s": acquirer.exposure_s,
        "period_s": bench.camera.frame_period_s,
        "refresh_hz": modulator.refresh_hz,
        "saturated": float(max(part.saturated_fraction.max() for parts in blocks for part in parts)),
    }
    acquirer.run.write_segment(TIMING, {"rise_dn": light[0], "fall_dn": light[1]}, {"panel": panel, **about})
    acquirer.advance(2 * (BEFORE + STEP_FRAMES))
    evidence.steps[panel] = PanelSteps(light[0], light[1], **about)


def _fiducials(acquirer: Acquirer, evidence: Evidence, panel: str) -> None:
    """Background, three squares and the grid on one panel, the other panel bright."""
    bench = acquirer.bench
    show, other = {
        "slm": (acquirer.show_slm, acquirer.show_display),
        "display": (acquirer.show_display, acquirer.show_slm),
    }[panel]
    modulator, other_modulator = (bench.slm, bench.display) if panel == "slm" else (bench.display, bench.slm)
    shape, brightest = modulator.shape, modulator.levels - 1
    other(_uniform(other_modulator, other_modulator.levels - 1))
    show(_uniform(modulator, 0))
    background = acquirer.frames(1).frames
    squares = []
    for centre in square_centres(shape):
        show(draw(shape, centre[None], SQUARE_PX, brightest))
        squares.append(acquirer.frames(1).frames)
    show(draw(shape, grid_centres(shape), DOT_PX, brightest))
    grid = acquirer.frames(GRID_FRAMES).frames
    frames = np.concatenate([background, *squares, grid])
    acquirer.record_frames(FIDUCIALS, frames, {"panel": panel, "panel_rows": shape[0], "panel_columns": shape[1]})
    evidence.fiducials[panel] = Fiducials(shape, frames[0], frames[1:4], frames[4:])


def _uniform(panel: Modulator, level: int) -> Levels:
    """A frame for the panel, the same gray level on all of its pixels."""
    return np.full(panel.shape, level, level_dtype(panel.levels))
