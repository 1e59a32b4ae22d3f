"""What is judged by few values has limits as wide as they scatter, and a step is kept only where it gains."""

import re
from dataclasses import replace

import numpy as np
import pytest
from cal_bench import Bench, bench

from calibration.bench.lut_fit import LutFit
from calibration.fit.channel import ChannelFit, fit_channel
from calibration.frames.probes import ProbePlan, crosstalk_scan, gain_scan, holdout_scan, noise_scan
from calibration.frames.scan import Readings
from calibration.frames.schedule import ProductResult
from calibration.judge.validation import validate
from labctl.nodes.couplings import _choice
from labctl.nodes.validation import _judged
from labctl.station.model import Limits
from labctl.summary import Metric


def metrics_of(products: int, outputs: int, chi2: float, gain_dn: np.ndarray, noise: float = 1.0) -> list[Metric]:
    """What is judged of products whose χ² is exactly this; ``noise`` in a range of ten."""
    error = np.random.default_rng(6).standard_normal((products, outputs))
    error *= np.sqrt(chi2 / np.mean(error**2))
    exact = np.linspace(-5, 5, error.size).reshape(error.shape)
    variance = np.full_like(error, noise**2)
    found = validate([ProductResult(0, exact + noise * error, exact, exact, variance, 0 * variance)], [])
    return _judged(found, [], np.zeros(products), np.ones(products, np.bool_), Limits(), "", gain_dn)


def judged(products: int, outputs: int, chi2: float) -> dict[str, str]:
    """Verdicts by name."""
    return {metric.name: metric.verdict for metric in metrics_of(products, outputs, chi2, np.ones((outputs, 4)))}


@pytest.mark.parametrize(
    ("products", "outputs", "chi2", "verdict"),
    [
        (47, 12, 0.852, "ok"),  # 564 values: χ² scatters by 0.06
        (47, 128, 0.852, "out_of_spec"),  # 6016 values: by 0.018
        (30, 1, 0.5, "ok"),  # by 0.26
        (30, 1, 3.0, "out_of_spec"),
        (1000, 128, 1.12, "out_of_spec"),
        (20, 12, 1.2, "ok"),
    ],
)
def test_limits_of_chi2_know_how_many_products_there_are(products, outputs, chi2, verdict) -> None:
    assert judged(products, outputs, chi2)["chi2_per_dof"] == verdict


@pytest.mark.parametrize(
    ("share", "noise", "words"),
    [
        (0.12, 0.7, r"dimmed to macropixel \(2, 3\) with 12% of the usual light"),
        (0.12, 4.0, "too little light"),  # without it products would be as noisy as five times the limit
        (0.8, 0.7, "too little light"),
    ],
)
def test_macropixel_that_dims_all_weights_is_named_where_noise_is_due_to_it(share, noise, words) -> None:
    gain_dn = np.ones((12, 4))
    gain_dn[2, 3] = share
    (metric,) = [m for m in metrics_of(40, 12, 1.0, gain_dn, noise) if m.name == "nrmse"]
    assert metric.verdict == "out_of_spec"
    assert re.search(words, metric.words)


def fitted(seed: int) -> tuple[Bench, ChannelFit, Readings, np.random.Generator]:
    """A bench, its fit, and a scan that the fit has not seen."""
    shape, rng, plan = (8, 12), np.random.default_rng(seed), ProbePlan()
    truth = bench(shape)
    scans = {"gain": gain_scan(shape, plan), "crosstalk": crosstalk_scan(shape, plan), "noise": noise_scan(shape, plan)}
    holdout = truth.read_scan(holdout_scan(shape, plan, rng), rng)
    readings = {name: truth.read_scan(scan, rng) for name, scan in scans.items()}
    return truth, fit_channel(*truth.luts, truth.noise, readings, holdout), holdout, rng


@pytest.mark.parametrize("chosen", ["single macropixels", "common"])
def test_couplings_are_kept_only_where_held_out_frames_gain(chosen: str) -> None:
    """Of two channels one has gains that have been made wrong by 5 %: the other wins, whichever it is."""
    truth, right, holdout, rng = fitted(1)
    off = right.channel.gain_dn * (1 + 0.05 * rng.standard_normal(right.channel.shape))
    wrong = replace(right, channel=replace(right.channel, gain_dn=off))
    common, single = (right, wrong) if chosen == "common" else (wrong, right)
    choice = _choice(holdout, LutFit(*truth.luts, 0.0), (common, None), (single, None))
    assert choice.chosen == chosen
    assert ("measured, but not kept" in choice.reason) == (chosen == "common")
    assert choice.p_value < 0.01


def test_couplings_that_are_no_better_but_say_that_they_know_little_are_not_kept() -> None:
    """Large stated errors explain every residual, and cost more than they explain."""
    truth, right, holdout, _ = fitted(2)
    vague = replace(right, channel=replace(right.channel, gain_stderr_dn=0.1 * right.channel.gain_dn))
    choice = _choice(holdout, LutFit(*truth.luts, 0.0), (right, None), (vague, None))
    assert choice.chosen == "common"
