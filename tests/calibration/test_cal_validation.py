"""The gate's figures in closed form, and bad frames by their index."""

from dataclasses import replace

import numpy as np
import pytest
from cal_bench import bench, products
from scipy import stats

from calibration.channel import Noise
from calibration.errors import BadScan
from calibration.schedule import ProductResult, predicted, schedule
from calibration.validation import find_bad_frames, validate


def result(error, variance=1.0, realised=None, exact=None):
    """Products with the given errors on outputs that span 10."""
    error = np.atleast_2d(error)
    realised = np.linspace(-4, 6, error.size).reshape(error.shape) if realised is None else realised
    exact = realised if exact is None else exact
    return ProductResult(0, realised + error, realised, exact, np.full(error.shape, float(variance)))


def test_figures_have_their_closed_forms():
    signs = np.tile([0.1, -0.1], (4, 5))
    found = validate([result(signs, variance=0.005)], [])
    assert found.products == 4
    assert found.nrmse == pytest.approx(0.01)
    assert found.nrmse_model == pytest.approx(0.01)
    assert found.effective_bits == pytest.approx(np.log2(100))
    assert found.chi2_per_dof == pytest.approx(0.01 / 0.005)
    # 40 values equally spaced over 10 have variance 10² (40 + 1) / (12 · 39)
    assert found.r2 == pytest.approx(1 - 0.01 / (100 * 41 / (12 * 39)))
    assert found.coverage95 == 1.0


def test_coverage_is_the_share_inside_the_interval():
    found = validate([result(np.array([[0.0, 1.95, 1.97, -1.95, -3.0]]))], [])
    assert found.coverage95 == pytest.approx(3 / 5)


def test_each_group_counts_in_units_of_its_own_range():
    small = result(np.full((2, 3), 0.001), realised=np.linspace(0, 0.1, 6).reshape(2, 3))
    large = result(np.full((2, 3), 10.0), realised=np.linspace(0, 1000, 6).reshape(2, 3))
    assert validate([small, large], []).nrmse == pytest.approx(0.01)


def test_the_model_error_includes_the_encoding():
    realised = np.linspace(0, 10, 6).reshape(2, 3)
    found = validate([result(np.full((2, 3), 0.02), realised=realised, exact=realised * 1.01)], [])
    assert found.nrmse_model == pytest.approx(np.sqrt(np.mean((realised * 0.01 - 0.02) ** 2)) / 10.1)
    assert found.nrmse == pytest.approx(0.02 / 10.1)


def test_misses_names_what_lies_outside_and_nothing_else():
    found = validate([result(np.tile([0.1, -0.1], (4, 5)), variance=0.005)], [])
    assert found.misses({"nrmse": (0, 0.02), "chi2_per_dof": (0.5, 2.5)}) == []
    (miss,) = found.misses({"nrmse": (0, 0.009), "chi2_per_dof": (0.5, 2.5)})
    assert miss == "nrmse is 0.01, not in 0 … 0.009"


def test_a_figure_that_is_no_number_misses():
    found = validate([result(np.full((1, 2), np.nan))], [])
    assert len(found.misses({"nrmse": (0, 1), "coverage95": (0.5, 1)})) == 2


def test_nothing_to_validate_is_a_bad_scan():
    with pytest.raises(BadScan):
        validate([], [])


def test_groups_of_which_every_product_was_spoiled_are_left_out():
    good = result(np.tile([0.1, -0.1], (4, 5)))
    assert validate([good, good.where(np.zeros(4, bool))], [1]) == validate([good], [1])
    with pytest.raises(BadScan):
        validate([good.where(np.zeros(4, bool))], [1])


def test_products_that_needed_no_light_say_nothing_about_the_noise():
    """A zero vector (after ReLU) is not shown: its error and its variance are exactly zero."""
    good = result(np.tile([0.1, -0.1], (4, 5)), variance=0.005)
    variance = good.variance.copy()
    variance[0] = 0
    dark = ProductResult(0, np.where(variance, good.measured, good.realised), good.realised, good.exact, variance)
    found = validate([dark], [])
    assert found.products == 4
    assert found.chi2_per_dof == pytest.approx(2)
    assert found.nrmse == pytest.approx(0.01 * np.sqrt(3 / 4))


TRUTH = bench((24, 32), "smooth")


def frames(rng, count=400, intensity=0.0):
    """Readings and expectations of a workload's frames, and their channel; the source flickers by ``intensity``."""
    truth = replace(TRUTH, intensity=intensity)
    machine, group = truth.machine(), products((24, 32), count // 4, 7)
    (tile,) = schedule(machine, [group])
    mean, _ = predicted(machine, tile.scan)
    return truth.read_scan(tile.scan, rng).dn, mean, machine.channel


def bad(dn, mean, channel, saturated=False):
    return find_bad_frames(dn - mean, mean - channel.offset_dn, channel.noise, np.broadcast_to(saturated, len(dn)))


def quiet(intensity=0.0):
    """Unit noise."""
    return Noise(1.0, 0.0, intensity, np.zeros(3))


@pytest.mark.parametrize("intensity", [0.0, 0.05])
def test_clean_frames_raise_no_alarm(intensity):
    assert bad(*frames(np.random.default_rng(1), 4000, intensity)) == []


def test_swapped_stale_and_saturated_frames_are_found_by_index():
    dn, mean, channel = frames(np.random.default_rng(2))
    dn[[50, 51]] = dn[[51, 50]]
    dn[120] = dn[119]
    dn[300] = dn[10]
    saturated = np.zeros(len(dn), bool)
    saturated[222] = True
    assert bad(dn, mean, channel, saturated) == [50, 51, 120, 222, 300]


@pytest.mark.parametrize(("factor", "found"), [(1.001, [7]), (0.999, [])])
def test_the_alarm_is_set_off_once_in_ten_million_frames(factor, found):
    dn = np.zeros((20, 24))
    dn[7] = np.sqrt(factor * stats.chi2.isf(1e-7, 24) / 24)
    assert find_bad_frames(dn, np.zeros((20, 24)), quiet(), np.zeros(20, bool)) == found


def test_the_chi_squared_is_that_of_the_full_covariance():
    """One output pattern per frame, scaled to lie just above and just below the limit of rᵀ C⁻¹ r."""
    rng = np.random.default_rng(4)
    light, noise = rng.uniform(0, 900, 24), Noise(3.0, 2.0, 0.03, np.zeros(3))
    inverse = np.linalg.inv(np.diag(9.0 + 2.0 * light) + 0.03**2 * np.outer(light, light))
    pattern = rng.standard_normal((30, 24))
    unit = pattern / np.sqrt(np.einsum("ni,ij,nj->n", pattern, inverse, pattern))[:, None]
    factor = np.where(np.arange(30) < 5, 1.001, 0.999) * stats.chi2.isf(1e-7, 24)
    factor[12:] = 1.0  # most frames are good: the median does not scale the limit
    residual = unit * np.sqrt(factor)[:, None]
    assert find_bad_frames(residual, np.tile(light, (30, 1)), noise, np.zeros(30, bool)) == [0, 1, 2, 3, 4]


def test_flicker_of_the_source_is_not_a_bad_frame_and_does_not_hide_one():
    """A common factor is what the source does; the same size of error with alternating sign is not."""
    light = np.full((40, 24), 1000.0)
    residual = np.zeros((40, 24))
    residual[3] = 3 * 0.05 * 1000  # three standard deviations of the source, 150 of the outputs
    residual[9] = 8 * (-1.0) ** np.arange(24)
    assert find_bad_frames(residual, light, quiet(0.05), np.zeros(40, bool)) == [9]


def test_a_misfit_of_all_frames_is_not_a_bad_frame():
    rng = np.random.default_rng(3)
    dn = 2 * rng.standard_normal((2000, 24))  # twice the noise that was predicted, everywhere
    dn[77] += 15
    assert find_bad_frames(dn, np.zeros((2000, 24)), quiet(), np.zeros(2000, bool)) == [77]
