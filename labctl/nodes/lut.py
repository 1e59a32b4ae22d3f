"""Node *lut*: which transmission each gray level of both panels gives."""

from __future__ import annotations

from collections.abc import Iterator

from calibration.bench.lut_fit import LutFit, fit_luts
from calibration.fit.run_drift import drift_of_probes, steady
from calibration.frames import probes
from calibration.frames.probes import ProbePlan
from calibration.frames.scan import PanelLevels, Scan
from labctl.bench.steps import Place
from labctl.nodes.evidence import Evidence
from labctl.nodes.node import HARDWARE, Results, Setting, Titled
from labctl.nodes.registration import LUT_ROWS, REGISTRATION_NODE, Geometry
from labctl.nodes.saturation import allowing_for, require_light_to_the_end, unsaturated
from labctl.nodes.scans import DISPLAY_RAMP, SLM_RAMP, Float, ScanNode
from labctl.station.model import Station
from labctl.summary import Metric


class LutNode(ScanNode[LutFit]):
    """Ramps of both panels, read in the middle of the image."""

    name = "lut"
    parents = (REGISTRATION_NODE,)
    max_age_h = 168.0
    keys = (*HARDWARE, "acquisition.lut_repeats")
    scans = (SLM_RAMP, DISPLAY_RAMP)

    def patterns(self, shape: tuple[int, int], plan: ProbePlan, levels: PanelLevels) -> Iterator[Scan]:
        yield probes.slm_ramp(shape, plan.lut_corner_repeats, plan.lut_repeats, levels=levels)
        yield probes.display_ramp(shape, plan.lut_corner_repeats, plan.lut_repeats, levels=levels)

    def place(self, geometry: Geometry) -> Place:
        return Place(geometry.layout, geometry.lut_regions, geometry.display_index)

    def outputs(self, station: Station) -> int:
        return min(station.layout.rows, LUT_ROWS)

    def dark_dn(self, geometry: Geometry) -> Float:
        return geometry.lut_dark_dn

    def analyse(self, evidence: Evidence, results: Results, setting: Setting, metrics: list[Metric]) -> LutFit:
        geometry, names = results[REGISTRATION_NODE], (DISPLAY_RAMP, SLM_RAMP)
        dark_dn = geometry.lut_dark_dn
        limits = allowing_for(geometry.dark.useless, geometry.lut_regions.window, setting.station.limits)
        for name in self.scans:
            require_light_to_the_end(evidence, name, dark_dn)
        monitor = evidence.monitor(setting.station.acquisition.drift_monitor, names)
        course = drift_of_probes(evidence.references, evidence.scans, names, dark_dn, names, evidence.levels, monitor)
        luts = fit_luts(*(steady(course, unsaturated(evidence, name, limits).minus(dark_dn)) for name in names))
        for panel, lut in (("display", luts.display), ("slm", luts.slm)):
            metrics.append(Metric.judge(f"{panel}_floor", lut.floor, "1", stderr=float(lut.stderr[0])))
        for panel, lut in (("display", luts.display), ("slm", luts.slm)):
            metrics.append(Metric.judge(f"{panel}_quantisation", lut.quantisation, "1"))
        return luts

    def figures(self, evidence: Evidence, results: Results, setting: Setting) -> Iterator[Titled]:
        from labctl.nodes import figures

        yield Titled(
            "Look-up tables",
            "Which transmission each gray level gives. Zero is not dark: the floor is one over the extinction ratio, "
            "guard pixels included for the SLM.",
            figures.luts(results[self]),
        )


LUT_NODE = LutNode()
