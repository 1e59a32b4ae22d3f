"""Step responses against an exposure integrated by brute force."""

import numpy as np
import pytest

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


def test_errors_are_as_large_as_stated():
    """Of 60 fits the rms z has a standard error of 9 %; the linear errors of a non-linear fit are good to a fifth."""
    rng = np.random.default_rng(4)
    fits = [fit_step(camera(0.006, 0.02, 0.0, 1e6, rng=rng), "slm") for _ in range(60)]
    z = np.array([[(f.tau_s - 0.02) / f.tau_stderr_s, (f.latency_s - 0.006) / f.latency_stderr_s] for f in fits])
    assert np.sqrt((z**2).mean(axis=0)) == pytest.approx([1, 1], abs=0.45)


def test_settle_frames_leave_less_than_the_share_and_one_fewer_does_not():
    found = fit_step(camera(0.004, 0.015, 0.0, 1e6), "slm")
    n = found.settle_frames(0.002, latency_s=1 / 60)
    late = camera(1 / 60, found.tau_s + found.tau_stderr_s, 1.0, 0.0, n=BEFORE + n + 1).light_dn
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
    assert fit.tau_stderr_s > 0.1 * period_s
    assert fit.latency_stderr_s > 0.1 * period_s
