"""The gate's figures in closed form."""

import numpy as np
import pytest

from calibration.errors import BadScan
from calibration.frames.schedule import ProductResult
from calibration.judge.validation import validate
from calibration.statistics.bad_frame import BadFrame


def result(error, variance=1.0, realised=None, exact=None):
    """Products with the given errors on outputs that span 10."""
    error = np.atleast_2d(error)
    realised = np.linspace(-4, 6, error.size).reshape(error.shape) if realised is None else realised
    exact = realised if exact is None else exact
    return ProductResult(0, realised + error, realised, exact, np.full(error.shape, float(variance)), 0 * error)


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
    bad = [BadFrame(1, "garbage", 9.0, "")]
    found = validate([good, good.where(np.zeros(4, bool))], bad)
    assert found == validate([good], bad)
    assert (found.bad_frames, found.bad_frame_reasons) == ([1], ["garbage"])
    with pytest.raises(BadScan):
        validate([good.where(np.zeros(4, bool))], bad)


def test_products_that_needed_no_light_say_nothing_about_the_noise():
    """A zero vector (after ReLU) is not shown: its error and its variance are exactly zero."""
    good = result(np.tile([0.1, -0.1], (4, 5)), variance=0.005)
    variance = good.variance.copy()
    variance[0] = 0
    dark = ProductResult(
        0, np.where(variance, good.measured, good.realised), good.realised, good.exact, variance, 0 * variance
    )
    found = validate([dark], [])
    assert found.products == 4
    assert found.chi2_per_dof == pytest.approx(2)
    assert found.nrmse == pytest.approx(0.01 * np.sqrt(3 / 4))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_errors_in_common_make_the_figures_scatter_as_is_said(share):
    """400 times 12 products of 20 outputs, a part of whose variance all outputs of a product share."""
    rng = np.random.default_rng(3)
    exact = rng.standard_normal((12, 20))
    found = []
    for _ in range(400):
        error = np.sqrt(share) * rng.standard_normal((12, 1)) + np.sqrt(1 - share) * rng.standard_normal((12, 20))
        one = np.ones_like(error)
        found.append(validate([ProductResult(0, exact + error, exact, exact, one, share * one)], []))
    assert np.std([each.chi2_per_dof for each in found]) == pytest.approx(found[0].chi2_stderr, rel=0.15)
    assert np.std([each.coverage95 for each in found]) < 1.15 * found[0].coverage_stderr
    assert found[0].values == pytest.approx(240 / (1 + 19 * share**2))
