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
        (tails.normal_sf(X), stats.norm.sf(X)),
        (tails.normal_isf(P), stats.norm.isf(P)),
        (tails.cauchy_sf(X), stats.cauchy.sf(X)),
    ],
    ids=["chi2_sf", "chi2_isf", "f_sf", "t_isf", "normal_pdf", "normal_sf", "normal_isf", "cauchy_sf"],
)
def test_tails_are_those_of_scipy(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=0)


def test_no_bench_command_waits_for_scipy_stats() -> None:
    script = (
        "import sys, labctl.cli.jobs, labctl.engine.session, labctl.engine.analysis_worker, labctl.report, "
        "labctl.nodes.registry, labctl.night.charts; print('scipy.stats' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
