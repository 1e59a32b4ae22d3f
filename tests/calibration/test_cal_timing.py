"""Step responses against an exposure integrated by brute force."""

import re

import numpy as np
import pytest

from calibration.bench.step_likelihood import missing, settled_s
from calibration.bench.timing import BEFORE, Step, fit_step
from calibration.errors import BadScan


def camera(latency, tau, start, end, n=18, exposure=0.01, period=0.012, rng=None, flicker=0.002):
    """Frames of a panel that relaxes exponentially: each the mean of 4000 instants."""
    t = (np.arange(n) - BEFORE)[:, None] * period + (np.arange(4000) + 0.5) / 4000 * exposure
    left = np.where(t < latency, 1.0, np.exp(-np.maximum(t - latency, 0) / tau))
    light = (end + (start - end) * left).mean(axis=1)
    if rng is not None:
        light = light * (1 + flicker * rng.standard_normal(n))
    return Step(light, exposure, period)


@pytest.mark.parametrize(("start", "end"), [(100.0, 5000.0), (5000.0, 100.0)])
def test_latency_and_time_constant_are_found_exactly_without_noise(start, end):
    found = fit_step(camera(0.007, 0.015, start, end), "slm")
    assert found.tau_s == pytest.approx(0.015, rel=1e-3)
    assert found.latency_s == pytest.approx(0.007, abs=1e-5)


def test_errors_are_as_large_as_stated_where_both_are_told():
    """Of 40 fits the rms z has a standard error of 11 %; Student's t of 13 degrees of freedom has an rms of 1.09."""
    rng = np.random.default_rng(4)
    fits = [fit_step(camera(0.006, 0.02, 0.0, 1e6, rng=rng), "slm") for _ in range(40)]
    z = np.array([[(f.tau_s - 0.02) / f.tau_stderr_s, (f.latency_s - 0.006) / f.latency_stderr_s] for f in fits])
    assert np.sqrt((z**2).mean(axis=0)) == pytest.approx([1.09, 1.09], abs=0.33)


@pytest.mark.parametrize("exposure", [0.1, 0.6, 1.0])
@pytest.mark.parametrize("is_flicker", [True, False])
def test_what_is_true_lies_in_what_is_reported_where_latency_and_time_constant_trade(exposure, is_flicker):
    """Steps of which 0 to 3 exposures see anything, in units of the period: 18 pairs, each once.

    Each of four ranges is to hold 99 %; three or more of 18 outside have a probability of 10⁻³.
    """
    rng, outside, wild, waits = np.random.default_rng(int(10 * exposure)), np.zeros(3), 0, []
    for tau in (0.01, 0.03, 0.1, 0.2, 0.5, 1.5):
        for latency in (0.05, 0.55, 0.8):
            share = missing(np.concatenate([[-exposure] * BEFORE, np.arange(14.0)]), exposure, latency, tau)
            light = 1e5 + 9.9e6 * share if rng.random() < 0.5 else 1e7 - 9.9e6 * share
            noise = 3e-3 * (light if is_flicker else 1e7)
            fit = fit_step(Step(light + noise * rng.standard_normal(18), exposure, 1.0), "slm")
            settled = max(float(settled_s(0.002, exposure, latency, tau)), 0.0)
            pairs = ((fit.tau_range_s, tau), (fit.latency_range_s, latency), (fit.settling_range_s(0.002), settled))
            outside += [not low - 1e-9 <= truth <= high + 1e-9 for (low, high), truth in pairs]
            pulls = (fit.tau_s - tau) / fit.tau_stderr_s, (fit.latency_s - latency) / fit.latency_stderr_s
            wild += max(np.abs(pulls)) > 4
            late = settled_s(0.002, exposure, max(latency, 1.0), tau)
            waits.append(fit.settle_frames(0.002, 1.0) - (np.floor(late + 1e-9) + 1))
            assert fit.settle_frames_at_least(0.002, 1.0) <= fit.settle_frames(0.002, 1.0)
    assert (outside <= 2).all()
    assert wild <= 2
    assert sum(short < 0 for short in waits) <= 1
    assert np.median(waits) <= 1  # safe, and no longer than needed


def test_settling_is_known_where_latency_and_time_constant_are_not():
    """The exposure in which the step falls tells their sum: the next one is settled for every pair."""
    rng = np.random.default_rng(2)
    left = missing(np.concatenate([[-1.0] * BEFORE, np.arange(14.0)]), 1.0, 0.3, 0.05)
    fit = fit_step(Step(1e7 * (1.01 - left) * (1 + 1e-3 * rng.standard_normal(18)), 1.0, 1.0), "slm")
    assert fit.is_instant
    assert fit.latency_range_s[1] - fit.latency_range_s[0] > 0.1
    low, high = fit.settling_range_s(0.01)
    assert 0.3 < low < high < 0.8  # of any pair: between the frames that start at 0 and at 1
    assert fit.settle_frames(0.01, 0.0) == fit.settle_frames_at_least(0.01, 0.0) == 1


@pytest.mark.parametrize(("tau_frames", "noise"), [(20.0, 1e-4), (9.0, 0.02)])
def test_step_that_may_be_in_motion_when_the_frames_end_is_refused(tau_frames, noise):
    """14 frames do not see its end; with noise, they do not see either that it is not twice as slow."""
    left = missing(np.concatenate([[-1.0] * BEFORE, np.arange(14.0)]), 1.0, 0.4, tau_frames)
    light = 1e7 * (1.01 - left + noise * np.random.default_rng(5).standard_normal(18))
    with pytest.raises(BadScan, match="still in motion") as caught:
        fit_step(Step(light, 1.0, 1.0), "slm")
    assert "acquisition.slm_settle_frames = 28" in caught.value.hint


def test_time_constant_is_said_with_as_many_digits_as_are_known():
    assert re.fullmatch(r"τ = 15\.0+ ± \S+ ms", fit_step(camera(0.007, 0.015, 100.0, 5000.0), "slm").tau_in_words())
    assert re.fullmatch(r"τ < \S+ ms", fit_step(camera(0.0, 1e-5, 0.0, 1e6), "display").tau_in_words())


def test_settle_frames_leave_less_than_the_share_and_one_fewer_does_not():
    found = fit_step(camera(0.004, 0.015, 0.0, 1e6), "slm")
    n = found.settle_frames(0.002, latency_s=1 / 60)
    late = camera(1 / 60, found.tau_range_s[1], 1.0, 0.0, n=BEFORE + n + 1).light_dn
    assert late[-1] < 0.002 <= late[-2]


def test_a_fast_panel_needs_no_more_than_its_latency():
    assert fit_step(camera(0.0, 1e-5, 0.0, 1e6), "display").settle_frames(0.002, latency_s=1 / 60) == 2


def test_a_panel_that_does_not_step_is_bad_data():
    with pytest.raises(BadScan, match="does not follow a step"):
        fit_step(Step(1e6 + 2e3 * np.random.default_rng(1).standard_normal(18), 0.01, 0.012), "slm")


def test_what_no_frame_tells_has_an_error_as_large_as_the_time_it_took() -> None:
    """The whole step falls into one exposure: that frame tells the sum of latency and time constant only."""
    period_s, exposure_s = 1 / 60, 0.010
    light = np.array([100.0] * BEFORE + [40.0] + [10.0] * 13) * (
        1 + 1e-4 * np.random.default_rng(3).standard_normal(18)
    )
    fit = fit_step(Step(light, exposure_s, period_s), "slm")
    assert fit.is_instant
    assert 0.1 * period_s < fit.tau_range_s[1] < 0.5 * period_s  # what is left after 13 ms is below 1e-4
    assert fit.latency_range_s[1] - fit.latency_range_s[0] == pytest.approx(fit.tau_range_s[1], rel=0.1)
