"""What must hold on any bench: energy, darkness, linearity in time, and the place of the image."""

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from drivers.protocols import Roi
from mock_hardware import BenchConfig, MockBench
from mock_hardware.config import DISPLAY, SLM, CameraConfig, DriftConfig, OpticsConfig, SourceConfig
from mock_hardware.geometry import distorted, panel_to_camera
from mock_hardware.truth import expected_electrons

ROWS, COLS = 60, 80
SENSOR = Roi(0, 0, 100, 76)


def real(low, high):
    return st.floats(low, high, allow_nan=False)


@st.composite
def panels(draw, base):
    return replace(
        base,
        rows=ROWS,
        cols=COLS,
        gamma=draw(real(0.5, 3)),
        floor=draw(real(0, 0.1)),
        s_shape=draw(real(0, 1)),
        fringing=draw(st.sampled_from([0.0, 0.2])),
        uniformity_rms=draw(st.sampled_from([0.0, 0.02])),
        dead_fraction=draw(st.sampled_from([0.0, 0.01])),
        magnification=draw(real(0.7, 1.1)),
        rotation_deg=draw(real(-10, 10)),
        offset_x_px=draw(real(-5, 5)),
        offset_y_px=draw(real(-5, 5)),
        keystone_x=draw(real(-0.03, 0.03)),
        keystone_y=draw(real(-0.03, 0.03)),
    )


@st.composite
def benches(draw):
    optics = OpticsConfig(
        beam_radius_px=draw(real(40, 1e4)),
        display_psf_px=draw(real(0, 1.5)),
        camera_psf_px=draw(real(0, 1.5)),
        camera_psf_growth_px2=draw(st.sampled_from([0.0, 0.3])),
        distortion=draw(real(-0.02, 0.02)),
        stray_fraction=0.0,
        ambient_e_per_s=0.0,
    )
    camera = CameraConfig(
        rows=SENSOR.height, cols=SENSOR.width, prnu=draw(st.sampled_from([0.0, 0.01])), dark_current_e_per_s=0.0
    )
    return BenchConfig(
        seed=draw(st.integers(0, 1000)),
        threads=1,
        slm=draw(panels(SLM)),
        display=draw(panels(DISPLAY)),
        source=SourceConfig(rin_rms=0.0),
        optics=optics,
        camera=camera,
    )


def frames(seed):
    return np.random.default_rng(seed).integers(0, 256, (2, ROWS, COLS), dtype=np.uint8)


ANY = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@ANY
@given(benches())
def test_no_photons_come_from_nowhere(config):
    """The sensor gets no more than the SLM lets through of a display fully on, and no pixel more than the brightest."""
    bench = MockBench(config)
    display, slm = frames(config.seed)
    light = bench.optics.light(bench.display.settled(display), bench.slm.settled(slm), SENSOR).astype(float)
    top = np.float32(1) * bench.optics.slm.uniformity.max() * bench.optics.display.uniformity.max()
    assert light.min() >= 0
    assert light.max() <= top * (1 + 1e-4)
    transmitted = bench.optics.slm.image(bench.slm.settled(slm), (0, 0, ROWS, COLS)).astype(float).sum()
    scale = np.abs(np.linalg.det(panel_to_camera(config.slm, config.camera)))
    margin = 1.35  # by keystone and distortion the area of a pixel differs over the panel
    assert light.sum() <= margin * scale * transmitted * bench.optics.display.uniformity.max()


@ANY
@given(benches())
def test_blur_moves_light_and_neither_makes_nor_loses_any(config):
    """With the whole image well inside the sensor."""
    config = replace(
        config,
        slm=replace(config.slm, magnification=0.6, offset_x_px=0.0, offset_y_px=0.0),
        display=replace(config.display, floor=0.0),
    )
    sharp = replace(config, optics=replace(config.optics, camera_psf_px=0.0, camera_psf_growth_px2=0.0))
    display, slm = frames(config.seed)
    sums = []
    for one in (config, sharp):
        bench = MockBench(one)
        light = bench.optics.light(bench.display.settled(display), bench.slm.settled(slm), SENSOR)
        sums.append(light.sum(dtype=np.float64))
    assert np.isclose(*sums, rtol=2e-4)


@ANY
@given(benches(), st.booleans())
def test_all_dark_is_dark(config, panels_off):
    """A source that is off, or panels without floor that are off."""
    if panels_off:
        config = replace(config, slm=replace(config.slm, floor=0.0), display=replace(config.display, floor=0.0))
    bench = MockBench(config)
    bench.is_lit = panels_off
    levels = np.zeros((ROWS, COLS), np.uint8) if panels_off else np.full((ROWS, COLS), 255, np.uint8)
    bench.display.show(levels, 0.0)
    bench.slm.show(levels, 0.0)
    bench.pass_frames(10)
    dn = bench.expose(SENSOR).dn.astype(float)
    assert abs(dn.mean() - 100) < 5 * np.sqrt((16 * 4 + 1 / 12) / dn.size)
    assert not expected_electrons(bench, levels, levels, SENSOR, source_on=panels_off).any()


@ANY
@given(benches())
def test_doubling_the_exposure_doubles_the_electrons(config):
    bench = MockBench(config)
    display, slm = frames(config.seed)
    once = expected_electrons(bench, display, slm, SENSOR)
    bench.exposure_s *= 2
    assert np.allclose(expected_electrons(bench, display, slm, SENSOR), 2 * once)


@ANY
@given(benches(), st.integers(20, COLS - 21), st.integers(20, ROWS - 21))
def test_image_lies_where_the_homography_says_and_moves_with_the_mirror(config, x, y):
    config = replace(
        config,
        slm=replace(config.slm, floor=0.0, dead_fraction=0.0, uniformity_rms=0.0, magnification=1.05),
        display=replace(config.display, uniformity_rms=0.0, dead_fraction=0.0),
        optics=replace(config.optics, beam_radius_px=1e6, camera_psf_growth_px2=0.0, display_psf_px=0.0),
        camera=replace(config.camera, prnu=0.0),
        drift=DriftConfig(knock_at_s=1.0, knock_x_px=2.25, knock_y_px=-1.6),
    )
    bench = MockBench(config)
    spot = np.zeros((ROWS, COLS), np.uint8)
    spot[y - 1 : y + 2, x - 1 : x + 2] = 255
    on = np.full((ROWS, COLS), 255, np.uint8)

    def place():
        return np.array(ndimage.center_of_mass(expected_electrons(bench, on, spot, SENSOR))[::-1])

    point = panel_to_camera(config.slm, config.camera) @ (x, y, 1)
    there = distorted(point[:2] / point[2], config.camera, config.optics.distortion)
    before = place()
    assert np.allclose(before, there, atol=0.05)
    bench.clock_s = 1.0
    assert np.allclose(place() - before, (2.25, -1.6), atol=0.02)
