"""Panels with 2 … 4096 gray levels, display and SLM each its own number: scans, look-up tables, operands, files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from cal_bench import bench, products

from calibration.bench.lut_fit import fit_lut, fit_luts
from calibration.bench.registration import draw
from calibration.errors import BadScan, FitError, OutOfDomain
from calibration.fit.noise import fit_noise
from calibration.frames import probes
from calibration.frames.probes import NOISE_SHARES, RAMP_LEVELS_MAX, ProbePlan, levels_of_ramps, ramp_levels
from calibration.frames.references import References
from calibration.frames.scan import PanelLevels, repeats
from calibration.frames.schedule import assemble, schedule
from calibration.judge.validation import validate
from calibration.machine.artefact import Calibration, Domain, load, save
from calibration.machine.findings import Findings
from calibration.machine.layout import display_frame
from calibration.machine.lut import Lut
from calibration.machine.machine import Machine

LEVELS = (2, 4, 256, 1024, 4096)
PANELS = [PanelLevels(display, slm) for display, slm in product(LEVELS, LEVELS)]
SHAPE = (9, 12)
PLAN = ProbePlan()
SCHEMA_FILE = Path(__file__).parents[2] / "data" / "schemas" / "calibration-1.schema.json"


def name_of(panels):
    return f"display {panels.display}, slm {panels.slm}"


each_bench = pytest.mark.parametrize("panels", PANELS, ids=name_of)


def scans_of(panels, shape=SHAPE):
    return {
        "slm_ramp": probes.slm_ramp(shape, 8, levels=panels),
        "display_ramp": probes.display_ramp(shape, 8, 2, levels=panels),
        "noise": probes.noise_scan(shape, PLAN, levels=panels),
        "gain": probes.gain_scan(shape, PLAN, levels=panels),
        "crosstalk": probes.crosstalk_scan(shape, PLAN, levels=panels),
        "couplings": probes.coupling_scan(shape, PLAN, levels=panels),
        "holdout": probes.holdout_scan(shape, PLAN, np.random.default_rng(3), levels=panels),
    }


def display_curve(levels, floor=1 / 150):
    return floor + (1 - floor) * np.linspace(0, 1, levels) ** 2.2


def slm_curve(levels, floor=1 / 200):
    return floor + (1 - floor) * np.sin(0.5 * np.pi * np.linspace(0, 1, levels)) ** 2


def bench_of(panels, shape=(6, 8), **changes):
    return bench(shape, display=display_curve(panels.display), slm=slm_curve(panels.slm), **changes)


def machine_of(panels, name="sign-split", **changes):
    truth = bench_of(panels, **changes)
    luts = Lut(truth.display, np.zeros(panels.display)), Lut(truth.slm, np.zeros(panels.slm))
    whole = bench(truth.shape).machine(name)
    return Machine(whole.layout, *luts, truth.channel, whole.encoding)


def nearest(operand, curve):
    """The available operand that is nearest to what is asked for, by trying all."""
    available = (curve - curve[0]) / (1 - curve[0])
    return available[np.abs(available - np.asarray(operand)[..., None]).argmin(axis=-1)]


# ---------------------------------------------------------------- scans


@pytest.mark.parametrize("levels", [-1, 0, 1, (1 << 16) + 1])
@pytest.mark.parametrize("panel", ["display", "slm"])
def test_a_panel_without_two_levels_or_with_more_than_its_frames_can_hold_is_refused(panel, levels):
    with pytest.raises(OutOfDomain) as caught:
        PanelLevels(**{panel: levels})
    assert caught.value.device == panel
    assert caught.value.seen == str(levels)


@pytest.mark.parametrize(("levels", "dtype"), [(2, "u1"), (255, "u1"), (256, "u1"), (257, "u2"), (1 << 16, "u2")])
def test_frames_are_the_smallest_integers_that_hold_the_levels(levels, dtype):
    panels = PanelLevels(levels, 2)
    assert panels.display_dtype == np.dtype(dtype)
    assert np.iinfo(panels.display_dtype).max >= panels.display_bright == levels - 1


def test_frames_for_two_panels_of_256_levels_are_those_of_the_first_release():
    """Digests of what release 0.1.0 showed."""
    found = {}
    for name, scan in scans_of(PanelLevels()).items():
        digest = hashlib.sha256()
        for part in (scan.slm, scan.slm_index, scan.display):
            digest.update(f"{part.dtype.str}{part.shape}".encode() + part.tobytes())
        found[name] = digest.hexdigest()[:16]
    assert found == {
        "slm_ramp": "d78464091d279f7a",
        "display_ramp": "f1473889168af9f9",
        "noise": "d810c7053f233227",
        "gain": "ca155c3fe55a7eb4",
        "crosstalk": "6f6a4985558c1eb6",
        "couplings": "5eedb008348291f4",
        "holdout": "b3d41d7462b93443",
    }


@each_bench
def test_every_scan_uses_the_whole_range_of_both_panels_and_nothing_beyond(panels):
    for name, scan in scans_of(panels).items():
        assert scan.slm.dtype == panels.slm_dtype, name
        assert scan.display.dtype == panels.display_dtype, name
        assert scan.slm.max() <= panels.slm_bright, name
        assert scan.display.max() <= panels.display_bright, name
        if name != "holdout":  # random levels need not meet the ends
            assert scan.slm.max() == panels.slm_bright, name
            assert scan.display.max() == panels.display_bright, name
        assert len(np.unique(scan.slm_index)) == len(scan.slm), name


@each_bench
def test_scans_that_only_switch_show_the_same_patterns_on_every_bench(panels):
    usual = scans_of(PanelLevels())
    for name in ("gain", "crosstalk", "couplings"):
        scan = scans_of(panels)[name]
        assert np.array_equal(scan.slm == panels.slm_bright, usual[name].slm == 255)
        assert np.array_equal(scan.display == panels.display_bright, usual[name].display == 255)
        assert set(np.unique(scan.slm)) <= {0, panels.slm_bright}
        assert set(np.unique(scan.display)) <= {0, panels.display_bright}


@pytest.mark.parametrize("levels", [*LEVELS, 3, 255, 257, 300, 511, 1000, 1 << 16])
def test_a_ramp_shows_all_levels_or_as_many_spread_over_the_range(levels):
    shown = ramp_levels(levels)
    assert shown[0] == 0
    assert shown[-1] == levels - 1
    assert (np.diff(shown) > 0).all()
    if levels <= RAMP_LEVELS_MAX:
        assert len(shown) == levels
    else:
        spacing = (levels - 1) / (RAMP_LEVELS_MAX - 1)
        assert 0.7 * RAMP_LEVELS_MAX < len(shown) <= RAMP_LEVELS_MAX
        assert np.diff(shown).max() <= 1.62 * spacing + 1  # by the golden ratio, and rounding


@pytest.mark.parametrize("levels", [512, 1024, 4096])
def test_a_ramp_of_many_levels_meets_every_phase_of_a_hidden_coarser_step(levels):
    step = levels // 256
    assert set(ramp_levels(levels) % step) == set(range(step))


@each_bench
def test_the_levels_of_a_bench_are_told_by_its_ramps(panels):
    scans = scans_of(panels)
    assert levels_of_ramps(scans["display_ramp"], scans["slm_ramp"]) == panels


@pytest.mark.parametrize("levels", LEVELS)
def test_noise_frames_have_steps_of_light_between_dark_and_bright_on_every_display(levels):
    scan = probes.noise_scan(SHAPE, PLAN, levels=PanelLevels(levels, 2))
    light = scan.display.mean(axis=1) / (levels - 1)
    steps = light[:: PLAN.noise_repeats]
    assert (light.reshape(-1, PLAN.noise_repeats) == steps[:, None]).all()
    assert steps[0] == 0
    assert steps[-1] == 1
    assert steps == pytest.approx(NOISE_SHARES, abs=1 / SHAPE[1])  # whole columns, or whole levels
    assert len(np.unique(steps)) >= 7


@pytest.mark.parametrize("columns", [1, 2, 7, 32])
def test_few_levels_light_columns_that_are_spread_evenly(columns):
    scan = probes.noise_scan((3, columns), ProbePlan(noise_repeats=1), levels=PanelLevels(2, 2))
    for shown, share in zip(scan.display, NOISE_SHARES, strict=True):
        for first, last in product(range(columns), range(columns)):
            if first < last:
                assert abs(shown[first:last].sum() - share * (last - first)) < 1 + 1e-9


@pytest.mark.parametrize("levels", [2, 4])
def test_noise_is_found_with_a_display_of_few_levels(levels):
    """Read and shot noise are known to about 1 % here: 8 steps, 40 frames, 24 outputs."""
    panels = PanelLevels(levels, 2)
    truth = bench_of(panels, (24, 32), flicker=2e-3)
    scan = probes.noise_scan(truth.shape, ProbePlan(noise_repeats=40), levels=panels)
    found = fit_noise(truth.read_scan(scan, np.random.default_rng(5)), truth.display[0])
    truths = np.array([truth.read, truth.shot, truth.flicker])
    values = np.array([found.noise.read_dn, found.noise.shot_dn, found.noise.flicker])
    assert (np.abs(values - truths) < 4 * found.noise.stderr).all()
    assert (found.noise.stderr < 0.15 * truths).all()


@each_bench
def test_references_are_bright_and_dark_on_every_bench(panels):
    scan = probes.holdout_scan(SHAPE, PLAN, np.random.default_rng(3), levels=panels)
    shown, reference = References(5, panels).into(scan, around=True)
    assert shown.slm.dtype == panels.slm_dtype
    assert shown.display.dtype == panels.display_dtype
    assert set(np.unique(shown.display[reference])) == {0, panels.display_bright}
    assert (shown.slm[shown.slm_index[reference][-1]] == panels.slm_bright).all()
    assert (np.ptp(shown.display[reference], axis=1) == 0).all()
    assert np.array_equal(shown.display[~reference], scan.display)
    changes = sum(a != b for a, b in pairwise(shown.slm_index))
    assert changes < 3 * len(scan.slm)


@each_bench
def test_frames_of_a_panel_have_the_integers_of_what_they_show(panels):
    layout = machine_of(panels).layout
    slm = np.full((6, 8), panels.slm_bright, panels.slm_dtype)
    frame = layout.slm_frame(slm)
    assert frame.dtype == panels.slm_dtype
    assert set(np.unique(frame)) == {0, panels.slm_bright}
    index = np.arange(9).repeat(2)[None]
    shown = display_frame(np.full(8, panels.display_bright, panels.display_dtype), index)
    assert shown.dtype == panels.display_dtype
    assert shown.tolist() == [[panels.display_bright] * 16 + [0, 0]]
    dots = draw((40, 40), np.array([[20.0, 20.0]]), 5, panels.slm_bright)
    assert dots.dtype == panels.slm_dtype
    assert (dots == panels.slm_bright).sum() == 25


# ---------------------------------------------------------------- look-up tables


def ramps(panels, truth, rng=None):
    return [
        truth.read_scan(ramp(truth.shape, 8, levels=panels), rng) for ramp in (probes.display_ramp, probes.slm_ramp)
    ]


@each_bench
def test_curves_are_recovered_from_ramps_one_entry_for_each_level(panels):
    """Exactly at the levels shown; between them a line misses a curve by h² T″ / 8, with T″ ≤ π²/2 here."""
    truth = bench_of(panels, offset=np.full(6, 500.0))
    fit = fit_luts(*ramps(panels, truth))
    for lut, curve in ((fit.display, truth.display), (fit.slm, truth.slm)):
        assert lut.levels == len(curve) == len(lut.stderr)
        at = ramp_levels(lut.levels)
        assert lut.transmission[at] == pytest.approx(curve[at], abs=1e-10)
        gap = np.diff(at).max() / (lut.levels - 1)
        line = gap**2 * np.pi**2 / 16 if len(at) < lut.levels else 0.0
        assert np.abs(lut.transmission - curve).max() <= line + 1e-10
        assert lut.transmission[-1] == 1
        assert lut.stderr[-1] == 0
    assert fit.stray_dn == pytest.approx(3000, rel=1e-9)


@pytest.mark.parametrize("levels", [1024, 4096])
def test_errors_of_levels_that_were_not_shown_are_as_large_as_stated(levels):
    """The same noise as of the ramp of 256 levels. What the ramp cannot rule out may make them larger by half."""
    rng = np.random.default_rng(8)
    at = ramp_levels(levels)
    curve = slm_curve(levels)
    truth = 2e6 * curve
    variance = 1e4 + 0.3 * truth
    middle = np.setdiff1d(np.arange(levels // 5, 4 * levels // 5), at)
    z = []
    for _ in range(60):
        light = truth[at] + np.sqrt(variance[at]) * rng.standard_normal(len(at))
        lut = fit_lut(light, variance[at], 0.0, "slm", shown=at)
        z.append((lut.transmission - curve)[middle] / lut.stderr[middle])
    assert 0.5 < np.sqrt(np.mean(np.square(z))) < 1.1


@pytest.mark.parametrize("levels", [1024, 4096])
def test_a_panel_with_a_hidden_coarser_step_gets_the_errors_that_this_makes(levels):
    """A 10- or 12-bit interface to 8-bit electronics: levels that were not shown are off by part of an 8-bit step."""
    coarse = slm_curve(256)[np.arange(levels) // (levels // 256)]
    at = ramp_levels(levels)
    scale, noise = 1e6, 100.0
    light = scale * coarse[at] + noise * np.random.default_rng(2).standard_normal(len(at))
    lut = fit_lut(light, np.full(len(at), noise**2), 0.0, "slm", shown=at)
    unseen = np.setdiff1d(np.arange(levels), at)
    error = np.sqrt(np.mean((lut.transmission - coarse)[unseen] ** 2))
    stated = np.sqrt(np.mean(lut.stderr[unseen] ** 2))
    assert error > 5 * noise / scale, "the step must be visible"
    assert 0.7 < stated / error < 2.5


def test_levels_between_cost_nothing_where_the_curve_is_smooth_and_the_ramp_is_quiet():
    """What is left is what a line between neighbours can miss, at twice their distance."""
    at = ramp_levels(4096)
    lut = fit_lut(1e9 * display_curve(4096)[at], np.full(len(at), 1.0), 0.0, "display", shown=at)
    assert lut.stderr.max() < 1e-4


@pytest.mark.parametrize("levels", [4, 256, 1024])
@pytest.mark.parametrize("panel", ["display", "slm"])
def test_a_ramp_that_leaves_a_level_out_is_refused(panel, levels):
    panels = PanelLevels(**{"display": 256, "slm": 256, panel: levels})
    display, slm = ramps(panels, bench_of(panels))
    gone = int(ramp_levels(levels)[1])
    if panel == "display":
        display = display.where(display.scan.display[:, 0] != gone)
    else:
        slm = slm.where(slm.scan.slm[slm.scan.slm_index, 0, 0] != gone)
    with pytest.raises(BadScan, match="leaves gray levels out") as caught:
        fit_luts(display, slm)
    assert caught.value.device == panel
    assert caught.value.seen == "1 missing"


def test_a_ramp_of_one_level_and_a_table_of_one_level_are_refused():
    with pytest.raises(BadScan, match="single gray level"):
        fit_lut(np.array([100.0]), np.array([1.0]), 0.0, "slm")
    with pytest.raises(FitError, match="dark and a bright"):
        Lut(np.ones(1), np.zeros(1))


def test_two_levels_are_dark_and_bright_with_the_error_of_their_ratio():
    """The floor's relative error is that of the dark light; the bright end is 1 by definition."""
    lut = fit_lut(np.array([40.0, 4000.0]), np.array([4.0, 16.0]), 0.0, "slm")
    assert lut.transmission.tolist() == [0.01, 1.0]
    assert lut.stderr == pytest.approx([np.hypot(2 / 4000, 0.01 * 4 / 4000), 0.0])
    with pytest.raises(BadScan, match="does not follow"):
        fit_lut(np.array([40.0, 60.0]), np.array([4.0, 4.0]), 0.0, "slm")


# ---------------------------------------------------------------- operands


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("curve", [display_curve, slm_curve, np.linspace], ids=["display", "slm", "even"])
def test_encode_shows_the_nearest_available_operand(levels, curve):
    transmission = curve(levels) if curve is not np.linspace else np.linspace(0.02, 1, levels)
    lut = Lut(transmission, np.zeros(levels))
    operand = np.random.default_rng(4).random(500)
    shown = lut.encode(operand)
    assert shown.dtype == PanelLevels(levels, 2).display_dtype
    found = (lut.realise(shown) - lut.floor) / (1 - lut.floor)
    assert np.abs(found - operand) == pytest.approx(np.abs(nearest(operand, transmission) - operand), abs=1e-15)
    if curve is np.linspace:
        assert found == pytest.approx(np.rint(operand * (levels - 1)) / (levels - 1))


@pytest.mark.parametrize("levels", LEVELS)
def test_quantisation_is_the_error_of_evenly_spread_operands(levels):
    operand = (np.arange(400_000) + 0.5) / 400_000
    for transmission in (np.linspace(0.02, 1, levels), slm_curve(levels)):
        lut = Lut(transmission, np.zeros(levels))
        found = (lut.realise(lut.encode(operand)) - lut.floor) / (1 - lut.floor)
        assert lut.quantisation == pytest.approx(np.sqrt(np.mean((found - operand) ** 2)), rel=1e-3)
    assert Lut(np.linspace(0.02, 1, levels), np.zeros(levels)).quantisation == pytest.approx(
        1 / (np.sqrt(12) * (levels - 1))
    )


@each_bench
@pytest.mark.parametrize("name", ["sign-split", "offset"])
def test_decoded_readings_are_the_product_of_the_nearest_available_operands(panels, name):
    machine = machine_of(panels, name, structure="scalar", crosstalk=np.zeros((6, 2)), bleed=(0.0, 0.0))
    rng = np.random.default_rng(6)
    weight, vectors = rng.uniform(-1, 1, (6, 8)), rng.uniform(-1, 1, (5, 8))
    slm, (display, _) = machine.encode_weight(weight), machine.encode_input(vectors)
    assert slm.dtype == panels.slm_dtype
    assert display.dtype == panels.display_dtype
    light_w = nearest(machine.encoding.split_weight(weight), machine.slm.transmission)
    light_x = nearest(machine.encoding.split_input(vectors), machine.display.transmission)
    for p, pattern in enumerate(slm):
        for q, shown in enumerate(display):
            mean, _ = machine.predict(pattern, shown)
            assert machine.decode(mean, pattern, shown) == pytest.approx(light_x[q] @ light_w[p].T, abs=1e-9)


@pytest.mark.parametrize(("levels", "ratio", "fits"), [(2, 1.9, True), (2, 2.1, False), (4, 4, True), (256, 40, True)])
def test_gain_that_so_few_levels_cannot_flatten_is_refused(levels, ratio, fits):
    machine = machine_of(PanelLevels(256, levels))
    gain = np.linspace(1, ratio, 48).reshape(6, 8) * 1000
    machine = replace(machine, channel=replace(machine.channel, gain_dn=gain, bleed=np.zeros(2)))
    weight = np.ones((6, 8))
    if fits:
        assert (machine.encode_weight(weight)[0] > 0).all()
    else:
        with pytest.raises(OutOfDomain, match="2 gray levels cannot flatten") as caught:
            machine.encode_weight(weight)
        assert caught.value.device == "slm"


@pytest.mark.parametrize(("peak", "left"), [(0.3, False), (0.9, True)])
def test_products_of_which_rounding_leaves_nothing_are_no_validation(peak, left):
    """On a binary SLM weights below half of the scale are dark: all of them, or some."""
    panels = PanelLevels(256, 2)
    machine, truth = machine_of(panels), bench_of(panels)
    group = products((6, 8), 20, peak=peak)
    parts = [(tile, truth.read_scan(tile.scan, np.random.default_rng(1))) for tile in schedule(machine, [group])]
    result = assemble(machine, group, 0, parts)
    if left:
        found = validate([result], [])
        assert found.nrmse_model > 3 * found.nrmse
    else:
        with pytest.raises(OutOfDomain, match="too coarse"):
            validate([result], [])


# ---------------------------------------------------------------- files


@each_bench
def test_a_calibration_of_any_levels_is_saved_and_loaded(panels, tmp_path):
    saved = Calibration(
        machine_of(panels),
        Domain(0.004, 6, 8, 0.62, 532.0),
        "2026-11-23T02:00:00Z",
        "2026-11-24T02:00:00Z",
        Findings.from_json({}),
        {"run_id": "r"},
    )
    jsonschema.validate(saved.header(), json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
    for path in save(saved, tmp_path):
        again = load(path)
        assert again.id == saved.id
        assert (again.machine.display.levels, again.machine.slm.levels) == (panels.display, panels.slm)
        assert np.array_equal(again.machine.slm.transmission, saved.machine.slm.transmission)
        weight = np.random.default_rng(2).uniform(-1, 1, (6, 8))
        assert np.array_equal(again.machine.encode_weight(weight), saved.machine.encode_weight(weight))


def test_repeats_of_many_levels_are_told_apart():
    panels = PanelLevels(1024, 2)
    scan = probes.noise_scan(SHAPE, PLAN, levels=panels)
    readings = bench(SHAPE, display=display_curve(1024), slm=slm_curve(2)).read_scan(scan)
    assert {len(group) for group in repeats(readings)} == {PLAN.noise_repeats}
    assert len(repeats(readings)) == len(NOISE_SHARES)
