"""The gate of a response: paired on held-out rows, in standard errors, by the rule of every other calibration."""

from dataclasses import replace

import numpy as np
from somebodys_bench import bench

from calibration.response.fit import fit_response


def test_an_improvement_inside_the_errors_is_fresher_and_replaces():
    worse_in_bare_numbers = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        b = bench(rng, per_output=0.05, per_input=0.05)
        gate = fit_response(b.observe(rng, 300), previous=fit_response(b.observe(rng, 300)).response).gate
        assert gate.applied
        assert gate.reason.startswith("equal within errors, and fresher: held-out rms error [% of range] ")
        worse_in_bare_numbers += np.nanmean(gate.rms_percent_of_range) > np.nanmean(gate.previous_percent_of_range)
    assert worse_in_bare_numbers  # two fits of one bench differ by chance: that is no reason to keep the older


def test_a_response_that_predicts_worse_beyond_its_errors_does_not_replace():
    rng = np.random.default_rng(14)
    b = bench(rng, single=0.1, photons=1e6)
    good = fit_response(b.observe(rng, 500)).response
    gate = fit_response(b.observe(rng, 20), previous=good).gate
    assert not gate.applied
    assert gate.reason.startswith("predicts worse: ")
    assert gate.reason.endswith(" stays")
    assert "(paired difference of −2 log L -" in gate.reason


def test_a_bench_that_has_changed_gets_its_new_response():
    rng = np.random.default_rng(15)
    b = bench(rng, per_output=0.05, per_input=0.05)
    turned = replace(b, gain=b.gain * (1 + 0.05 * rng.standard_normal(b.gain.shape)))
    gate = fit_response(turned.observe(rng, 300), previous=fit_response(b.observe(rng, 300)).response).gate
    assert gate.applied
    assert gate.reason.startswith("held-out rms error")


def test_without_a_response_before_it_a_fit_is_compared_with_a_line():
    rng = np.random.default_rng(16)
    line = fit_response(bench(rng, per_output=0.1).observe(rng, 300)).gate
    assert line.applied
    assert line.reason.endswith("the bench is a line per output")
    richer = fit_response(bench(rng, per_input=0.2).observe(rng, 300)).gate
    assert richer.applied
    assert np.nanmean(richer.rms_percent_of_range) < np.nanmean(richer.line_percent_of_range)
