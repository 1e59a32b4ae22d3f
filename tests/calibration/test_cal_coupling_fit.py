"""Couplings of single macropixels, against a bench that is written as a sum over every path of the light."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.fit.couplings import Map, blend, fit_couplings, smooth_basis
from calibration.frames.probes import ProbePlan, coupling_scan, gain_scan
from calibration.frames.products import ProductGroup
from calibration.frames.scan import Readings
from calibration.frames.schedule import assemble, schedule
from calibration.machine.artefact import Calibration, Domain, load, save
from calibration.machine.channel import Channel, Couplings
from calibration.machine.encoding import encoding
from calibration.machine.findings import Findings
from calibration.machine.layout import Layout
from calibration.machine.lut import Lut
from calibration.machine.machine import Machine
from calibration.machine.noise import Noise

SHAPE = 12, 14
FLOOR = 0.03
LUT = Lut(np.linspace(0.01, 1, 256), np.zeros(256)), Lut(np.linspace(FLOOR, 1, 256), np.zeros(256))
SILENT = Noise(10.0, 0.1, 1e-4, np.zeros(3))


def bench(seed=0):
    rng = np.random.default_rng(seed)
    m = SHAPE[0]
    before, after = rng.uniform(0.02, 0.1, SHAPE), rng.uniform(0.0, 0.03, SHAPE)
    above, below = (
        smooth_basis(SHAPE, 2)[:, :, :4] @ rng.normal([s, 0, 0, 0], [0, 2e-3, 2e-3, 2e-3]) for s in (0.06, 0.02)
    )
    before[:, 0] = after[:, -1] = above[0] = below[-1] = 0
    dark = 1500 * (1 + 0.1 * smooth_basis(SHAPE, 1)[:, :, 2])
    gain = 4e4 * (1 + 0.1 * smooth_basis(SHAPE, 1)[:, :, 1]) * rng.normal(1, 0.01, SHAPE)
    return gain, np.full(m, 300.0), Couplings(before, after, above, below, dark, FLOOR, np.zeros((4, *SHAPE)), dark * 0)


def by_paths(gain, offset, c, slm, display):
    """Reading of each output: path by path."""
    m, k = SHAPE
    y = offset + c.dark_dn @ display
    for row in range(m):
        for column in range(k):
            left = display[column - 1] if column else 0.0
            right = display[column + 1] if column < k - 1 else 0.0
            own = 1 - c.before[row, column] - c.after[row, column]
            lit = own * display[column] + c.before[row, column] * left + c.after[row, column] * right
            light = gain[row, column] * (slm[row, column] - FLOOR) * lit
            light += (slm[row, column] - FLOOR) * (0.0 if c.still_dn is None else c.still_dn[row, column])
            y[row] += light
            if row:
                y[row - 1] += c.above[row, column] * light
            if row < m - 1:
                y[row + 1] += c.below[row, column] * light
    return y


def channel(gain, offset, c, noise=SILENT):
    m = SHAPE[0]
    crosstalk = np.zeros((m, 2))
    crosstalk[1:, 0], crosstalk[:-1, 1] = c.below[:-1].mean(axis=1), c.above[1:].mean(axis=1)
    bleed = np.array([c.before.mean(), c.after.mean()])
    return Channel(gain, gain * 0, offset, offset * 0, crosstalk, crosstalk * 0, bleed, bleed * 0, noise, c)


def read(scan, gain, offset, c, rng=None):
    seen = {}
    dn = np.empty((len(scan), SHAPE[0]))
    for i, s in enumerate(scan.slm_index):
        key = int(s), scan.display[i].tobytes()
        if key not in seen:
            seen[key] = by_paths(gain, offset, c, LUT[1].realise(scan.slm[s]), LUT[0].realise(scan.display[i]))
        dn[i] = seen[key]
    if rng is not None:
        dn = dn + np.sqrt(SILENT.variance(dn)) * rng.standard_normal(dn.shape)
    return Readings(scan, dn, np.zeros(len(scan)))


def test_expected_readings_are_the_sum_over_all_paths():
    parts = bench()
    rng = np.random.default_rng(1)
    slm, display = rng.uniform(FLOOR, 1, SHAPE), rng.uniform(0, 1, SHAPE[1])
    expected = by_paths(*parts, slm, display)
    assert channel(*parts).expected(slm, display[None])[0] == pytest.approx(expected, rel=1e-12)


def test_compensated_light_makes_the_unmixed_outputs_see_the_weights():
    found = channel(*bench())
    weight = np.random.default_rng(2).uniform(-1, 1, (8, 9))
    assert found.seen(found.compensate(weight)) == pytest.approx(weight, abs=1e-5)


def test_every_coupling_is_found_and_predicts_new_patterns():
    gain, offset, c = bench()
    start = channel(gain * 0 + 1, offset, replace(c, before=c.before * 0))
    start = replace(start, couplings=None)
    scan = coupling_scan(SHAPE, ProbePlan(coupling_repeats=2))
    readings = read(scan, gain, offset, c, np.random.default_rng(3))
    found = fit_couplings(start, *LUT, readings, np.zeros((3, SHAPE[0], SHAPE[1] + 1)))
    assert found.gain_dn == pytest.approx(gain, rel=0.01)
    for name, tolerance in (("before", 5e-3), ("after", 5e-3), ("above", 3e-3), ("below", 3e-3)):
        assert getattr(found.couplings, name) == pytest.approx(getattr(c, name), abs=tolerance), name
    rng = np.random.default_rng(4)
    slm, display = rng.uniform(FLOOR, 1, SHAPE), rng.uniform(0, 1, SHAPE[1])
    truth = by_paths(gain, offset, c, slm, display)
    assert found.expected(slm, display[None])[0] == pytest.approx(truth, rel=2e-3)


def stuck_bench():
    """A bench with a pixel of the display stuck bright at (4, 6), and a darkest level that is brighter than stated."""
    gain, offset, c = bench(7)
    still = 0.004 * gain
    still[4, 6] += 0.08 * gain[4, 6]
    gain = gain.copy()
    gain[4, 6] *= 0.92
    return gain, offset, replace(c, still_dn=still, still_stderr_dn=still * 0)


def fitted(parts, rng, drifting=0.0):
    """Couplings from the two scans; what is left of the offset's drift in each pattern has this deviation [DN]."""
    gain, offset, _ = parts
    readings, bright = (read(scan(SHAPE, ProbePlan()), *parts, rng) for scan in (coupling_scan, gain_scan))
    if drifting:
        moved = drifting * rng.standard_normal(len(readings.scan.slm))[readings.scan.slm_index]
        left = np.tile(np.diag([0.0, drifting**2]), (len(moved), 1, 1))
        readings = replace(readings, dn=readings.dn + moved[:, None], drift_covariance=left)
    start = replace(channel(gain * 0 + 1, offset, bench()[2]), couplings=None)
    return fit_couplings(start, *LUT, readings, np.zeros((3, SHAPE[0], SHAPE[1] + 1)), bright)


@pytest.mark.parametrize("drifting", [0.0, 400.0])
def test_light_of_a_stuck_display_pixel_is_foretold_under_any_pattern(drifting):
    """0.4 % of all light and 8 % of one macropixel's: with noise of some 100 DN, an offset alone is off by 2000 DN."""
    parts = stuck_bench()
    rng = np.random.default_rng(8)
    found = fitted(parts, rng, drifting)
    c = found.couplings
    assert c.still_dn[4, 6] == pytest.approx(parts[2].still_dn[4, 6], rel=0.2)
    assert found.offset_stderr_dn.max() < 30 + drifting
    z2 = []
    for _ in range(20):
        slm, dark = rng.uniform(FLOOR, 1, SHAPE) * rng.integers(0, 2, SHAPE).clip(FLOOR, 1), np.full(SHAPE[1], 0.01)
        shown = slm, dark[None], np.zeros(SHAPE), np.zeros((1, SHAPE[1]))
        error = found.expected(slm, dark[None])[0] - by_paths(*parts, slm, dark)
        z2.append(error**2 / found.stated_variance(*shown)[0])
    assert np.mean(z2) < 2
    assert drifting or np.mean(z2) > 0.3  # a common deviation is a single number


def test_a_display_that_switches_all_light_off_has_none_that_stays():
    found = fitted(bench(7), np.random.default_rng(9))
    assert found.couplings.still_dn is None
    assert not found.still(np.ones(SHAPE)).any()
    assert not found.still_variance(np.ones(SHAPE)).any()


def test_products_of_inputs_without_a_sign_are_rid_of_light_that_stays_on():
    """Passes of one sign leave it in: it is what the weights let through of it, and no product."""
    gain, offset, c = stuck_bench()
    c = replace(c, still_stderr_dn=0.1 * c.still_dn)
    machine = Machine(Layout((80, 90), *SHAPE, 6, 6, 5, 5), *LUT, channel(gain, offset, c), encoding("sign-split"))
    rng = np.random.default_rng(10)
    weight, inputs = rng.standard_normal(SHAPE), np.abs(rng.standard_normal((3, SHAPE[1])))
    for signs in (np.ones(SHAPE[1]), rng.choice([-1.0, 1.0], SHAPE[1])):
        x = (inputs * signs).astype(np.float32)
        at = np.stack([np.zeros(3, np.int64), np.arange(3)], axis=1)
        group = ProductGroup("some", "linear", 0, weight.astype(np.float32), x, x @ weight.T, at, 2.5)
        (tile,) = schedule(machine, [group])
        seen = read(tile.scan, gain, offset, c)
        found = assemble(machine, group, 0, [(tile, seen)])
        assert found.measured == pytest.approx(found.realised, abs=1e-9)
        sure = replace(machine, channel=channel(gain, offset, replace(c, still_stderr_dn=c.still_stderr_dn * 0)))
        added = found.variance - assemble(sure, group, 0, [(tile, seen)]).variance
        assert (added.max() > 1e-6) == bool((signs > 0).all())


def test_blend_keeps_what_is_real_and_drops_what_is_noise():
    rng = np.random.default_rng(5)
    shape = 40, 50
    smooth = 5 + smooth_basis(shape, 2)[:, :, :6] @ rng.standard_normal(6)
    flicker, noise = 0.1 * rng.standard_normal(shape[1]), 0.05 * rng.standard_normal(shape)
    for real, worst in ((0.0, 0.02), (0.5, 0.055)):
        truth = smooth + real * rng.standard_normal(shape)
        given = Map(truth + noise + flicker, np.full(shape, 0.05), np.full(shape[1], 0.1))
        found = blend(given, smooth_basis(shape, 4))
        error = found.value - truth
        assert error.std() < worst + (0.05 if real else 0.0)
        assert (error**2).mean() == pytest.approx((found.stderr**2).mean(), rel=0.5)


def test_column_edges_are_where_whole_display_pixels_put_them():
    """A display shifted by 0.3 px: every edge lies on the nearest whole pixel, 0.3 px off; its square is 0.09."""
    layout = Layout((40, 60), 5, 6, 6, 6, 5, 5)
    shift = np.array([[1, 0, 0.3], [0, 1, 0], [0, 0, 1.0]])
    index = layout.display_index((40, 60), shift)
    edges = layout.column_edges(index, shift, 2)
    assert edges.shape == (2, 5, 7)
    assert np.abs(edges[0]) == pytest.approx(np.full((5, 7), 0.3), abs=1e-12)
    assert edges[1] == pytest.approx(edges[0] ** 2)


@pytest.mark.parametrize("parts", [bench(), stuck_bench()], ids=["usual", "stuck"])
def test_couplings_survive_the_artefact_in_both_forms(tmp_path, parts):
    layout = Layout((80, 90), *SHAPE, 6, 6, 5, 5)
    machine = Machine(layout, *LUT, channel(*parts), encoding("sign-split"))
    domain = Domain(0.02, *SHAPE, 0.7, 525.0)
    saved = Calibration(machine, domain, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", Findings(), {})
    rng = np.random.default_rng(6)
    slm, display = rng.uniform(FLOOR, 1, SHAPE), rng.uniform(0, 1, (3, SHAPE[1]))
    for path in save(saved, tmp_path):
        found = load(path).machine.channel
        assert np.array_equal(found.expected(slm, display), machine.channel.expected(slm, display))
        assert np.array_equal(found.relative_variance, machine.channel.relative_variance)
