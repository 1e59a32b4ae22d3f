"""Node *timing* on step responses that are given: the station's settle frames against those that are needed."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.bench.timing import BEFORE
from calibration.errors import BadScan
from labctl.nodes.evidence import Evidence, PanelSteps
from labctl.nodes.node import Results, Setting
from labctl.nodes.timing import TIMING_NODE
from labctl.station.loading import load_station

EXPOSURE_S = PERIOD_S = 0.010
REFRESH_HZ = 60.0


def steps(tau_s: float) -> PanelSteps:
    """A panel that steps at once: what is left of the step, averaged over each exposure in closed form."""
    at = np.arange(14) * PERIOD_S
    after = tau_s / EXPOSURE_S * (np.exp(-at / tau_s) - np.exp(-(at + EXPOSURE_S) / tau_s))
    left = np.concatenate([np.ones(BEFORE), after])
    ripple = 1 + 5e-4 * np.random.default_rng(1).standard_normal((2, 18))
    return PanelSteps(1e7 * (1 - left) * ripple[0], 1e7 * left * ripple[1], EXPOSURE_S, PERIOD_S, REFRESH_HZ)


def timing_of(evidence: Evidence, metrics: list):
    return TIMING_NODE.analyse(evidence, Results(), Setting.on(load_station().station), metrics)


def needed(slm_tau_s: float):
    metrics = []
    timing_of(Evidence(steps={"slm": steps(slm_tau_s), "display": steps(0.001)}), metrics)
    return {metric.name: metric for metric in metrics}


def test_a_fast_slm_needs_no_more_frames_than_the_station_waits():
    metric = needed(0.003)["slm_settle_frames_needed"]
    assert metric.value <= load_station().station.acquisition.slm_settle_frames


def test_a_slow_slm_shows_the_number_to_set():
    metrics = needed(0.020)
    metric = metrics["slm_settle_frames_needed"]
    assert metric.value > load_station().station.acquisition.slm_settle_frames
    left = 2.0 * (np.exp(-(metric.value * PERIOD_S - 1 / REFRESH_HZ) / 0.020)) * (1 - np.exp(-0.5))
    assert left < 0.002 < left * np.exp(0.5) * 1.02  # enough, and one frame fewer would not be
    assert metrics["slm_fall_tau"].value == pytest.approx(0.020, rel=0.02)


def test_a_run_from_before_steps_were_measured_has_no_timing():
    metrics = []
    assert timing_of(Evidence(), metrics) == {}
    assert metrics == []


def test_a_panel_that_did_not_step_is_bad_data():
    still = PanelSteps(np.full(18, 1e7), np.full(18, 1e7), EXPOSURE_S, PERIOD_S, REFRESH_HZ)
    with pytest.raises(BadScan, match="slm"):
        timing_of(Evidence(steps={"slm": still}), [])
