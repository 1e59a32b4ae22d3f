"""Liquid-crystal settling against a direct integration of its equation, and the frames it spoils."""

from dataclasses import replace

import numpy as np
import pytest

from drivers.protocols import Roi
from mock_hardware import MockBench, parse
from mock_hardware.camera import MockCamera
from mock_hardware.config import SLM
from mock_hardware.devices import MockDisplay, MockSlm
from mock_hardware.panel import Panel

TAU_S, TICK_S = SLM.tau_s, 1 / 60
STRAIGHT = {"magnification": 1.0, "rotation_deg": 0.0, "offset_x_px": 0.0, "offset_y_px": 0.0}
PLAIN = {
    "slm": {"rows": 64, "cols": 64, **STRAIGHT},
    "display": {"rows": 64, "cols": 64, **STRAIGHT},
    "camera": {"rows": 64, "cols": 64},
    "optics": {"beam_radius_px": 1e6, "display_psf_px": 0.0, "camera_psf_px": 0.0},
}
BRIGHT = np.full((SLM.rows, SLM.cols), 255, np.uint8)


def weights(seen):
    """Share of each image in the exposure of the first row, where all pixels become brighter."""
    share, to_come, _, left, _ = seen.factors[:, :, 0].T.astype(float)
    state = np.eye(len(seen.shown))[0]  # of what the pixel is made at the start of each segment
    total = (1 - share.sum()) * state
    for k in range(len(share)):
        target = np.eye(len(seen.shown))[k + 1]
        total = total + share[k] * target + to_come[k] * (state - target)
        state = target + left[k] * (state - target)
    return {shown.frame_id: weight for shown, weight in zip(seen.shown, total, strict=True)}


def integrated(drive, start_s, end_s, step_s=1e-6):
    """Mean over start … end of τ ẏ = x − y, for x from ``drive``: [(since_s, value), …], y(0) = 0."""
    t = np.arange(0, end_s, step_s)
    x = np.zeros_like(t)
    for since_s, value in drive:
        x[t >= since_s - 1e-12] = value
    y, now, decay = np.empty_like(t), 0.0, np.exp(-step_s / TAU_S)
    for k in range(len(t)):
        y[k] = now + (x[k] - now) * (1 - np.exp(-step_s / 2 / TAU_S))  # in the middle of the step
        now = x[k] + (now - x[k]) * decay
    return y[t >= start_s - 1e-12].mean()


@pytest.mark.parametrize("window", [(0.0, 0.010), (0.0, 0.0005), (0.0167, 0.0267), (0.0334, 0.0434)])
def test_weight_of_the_new_image_is_the_mean_of_the_exponential(window):
    start_s, end_s = window
    panel = Panel(SLM)
    assert panel.show(BRIGHT, 0.0) == 0.0
    old = TAU_S / (end_s - start_s) * (np.exp(-start_s / TAU_S) - np.exp(-end_s / TAU_S))
    assert weights(panel.seen(start_s, end_s)) == pytest.approx({0: old, 1: 1 - old}, abs=1e-6)


def test_interrupted_transition_continues_from_where_it_was():
    panel = Panel(replace(SLM, refresh_hz=50.0))
    values = {0: 0.0, 1: 1.0, 2: 0.3, 3: 0.8}
    shown = [panel.show(BRIGHT, at_s) for at_s in (0.0, 0.001, 0.021)]
    assert shown == pytest.approx([0.0, 0.020, 0.040])
    drive = [(since_s, values[frame_id]) for frame_id, since_s in enumerate(shown, start=1)]
    for start_s, end_s in [(0.010, 0.030), (0.022, 0.050), (0.041, 0.043)]:
        mixed = sum(weight * values[frame_id] for frame_id, weight in weights(panel.seen(start_s, end_s)).items())
        assert mixed == pytest.approx(integrated(drive, start_s, end_s), abs=2e-4)  # a residue of 1e-4 is dropped


def test_frame_takes_effect_at_the_next_refresh():
    panel = Panel(SLM)
    assert panel.show(BRIGHT, 0.005) == pytest.approx(TICK_S)
    assert weights(panel.seen(0.005, 0.015)) == {0: 1.0}


def test_frame_replaced_before_its_refresh_is_never_seen():
    panel = Panel(SLM)
    panel.show(BRIGHT, 0.005)
    panel.show(BRIGHT, 0.006)
    assert set(weights(panel.seen(0.010, 0.030))) == {0, 2}


@pytest.mark.parametrize(("first", "last", "tau_s"), [(0, 255, 0.004), (255, 0, 0.012)])
def test_rise_and_fall_have_a_time_constant_each(first, last, tau_s):
    bench = MockBench(parse({**PLAIN, "slm": {**PLAIN["slm"], "fall_ratio": 3.0}}))
    for at_s, level in ((0.0, first), (1.0, last)):
        bench.slm.show(np.full((64, 64), level, np.uint8), at_s)
    display = bench.display.settled(np.full((64, 64), 255, np.uint8))
    roi = Roi(24, 24, 8, 8)
    seen = [bench.optics.light(display, bench.slm.seen(t, t + 0.002), roi).mean() for t in (0.9, 1.01, 1.9)]
    at_s = 1.01 - bench.slm.tick_s(1.0)
    to_come = tau_s / 0.002 * (np.exp(-at_s / tau_s) - np.exp(-(at_s + 0.002) / tau_s))
    assert seen[1] == pytest.approx(seen[2] + (seen[0] - seen[2]) * to_come, abs=1e-4)


def test_rolling_shutter_sees_a_new_frame_later_further_down():
    bench = MockBench(parse({**PLAIN, "camera": {"rows": 64, "cols": 64, "row_time_s": 1e-4}}))
    bench.exposure_s = 1e-4
    bench.display.show(np.full((64, 64), 255, np.uint8), 0.0)
    bench.slm.show(np.full((64, 64), 255, np.uint8), 1.0)
    light = bench.optics.light(bench.display.seen(1.0, 1.0001), bench.slm.seen(1.0, 1.0001), Roi(0, 0, 64, 64))
    rows = light[8:-8].mean(axis=1)
    at_s = 1e-4 * np.arange(8, 56)
    to_come = TAU_S / 1e-4 * (np.exp(-at_s / TAU_S) - np.exp(-(at_s + 1e-4) / TAU_S))
    assert rows == pytest.approx(1 - 0.98 * to_come, abs=1e-4)  # floor 0.02


def test_settled_panel_shows_the_new_image_only():
    panel = Panel(SLM)
    panel.show(BRIGHT, 0.0)
    assert weights(panel.seen(12 * TAU_S, 12 * TAU_S + 0.01)) == {1: 1.0}


def test_shown_levels_are_copied():
    panel = Panel(SLM)
    levels = BRIGHT.copy()
    panel.show(levels, 0.0)
    levels[:] = 0
    assert panel.seen(1.0, 1.1).shown[0].levels.min() == 255


@pytest.mark.parametrize(("skip", "exact"), [(0, False), (4, True)])
def test_frame_right_after_show_is_wrong_and_a_settled_one_right(skip, exact):
    bench = MockBench(parse({"source": {"rin_rms": 0.0}}))
    slm, display, camera = MockSlm("slm", bench), MockDisplay("display", bench), MockCamera("camera", bench)
    camera.roi = Roi(600, 500, 200, 200)
    for panel in (display, slm):
        panel.show(BRIGHT)
    camera.arm(1, skip=10)
    bright = camera.fetch(1.0).frames.mean() - 103.2  # black level + K (ambient + dark current + stray)
    slm.blank()
    camera.arm(1, skip=skip)
    seen = (camera.fetch(1.0).frames.mean() - 103.2) / bright
    old = 0.0 if exact else TAU_S / 0.010 * (1 - np.exp(-0.010 / TAU_S))
    assert seen == pytest.approx(old + (1 - old) * 0.02, abs=0.002)
