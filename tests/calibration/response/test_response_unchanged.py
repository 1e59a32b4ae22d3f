"""An unchanged bench is called changed as seldom as is said, however few numbers its noise lets a fit prove."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from everyday import everyday

from calibration.response.against import compared
from calibration.response.fit import fit_response
from calibration.response.observations import Observations

ROWS, OUTPUTS, INPUTS = 120, 5, 6


class Pair:
    """Two recordings of one bench with gains of its own, in so much noise that hardly anything of them is proven."""

    def __init__(self, seed, noise):
        self.rng = np.random.default_rng([seed, 3])
        self.weights = self.rng.random((OUTPUTS, INPUTS))
        of = [1 + 0.05 * self.rng.normal(size=size) for size in (OUTPUTS, INPUTS)]
        self.gain = 500 * np.outer(*of) * self.weights
        self.noise = noise

    def fitted(self, *, gain=1.0, drift=0.0):
        x = self.rng.random((ROWS, INPUTS))
        light = x @ (self.gain * gain).T * (1 + np.broadcast_to(drift, ROWS)[:, None])
        readings = 100 + light + self.rng.normal(0, self.noise, light.shape)
        return fit_response(Observations(x, self.weights, readings)).response

    def walk(self, size):
        return np.cumsum(self.rng.normal(0, size, ROWS))


def changed(a, b):
    return {d.name for d in compared(a, b)[0] if d.changed}


@pytest.mark.parametrize("seed", everyday(range(40), 0))
def test_an_unchanged_bench_in_much_noise_is_not_called_changed(seed):
    pair = Pair(seed, 150.0)
    assert not changed(pair.fitted(), pair.fitted())


@pytest.mark.parametrize("seed", everyday(range(6), 0))
def test_a_walk_within_the_recordings_is_no_change_of_the_bench(seed):
    pair = Pair(seed, 5.0)
    assert not changed(pair.fitted(drift=pair.walk(2e-3)), pair.fitted(drift=pair.walk(2e-3)))


@pytest.mark.parametrize("size", [1.02, 0.9])
def test_an_output_or_all_that_did_change_are_found(size):
    pair = Pair(0, 5.0)
    one = np.ones((OUTPUTS, 1))
    one[1] = size
    before = pair.fitted()
    assert {"gain", "output gain"} & changed(before, pair.fitted(gain=one))
    assert {"gain", "output gain"} & changed(before, pair.fitted(gain=size))


def test_one_number_for_all_gains_is_one_error():
    pair = Pair(1, 150.0)
    families = {f.name: f for f in pair.fitted().families()}
    assert families["gain"].free == families["output gain"].free == 1
    free = {f.name: f for f in Pair(1, 2.0).fitted().families()}
    assert free["output gain"].free == OUTPUTS


def test_a_fit_from_before_these_numbers_were_kept_has_no_more_of_them_than_its_gains():
    response = Pair(1, 150.0).fitted()
    evidence = {k: v for k, v in response.evidence.items() if k != "independent_numbers"}
    families = {f.name: f for f in replace(response, evidence=evidence).families()}
    assert families["output gain"].free == round(response.evidence["gain_parameters"]["determined"])
