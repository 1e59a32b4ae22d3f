"""Where light falls and how much of it: against the affine map, closed forms, and shifts known beforehand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from drivers.protocols import Roi
from mock_hardware import MockBench, parse
from mock_hardware.optics import panel_to_camera
from mock_hardware.truth import expected_dn, expected_electrons, truth, variance_dn2

STRAIGHT = {"magnification": 1.0, "rotation_deg": 0.0, "offset_x_px": 0.0, "offset_y_px": 0.0}
SMALL = {
    "slm": {"rows": 120, "cols": 160, **STRAIGHT},
    "display": {"rows": 120, "cols": 160, **STRAIGHT},
    "camera": {"rows": 140, "cols": 180},
    "optics": {"stray_fraction": 0.0, "ambient_e_per_s": 0.0},
}
FULL = np.full((120, 160), 255, np.uint8)
SENSOR = Roi(0, 0, 180, 140)


def bench(**tables):
    merged = {key: {**SMALL.get(key, {}), **tables.get(key, {})} for key in {*SMALL, *tables}}
    return MockBench(parse(merged))


def light(bench, display=FULL, slm=FULL, roi=SENSOR):
    """Expected electrons without dark current."""
    return expected_electrons(bench, display, slm, roi) - expected_electrons(bench, display, slm, roi, source_on=False)


def test_brightest_pixel_has_peak_electrons():
    assert light(bench()).max() == pytest.approx(250.0, rel=1e-3)


def test_illumination_leaves_seven_tenths_in_the_corners_of_the_default_panel():
    default = MockBench()
    full = np.full((1024, 1280), 255, np.uint8)
    corners = np.linalg.inv(panel_to_camera(default.config.slm, default.config.camera))  # camera → SLM
    image = light(default, full, full, Roi(0, 0, 1380, 1100))
    for x, y in [(20, 20), (1260, 20), (20, 1004), (1260, 1004)]:
        at = np.linalg.solve(corners, [x, y, 1])
        assert image[round(at[1]), round(at[0])] / 250 == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize("panel", ["slm", "display"])
def test_bright_square_lands_where_the_affine_map_says(panel):
    place = {"magnification": 1.02, "rotation_deg": 3.0, "offset_x_px": 4.3, "offset_y_px": -2.6}
    there = bench(**{panel: {**place, "floor": 0.0}, "optics": {**SMALL["optics"], "beam_radius_px": 1e6}})
    spot = np.zeros_like(FULL)
    spot[30:35, 110:117] = 255  # centre at x = 113, y = 32
    image = light(there, **{panel: spot})
    x, y, _ = np.array(truth(there)[f"{panel}_to_camera"]) @ (113, 32, 1)
    assert ndimage.center_of_mass(image)[::-1] == pytest.approx((x, y), abs=0.01)
    turn = np.radians(3.0)
    dx, dy = 113 - 79.5, 32 - 59.5
    assert x == pytest.approx(89.5 + 4.3 + 1.02 * (np.cos(turn) * dx - np.sin(turn) * dy))
    assert y == pytest.approx(69.5 - 2.6 + 1.02 * (np.sin(turn) * dx + np.cos(turn) * dy))


def test_shifting_the_slm_shifts_its_image():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, FULL.shape, dtype=np.uint8)
    still, moved = bench(), bench(slm={"offset_x_px": 5.0, "offset_y_px": -3.0})
    inside = Roi(30, 30, 120, 80)
    shifted = Roi(35, 27, 120, 80)
    assert light(moved, slm=levels, roi=shifted) == pytest.approx(light(still, slm=levels, roi=inside), abs=1e-3)


@pytest.mark.parametrize("psf", [{"camera_psf_px": 2.0}, {"display_psf_px": 2.0}, {"camera_psf_px": 0.0}])
def test_blur_keeps_energy_in_the_interior(psf):
    rng = np.random.default_rng(1)
    display = np.zeros_like(FULL)
    display[40:80, 50:110] = rng.integers(0, 256, (40, 60))
    flat = {**SMALL["optics"], "beam_radius_px": 1e6}
    black = {"floor": 0.0}  # or the panel's edges would lose what they spill
    reference = light(bench(display=black, optics=flat), display=display).sum()
    assert light(bench(display=black, optics={**flat, **psf}), display=display).sum() == pytest.approx(
        reference, rel=1e-4
    )


def test_camera_blur_is_the_gaussian_it_says():
    sharp = bench(optics={**SMALL["optics"], "camera_psf_px": 0.0})
    blurred = bench(optics={**SMALL["optics"], "camera_psf_px": 1.7})
    levels = np.random.default_rng(2).integers(0, 256, FULL.shape, dtype=np.uint8)
    wanted = ndimage.gaussian_filter(light(sharp, display=levels), 1.7, truncate=4.2, mode="constant")
    assert light(blurred, display=levels) == pytest.approx(wanted, abs=0.02)


def test_extinction_and_gamma_set_the_transmission():
    def level(display, slm):
        image = light(bench(), np.full_like(FULL, display), np.full_like(FULL, slm))
        return image[70, 90] / light(bench())[70, 90]

    assert level(255, 0) == pytest.approx(0.02, rel=1e-4)
    assert level(0, 255) == pytest.approx(0.004, rel=1e-4)
    assert level(255, 128) == pytest.approx(0.02 + 0.98 * (128 / 255) ** 1.8, rel=1e-4)
    assert level(128, 255) == pytest.approx(0.004 + 0.996 * (128 / 255) ** 2.2, rel=1e-4)


def test_nothing_but_stray_light_outside_the_panels():
    stray = bench(optics={**SMALL["optics"], "stray_fraction": 0.002})
    assert light(stray)[0, 0] == pytest.approx(0.002 * 250)
    assert light(bench())[0, 0] == 0


@pytest.mark.parametrize("roi", [Roi(0, 0, 40, 30), Roi(61, 43, 57, 31), Roi(140, 100, 40, 40)])
@pytest.mark.parametrize("psf_px", [0.0, 0.8])
def test_region_of_interest_is_a_crop_of_the_full_frame(roi, psf_px):
    rng = np.random.default_rng(3)
    display, slm = rng.integers(0, 256, (2, *FULL.shape), dtype=np.uint8)
    turned = bench(
        slm={"rotation_deg": 2.0},
        display={"rotation_deg": -1.5, "magnification": 1.03},
        optics={"camera_psf_px": psf_px, "display_psf_px": psf_px},
    )
    whole = light(turned, display, slm)
    crop = whole[roi.y : roi.y + roi.height, roi.x : roi.x + roi.width]
    assert light(turned, display, slm, roi) == pytest.approx(crop, abs=250 * 2e-4)  # float32 coordinates in warpAffine


def test_exposure_and_power_scale_the_light():
    one, two, dark = bench(), bench(source={"power_mw": 2.0}), bench(source={"power_mw": 0.0})
    reference = light(one)
    one.exposure_s = 0.020
    assert light(one) == pytest.approx(2 * reference)
    assert light(two) == pytest.approx(2 * reference)
    assert not light(dark).any()


def test_levels_of_deeper_panels_are_looked_up():
    deep = bench(slm={"levels": 1024})
    assert light(deep, slm=np.full(FULL.shape, 1023)) == pytest.approx(light(bench()), rel=1e-6)


def test_truth_derives_dn_and_variance():
    here = bench()
    assert expected_dn(here, np.array([250.0])) == pytest.approx(100 + 4 * 250)
    assert variance_dn2(here, np.array([250.0])) == pytest.approx(16 * (250 + 4) + 1 / 12)
    assert truth(here)["peak_photons"] == pytest.approx(250 / 0.6)
    identity = np.array(truth(bench())["display_to_slm"])
    assert identity == pytest.approx(np.eye(3), abs=1e-9)


def test_registration_of_the_default_panels_is_off_by_a_couple_of_pixels():
    config = MockBench().config
    same = replace(config.display, magnification=config.slm.magnification)
    assert panel_to_camera(same, config.camera) != pytest.approx(panel_to_camera(config.slm, config.camera), abs=1.0)
