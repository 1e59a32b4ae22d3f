"""Node *timing*: how many frames the panels take to settle, from their step responses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from calibration.bench.dark import Dark
from calibration.bench.lut_fit import inverted
from calibration.bench.timing import BEFORE, Step, StepFit, fit_step
from calibration.errors import BadScan
from drivers.protocols import Roi
from labctl.bench import steps
from labctl.bench.steps import REST_FRAMES, StepResponse
from labctl.nodes.dark import DARK_NODE
from labctl.nodes.evidence import TIMING, Evidence
from labctl.nodes.node import HARDWARE, Node, Results, Setting, Titled
from labctl.nodes.saturation import allowing_for, require_unsaturated
from labctl.station.model import Station
from labctl.summary import Metric

AFTER_FRAMES, WINDOW_PX = 14, 128
LIGHT_SIGMAS = 8.0
"""Standard errors of the mean over the sensor's middle that light must exceed to be there."""
FAINT_SIGMAS = 1.0
"""Least light of the brightest picture, in standard deviations of a dark pixel: dots of fiducials are found from there
on."""

StepFits = dict[str, tuple[StepFit, StepFit]]


class TimingNode(Node[StepFits]):
    """Rise and fall of both panels; empty for a run from before steps were measured."""

    name = "timing"
    kind = TIMING
    parents = (DARK_NODE,)
    max_age_h = 168.0
    keys = (*HARDWARE, "limits.settled_residue_max", "limits.saturated_fraction_max")

    def steps(self, setting: Setting, results: Results) -> Iterator[steps.Step]:
        """Dark → bright → dark on one panel, the other bright, read frame by frame in the sensor's middle."""
        facts = setting.facts
        assert facts is not None
        window = Roi(*_window(facts.camera_shape))
        for panel, other in (("slm", "display"), ("display", "slm")):
            settle_frames = getattr(setting.station.acquisition, f"{panel}_settle_frames")
            yield StepResponse(
                kind=TIMING,
                attrs={"panel": panel},
                panel=panel,
                other=facts.uniform(other, facts.bright(other)),
                levels=(facts.uniform(panel, 0), facts.uniform(panel, facts.bright(panel))),
                before=BEFORE,
                after=max(AFTER_FRAMES, 2 * settle_frames),  # its last third is taken to be at rest
                window=window,
                rest=max(REST_FRAMES, settle_frames),
            )

    def analyse(self, evidence: Evidence, results: Results, setting: Setting, metrics: list[Metric]) -> StepFits:
        fits, limits = {}, setting.station.limits
        if DARK_NODE in results:
            dark = results[DARK_NODE]
            _require_light(evidence, dark)
            limits = allowing_for(dark.useless, _window(dark.mean_dn.shape), limits)
        for panel, s in evidence.steps.items():
            require_unsaturated(s.saturated, f"steps of the {panel}", self.name, limits)
            rise, fall = (fit_step(Step(light, s.exposure_s, s.period_s), panel) for light in (s.rise_dn, s.fall_dn))
            _require_upright(panel, rise, fall)
            fits[panel] = rise, fall
            metrics.append(_settling(panel, fits[panel], 1 / s.refresh_hz, setting.station))
            for name, fit in zip(("rise", "fall"), fits[panel], strict=True):
                metrics.append(Metric.judge(f"{panel}_{name}_tau", fit.tau_s, "s", stderr=fit.tau_stderr_s))
                metrics.append(Metric.judge(f"{panel}_{name}_latency", fit.latency_s, "s", stderr=fit.latency_stderr_s))
        metrics.sort(key=lambda metric: "needed" not in metric.name)
        return fits

    def figures(self, evidence: Evidence, results: Results, setting: Setting) -> Iterator[Titled]:
        from labctl.nodes import figures

        fits: StepFits = results[self]
        if fits:
            yield Titled(
                "Timing",
                "Each panel's step from dark to bright and back, read frame by frame from the moment it was handed "
                "over. The frame that is kept must be one in which the step is over.",
                figures.timing(fits, evidence),
            )


def _window(sensor_shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(x, y, width, height) in the sensor's middle, in which steps are read."""
    rows, columns = sensor_shape
    width, height = min(WINDOW_PX, columns), min(WINDOW_PX, rows)
    return (columns - width) // 2, (rows - height) // 2, width, height


def _require_light(evidence: Evidence, dark: Dark) -> None:
    """Refuse steps in which the brightest frame of all is as dark as without light, in the sensor's middle."""
    if not evidence.steps:
        return
    x, y, width, height = _window(dark.mean_dn.shape)
    without = dark.mean_dn[y : y + height, x : x + width]
    brightest = max(float(max(s.rise_dn.max(), s.fall_dn.max())) for s in evidence.steps.values())
    light_dn = brightest / without.size - float(without.mean())
    noise_dn = dark.noise_dn / np.sqrt(without.size) + dark.level_stderr_dn
    if light_dn < LIGHT_SIGMAS * noise_dn:
        raise BadScan(
            "no light: with both panels bright the camera sees no more than with the source off",
            device="camera",
            action="timing",
            expected=f"more than {LIGHT_SIGMAS * noise_dn:.2g} DN a pixel above dark in the sensor's middle",
            seen=f"{light_dn:.2g} DN",
            hint="is the source on, the beam open and the camera uncovered? labctl align",
        )
    if (short := FAINT_SIGMAS * dark.noise_dn / light_dn) > 1:
        raise BadScan(
            "too little light: the brightest picture is fainter than the noise of a pixel",
            device="camera",
            action="timing",
            expected=f"more than {FAINT_SIGMAS * dark.noise_dn:.2g} DN a pixel above dark with both panels bright",
            seen=f"{light_dn:.2g} DN, {light_dn / dark.noise_dn:.1f} of a dark pixel's noise",
            hint=f"raise acquisition.exposure_s {short:.1f}-fold at least, or the source",
        )


def _require_upright(panel: str, rise: StepFit, fall: StepFit) -> None:
    """Refuse a panel that becomes darker at the step to its highest level, and brighter at the step back."""
    if rise.end_dn < rise.start_dn and fall.end_dn > fall.start_dn:
        expected = "more light at the highest level than at gray 0"
        raise inverted(panel, "timing", expected, f"{rise.end_dn / rise.start_dn:.1%} of it, dark signal included")


def _settling(panel: str, fits: tuple[StepFit, StepFit], refresh_s: float, station: Station) -> Metric:
    """How many frames the panel takes, against how many the station waits; that is out of spec where it is certain.

    A drift of the source looks like a slow panel, so that a fit that does not know the time constant well says nothing.
    """
    share, key = station.limits.settled_residue_max, f"acquisition.{panel}_settle_frames"
    waits = int(getattr(station.acquisition, f"{panel}_settle_frames"))
    needed = max(fit.settle_frames(share, refresh_s) for fit in fits)
    certainly = max(fit.settle_frames_at_least(share, refresh_s) for fit in fits)
    missing = max(fit.residue(waits, max(refresh_s, fit.latency_s)) for fit in fits)
    if certainly <= waits < needed:
        doubt = (
            f"how slow the panel is is not known well enough to say that {key} = {waits} is too few: {needed} are safe"
        )
        return Metric(name=f"{panel}_settle_frames_needed", value=needed, unit="1", words=doubt)
    return Metric.judge(
        f"{panel}_settle_frames_needed",
        needed,
        "1",
        maximum=waits,
        words=f"with {key} = {waits} up to {missing:.1%} of a step is missing: set {key} = {needed}",
    )


TIMING_NODE = TimingNode()
