"""From measured data to a calibrated machine. Opens no device: live runs and refits call the same functions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from calibration.bench.dark import Dark, fit_dark
from calibration.bench.lut_fit import LutFit, fit_luts
from calibration.bench.regions import Regions, camera_regions
from calibration.bench.registration import between, register
from calibration.bench.timing import Step, StepFit, fit_step
from calibration.errors import Saturated
from calibration.fit.bad_frames import find_bad_frames
from calibration.fit.channel import ChannelFit, heldout_chi2
from calibration.fit.couplings import fit_couplings
from calibration.fit.noise import fit_noise, fit_noise_of_repeats
from calibration.fit.run_drift import RunDrift, drift_of_probes, drift_of_run, steady
from calibration.fit.screening import FEW, ScreenedFit
from calibration.fit.structured import Tell, untold
from calibration.frames.products import ProductGroup
from calibration.frames.scan import Readings
from calibration.frames.schedule import ProductResult, assemble, predicted
from calibration.judge.validation import Validation, validate
from calibration.machine.encoding import encoding
from calibration.machine.findings import GainCandidate
from calibration.machine.layout import Layout
from calibration.machine.machine import Machine
from calibration.machine.noise import Noise
from calibration.machine.registration import Registration
from calibration.statistics.bad_frame import BadFrame
from labctl.nodes.drift_metrics import COUPLINGS, EPOCH, WHOLE_RUN, WORDS, epoch_of, metrics_of
from labctl.nodes.evidence import Evidence
from labctl.station.model import Limits, Station
from labctl.summary import Metric, Node, number, reasons_out_of_spec

Float = NDArray[np.float64]

BAD_FRAMES_MAX = 0.01
COMMON_CHI2_MAX = 1.15
"""Above this in the crosstalk scan and in the hold-out frames, the couplings of single macropixels are measured."""
LUT_ROWS = 32


@dataclass(frozen=True)
class Geometry:
    """Where things are: what must be known before numbers can be shown.

    Attributes
    ----------
    layout
        `Layout`
    registrations
        Of ``display`` and ``slm``.
    regions
        Camera regions of the layout's rows.
    display_index
        `Layout.display_index`
    dark
        `Dark`
    """

    layout: Layout
    registrations: dict[str, Registration]
    regions: Regions
    display_index: NDArray[np.intp]
    dark: Dark

    @property
    def dark_dn(self) -> Float:
        """(M,) dark signal of each region [DN]."""
        return self._dark_of(self.regions)

    @property
    def dark_stderr_dn(self) -> Float:
        """(M,) standard error of `dark_dn` [DN]."""
        return self.dark.noise_dn * np.sqrt(self.regions.area2_px / self.dark.frames)

    @property
    def column_edges_px(self) -> Float:
        """`Layout.column_edges`"""
        return self.layout.column_edges(
            self.display_index, between(self.registrations["display"], self.registrations["slm"])
        )

    @property
    def lut_regions(self) -> Regions:
        """The bands in the middle that the ramps are read from: fewer pixels, the same source noise."""
        return self.regions.central(LUT_ROWS)

    @property
    def lut_dark_dn(self) -> Float:
        """(rows,) dark signal of `lut_regions` [DN]."""
        return self._dark_of(self.lut_regions)

    def _dark_of(self, regions: Regions) -> Float:
        x, y, width, height = regions.window
        return np.asarray(regions.weights @ self.dark.mean_dn[y : y + height, x : x + width].ravel())


@dataclass(frozen=True)
class Analysis:
    """A calibrated machine and how it was reached; bad frames of the probe scans by name of the scan."""

    geometry: Geometry
    luts: LutFit
    fit: ChannelFit
    machine: Machine
    timing: dict[str, tuple[StepFit, StepFit]]
    bad_frames: dict[str, list[BadFrame]] = field(default_factory=dict)


@dataclass(frozen=True)
class Validated:
    """Held-out products against the machine.

    Attributes
    ----------
    validation
        `Validation`
    results
        By group, products with bad frames left out.
    z
        (frames, M) residual of every reading over its predicted standard deviation.
    discarded
        Products left out.
    drift
        Of gain and offset over the run, which the products are corrected for; None without reference frames.
    """

    validation: Validation
    results: list[ProductResult]
    z: Float
    discarded: int
    drift: RunDrift | None = None


Measure = Callable[[str, Geometry | None], None]


class Nodes:
    """The nodes of the calibration graph that this run has passed, in order.

    Parameters
    ----------
    announce
        Called with each of them.
    tell
        Called within a long one, at every round of its fit, with where it is in words.
    """

    def __init__(self, announce: Callable[[Node], None] = lambda node: None, tell: Tell = untold) -> None:
        self.done: list[Node] = []
        self._announce, self.tell = announce, tell

    @contextmanager
    def node(self, name: str) -> Iterator[list[Metric]]:
        """Time a node; the metrics put into the list are its result, an exception its failure."""
        started, metrics = time.monotonic(), list[Metric]()
        try:
            yield metrics
        except Exception as error:
            reason = str(getattr(error, "what", error))
            self._add(Node(name=name, state="failed", check="bad_data", reason=reason, duration_s=_since(started)))
            raise
        out = [m for m in metrics if m.verdict == "out_of_spec"]
        self._add(
            Node(
                name=name,
                state="done",
                check="out_of_spec" if out else "in_spec",
                reason="; ".join(_miss(m) for m in out),
                duration_s=_since(started),
                metrics=metrics,
            )
        )

    def skip(self, name: str, reason: str) -> None:
        """List a node that did not run, and why."""
        self._add(Node(name=name, state="skipped", reason=reason))

    def decide(self, name: str, applied: bool, why: str) -> None:
        """List a node that decides: applied or not, and why."""
        self._add(Node(name=name, state="applied" if applied else "not_applied", reason=why))

    @property
    def metrics(self) -> list[Metric]:
        return [metric for node in self.done for metric in node.metrics]

    @property
    def out_of_spec(self) -> list[str]:
        """Reasons, empty when every node is in spec."""
        return reasons_out_of_spec(self.done)

    def _add(self, node: Node) -> None:
        self.done.append(node)
        self._announce(node)


def analyse(
    evidence: Evidence, station: Station, nodes: Nodes, measure: Measure = lambda node, geometry: None
) -> Analysis:
    """All nodes of the calibration, in their order.

    Parameters
    ----------
    measure
        Called at the start of each node with its name and, once it is known, the geometry; a live run puts what the
        node needs into ``evidence``.
    """
    limits = station.limits
    with nodes.node("dark") as metrics:
        measure("dark", None)
        dark = dark_of(evidence, metrics)
    with nodes.node("timing") as metrics:
        measure("timing", None)
        timing = timing_of(evidence, station, metrics)
    with nodes.node("registration") as metrics:
        measure("registration", None)
        geometry = geometry_of(evidence, dark, station, metrics)
    with nodes.node("lut") as metrics:
        measure("lut", geometry)
        luts = luts_of(evidence, geometry, limits, metrics)
    with nodes.node("noise") as metrics:
        measure("noise", geometry)
        noise = noise_of(evidence, geometry, luts, limits, metrics)
    with nodes.node("gain") as metrics:
        measure("gain", geometry)
        screened = channel_of(evidence, geometry, luts, noise, limits, metrics, nodes.tell)
    fit = screened.fit
    machine = Machine(geometry.layout, luts.display, luts.slm, fit.channel, encoding(station.layout.encoding))
    with nodes.node("crosstalk") as metrics:
        crosstalk_of(fit, metrics)
    with nodes.node("couplings") as metrics:
        if min(fit.chi2_per_dof["crosstalk"], _chosen(fit).heldout_chi2_per_dof) > COMMON_CHI2_MAX:
            measure("couplings", geometry)
        fit = couplings_of(evidence, geometry, machine, screened, limits, metrics)
    return Analysis(geometry, luts, fit, replace(machine, channel=fit.channel), timing, screened.bad)


def layout_of(station: Station, slm_shape: tuple[int, int]) -> Layout:
    """The station's layout on an SLM of that shape."""
    t = station.layout
    return Layout(
        slm_shape, t.rows, t.columns, t.pitch_rows_px, t.pitch_columns_px, t.active_rows_px, t.active_columns_px
    )


def dark_of(evidence: Evidence, metrics: list[Metric]) -> Dark:
    """Node *dark*."""
    dark = fit_dark(evidence.dark, evidence.full_scale_dn)
    metrics.append(Metric.judge("dark_level", dark.level_dn, "DN", stderr=dark.level_stderr_dn))
    metrics.append(Metric.judge("dark_noise", dark.noise_dn, "DN"))
    return dark


def timing_of(evidence: Evidence, station: Station, metrics: list[Metric]) -> dict[str, tuple[StepFit, StepFit]]:
    """Node *timing*: step responses of both panels, and how many frames they take to settle; empty without steps."""
    fits, limits = {}, station.limits
    for panel, s in evidence.steps.items():
        _require_unsaturated(s.saturated, f"steps of the {panel}", "timing", limits)
        rise, fall = (fit_step(Step(light, s.exposure_s, s.period_s), panel) for light in (s.rise_dn, s.fall_dn))
        fits[panel] = rise, fall
        needed = max(fit.settle_frames(limits.settled_residue_max, 1 / s.refresh_hz) for fit in fits[panel])
        # advice and no verdict: a drift of the source looks like a slow panel, and the products judge the settling
        metrics.append(Metric.judge(f"{panel}_settle_frames_needed", needed, "1"))
        for name, fit in zip(("rise", "fall"), fits[panel], strict=True):
            metrics.append(Metric.judge(f"{panel}_{name}_tau", fit.tau_s, "s", stderr=fit.tau_stderr_s))
            metrics.append(Metric.judge(f"{panel}_{name}_latency", fit.latency_s, "s", stderr=fit.latency_stderr_s))
    metrics.sort(key=lambda metric: "needed" not in metric.name)
    return fits


def geometry_of(evidence: Evidence, dark: Dark, station: Station, metrics: list[Metric]) -> Geometry:
    """Node *registration*: homographies, regions, and where the display's columns lie."""
    found = {}
    for panel, f in evidence.fiducials.items():
        background = f.background.astype(np.float64)
        grid = f.grid.mean(axis=0, dtype=np.float64) - background
        noise_dn = dark.noise_dn * np.sqrt(1 + 1 / len(f.grid))
        found[panel] = register(panel, f.panel_shape, f.squares - background, grid, noise_dn)
        limit = station.limits.registration_residual_px_max
        metrics.append(Metric.judge(f"registration_{panel}_rms", found[panel].rms_px, "px", maximum=limit))
    layout = layout_of(station, evidence.fiducials["slm"].panel_shape)
    regions = camera_regions(layout, found["slm"].panel_to_camera, dark.mean_dn.shape)
    index = layout.display_index(evidence.fiducials["display"].panel_shape, between(found["display"], found["slm"]))
    return Geometry(layout, found, regions, index, dark)


def luts_of(evidence: Evidence, geometry: Geometry, limits: Limits, metrics: list[Metric]) -> LutFit:
    """Node *lut*."""
    names, dark_dn = ("display_ramp", "slm_ramp"), geometry.lut_dark_dn
    course = drift_of_probes(evidence.references, evidence.scans, names, dark_dn, names, evidence.levels)
    luts = fit_luts(*(steady(course, _unsaturated(evidence, name, limits).minus(dark_dn)) for name in names))
    for panel, lut in (("display", luts.display), ("slm", luts.slm)):
        metrics.append(Metric.judge(f"{panel}_floor", lut.floor, "1", stderr=float(lut.stderr[0])))
    for panel, lut in (("display", luts.display), ("slm", luts.slm)):
        metrics.append(Metric.judge(f"{panel}_quantisation", lut.quantisation, "1"))
    return luts


def noise_of(evidence: Evidence, geometry: Geometry, luts: LutFit, limits: Limits, metrics: list[Metric]) -> Noise:
    """Node *noise*: from its own scan; the channel is fitted with the noise of all scans."""
    noise = fit_noise(_scan(evidence, "noise", geometry, limits), luts.display.floor).noise
    metrics += [
        Metric.judge("read_noise", noise.read_dn, "DN", stderr=float(noise.stderr[0])),
        Metric.judge("system_gain", noise.shot_dn, "DN/e-", stderr=float(noise.stderr[1])),
        Metric.judge("intensity_noise", noise.flicker, "1", stderr=float(noise.stderr[2])),
    ]
    return noise


def channel_of(
    evidence: Evidence,
    geometry: Geometry,
    luts: LutFit,
    noise: Noise,
    limits: Limits,
    metrics: list[Metric],
    tell: Tell,
) -> ScreenedFit:
    """Node *gain*: gain and offset, fitted together with crosstalk and noise, drift taken out, bad frames left out."""
    course = drift_of_probes(evidence.references, evidence.scans, EPOCH, geometry.dark_dn, ("noise",), evidence.levels)
    names = ("gain", "crosstalk", "noise", "holdout")
    scans = {name: steady(course, _scan(evidence, name, geometry, limits, FEW)) for name in names}
    saturated_max = limits.saturated_fraction_max
    screened = ScreenedFit(luts.display, luts.slm, noise, scans, saturated_max, geometry.dark_stderr_dn, tell)
    fit = screened.fit
    c = fit.channel
    metrics += [
        Metric.judge("gain_mean", float(c.gain_dn.mean()), "DN", stderr=_mean_error(c.gain_stderr_dn)),
        Metric.judge("offset_mean", float(c.offset_dn.mean()), "DN", stderr=_mean_error(c.offset_stderr_dn)),
        Metric.judge("common_probe_chi2_per_dof", _chosen(fit).heldout_chi2_per_dof, "1"),
        Metric.judge("gain_parameters", _chosen(fit).parameters, "1"),
        Metric.judge("bad_probe_frames", sum(map(len, screened.bad.values())), "1"),
    ]
    return screened


def crosstalk_of(fit: ChannelFit, metrics: list[Metric]) -> None:
    """Node *crosstalk*: its figures from the joint fit."""
    c = fit.channel
    inner = slice(1, -1) if len(c.crosstalk) > 2 else slice(None)
    bleed_error = float(np.sqrt((c.bleed_stderr**2).mean() / 2))
    metrics += [
        Metric.judge("crosstalk_mean", float(c.crosstalk[inner].mean()), "1", stderr=_crosstalk_error(fit, inner)),
        Metric.judge("bleed_mean", float(c.bleed.mean()), "1", stderr=bleed_error),
        Metric.judge("crosstalk_chi2_per_dof", fit.chi2_per_dof["crosstalk"], "1"),
    ]


def couplings_of(
    evidence: Evidence,
    geometry: Geometry,
    machine: Machine,
    screened: ScreenedFit,
    limits: Limits,
    metrics: list[Metric],
) -> ChannelFit:
    """Node *couplings*: bleed and crosstalk of macropixels, where they were measured; the hold-out frames judge.

    Their references lie over many SLM patterns: a first fit says what these should read, and so how the light drifted.
    """
    fit, bad, edges_px = screened.fit, screened.bad, geometry.column_edges_px
    display, slm = machine.display, machine.slm
    course = drift_of_probes(evidence.references, evidence.scans, EPOCH, geometry.dark_dn, ("noise",), evidence.levels)
    references = evidence.references
    if COUPLINGS in evidence.scans:
        drifting = _scan(evidence, COUPLINGS, geometry, limits)
        rough = replace(machine, channel=fit_couplings(fit.channel, display, slm, drifting, edges_px))
        drift = drift_of_run(references, rough, geometry.dark_dn, (*EPOCH, COUPLINGS), epoch_of(references))
        course = drift.track if drift else None
        scan = steady(course, drifting)
        channel = fit_couplings(fit.channel, display, slm, scan, edges_px)
        repeated = [scan]
        for name in ("crosstalk", "noise"):
            readings = steady(course, _scan(evidence, name, geometry, limits, FEW))
            repeated.append(readings.where(_all_but(bad.get(name, []), len(readings))))
        noise = fit_noise_of_repeats(repeated, channel.offset_dn)  # what the first fit left unexplained told nothing
        fit = replace(
            fit, channel=replace(channel, noise=noise.noise), structure={**fit.structure, "noise": noise.choice}
        )
        c = fit.channel.couplings
        assert c is not None
        for name, share in (("bleed", c.before + c.after), ("crosstalk", c.above + c.below)):
            metrics.append(Metric.judge(f"{name}_spread", float(share[1:-1, 1:-1].std()), "1"))
        relative = float(np.sqrt(fit.channel.relative_variance.mean()))
        metrics.append(Metric.judge("macropixel_error", relative, "1"))
    heldout = steady(course, _scan(evidence, "holdout", geometry, limits, FEW))
    c2 = heldout_chi2(fit.channel, display, slm, heldout)
    metrics.insert(0, Metric.judge("probe_chi2_per_dof", c2, "1", maximum=limits.probe_chi2_per_dof_max))
    return fit


def validation_of(
    machine: Machine,
    geometry: Geometry,
    groups: tuple[ProductGroup, ...],
    evidence: Evidence,
    limits: Limits,
    metrics: list[Metric],
) -> Validated:
    """Node *validation*: the final gate.

    Products with a bad frame are left out and counted, as long as bad frames are few; when they are many it is the
    calibration that is wrong, and everything counts.
    """
    drift = drift_of_run(evidence.references, machine, geometry.dark_dn, WHOLE_RUN, epoch_of(evidence.references))
    clean = [
        (tile, drift.steady(readings.minus(geometry.dark_dn)) if drift else readings.minus(geometry.dark_dn))
        for tile, readings in evidence.tiles
    ]
    moments = [predicted(machine, readings.scan) for _, readings in clean]
    dn = np.concatenate([readings.dn for _, readings in clean])
    mean, variance = (np.concatenate(parts) for parts in zip(*moments, strict=True))
    left_dn2 = np.concatenate([r.drift_variance_dn2(m) for (_, r), (m, _) in zip(clean, moments, strict=True)])
    saturated = np.concatenate([readings.saturated for _, readings in clean])
    channel = machine.channel
    over = saturated > limits.saturated_fraction_max
    noise = drift.widened(channel.noise) if drift else channel.noise
    found_bad = find_bad_frames(dn, mean, channel.offset_dn, noise, over)
    bad = [frame.index for frame in found_bad]
    few = len(bad) <= BAD_FRAMES_MAX * len(dn)
    counted = np.ones(len(dn), np.bool_)
    counted[bad] = not few
    owner = np.concatenate([[tile.group] * len(tile.product) for tile, _ in clean])
    product = np.concatenate([tile.product for tile, _ in clean])
    spoiled = {(int(owner[i]), int(product[i])) for i in np.nonzero(~counted)[0]}
    results = []
    for g, group in enumerate(groups):
        parts = [(tile, readings) for tile, readings in clean if tile.group == g]
        if parts:
            keep = np.array([(g, i) not in spoiled for i in range(len(group.inputs))])
            results.append(assemble(machine, group, g, parts).where(keep))
    found = validate(results, found_bad)
    metrics += metrics_of(drift, limits) if drift else []
    metrics += [
        Metric.judge("nrmse", found.nrmse, "1", maximum=limits.nrmse_max),
        Metric.judge(
            "chi2_per_dof", found.chi2_per_dof, "1", minimum=limits.chi2_per_dof_min, maximum=limits.chi2_per_dof_max
        ),
        Metric.judge("coverage95", found.coverage95, "1", minimum=limits.coverage95_min, maximum=limits.coverage95_max),
        Metric.judge("nrmse_model", found.nrmse_model, "1"),
        Metric.judge("bad_frame_fraction", len(bad) / len(dn), "1", maximum=BAD_FRAMES_MAX),
        Metric.judge("saturated_fraction", float(saturated[counted].max()), "1", maximum=limits.saturated_fraction_max),
    ]
    return Validated(found, results, (dn - mean) / np.sqrt(variance + left_dn2), len(spoiled), drift)


def _scan(evidence: Evidence, name: str, geometry: Geometry, limits: Limits, few: float = 0.0) -> Readings:
    return _unsaturated(evidence, name, limits, few).minus(geometry.dark_dn)


def _unsaturated(evidence: Evidence, name: str, limits: Limits, few: float = 0.0) -> Readings:
    """A scan no more than the share ``few`` of whose frames is saturated."""
    readings = evidence.scans[name]
    if (readings.saturated > limits.saturated_fraction_max).mean() > few:
        worst = int(np.argmax(readings.saturated))
        _require_unsaturated(float(readings.saturated[worst]), f"{name} scan, frame {worst}", name, limits)
    return readings


def _chosen(fit: ChannelFit) -> GainCandidate:
    return next(x for x in fit.candidates if x.structure == fit.structure["gain"].chosen)


def _all_but(bad: list[BadFrame], n: int) -> NDArray[np.bool_]:
    keep = np.ones(n, np.bool_)
    keep[[frame.index for frame in bad]] = False
    return keep


def _require_unsaturated(fraction: float, where: str, action: str, limits: Limits) -> None:
    if fraction > limits.saturated_fraction_max:
        raise Saturated(
            f"saturated pixels in the {where}",
            device="camera",
            action=action,
            expected=f"at most {limits.saturated_fraction_max:g} of the pixels at full scale",
            seen=f"{fraction:.2g}",
            hint="shorten acquisition.exposure_s in the station file or lower the source",
        )


def _miss(metric: Metric) -> str:
    unit = "" if metric.unit == "1" else f" {metric.unit}"
    words = f" ({WORDS[metric.name]})" if metric.name in WORDS else ""
    return f"{metric.name} {number(metric.value, '.4g')}{unit}, limit {metric.limit}{words}"


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


def _mean_error(stderr: Float) -> float:
    """Upper bound of the standard error of a mean whose terms may be fully correlated."""
    return float(stderr.mean())


def _crosstalk_error(fit: ChannelFit, inner: slice) -> float:
    error = fit.channel.crosstalk_stderr[inner]
    independent = fit.structure["crosstalk"].chosen == "per output"
    return float(np.sqrt((error**2).sum()) / error.size) if independent else float(np.sqrt((error[0] ** 2).sum()) / 2)
