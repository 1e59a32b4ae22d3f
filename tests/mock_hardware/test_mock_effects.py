"""Each effect that is off by default, against a closed form or a direct integration."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from drivers.protocols import Roi
from mock_hardware import BenchConfig, MockBench, parse
from mock_hardware.config import DriftConfig
from mock_hardware.drift import Drift
from mock_hardware.panel import response
from mock_hardware.truth import expected_electrons

ROWS, COLS = 60, 80
ROI = Roi(0, 0, COLS, ROWS)
STRAIGHT = {"rows": ROWS, "cols": COLS, "magnification": 1.0, "rotation_deg": 0.0, "offset_x_px": 0.0}
STRAIGHT |= {"offset_y_px": 0.0, "gamma": 1.0, "floor": 0.0}
ON = np.full((ROWS, COLS), 255, np.uint8)
RNG = np.random.default_rng(0)


def bench(**tables):
    plain = {
        "slm": STRAIGHT,
        "display": STRAIGHT,
        "camera": {"rows": ROWS, "cols": COLS, "dark_current_e_per_s": 0.0},
        "optics": {
            "beam_radius_px": 1e6,
            "display_psf_px": 0.0,
            "camera_psf_px": 0.0,
            "stray_fraction": 0.0,
            "ambient_e_per_s": 0.0,
        },
        "source": {"peak_electrons": 1.0, "rin_rms": 0.0},
    }
    merged = {key: {**plain.get(key, {}), **tables.get(key, {})} for key in {*plain, *tables}}
    return MockBench(parse(merged))


def light(bench, slm=ON, display=ON):
    return expected_electrons(bench, display, slm, ROI)


def test_s_shape_is_the_transmission_between_crossed_polarisers():
    config = replace(BenchConfig().slm, s_shape=1.0, gamma=1.0, floor=0.0)
    drive = np.arange(256) / 255
    assert response(config) == pytest.approx(np.sin(np.pi / 2 * drive) ** 2, abs=1e-6)


def test_fringing_mixes_the_drives_of_neighbours_before_the_response():
    levels = RNG.integers(0, 256, (ROWS, COLS), dtype=np.uint8)
    here = bench(slm={"fringing": 0.2, "gamma": 2.0})
    cross = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]) / 4
    drive = 0.8 * levels + 0.2 * ndimage.convolve(levels.astype(float), cross, mode="nearest")
    assert light(here, levels) == pytest.approx((drive / 255) ** 2, abs=2e-3)  # a sixteenth of a level


def test_dead_and_stuck_pixels_stay_what_they_are():
    here = bench(slm={"dead_fraction": 0.02, "stuck_fraction": 0.02})
    on, off = light(here), light(here, 0 * ON)
    dead, stuck = here.optics.slm.dead, here.optics.slm.stuck
    alive = np.setdiff1d(dead, stuck)
    assert np.count_nonzero(on.ravel() < 0.5) == alive.size > 50
    assert not on.ravel()[alive].any()
    assert set(np.flatnonzero(off > 0.5)) == set(stuck)


def test_uniformity_is_a_fixed_pattern_of_its_size():
    assert light(bench(slm={"uniformity_rms": 0.03})).std() == pytest.approx(0.03, rel=4.5 / np.sqrt(2 * ROWS * COLS))


@pytest.mark.parametrize("row_time_s", [0.0, 5e-5])
def test_flicker_is_the_mean_over_the_exposure_of_each_row(row_time_s):
    here = bench(
        display={"flicker_depth": 0.3, "flicker_hz": 130.0},
        slm={"flicker_depth": 0.2, "flicker_hz": 87.0},
        camera={"row_time_s": row_time_s},
    )
    here.exposure_s = 0.004
    t = 0.0123 + row_time_s * np.arange(ROWS)[:, None] + (np.arange(4000) + 0.5) * 1e-6
    both = (1 - 0.3 * np.sin(np.pi * 130 * t) ** 2) * (1 - 0.2 * np.sin(np.pi * 87 * t) ** 2)
    assert here.flicker(0.0123, ROI) == pytest.approx(both.mean(axis=1), abs=1e-6)


def test_point_spread_function_grows_towards_the_corners():
    here = bench(optics={"camera_psf_px": 0.8, "camera_psf_growth_px2": 0.4})
    for y, x in ((30, 40), (30, 70), (8, 8)):
        spot = np.zeros((ROWS, COLS), np.uint8)
        spot[y, x] = 255
        image = light(here, spot)
        rows, cols = np.indices(image.shape)
        variance = (image * (cols - x) ** 2).sum() / image.sum()
        field2 = ((x - 39.5) ** 2 + (y - 29.5) ** 2) / (39.5**2 + 29.5**2)
        assert image.sum() == pytest.approx(1.0, abs=1e-4)
        assert variance == pytest.approx(0.64 + 0.4 * field2, abs=0.005)
        assert (image * (rows - y)).sum() == pytest.approx(0, abs=1e-4)


def test_barrel_distortion_draws_the_corners_in():
    spot = np.zeros((ROWS, COLS), np.uint8)
    spot[5:8, 5:8] = 255
    y, x = ndimage.center_of_mass(light(bench(optics={"distortion": 0.02, "camera_psf_px": 0.8}), spot))
    ideal = np.array([6 - 39.5, 6 - 29.5]) / np.hypot(39.5, 29.5)
    seen = np.array([x - 39.5, y - 29.5]) / np.hypot(39.5, 29.5)
    assert seen * (1 + 0.02 * (seen**2).sum()) == pytest.approx(ideal, abs=2e-3)
    assert np.hypot(*seen) < np.hypot(*ideal)


def test_cylinder_lens_sums_rows_as_the_camera_would():
    levels = RNG.integers(0, 256, (ROWS, COLS), dtype=np.uint8)
    summed, plain = (light(bench(optics={"row_sum_px": width}), levels) for width in (3.0, 0.0))
    assert summed.sum(axis=1) == pytest.approx(plain.sum(axis=1), rel=1e-5)
    line = summed.sum(axis=0) / summed.sum()
    x = np.arange(COLS) - 39.5
    assert (line * x).sum() == pytest.approx(0, abs=1e-6)
    assert np.sqrt((line * x**2).sum()) == pytest.approx(3.0, rel=1e-3)


def test_knock_moves_the_display_against_the_slm():
    here = bench(drift={"knock_at_s": 5.0, "knock_display_x_px": 4.0})
    levels = RNG.integers(0, 256, (ROWS, COLS), dtype=np.uint8)
    before = light(here, ON, levels)
    here.clock_s = 5.0
    assert light(here, ON, levels)[:, 4:] == pytest.approx(before[:, :-4], abs=1e-6)


def test_power_walks_as_the_root_of_time():
    drifts = [Drift(DriftConfig(power_walk_per_sqrt_s=1e-3), seed) for seed in range(300)]
    for at_s in (10.0, 1000.0):
        change = np.array([drift.power(at_s) - 1 for drift in drifts])
        assert change.std() == pytest.approx(1e-3 * np.sqrt(at_s), rel=4.5 / np.sqrt(600))


def test_power_flicker_has_a_spectrum_of_one_over_f():
    drift = Drift(DriftConfig(power_flicker_rms=0.01), 3)
    power = np.array([drift.power(t) for t in np.arange(0, 4096, 0.5)])
    assert power.std() == pytest.approx(0.01, rel=0.25)  # the slowest octave has eight steps
    density = np.abs(np.fft.rfft(power - power.mean())) ** 2
    hz = np.fft.rfftfreq(power.size, 0.5)
    octaves = [density[(hz >= low) & (hz < 2 * low)].mean() for low in 2.0 ** np.arange(-8, -1)]
    slope = np.polyfit(np.arange(-8, -1), np.log2(octaves), 1)[0]
    assert slope == pytest.approx(-1, abs=0.25)


def test_drift_is_the_same_however_it_is_asked():
    config = DriftConfig(power_walk_per_sqrt_s=1e-3, power_flicker_rms=1e-3, pointing_walk_px_per_sqrt_s=0.1)
    often, once = Drift(config, 7), Drift(config, 7)
    for t in np.linspace(0, 900, 50):
        often.power(t), often.pointing(t)
    assert often.power(900.0) == once.power(900.0)
    assert often.pointing(900.0) == once.pointing(900.0)
    assert Drift(config, 8).pointing(900.0) != once.pointing(900.0)


def test_only_what_changed_is_computed(monkeypatch):
    """A weight-stationary schedule: a new display frame does not warp the SLM again."""
    from mock_hardware import kernels

    here = bench()
    warped = []
    warp = kernels.warp
    monkeypatch.setattr(kernels, "warp", lambda *args: (warped.append(1), warp(*args))[1])
    here.pass_frames(100)
    here.expose(ROI)
    first = len(warped)
    here.display.show(0 * ON, here.clock_s)
    here.expose(ROI)
    here.pass_frames(100)
    here.expose(ROI)
    second = len(warped)
    here.expose(ROI)
    threads = first / 2  # two panels the first time
    assert (second - first) / threads == 2  # the display, during and after its transition
    assert len(warped) == second  # nothing changed: nothing computed
