"""Tails of distributions are those of scipy.stats, which no bench command waits for."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from calibration.statistics import tails

P = np.array([1e-300, 1e-15, 1e-6, 0.025, 0.5, 0.975, 1 - 1e-12])
X = np.array([-3.0, 0.0, 1e-3, 0.5, 1.0, 7.3, 40.0, 800.0, 1e16])
DOF = np.array([[1], [2], [7], [63], [4000]])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (tails.chi2_sf(X, DOF), stats.chi2.sf(X, DOF)),
        (tails.chi2_isf(P, DOF), stats.chi2.isf(P, DOF)),
        (tails.f_sf(X, 2, DOF), stats.f.sf(X, 2, DOF)),
        (tails.t_isf(P[1:], DOF), stats.t.isf(P[1:], DOF)),
        (tails.normal_pdf(X), stats.norm.pdf(X)),
        (tails.normal_cdf(X), stats.norm.cdf(X)),
        (tails.normal_sf(X), stats.norm.sf(X)),
        (tails.normal_isf(P), stats.norm.isf(P)),
        (tails.cauchy_sf(X), stats.cauchy.sf(X)),
        ([tails.binomial_sf(k, 12, 0.02) for k in range(-1, 13)], stats.binom.sf(range(-1, 13), 12, 0.02)),
        ([tails.poisson_sf(k, 3.5) for k in range(-1, 90)], stats.poisson.sf(range(-1, 90), 3.5)),
        (tails.chi2_sf(X, 0), stats.chi2.sf(X, 0)),
        (tails.f_sf(X, 2, 0), stats.f.sf(X, 2, 0)),
    ],
    ids=[
        "chi2_sf",
        "chi2_isf",
        "f_sf",
        "t_isf",
        "normal_pdf",
        "normal_cdf",
        "normal_sf",
        "normal_isf",
        "cauchy_sf",
        "binomial_sf",
        "poisson_sf",
        "chi2_sf of nothing",
        "f_sf of nothing",
    ],
)
def test_tails_are_those_of_scipy(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=0)


def test_no_command_waits_for_scipy_stats() -> None:
    script = (
        "import sys, labctl.cli.jobs, labctl.engine.session, labctl.engine.analysis_worker, labctl.report, "
        "labctl.nodes.registry, labctl.night.charts, labctl.engine.compare, labctl.foreign.fitting, "
        "labctl.foreign.predicting; print([m for m in ('scipy.stats', 'scipy.optimize') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
