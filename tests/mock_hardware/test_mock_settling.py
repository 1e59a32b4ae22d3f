"""Liquid-crystal settling against a direct integration of its equation, and the frames it spoils."""

from dataclasses import replace

import numpy as np
import pytest

from drivers.protocols import Roi
from mock_hardware import MockBench, parse
from mock_hardware.config import SLM
from mock_hardware.devices import MockCamera, MockDisplay, MockSlm
from mock_hardware.panel import Panel

TAU_S, TICK_S = SLM.tau_s, 1 / 60
BRIGHT = np.full((SLM.rows, SLM.cols), 255, np.uint8)


def weights(terms):
    return {term.frame_id: term.weight for term in terms}


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
    assert weights(panel.terms(start_s, end_s)) == pytest.approx({0: old, 1: 1 - old})


def test_interrupted_transition_continues_from_where_it_was():
    panel = Panel(replace(SLM, refresh_hz=50.0))
    values = {0: 0.0, 1: 1.0, 2: 0.3, 3: 0.8}
    shown = [panel.show(BRIGHT, at_s) for at_s in (0.0, 0.001, 0.021)]
    assert shown == pytest.approx([0.0, 0.020, 0.040])
    drive = [(since_s, values[frame_id]) for frame_id, since_s in enumerate(shown, start=1)]
    for start_s, end_s in [(0.010, 0.030), (0.022, 0.050), (0.041, 0.043)]:
        mixed = sum(weight * values[frame_id] for frame_id, weight in weights(panel.terms(start_s, end_s)).items())
        assert mixed == pytest.approx(integrated(drive, start_s, end_s), abs=2e-5)  # a residue of 1e-5 is dropped


def test_frame_takes_effect_at_the_next_refresh():
    panel = Panel(SLM)
    assert panel.show(BRIGHT, 0.005) == pytest.approx(TICK_S)
    assert weights(panel.terms(0.005, 0.015)) == {0: 1.0}


def test_frame_replaced_before_its_refresh_is_never_seen():
    panel = Panel(SLM)
    panel.show(BRIGHT, 0.005)
    panel.show(BRIGHT, 0.006)
    assert set(weights(panel.terms(0.010, 0.030))) == {0, 2}


def test_settled_panel_shows_the_new_image_only():
    panel = Panel(SLM)
    panel.show(BRIGHT, 0.0)
    assert weights(panel.terms(12 * TAU_S, 12 * TAU_S + 0.01)) == {1: 1.0}


def test_shown_levels_are_copied():
    panel = Panel(SLM)
    levels = BRIGHT.copy()
    panel.show(levels, 0.0)
    levels[:] = 0
    assert panel.terms(1.0, 1.1)[0].levels.min() == 255


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
