"""Node *couplings*: bleed and crosstalk of single macropixels, where common numbers do not tell them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calibration.bench.lut_fit import LutFit
from calibration.fit.channel import ChannelFit, heldout_chi2, heldout_log_score
from calibration.fit.couplings import fit_couplings
from calibration.fit.noise import fit_noise_of_repeats
from calibration.fit.run_drift import drift_of_run, steady
from calibration.fit.screening import FEW
from calibration.frames import probes
from calibration.frames.probes import PHASES, ProbePlan
from calibration.frames.scan import PanelLevels, Readings, Scan
from calibration.judge.flaws import Flaw, flaws, lit_rows
from calibration.machine.encoding import encoding
from calibration.machine.machine import Machine
from calibration.statistics.choice import Choice as Selection
from calibration.statistics.drift import DriftTrack
from calibration.statistics.tails import normal_sf
from labctl.bench.steps import Step
from labctl.nodes.crosstalk import CROSSTALK_NODE, shares
from labctl.nodes.evidence import Evidence
from labctl.nodes.gain import GAIN_NODE, chosen
from labctl.nodes.lut import LUT_NODE
from labctl.nodes.node import HARDWARE, Results, Setting, Titled
from labctl.nodes.noise import noise_metrics
from labctl.nodes.registration import REGISTRATION_NODE
from labctl.nodes.scans import (
    COUPLINGS,
    CROSSTALK,
    EPOCH,
    GAIN,
    HOLDOUT,
    NOISE,
    Float,
    ScanNode,
    all_but,
    clean_scan,
    drift_of_epoch,
    epoch_of,
)
from labctl.station.model import Limits
from labctl.summary import Choice, Metric

DRIFT_MONITOR = "drift_monitor"
"""Among the choices of a run: whether the station's monitor explains the drift."""
WEAKEST_MIN, LISTED = 0.05, 12
"""Least gain of a macropixel, over the median; how many macropixels that differ a report lists."""
MISFIT = (
    "held-out frames differ from what gain, crosstalk and couplings say by more than noise and their errors: "
    "look at the residuals in the report, then labctl align"
)
COMMON, SINGLE = "common", "single macropixels"
"""What bleed and crosstalk may be, among the choices of a run that has measured couplings."""
COMMON_CHI2_MAX = 1.15
"""Above this in the crosstalk scan and in the hold-out frames, the couplings of single macropixels are measured."""


@dataclass(frozen=True)
class CalibratedMachine:
    """The machine that products are shown on and read with.

    Attributes
    ----------
    machine
        `Machine`
    fit
        Its channel with the evidence for its form.
    flaws
        Macropixels that differ from those around them: `calibration.judge.flaws`.
    """

    machine: Machine
    fit: ChannelFit
    flaws: list[Flaw]


class CouplingsNode(ScanNode[CalibratedMachine]):
    """The last word on the channel: the hold-out frames judge it, with or without couplings."""

    name = "couplings"
    parents = (CROSSTALK_NODE,)
    max_age_h = 24.0
    keys = (*HARDWARE, "acquisition.coupling_repeats", "limits.probe_chi2_per_dof_max")
    scans = (COUPLINGS,)
    only_where_needed = True

    def patterns(self, shape: tuple[int, int], plan: ProbePlan, levels: PanelLevels) -> Iterator[Scan]:
        yield probes.coupling_scan(shape, plan, levels=levels)

    def steps(self, setting: Setting, results: Results) -> Iterator[Step]:
        """The coupling scan where common numbers explain neither crosstalk scan nor hold-out frames.

        A layout of fewer rows or columns than its patterns are apart has no such scan.
        """
        layout = setting.station.layout
        if min(layout.rows, layout.columns) < PHASES:
            return
        fit = results.get(CROSSTALK_NODE)
        explained = (
            COMMON_CHI2_MAX if fit is None else min(fit.chi2_per_dof["crosstalk"], chosen(fit).heldout_chi2_per_dof)
        )
        if fit is None or explained > COMMON_CHI2_MAX:
            yield from super().steps(setting, results)

    def missing(self, evidence: Evidence, setting: Setting) -> list[str]:
        """Nothing: they are measured only where common numbers do not tell them."""
        return []

    def check_steps(self, setting: Setting, results: Results) -> Iterator[Step]:
        """None where nothing was measured: then the node rests on its parents alone."""
        if self not in results or results[self].machine.channel.couplings is not None:
            yield from super().check_steps(setting, results)

    def analyse(
        self, evidence: Evidence, results: Results, setting: Setting, metrics: list[Metric]
    ) -> CalibratedMachine:
        """Bleed and crosstalk of macropixels, where they were measured; the hold-out frames judge."""
        geometry, luts, limits = results[REGISTRATION_NODE], results[LUT_NODE], setting.station.limits
        fit = results[CROSSTALK_NODE]
        machine = Machine(
            geometry.layout, luts.display, luts.slm, fit.channel, encoding(setting.station.layout.encoding)
        )
        course = drift_of_epoch(evidence, geometry, setting.station.acquisition.drift_monitor)
        heldout = clean_scan(evidence, HOLDOUT, geometry, limits, FEW)
        if COUPLINGS in evidence.scans:
            coupled, along = self._with_couplings(evidence, machine, results, setting)
            choice = _choice(heldout, luts, (fit, course), (coupled, along))
            fit, course = (coupled, along) if choice.chosen == SINGLE else (fit, course)
            fit = replace(fit, structure={**fit.structure, COUPLINGS: choice})
        if (c := fit.channel.couplings) is not None:
            for name, share in (("bleed", c.before + c.after), ("crosstalk", c.above + c.below)):
                metrics.append(Metric.judge(f"{name}_spread", float(share[1:-1, 1:-1].std()), "1"))
            relative = float(np.sqrt(fit.channel.relative_variance.mean()))
            metrics.append(Metric.judge("macropixel_error", relative, "1"))
        if course is not None and course.beside is not None:
            fit = replace(fit, structure={**fit.structure, DRIFT_MONITOR: course.beside})
        c2 = heldout_chi2(fit.channel, luts.display, luts.slm, steady(course, heldout))
        words, maximum = geometry.dark.rounding or MISFIT, limits.probe_chi2_per_dof_max
        metrics.insert(0, Metric.judge("probe_chi2_per_dof", c2, "1", maximum=maximum, words=words))
        found = flaws_of(fit, self._still(evidence, course, results, limits))
        metrics += [*shares(fit), *_of_flaws(fit, found), *noise_metrics(fit.channel.noise, "calibration_")]
        return CalibratedMachine(replace(machine, channel=fit.channel), fit, found)

    def _still(self, evidence: Evidence, course: DriftTrack | None, results: Results, limits: Limits) -> Float:
        """(n, M) readings of the gain scan with the display dark, over a bright SLM; bad frames left out [DN]."""
        bright = steady(course, clean_scan(evidence, GAIN, results[REGISTRATION_NODE], limits, FEW))
        bright = bright.where(all_but(results[GAIN_NODE].bad.get(GAIN, []), len(bright)))
        return bright.dn[~bright.scan.display.any(axis=1)]

    def summary(self, result: CalibratedMachine, results: Results) -> Mapping[str, Any]:
        return {"structure": {name: Choice.of(choice) for name, choice in result.fit.structure.items()}}

    def _with_couplings(
        self, evidence: Evidence, machine: Machine, results: Results, setting: Setting
    ) -> tuple[ChannelFit, DriftTrack | None]:
        """The fit with couplings, and the drift over their scan.

        Its references lie over many SLM patterns: a first fit says what these should read, and so how the light
        drifted.
        """
        geometry, screened, limits = results[REGISTRATION_NODE], results[GAIN_NODE], setting.station.limits
        fit, edges_px = results[CROSSTALK_NODE], geometry.column_edges_px
        panels = machine.display, machine.slm
        drifting = clean_scan(evidence, COUPLINGS, geometry, limits)
        rough = replace(machine, channel=fit_couplings(fit.channel, *panels, drifting, edges_px))
        drift = drift_of_run(
            evidence.references,
            rough,
            geometry.dark_dn,
            (*EPOCH, COUPLINGS),
            epoch_of(rough.channel, evidence.references),
            evidence.monitor(setting.station.acquisition.drift_monitor, (*EPOCH, COUPLINGS)),
        )
        course = drift.track if drift else None
        scan = steady(course, drifting)
        bright = steady(course, clean_scan(evidence, GAIN, geometry, limits, FEW))
        bright = bright.where(all_but(screened.bad.get(GAIN, []), len(bright)))
        channel = fit_couplings(fit.channel, *panels, scan, edges_px, bright, geometry.dark_stderr_dn)
        repeated = [scan]
        for name in (CROSSTALK, NOISE):
            readings = steady(course, clean_scan(evidence, name, geometry, limits, FEW))
            repeated.append(readings.where(all_but(screened.bad.get(name, []), len(readings))))
        # what the first fit left unexplained told nothing of the noise
        noise = fit_noise_of_repeats(repeated, channel.offset_dn)
        channel = replace(channel, noise=noise.noise)
        return replace(fit, channel=channel, structure={**fit.structure, "noise": noise.choice}), course

    def figures(self, evidence: Evidence, results: Results, setting: Setting) -> Iterator[Titled]:
        from labctl.nodes import figures

        fit = results[self].fit
        if found := results[self].flaws:
            listed = ", ".join(map(str, found[:LISTED])) + (", …" if len(found) > LISTED else "")
            yield Titled(
                "Macropixels that differ",
                "Stuck and dead pixels, or dirt: these macropixels (row, column) differ from those around them by more "
                f"than their errors. Leaking ones shine through a dark SLM, lit ones under a dark display. The "
                f"calibration carries them as they are: {listed}.",
                figures.flaws(fit, found),
            )
        if fit.channel.couplings is not None:
            yield Titled(
                "Single macropixels",
                "Common bleed and crosstalk do not explain this bench: guards are narrow, and display columns end on "
                "whole display pixels. These shares were measured macropixel by macropixel.",
                figures.couplings(fit),
            )
        yield Titled(
            "Noise",
            "Photon transfer curve of the region sums: read noise, shot noise, and the flicker of the source. This law "
            "is the calibration's (calibration_read_noise and so on below), fitted to every frame that the calibration "
            "has repeated; read_noise, system_gain and intensity_noise are of the noise scan alone, whose slope is "
            "charted since it owes nothing to other nights.",
            figures.noise(fit, results[REGISTRATION_NODE].dark_dn, evidence),
        )


def _choice(heldout: Readings, luts: LutFit, *tried: tuple[ChannelFit, DriftTrack | None]) -> Selection:
    """Whether held-out frames ask for the couplings: by their likelihood, errors that a fit states included."""
    common, single = (
        heldout_log_score(fit.channel, luts.display, luts.slm, steady(course, heldout)) for fit, course in tried
    )
    gained = common - single
    better = bool(gained.mean() > 0)
    z = abs(float(gained.mean())) / max(float(gained.std(ddof=1)) / np.sqrt(len(gained)), 1e-300)
    words = "kept" if better else "measured, but not kept"
    return Selection(
        SINGLE if better else COMMON,
        f"z over {len(gained)} held-out frames",
        z,
        float(normal_sf(z)),
        COMMON if better else SINGLE,
        f"couplings of single macropixels are {words}: they change −2 log likelihood of held-out frames "
        f"by {-gained.mean():+.3g} per reading",
    )


def flaws_of(fit: ChannelFit, still_dn: Float) -> list[Flaw]:
    """Macropixels that differ from those around them, by the map that gives each a gain of its own.

    Those that a stuck pixel of the display lights are weak, too, and are listed once. ``still_dn`` as in `lit_rows`.
    """
    c = fit.channel.couplings
    dark = (None, None) if c is None else (c.dark_dn, c.dark_stderr_dn)
    lit = lit_rows(still_dn, fit.full_gain_dn, fit.full_gain_stderr_dn)
    at = {(flaw.row, flaw.column) for flaw in lit}
    others = flaws(fit.full_gain_dn, fit.full_gain_stderr_dn, *dark)
    return lit + [flaw for flaw in others if flaw.kind != "weak" or (flaw.row, flaw.column) not in at]


def _of_flaws(fit: ChannelFit, found: list[Flaw]) -> list[Metric]:
    """How many macropixels differ, and whether the weakest still lets weights be flattened to it."""
    gain = fit.channel.gain_dn
    row, column = np.unravel_index(int(np.argmin(gain)), gain.shape)
    words = (
        f"all weights are dimmed to macropixel ({row}, {column}), which is nearly dark: dead pixels, dirt, or the edge "
        "of the light; give [layout] fewer rows and columns or light the SLM more evenly: labctl align"
    )
    weakest = float(gain.min() / np.median(gain))
    return [
        Metric.judge("flawed_macropixels", len(found), "1"),
        Metric.judge("weakest_macropixel", weakest, "1", minimum=WEAKEST_MIN, words=words),
    ]


COUPLINGS_NODE = CouplingsNode()
