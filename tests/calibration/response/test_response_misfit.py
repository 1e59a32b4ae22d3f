"""What a fit leaves over: named as misfit, with its size, and kept apart from noise and drift."""

import numpy as np
import pytest

from calibration.response.artefact import load_response, save_response
from calibration.response.fit import fit_response
from calibration.response.observations import Observations
from calibration.response.predict import predict

NOISE = 5.0
ROWS, OTHERS = 700, 400


def of_products(x, gain):
    """Neighbouring inputs interfere: 2 % of the light is in products of two of them."""
    return x @ gain.T + 0.03 * (x * np.roll(x, 1, axis=1)) @ gain.T


def of_the_row_before(x, gain):
    """Panel or camera remember 2 % of the row before."""
    light = x @ gain.T
    return light + 0.02 * np.concatenate([light[:1], light[:-1]])


def of_gray_levels(x, gain):
    """A gamma far beyond what panels have."""
    return x**6 @ gain.T


def recorded(light, seed=5, outputs=4, inputs=12):
    rng = np.random.default_rng(seed)
    w, x = rng.random((outputs, inputs)), rng.random((ROWS + OTHERS, inputs))
    truth = 100 + light(x, 800 * w * (1 + 0.05 * rng.normal(size=inputs)))
    y = truth + NOISE * rng.normal(size=truth.shape)
    fit = fit_response(Observations(x[:ROWS], w, y[:ROWS]))
    return fit, predict(fit.response, Observations(x[ROWS:], w, y[ROWS:])), truth[ROWS:], y[ROWS:]


@pytest.fixture(scope="module", params=[of_products, of_the_row_before, of_gray_levels], ids=lambda f: f.__name__)
def left(request):
    kinds = {"of_products": "products", "of_the_row_before": "row before", "of_gray_levels": "inputs"}
    return kinds[request.param.__name__], *recorded(request.param)


def test_what_no_part_of_the_model_follows_is_named_and_measured(left):
    kind, fit, found, truth, _ = left
    true_rms = np.sqrt(np.mean((truth - found.mean) ** 2))
    share = true_rms**2 / (true_rms**2 + NOISE**2)
    seen = fit.response.evidence["misfit"]
    assert fit.structure["misfit"].chosen == seen["kind"] == kind
    assert seen["share_of_variance"] == pytest.approx(share, abs=0.1)
    # of two files, the one that is predicted has the errors of the fit, too
    assert np.sqrt(np.mean(fit.response.misfit**2)) == pytest.approx(true_rms, rel=0.2)
    assert f"rms {np.sqrt(np.mean(fit.response.misfit**2)):.3g} DN" in fit.structure["misfit"].reason


def test_misfit_is_not_in_the_noise_law_nor_called_drift_or_common_noise(left):
    _, fit, _, _, _ = left
    assert (fit.structure["drift"].chosen, fit.structure["common noise"].chosen) == ("still", "none")
    law = fit.noise.variance(np.array([500.0, 2000.0]))
    assert np.sqrt(law) == pytest.approx([NOISE, NOISE], rel=0.12)


def test_intervals_contain_the_misfit(left):
    _, _, found, _, y = left
    inside = np.mean((y >= found.low95) & (y <= found.high95))
    assert 0.93 < inside < 0.97
    assert not found.bad_rows


def test_the_misfit_is_kept_with_the_response(left, tmp_path):
    _, fit, _, _, _ = left
    opened = load_response(save_response(fit.response, tmp_path)[1])
    assert opened.id == fit.response.id
    assert (opened.misfit == fit.response.misfit).all()
    assert opened.structure["misfit"] == fit.structure["misfit"]


@pytest.mark.parametrize("gamma", [1.0, 2.2])
def test_of_a_bench_that_is_followed_next_to_nothing_is_left(gamma):
    fit, found, truth, _ = recorded(lambda x, gain: x**gamma @ gain.T)
    seen = fit.response.evidence["misfit"]
    assert fit.structure["misfit"].chosen == seen["kind"] == "none"
    assert fit.response.misfit is None
    # what may be left at most is more than what is left
    assert np.mean((truth - found.mean) ** 2) / NOISE**2 < 0.05
    assert 0 < seen["share_upper95"] < 0.05


def test_chance_makes_no_misfit():
    chances = [recorded(lambda x, gain: x @ gain.T, seed, 3, 8)[0].structure["misfit"].p_value for seed in range(4)]
    assert min(chances) > 1e-3
