"""Scans, readings, products and the designed patterns."""

from itertools import pairwise

import numpy as np
import pytest
from cal_bench import products

from calibration import errors
from calibration.errors import BadOperands
from calibration.frames import probes
from calibration.frames.probes import ProbePlan
from calibration.frames.products import ProductGroup
from calibration.frames.scan import Readings, Scan, repeats

SHAPE = (9, 12)
PLAN = ProbePlan()


def scan(index=(0, 1, 1), slm=(2, 3, 4), display=(3, 4)):
    return Scan(np.zeros(slm, np.uint8), np.array(index, np.int64), np.zeros(display, np.uint8))


def test_a_scan_whose_shapes_fit_is_accepted():
    assert len(scan()) == 3
    assert len(scan(index=(), display=(0, 4))) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"index": (0, 1)},
        {"index": (0, 1, 2)},
        {"index": (0, -1, 1)},
        {"slm": (2, 3, 5)},
        {"slm": (3, 4)},
        {"display": (3, 5)},
    ],
)
def test_a_scan_whose_shapes_do_not_fit_is_refused(change):
    with pytest.raises(BadOperands):
        scan(**change)


def test_repeats_groups_frames_that_showed_the_same_thing():
    display = np.array([[1, 2], [1, 2], [3, 4], [1, 2], [1, 2], [3, 4]], np.uint8)
    shown = Scan(np.zeros((2, 1, 2), np.uint8), np.array([0, 0, 0, 1, 0, 0]), display)
    found = repeats(Readings(shown, np.zeros((6, 1)), np.zeros(6)))
    assert sorted(g.tolist() for g in found) == [[0, 1, 4], [2, 5]]


def test_minus_subtracts_the_dark_signal_of_each_region():
    readings = Readings(scan(), np.arange(6.0).reshape(3, 2), np.ones(3))
    dark = readings.minus(np.array([1.0, 10.0]))
    assert dark.dn.tolist() == [[-1, -9], [1, -7], [3, -5]]
    assert dark.scan is readings.scan
    assert np.array_equal(dark.saturated, np.ones(3))


def group(**changes):
    g = products((3, 4), 5)
    fields = {name: getattr(g, name) for name in ProductGroup.__dataclass_fields__}
    return ProductGroup(**{**fields, **changes})


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": np.zeros((5, 3), np.float32)},
        {"outputs": np.zeros((5, 4), np.float32)},
        {"outputs": np.zeros((4, 3), np.float32)},
        {"positions": np.zeros((5, 3), np.int64)},
        {"weight_scale": 0.0},
        {"weight_scale": -1.0},
        {"weight_scale": float("nan")},
        {"weight_scale": float("inf")},
    ],
)
def test_products_whose_shapes_or_scale_do_not_fit_are_refused(change):
    with pytest.raises(BadOperands) as caught:
        group(**change)
    assert caught.value.device == "test"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["weight", "inputs", "outputs"])
def test_operands_that_are_not_finite_are_refused_with_their_count(name, bad):
    values = getattr(group(), name).copy()
    values[0, 0] = values[1, 2] = bad
    with pytest.raises(BadOperands, match=f"{name}.* 2 values"):
        group(**{name: values})


def test_the_scale_of_an_input_is_its_own_maximum():
    inputs = np.array([[1, -4, 2, 0], [0, 0, 0, 0], [0.5, 0.25, 0, 0]], np.float32)
    g = group(inputs=inputs, outputs=np.zeros((3, 3), np.float32), positions=np.zeros((3, 2), np.int64))
    assert g.input_scales.tolist() == [4, 1, 0.5]


def test_ramps_show_every_level_and_repeat_the_corners():
    slm, display = probes.slm_ramp(SHAPE, 8), probes.display_ramp(SHAPE, 8)
    assert slm.slm[slm.slm_index][:256, 4, 5].tolist() == list(range(256))
    assert (slm.display == 255).all()
    assert display.display[:256, 3].tolist() == list(range(256))
    shown = slm.slm[slm.slm_index, 0, 0]
    assert [(shown == level).sum() for level in (0, 255)] == [9, 9]
    for s in (0, 255):
        for d in (0, 255):
            both = (display.slm[display.slm_index, 0, 0] == s) & (display.display[:, 0] == d)
            assert both.sum() == 8 + (s == 255)


@pytest.mark.parametrize("k", [1, 2, 12, 16, 33])
def test_gain_patterns_light_each_column_in_half_of_the_frames_and_determine_all(k):
    found = probes.gain_scan((3, k), ProbePlan(gain_repeats=1, offset_repeats=4))
    lit = found.display[:-4] == 255
    assert (lit.mean(axis=0) == 0.5).all()
    assert not found.display[-4:].any()
    assert np.linalg.matrix_rank(np.column_stack([np.ones(len(found)), found.display / 255])) == k + 1
    signs = np.where(lit, 1.0, -1.0)
    assert signs.T @ signs == pytest.approx(len(lit) * np.eye(k))
    assert (found.slm == 255).all()


def test_crosstalk_patterns_isolate_every_macropixel_from_its_neighbours():
    found = probes.crosstalk_scan(SHAPE, PLAN)
    lit = np.zeros(SHAPE, int)
    for s in found.slm:
        on = s > 0
        for axis, step in ((0, 1), (0, 2), (1, 1), (1, 2)):
            n = on.shape[axis] - step
            assert not (on.take(range(n), axis) & on.take(range(step, step + n), axis)).any()
        lit += on
    assert (lit == 1).all()
    assert len(found) == 9 * 3 * PLAN.crosstalk_repeats


def test_noise_frames_are_uniform_and_repeated():
    found = probes.noise_scan(SHAPE, PLAN)
    groups = repeats(Readings(found, np.zeros((len(found), 9)), np.zeros(len(found))))
    assert {len(g) for g in groups} == {PLAN.noise_repeats}
    assert {int(found.display[g[0], 0]) for g in groups} >= {0, 255}
    assert (np.ptp(found.display, axis=1) == 0).all()


def test_the_hold_out_is_seeded_dense_and_sparse():
    first, second = (probes.holdout_scan(SHAPE, PLAN, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.display, second.display)
    assert np.array_equal(first.slm, second.slm)
    share = (first.display > 0).mean(axis=1)
    assert share.min() < 0.2
    assert share.max() > 0.9


def test_probes_are_weight_stationary():
    for found in (
        probes.crosstalk_scan(SHAPE, PLAN),
        probes.holdout_scan(SHAPE, PLAN, np.random.default_rng(3)),
        probes.gain_scan(SHAPE, PLAN),
        probes.noise_scan(SHAPE, PLAN),
    ):
        assert sum(a != b for a, b in pairwise(found.slm_index)) == len(found.slm) - 1


def test_every_error_has_its_own_code_and_an_exit_code_from_the_list():
    kinds = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.CalibrationError)]
    assert len({e.code for e in kinds}) == len(kinds) >= 7
    assert {e.exit_code for e in kinds} <= {2, 10, 20, 22}
