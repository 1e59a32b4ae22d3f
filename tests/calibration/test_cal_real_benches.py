"""Benches as they are: lenses that distort, few products, lone outputs, drifts between passes, cameras that mislead."""

import numpy as np
import pytest
from cal_bench import bench
from everyday import everyday

from calibration.bench.dark import fit_dark
from calibration.bench.lut_fit import fit_lut
from calibration.bench.regions import camera_regions
from calibration.bench.registration import require_unclipped, through_lens
from calibration.bench.timing import BEFORE, Step, fit_step
from calibration.errors import BadScan, Saturated
from calibration.fit.noise import fit_noise
from calibration.frames.probes import ProbePlan, noise_scan
from calibration.frames.schedule import ProductResult
from calibration.judge.flaws import flaws, lit_rows
from calibration.judge.validation import validate
from calibration.machine.layout import Layout
from calibration.machine.registration import Lens, Registration

SENSOR = (300, 400)
HOMOGRAPHY = np.array([[1.1, 0.02, 40.0], [-0.03, 1.08, 30.0], [1e-4, -5e-5, 1.0]])


def test_lens_shows_a_point_where_its_straight_place_comes_back_to() -> None:
    lens = Lens.over(SENSOR, 0.03)
    x, y = np.meshgrid(np.linspace(0, 399, 9), np.linspace(0, 299, 7))
    assert np.allclose(np.stack(lens.seen(*lens.straight(x, y))), np.stack([x, y]), atol=1e-9)
    corner = lens.straight(np.array(399.0), np.array(299.0))
    assert np.hypot(corner[0] - 199.5, corner[1] - 149.5) == pytest.approx(1.03 * lens.radius_px)


def seen_through(distortion: float, rng: np.random.Generator, cut: int = 0) -> Registration:
    """A grid of dots on a panel of 300 × 220 pixels as a lens shows it, found to 0.02 px; some are cut off."""
    x, y = (part.ravel() for part in np.meshgrid(np.linspace(15, 285, 9), np.linspace(15, 205, 7)))
    ideal = np.column_stack([x, y, np.ones(63)]) @ HOMOGRAPHY.T
    found = np.stack(Lens.over(SENSOR, distortion).seen(*(ideal[:, :2] / ideal[:, 2:]).T), axis=1)
    found += 0.02 * rng.standard_normal(found.shape)
    found[:cut, 1] += 1.5
    return Registration("slm", HOMOGRAPHY, np.column_stack([x, y]), found, 0 * found, "homography", 0.0)


@pytest.mark.parametrize("distortion", [0.02, -0.02, 0.002])
def test_distortion_of_the_lens_is_found_and_mapped(distortion: float) -> None:
    both = {panel: seen_through(distortion, np.random.default_rng(k)) for k, panel in enumerate(("slm", "display"))}
    found = through_lens(both, SENSOR)
    assert found["slm"].lens == found["display"].lens
    assert found["slm"].lens.distortion == pytest.approx(distortion, abs=5e-4)
    assert found["slm"].rms_px < 0.03


def test_lens_without_distortion_gets_none_but_for_one_in_a_hundred() -> None:
    bent = [
        through_lens({"slm": seen_through(0.0, np.random.default_rng(seed))}, SENSOR)["slm"].lens.distortion != 0
        for seed in range(60)
    ]
    assert sum(bent) <= 4  # of 60 at 1 %: more has a probability of 4e-4


def test_dots_that_another_edge_cuts_off_are_left_out_of_the_map() -> None:
    found = through_lens({"slm": seen_through(0.01, np.random.default_rng(1), cut=9)}, SENSOR)["slm"]
    assert len(found.points_px) == 54
    assert found.rms_px < 0.03


def test_useless_pixels_count_in_no_region() -> None:
    layout, useless = Layout((200, 300), 8, 8, 6, 8, 4, 4), np.zeros(SENSOR, np.bool_)
    straight = np.array([[1.0, 0, 20], [0, 1.0, 20], [0, 0, 1]])
    whole = camera_regions(layout, straight, SENSOR)
    x, y, width, _ = whole.window
    pixel = int(whole.weights[3].indices[5])
    useless[y + pixel // width, x + pixel % width] = True
    less = camera_regions(layout, straight, SENSOR, useless=useless)
    assert whole.weights[:, pixel].sum() == pytest.approx(1.0)
    assert less.weights[:, pixel].nnz == 0
    assert less.area_px.sum() == pytest.approx(whole.area_px.sum() - 1)


@pytest.mark.parametrize(("bits", "shift", "declared"), [(12, 4, 16), (10, 2, 12), (12, 4, 12)])
def test_left_aligned_data_are_called_so(bits: int, shift: int, declared: int) -> None:
    level = 100 * 2 ** (bits - 10)
    frames = np.random.default_rng(1).normal(level, 5, (8, 40, 50)).round().astype(np.uint16) << shift
    with pytest.raises(BadScan, match="left-aligned"):
        fit_dark(frames, 2**declared - 1)


def test_camera_whose_rounding_is_not_noise_is_told_from_one_where_it_is() -> None:
    rng = np.random.default_rng(2)
    coarse, fine = (rng.normal(8, noise, (16, 60, 60)).round().astype(np.uint16) for noise in (0.15, 0.6))
    assert "less than rounding" in fit_dark(coarse, 255).rounding
    assert fit_dark(fine, 255).rounding == ""


def test_bright_pixels_at_one_number_are_clipped_and_bright_pixels_that_differ_are_not() -> None:
    bright = np.random.default_rng(3).normal(1000, 25, (60, 60)).round().astype(np.uint16)
    require_unclipped(bright, 4095)
    require_unclipped(np.minimum(bright, 4095), 1023)  # a camera that says where it ends is the node timing's business
    with pytest.raises(Saturated, match="pile up at 980 DN"):
        require_unclipped(np.minimum(bright, 980), 4095)


def test_curve_that_falls_again_is_folded_and_one_that_is_flat_at_its_end_is_not() -> None:
    drive = np.linspace(0, 1, 256)
    rng = np.random.default_rng(4)
    for reach, folded in ((1.3, True), (1.0, False), (1.05, False)):
        light = 1e5 * (0.01 + 0.99 * np.sin(np.pi / 2 * reach * drive) ** 2) + 50 * rng.standard_normal(256)
        if folded:
            with pytest.raises(BadScan, match="the slm is folded: its light rises up to gray 19"):
                fit_lut(light, np.full(256, 2500.0), 0.0, "slm")
        else:
            assert fit_lut(light, np.full(256, 2500.0), 0.0, "slm").levels == 256


@pytest.mark.parametrize("tau_s", everyday([1e-5, 1e-4, 3e-4], 0))
def test_time_constant_of_a_very_fast_panel_is_not_biased_upward(tau_s: float) -> None:
    """The mean light of each exposure in closed form, with 0.05 % of flicker; the truth lies within the error."""
    exposure_s, period_s, latency_s = 0.010, 1 / 60, 0.008
    after = np.arange(14) * period_s - latency_s
    begin, end = np.maximum(after, 0), np.maximum(after + exposure_s, 0)
    left = (np.clip(-after, 0, exposure_s) + tau_s * (np.exp(-begin / tau_s) - np.exp(-end / tau_s))) / exposure_s
    light = 1e7 * (1.02 - np.concatenate([np.ones(BEFORE), left]))
    found = [
        fit_step(Step(light * (1 + 5e-4 * np.random.default_rng(s).standard_normal(18)), exposure_s, period_s), "slm")
        for s in range(12)
    ]
    assert np.median([fit.tau_s for fit in found]) < 3e-4 + tau_s
    assert sum(fit.tau_s - fit.tau_stderr_s <= tau_s <= fit.tau_s + 2 * fit.tau_stderr_s for fit in found) >= 11


def test_noise_of_a_single_output_is_fitted() -> None:
    truth = bench((1, 16), read=20.0, shot=0.5, flicker=0.0)
    scan = noise_scan(truth.shape, ProbePlan(noise_repeats=64))
    noise = fit_noise(truth.read_scan(scan, np.random.default_rng(5)), truth.display[0]).noise
    assert np.isfinite([noise.read_dn, noise.shot_dn, noise.flicker]).all()
    light = truth.light(np.full((1, 16), 255), np.full(16, 255)).ravel()
    assert noise.variance(light) == pytest.approx(400 + 0.5 * light, rel=0.5)


def test_scatter_of_the_figures_knows_how_many_values_there_are() -> None:
    """χ² of n values scatters by √(2/n): of 47 products of 24 outputs by 0.042."""
    error = np.random.default_rng(6).standard_normal((47, 24))
    exact = np.linspace(-5, 5, error.size).reshape(error.shape)
    found = validate([ProductResult(0, exact + error, exact, exact, np.ones_like(error), 0 * error)], [])
    assert found.values == 47 * 24
    assert found.chi2_stderr == pytest.approx(0.0421, abs=1e-4)
    assert abs(found.chi2_per_dof - 1) < 4 * found.chi2_stderr


def test_weak_bright_and_leaking_macropixels_are_found_and_noise_is_none() -> None:
    rng = np.random.default_rng(7)
    gain = 1e4 * (1 - 0.2 * np.linspace(-1, 1, 20)[:, None] ** 2) * np.ones((20, 24)) + 50 * rng.standard_normal(
        (20, 24)
    )
    dark = 200 + 5 * rng.standard_normal((20, 24))
    assert flaws(gain, np.full_like(gain, 50.0), dark, np.full_like(dark, 5.0)) == []
    gain[3, 4] *= 0.8
    gain[12, 20] *= 1.1
    dark[9, 9] += 700
    found = flaws(gain, np.full_like(gain, 50.0), dark, np.full_like(dark, 5.0))
    assert {(f.row, f.column, f.kind) for f in found} == {(3, 4, "weak"), (12, 20, "bright"), (9, 9, "leaking")}
    assert str(found[0]).startswith("(3, 4) weak by 2")


def lit_bench(rng: np.random.Generator, stuck: dict[tuple[int, int], float]) -> tuple[np.ndarray, np.ndarray]:
    """Display-dark readings of 16 frames and the gain map of 20 × 24 macropixels, some lit by stuck display pixels."""
    profile = 1 - 0.2 * np.linspace(-1, 1, 20)[:, None] ** 2
    gain = 1e4 * profile * np.ones((20, 24)) + 50 * rng.standard_normal((20, 24))
    still = 400 * profile[:, 0] + 60 * rng.standard_normal((16, 20))
    for (row, column), share in stuck.items():
        still[:, row] += 1e4 * share
        gain[row, column] -= 1e4 * share
    return still, gain


def test_stuck_display_pixels_are_found_with_their_macropixels() -> None:
    still, gain = lit_bench(np.random.default_rng(8), {(0, 3): 0.06, (7, 23): 0.3, (19, 11): 0.12})
    found = lit_rows(still, gain, np.full_like(gain, 50.0))
    assert [(f.row, f.column, f.kind) for f in found] == [(7, 23, "lit"), (19, 11, "lit"), (0, 3, "lit")]
    assert [f.size for f in found] == pytest.approx([0.3, 0.15, 0.075], abs=0.01)  # of the gain in their row
    assert str(found[0]) == "(7, 23) lit by 30%"


def test_bench_without_stuck_display_pixels_has_no_lit_row() -> None:
    for seed in range(50):
        still, gain = lit_bench(np.random.default_rng(seed), {})
        assert lit_rows(still, gain, np.full_like(gain, 50.0)) == []


def test_light_that_no_weak_macropixel_explains_is_listed_by_its_row_alone() -> None:
    """Two macropixels are as weak as each other, or none is: the row is named and no column."""
    rng = np.random.default_rng(9)
    still, gain = lit_bench(rng, {(5, 4): 0.1})
    gain[5, 16] = gain[5, 4]
    (found,) = lit_rows(still, gain, np.full_like(gain, 50.0))
    assert (found.row, found.column) == (5, None)
    assert str(found) == "row 5 lit by 10%"
    still, gain = lit_bench(rng, {})
    still[:, 12] += 1000
    (found,) = lit_rows(still, gain, np.full_like(gain, 50.0))
    assert (found.row, found.column) == (12, None)
