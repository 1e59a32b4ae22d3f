"""Node *validation*: real Transformer products, which no fit has seen, against what the calibration says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.fit.bad_frames import find_bad_frames
from calibration.fit.run_drift import RunDrift, drift_of_run
from calibration.frames.products import ProductGroup
from calibration.frames.scan import Readings
from calibration.frames.schedule import ProductResult, TileScan, assemble, predicted, schedule
from calibration.judge.validation import Validation, validate
from calibration.machine.encoding import encoding
from calibration.machine.machine import Machine
from calibration.statistics.bad_frame import BadFrame as Bad
from labctl.bench.steps import Place, Step, blocks
from labctl.nodes.couplings import COUPLINGS_NODE, DRIFT_MONITOR
from labctl.nodes.drift_metrics import metrics_of
from labctl.nodes.evidence import PRODUCTS, Evidence
from labctl.nodes.gain import GAIN_NODE
from labctl.nodes.node import Node, Results, Setting, Titled
from labctl.nodes.nominal import nominal_machine
from labctl.nodes.registration import REGISTRATION_NODE, Geometry
from labctl.nodes.saturation import require_light_to_the_end
from labctl.nodes.scans import DRIFT_KEYS, WHOLE_RUN, epoch_of
from labctl.station.model import Limits
from labctl.summary import BadFrame, Choice, Metric
from labctl.summary import Validation as Figures

Float = NDArray[np.float64]

BAD_FRAMES_MAX = 0.01
SCATTER_SIGMAS = 2.58
"""Limits of χ² and coverage are wider by so many of their standard errors: chance exceeds them once in a hundred."""
WEAK_SHARE = 0.5
"""All weights are dimmed to the weakest macropixel: with less than this share of the usual light it may be why they are
noisy."""
UNEXPLAINED = "products differ from what the calibration says by more than noise and its errors"
OVERSTATED = "products differ from what the calibration says by less than its noise and its errors"


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


def product_steps(
    tiles: Iterator[TileScan], place: Place | None, setting: Setting, kind: str = PRODUCTS
) -> Iterator[Step]:
    """The frames of a schedule, in order; without a place while a plan only counts."""
    for tile in tiles:
        t = tile.tile
        shown, reference = setting.references.into(tile.scan, around=False)
        yield from blocks(
            kind,
            shown,
            reference,
            place,
            {"group": tile.group, "tile": [t.row0, t.row1, t.col0, t.col1]},
            setting.station.acquisition.segment_frames,
            {"product": tile.product, "input_pass": tile.input_pass, "weight_pass": tile.weight_pass},
        )


class ValidationNode(Node[Validated]):
    """The final gate of a run with a workload."""

    name = "validation"
    kind = PRODUCTS
    parents = (COUPLINGS_NODE,)
    keys = ("limits", *DRIFT_KEYS)
    shows_products = True

    def steps(self, setting: Setting, results: Results) -> Iterator[Step]:
        machine, place = nominal_machine(setting), None
        if COUPLINGS_NODE in results:
            machine, place = results[COUPLINGS_NODE].machine, results[REGISTRATION_NODE].place
        yield from product_steps(schedule(machine, list(setting.groups)), place, setting)

    def missing(self, evidence: Evidence, setting: Setting) -> list[str]:
        passes = len(encoding(setting.station.layout.encoding).weight_factors)
        found = [0] * len(setting.groups)
        for tile, readings in evidence.tiles:
            frames = np.bincount(tile.weight_pass, minlength=passes)
            if len(readings) and len(frames) == passes and (frames == frames[0]).all():
                found[tile.group] += tile.tile.shape[0] * tile.tile.shape[1]
        return [
            f"products of {group.name}"
            for group, entries in zip(setting.groups, found, strict=True)
            if entries != group.weight.size
        ]

    def analyse(self, evidence: Evidence, results: Results, setting: Setting, metrics: list[Metric]) -> Validated:
        machine, geometry = results[COUPLINGS_NODE].machine, results[REGISTRATION_NODE]
        monitor = setting.station.acquisition.drift_monitor
        return validation_of(machine, geometry, setting.groups, evidence, setting.station.limits, metrics, monitor)

    def summary(self, result: Validated, results: Results) -> Mapping[str, Any]:
        v = result.validation
        bad = GAIN_NODE.summary(results[GAIN_NODE], results)["bad_frames"]
        found: dict[str, Any] = {
            "validation": Figures(**{name: getattr(v, name) for name in Figures.model_fields}),
            "bad_frames": [*bad, *(BadFrame.of(PRODUCTS, frame) for frame in v.bad)],
        }
        if result.drift is not None and result.drift.track.beside is not None:
            chosen = COUPLINGS_NODE.summary(results[COUPLINGS_NODE], results)["structure"]
            found["structure"] = {**chosen, DRIFT_MONITOR: Choice.of(result.drift.track.beside)}
        return found

    def figures(self, evidence: Evidence, results: Results, setting: Setting) -> Iterator[Titled]:
        from labctl.nodes import figures

        validated = results[self]
        yield Titled(
            "Products of the Transformer",
            "Held-out matrix–vector products, never used in a fit: each point is one output of one product, read from "
            "the camera and decoded, against what the calibrated machine predicts for the levels really shown. Both "
            "are in units of the largest input times the largest weight, s_x s_w.",
            figures.products(setting.groups, validated.results),
        )
        yield Titled(
            "Residuals",
            "If the noise model is right, residuals in units of the predicted standard deviation follow the curve. "
            "Single readings shift with the error of dark signal and offset; between a product's passes it cancels.",
            figures.residuals(validated.results, validated.z),
        )
        if validated.drift is not None:
            beside = validated.drift.track.beside
            yield Titled(
                "Drift",
                "Reference frames between the others show how the source's power and the light that no modulator "
                "controls change. Probe scans and products are corrected for it; what that leaves open widens their "
                "intervals." + (f" {beside.reason[:1].upper()}{beside.reason[1:]}." if beside else ""),
                figures.drift(validated.drift),
            )


def validation_of(
    machine: Machine,
    geometry: Geometry,
    groups: tuple[ProductGroup, ...],
    evidence: Evidence,
    limits: Limits,
    metrics: list[Metric],
    monitor: str = "",
) -> Validated:
    """Products as they were read against what a machine says of them, the drift corrected.

    Products with a bad frame are left out and counted, as long as bad frames are few; when they are many it is the
    calibration that is wrong, and everything counts.

    Parameters
    ----------
    monitor
        Name of the one that may explain the drift; empty for none.
    """
    limits = geometry.tolerant(limits)
    require_light_to_the_end(evidence, PRODUCTS, geometry.dark_dn)
    drift = drift_of_run(
        evidence.references,
        machine,
        geometry.dark_dn,
        WHOLE_RUN,
        epoch_of(machine.channel, evidence.references),
        evidence.monitor(monitor),
    )
    clean = [(tile, _steadied(readings.minus(geometry.dark_dn), drift)) for tile, readings in evidence.tiles]
    moments = [predicted(machine, readings.scan) for _, readings in clean]
    dn = np.concatenate([readings.dn for _, readings in clean])
    mean, variance = (np.concatenate(parts) for parts in zip(*moments, strict=True))
    left_dn2 = np.concatenate([r.drift_variance_dn2(m) for (_, r), (m, _) in zip(clean, moments, strict=True)])
    saturated = np.concatenate([readings.saturated for _, readings in clean])
    noise = drift.widened(machine.channel.noise) if drift else machine.channel.noise
    bad = find_bad_frames(dn, mean, machine.channel.offset_dn, noise, saturated > limits.saturated_fraction_max)
    counted = np.ones(len(dn), np.bool_)
    counted[[frame.index for frame in bad]] = len(bad) > _bad_share_max(len(dn)) * len(dn)
    spoiled = _owners(clean, counted)
    results = []
    for g, group in enumerate(groups):
        parts = [(tile, readings) for tile, readings in clean if tile.group == g]
        if parts:
            keep = np.array([(g, i) not in spoiled for i in range(len(group.inputs))])
            results.append(assemble(machine, group, g, parts).where(keep))
    found = validate(results, bad)
    metrics += metrics_of(drift, limits) if drift else []
    metrics += _judged(found, bad, saturated, counted, limits, geometry.dark.rounding, machine.channel.gain_dn)
    return Validated(found, results, (dn - mean) / np.sqrt(variance + left_dn2), len(spoiled), drift)


def _steadied(readings: Readings, drift: RunDrift | None) -> Readings:
    return drift.steady(readings) if drift else readings


def _owners(clean: list[tuple[TileScan, Readings]], counted: NDArray[np.bool_]) -> set[tuple[int, int]]:
    """Group and product of each frame that does not count."""
    group = np.concatenate([[tile.group] * len(tile.product) for tile, _ in clean])
    product = np.concatenate([tile.product for tile, _ in clean])
    return {(int(group[i]), int(product[i])) for i in np.nonzero(~counted)[0]}


def _judged(
    found: Validation,
    bad: list[Bad],
    saturated: Float,
    counted: NDArray[np.bool_],
    limits: Limits,
    rounding: str,
    gain_dn: Float,
) -> list[Metric]:
    """The figures of the products, against limits that are as wide as so few values need."""
    most, bad_share = float(saturated[counted].max()), len(bad) / len(saturated)
    chi2, inside = SCATTER_SIGMAS * found.chi2_stderr, SCATTER_SIGMAS * found.coverage_stderr
    noisy = found.chi2_per_dof <= limits.chi2_per_dof_max + chi2
    return [
        Metric.judge(
            "nrmse", found.nrmse, "1", maximum=limits.nrmse_max, words=_weak(found, limits, gain_dn) if noisy else ""
        ),
        Metric.judge(
            "chi2_per_dof",
            found.chi2_per_dof,
            "1",
            stderr=found.chi2_stderr,
            minimum=limits.chi2_per_dof_min - chi2,
            maximum=limits.chi2_per_dof_max + chi2,
            words=rounding or (UNEXPLAINED if found.chi2_per_dof > 1 else OVERSTATED),
        ),
        Metric.judge(
            "coverage95",
            found.coverage95,
            "1",
            stderr=found.coverage_stderr,
            minimum=max(limits.coverage95_min - inside, 0.0),
            maximum=min(limits.coverage95_max + inside, 1.0),
        ),
        Metric.judge("nrmse_model", found.nrmse_model, "1"),
        Metric.judge(
            "bad_frame_fraction",
            bad_share,
            "1",
            maximum=_bad_share_max(len(saturated)),
            words=_most(bad),
        ),
        Metric.judge("saturated_fraction", most, "1", maximum=limits.saturated_fraction_max),
    ]


def _bad_share_max(frames: int) -> float:
    """Share of bad frames that a run of so many may have: `BAD_FRAMES_MAX`, and what chance adds to it."""
    return float(BAD_FRAMES_MAX + SCATTER_SIGMAS * np.sqrt(BAD_FRAMES_MAX * (1 - BAD_FRAMES_MAX) / max(frames, 1)))


def _most(bad: list[Bad]) -> str:
    """What most of the bad frames are."""
    counted = Counter(frame.reason for frame in bad).most_common(1)
    return f"{counted[0][1]} of {len(bad)} bad frames are {counted[0][0]}: the report lists them" if counted else ""


def _weak(found: Validation, limits: Limits, gain_dn: Float) -> str:
    """What to do where noise alone makes products inexact: with shot noise it falls as the root of the light.

    All weights are dimmed to the weakest macropixel. Where that is far weaker than the others and products would be
    exact enough without it, it is named.
    """
    row, column = np.unravel_index(int(np.argmin(gain_dn)), gain_dn.shape)
    share = float(gain_dn.min() / np.median(gain_dn))
    if found.nrmse * share / WEAK_SHARE <= limits.nrmse_max:
        return (
            f"χ² is {found.chi2_per_dof:.2f}: this is noise and no misfit, as all weights are dimmed to macropixel "
            f"({row}, {column}) with {share:.0%} of the usual light: dead pixels, dirt, or the edge of the light or of "
            "a panel's image; give [layout] fewer rows and columns or move them off it: labctl align"
        )
    more = (found.nrmse / limits.nrmse_max) ** 2
    return (
        f"χ² is {found.chi2_per_dof:.2f}: this is noise and no misfit, too little light; with {more:.1f} times as much "
        "it would do: raise acquisition.exposure_s or the source, or give [layout] fewer, larger macropixels"
    )


VALIDATION_NODE = ValidationNode()
