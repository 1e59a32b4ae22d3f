"""Layouts with a single row or column: what can be told is fitted, and what cannot is left out by name."""

import numpy as np
import pytest
from cal_bench import bench

from calibration.fit.channel import fit_channel
from calibration.fit.full import full_fit
from calibration.fit.screening import ScreenedFit
from calibration.frames.probes import ProbePlan, crosstalk_scan, gain_scan, holdout_scan, noise_scan


def captured(shape: tuple[int, int], structure: str = "full", seed: int = 1):
    truth, rng, plan = bench(shape, structure), np.random.default_rng(seed), ProbePlan()
    scans = {"gain": gain_scan(shape, plan), "crosstalk": crosstalk_scan(shape, plan), "noise": noise_scan(shape, plan)}
    readings = {name: truth.read_scan(scan, rng) for name, scan in scans.items()}
    return truth, readings, truth.read_scan(holdout_scan(shape, plan, rng), rng)


@pytest.mark.parametrize("shape", [(1, 16), (1, 2), (12, 1), (2, 1), (1, 1)])
def test_gains_of_a_single_line_lie_within_their_errors(shape: tuple[int, int]) -> None:
    """Light of a lit macropixel against the truth's, bleed of a single column and all crosstalk of one row left out."""
    truth, readings, holdout = captured(shape)
    found = fit_channel(*truth.luts, truth.noise, readings, holdout)
    lost = 1 - sum(truth.bleed) if shape[1] == 1 else 1.0
    z = (found.channel.gain_dn - truth.gain * lost) / found.channel.gain_stderr_dn
    assert np.sqrt(np.mean(z**2)) < 1 + 4 / np.sqrt(2 * z.size)
    assert found.channel.gain_stderr_dn.max() < 0.03 * found.channel.gain_dn.min()
    assert np.isfinite(found.channel.offset_stderr_dn).all()


def test_single_row_has_no_crosstalk_and_says_so() -> None:
    truth, readings, holdout = captured((1, 16))
    found = fit_channel(*truth.luts, truth.noise, readings, holdout)
    assert found.structure["crosstalk"].chosen == "none"
    assert "no neighbour" in found.structure["crosstalk"].reason
    assert not found.channel.crosstalk.any()
    assert "bleed" not in found.structure
    assert found.channel.bleed == pytest.approx(truth.bleed, abs=5 * found.channel.bleed_stderr.max())


def test_single_column_has_no_bleed_and_says_so() -> None:
    truth, readings, holdout = captured((12, 1))
    found = fit_channel(*truth.luts, truth.noise, readings, holdout)
    assert "no neighbour" in found.structure["bleed"].reason
    assert np.abs(found.channel.bleed).max() < 1e-6
    assert found.structure["crosstalk"].chosen == "common"
    error = found.channel.crosstalk_stderr[1:-1]
    assert (np.abs(found.channel.crosstalk - truth.crosstalk)[1:-1] < 5 * error).all()


@pytest.mark.parametrize("shape", [(1, 16), (12, 1)])
def test_equal_gains_along_a_single_line_are_one_number(shape: tuple[int, int]) -> None:
    truth, readings, holdout = captured(shape, "scalar")
    assert fit_channel(*truth.luts, truth.noise, readings, holdout).structure["gain"].chosen == "scalar"


@pytest.mark.parametrize("columns", [1, 2])
def test_bad_frame_of_the_gain_scan_of_a_narrow_layout_is_left_out(columns: int) -> None:
    """Few columns have few patterns: each is shown several times, and the copy that differs leaves."""
    truth, readings, holdout = captured((8, columns))
    bright = int(np.flatnonzero(readings["gain"].scan.display.all(axis=1))[1])
    readings["gain"].dn[bright] *= 0.5
    fit = ScreenedFit(*truth.luts, truth.noise, {**readings, "holdout": holdout}, 0.0)
    assert [frame.index for frame in fit.bad["gain"]] == [bright]


def test_a_gain_of_every_macropixel_has_a_parameter_less_for_each_missing_neighbour() -> None:
    """Of one column 12 gains, 12 offsets and no bleed; of one row no crosstalk: 16 gains, an offset, two bleeds."""
    from calibration.fit.averages import covariance_of_means, stack
    from calibration.fit.crosstalk_forms import NONE

    for shape, parameters in (((12, 1), 24), ((1, 16), 19)):
        truth, readings, _ = captured(shape)
        frames = stack(readings, *truth.luts)
        darkest = frames.dn.min(axis=0)
        scatter = covariance_of_means(truth.noise, frames.dn - darkest, darkest, frames.count)
        assert full_fit(frames, scatter, NONE).parameters == parameters
