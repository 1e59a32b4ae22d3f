"""Products through tiles, passes and a bench written with dense matrices."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from cal_bench import bench, products

from calibration.errors import OutOfDomain
from calibration.frames.scan import Readings
from calibration.frames.schedule import assemble, predicted, schedule
from calibration.machine.channel import Channel
from calibration.machine.layout import Layout
from calibration.machine.machine import Machine

SHAPE = (6, 8)
ENCODINGS = ["sign-split", "offset"]


def rough(**changes):
    return bench(SHAPE, "full", 3, crosstalk=np.random.default_rng(1).uniform(0, 0.05, (6, 2)), **changes)


def measure(truth, machine, group, rng=None):
    """What the bench returns for the product group when it is shown the schedule."""
    parts = [(tile, truth.read_scan(tile.scan, rng)) for tile in schedule(machine, [group])]
    return assemble(machine, group, 0, parts)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("shape", [SHAPE, (3, 5), (14, 19), (1, 1)])
def test_without_noise_the_bench_measures_what_is_predicted(name, shape):
    truth = rough()
    result = measure(truth, truth.machine(name), products(shape, 7))
    assert result.measured == pytest.approx(result.realised, abs=1e-9)


def test_predictions_are_the_means_of_the_bench():
    truth = rough()
    machine = truth.machine()
    tiles = list(schedule(machine, [products((14, 19), 5)]))
    assert len(tiles) == 9
    for tile in tiles:
        mean, variance = predicted(machine, tile.scan)
        assert mean == pytest.approx(truth.read_scan(tile.scan).dn, rel=1e-12)
        light = mean - truth.offset
        assert variance == pytest.approx(truth.read**2 + truth.shot * light, rel=1e-12)


def steps_of(curve):
    """Largest distance of an operand from an available one."""
    return np.diff(curve).max() / 2 / (1 - curve[0])


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("shape", [SHAPE, (14, 19)])
def test_realised_products_differ_from_exact_ones_by_quantisation_only(name, shape):
    """A worst case and a typical one: rounding errors are uniform in ± half a step and independent."""
    truth = rough()
    machine, group = truth.machine(name), products(shape, 40)
    result = measure(truth, machine, group)
    error = result.realised - result.exact
    flat = truth.gain.max() / truth.gain.min()  # flattening the gain shows weights smaller, and their steps larger
    ew, ex = steps_of(truth.slm) * flat, steps_of(truth.display)
    bleed = 1 / (1 - 2 * sum(truth.bleed))  # undoing the bleed grows weights by this at most
    k, gain = shape[1], {"sign-split": 1, "offset": 4}[name]
    assert np.abs(error).max() < gain * k * (ew + ex * bleed + ew * ex) * (4 if name == "sign-split" else 1)
    typical = gain * np.sqrt(k * (ew**2 + ex**2) / 3)
    assert 0.1 * typical < np.sqrt(np.mean(error**2)) < typical


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_fine_lut_realises_the_exact_product(name):
    """With operands that lie on gray levels nothing is lost: floors, gain, bleed and crosstalk are all undone."""
    levels = np.linspace(0, 1, 256)
    truth = rough(display=0.02 + 0.98 * levels, slm=0.01 + 0.99 * levels, bleed=(0.0, 0.0))
    truth.gain[:] = 1000.0
    group = products(SHAPE, 9)
    step = 255 if name == "sign-split" else 127.5
    group.weight[:] = np.round(group.weight * 4 * step) / step / 4 if name == "sign-split" else 0
    group.inputs[:] = np.round(group.inputs / 3 * 100) * 3 / 100
    if name == "offset":
        group.weight[:] = (2 * np.random.default_rng(2).integers(0, 256, SHAPE) / 255 - 1) * 0.25
    group.inputs[:] = (2 * np.random.default_rng(3).integers(0, 256, (9, 8)) / 255 - 1) * 3
    if name == "sign-split":
        group.inputs[:] = np.random.default_rng(3).integers(-255, 256, (9, 8)) / 255 * 3
    group.inputs[:, 0] = 3  # the scale of each vector
    group.outputs[:] = group.inputs.astype(float) @ group.weight.astype(float).T
    result = measure(truth, truth.machine(name), group)
    assert result.realised == pytest.approx(result.exact, abs=2e-6)  # operands and outputs are float32


@pytest.mark.parametrize("name", ENCODINGS)
def test_realised_is_the_product_of_the_operands_that_the_panels_show(name):
    """Own formula: Σ a c V (B v) over the passes with V, v above their floors, and −1·B(x + 1) − W·1 in digits."""
    truth = rough()
    machine, group = truth.machine(name), products(SHAPE, 6)
    (tile,) = schedule(machine, [group])
    result = measure(truth, machine, group)
    x = group.inputs.astype(float) / np.abs(group.inputs).max(1, keepdims=True)
    w = group.weight.astype(float) / 0.25
    total = np.zeros((6, 6))
    factors = (1, -1) if name == "sign-split" else (2,)
    for frame, (s, i, q) in enumerate(zip(tile.scan.slm_index, tile.product, tile.input_pass, strict=True)):
        shown = truth.gain * (truth.slm[tile.scan.slm[s]] - truth.slm[0])
        lit = truth.blending @ (truth.display[tile.scan.display[frame]] - truth.display[0])
        scale = truth.gain.min() * (1 - truth.slm[0]) * (1 - truth.display[0])
        total[i] += factors[s] * factors[q] * (shown @ lit) / scale
    if name == "offset":
        total -= ((x + 1) @ truth.blending.T).sum(1)[:, None] + w.sum(1)
    assert result.realised == pytest.approx(total, abs=1e-10)


@pytest.mark.parametrize(("name", "power"), [("sign-split", 1.0), ("offset", 1.0), ("sign-split", 0.8)])
def test_the_variance_of_products_is_predicted(name, power):
    """16000 readings of each product: a variance is known to √(2/16000) = 1.1 %; 18 of them within 4.5 of these.

    With a fifth less light than at the calibration it is a quarter larger, and more.
    """
    truth = rough(flicker=0.004)
    machine = truth.machine(name)
    vectors, repeats = products((6, 19), 3).inputs, 16000
    group = products((6, 19), 3 * repeats)
    group.inputs[:] = np.tile(vectors, (repeats, 1))
    rng = np.random.default_rng(5)
    parts = []
    for tile in schedule(machine, [group]):
        clean = power * (truth.read_scan(tile.scan).dn - truth.offset)
        source = 1 + truth.flicker * rng.standard_normal((len(clean), 1))
        dn = truth.shot * rng.poisson(clean * source / truth.shot)
        dn = power * truth.offset * source + dn + truth.read * rng.standard_normal(dn.shape)
        readings = Readings(tile.scan, dn, np.zeros(len(dn)))
        if power != 1:
            course = np.tile([power - 1, 0.0], (len(dn), 1))
            readings = readings.steadied(course, np.zeros((len(dn), 2, 2)))
        parts.append((tile, readings))
    result = assemble(machine, group, 0, parts)
    error = (result.measured - result.realised).reshape(repeats, 3, 6)
    predicted_variance = result.variance.reshape(repeats, 3, 6)
    assert np.ptp(predicted_variance, axis=0).max() < 1e-9 * predicted_variance.max()
    assert error.var(axis=0) / predicted_variance[0] == pytest.approx(np.ones((3, 6)), abs=4.5 * 0.0112)
    assert error.mean(axis=0) == pytest.approx(np.zeros((3, 6)), abs=4.5 * np.sqrt(predicted_variance.max() / repeats))


def test_errors_of_the_gain_widen_the_variance():
    """Independent relative gain errors of 1 %: Σ (w x 1 %)² on top of the noise."""
    truth = rough()
    c = truth.channel
    unsure = Channel(
        c.gain_dn,
        0.01 * c.gain_dn,
        c.offset_dn,
        c.offset_stderr_dn,
        c.crosstalk,
        c.crosstalk_stderr,
        c.bleed,
        c.bleed_stderr,
        c.noise,
    )
    group, sure = products((14, 19), 5), truth.machine()
    machine = Machine(sure.layout, sure.display, sure.slm, unsure, sure.encoding)
    extra = measure(truth, machine, group).variance - measure(truth, sure, group).variance
    w, x = group.weight.astype(float) / 0.25, group.inputs / np.abs(group.inputs).max(1, keepdims=True)
    assert extra == pytest.approx(1e-4 * (x.astype(float) ** 2) @ (w**2).T, rel=1e-5)


def test_the_slm_changes_once_for_each_tile_and_weight_pass():
    truth = rough()
    groups = [products((14, 19), 5, name="a"), products((6, 8), 3, name="b")]
    for name, passes in (("sign-split", 2), ("offset", 1)):
        patterns = [
            (tile.group, tile.tile, int(s))
            for tile in schedule(truth.machine(name), groups)
            for s in tile.scan.slm_index
        ]
        changes = 1 + sum(a != b for a, b in pairwise(patterns))
        assert changes == (3 * 3 + 1) * passes
        assert changes == len(set(patterns))


def test_dark_passes_are_not_shown():
    truth = rough()
    machine = truth.machine()
    signed, positive = (products((14, 19), 5, signed=s) for s in (True, False))
    frames = [sum(len(t.scan) for t in schedule(machine, [g])) for g in (signed, positive)]
    assert frames == [9 * 4 * 5, 9 * 2 * 5]
    for tile in schedule(machine, [positive]):
        assert (tile.scan.display.max(axis=1) > 0).all()
    result = measure(truth, machine, positive)
    assert result.measured == pytest.approx(result.realised, abs=1e-9)
    assert np.abs(result.realised - result.exact).max() < 0.2


def test_a_zero_vector_costs_no_frame_and_gives_zero():
    truth = rough()
    group = products(SHAPE, 3)
    group.inputs[1] = 0
    group.outputs[1] = 0
    (tile,) = schedule(truth.machine(), [group])
    assert set(tile.product) == {0, 2}
    result = measure(truth, truth.machine(), group)
    assert not result.measured[1].any()
    assert not result.variance[1].any()


def test_where_keeps_the_chosen_products():
    truth = rough()
    result = measure(truth, truth.machine(), products(SHAPE, 4))
    kept = result.where(np.array([True, False, False, True]))
    for name in ("measured", "realised", "exact", "variance"):
        assert np.array_equal(getattr(kept, name), getattr(result, name)[[0, 3]])


def test_weights_beyond_the_scale_are_clipped():
    truth = rough(bleed=(0.0, 0.0))
    machine = truth.machine()
    over, at = machine.encode_weight(np.full(SHAPE, 5.0)), machine.encode_weight(np.ones(SHAPE))
    assert np.array_equal(over, at)
    weakest = np.unravel_index(truth.gain.argmin(), SHAPE)
    assert at[(0, *weakest)] == 255
    assert not at[1].any()


def test_electrons_and_photons_are_counted():
    truth = rough()
    machine = truth.machine()
    mean = truth.read_scan(next(schedule(machine, [products(SHAPE, 2)])).scan).dn
    assert machine.detected_electrons(mean) == pytest.approx((mean - truth.offset).sum(1) / 0.3)
    levels = np.array([[255] * 8, [0] * 8, [255, 0] * 4], np.uint8)
    # full light of a macropixel is its gain in electrons, at 60 % quantum efficiency
    full = truth.gain.mean() / 0.3 / 0.6
    floor = truth.display[0]
    assert machine.photons_per_mac(levels, 0.6) == pytest.approx(full * np.array([1, floor, (1 + floor) / 2]))


def test_a_channel_of_another_shape_than_the_layout_is_refused():
    machine = rough().machine()
    layout = Layout((40, 43), 6, 7, 6, 5, 4, 4)
    with pytest.raises(OutOfDomain):
        Machine(layout, machine.display, machine.slm, machine.channel, machine.encoding)


def test_the_variance_of_products_holds_the_errors_of_the_luts():
    """Levels drawn anew from their errors, 600 times: variances to √(2/600) = 6 %.

    Few operands share a level, as the prediction takes for granted; those that do make up the rest of the margin.
    """
    truth = rough()
    machine, rng = truth.machine("sign-split"), np.random.default_rng(6)
    stderr = np.where(np.arange(256) > 0, 2e-3, 0.0)
    doubtful = replace(
        machine, display=replace(machine.display, stderr=stderr), slm=replace(machine.slm, stderr=stderr)
    )
    group = products((6, 19), 2)
    tile = next(iter(schedule(doubtful, [group])))
    scan = tile.scan
    shown = scan.slm[0], scan.display[(scan.slm_index == 0) & (tile.input_pass == 0)]
    found = []
    for _ in range(600):
        display, slm = (lut.transmission + stderr * rng.standard_normal(256) for lut in (machine.display, machine.slm))
        t, d = np.full(truth.shape, machine.slm.floor), np.full((len(shown[1]), truth.shape[1]), machine.display.floor)
        rows, columns = shown[0].shape
        t[:rows, :columns], d[:, :columns] = slm[shown[0]], display[shown[1]]
        found.append(machine.decode(machine.channel.expected(t, d), *shown))
    expected = doubtful.lut_variance(*shown)
    assert np.var(found, axis=0) / expected == pytest.approx(np.ones(expected.shape), abs=0.5)
