"""Gains that change by themselves: of single inputs they are named, of all outputs together followed or named."""

from __future__ import annotations

import numpy as np
import pytest
from everyday import everyday

from calibration.response.fit import fit_response
from calibration.response.hum import hum
from calibration.response.leftover import Leftover
from calibration.response.neighbours import of_other_outputs
from calibration.response.observations import Observations
from calibration.response.to_and_fro import to_and_fro
from calibration.response.wandering import wandering_inputs

ROWS, OUTPUTS, INPUTS, NOISE = 500, 4, 8, 3.0


class Bench:
    """``y = 60 + (1 + drift) (400·w∘g) (1 + δ) x`` with δ of each input its own, and normal noise."""

    def __init__(self, seed=0, outputs=OUTPUTS, rows=ROWS):
        self.rng = np.random.default_rng(seed)
        self.weights = self.rng.random((outputs, INPUTS))
        self.gain = 400 * self.weights * (1 + 0.05 * self.rng.normal(size=self.weights.shape))
        self.inputs = self.rng.random((rows, INPUTS))

    def read(self, of_inputs=0.0, drift=0.0, level=0.0):
        light = (self.inputs * (1 + of_inputs)) @ self.gain.T
        rows = len(light)
        light = light * (1 + np.broadcast_to(drift, rows)[:, None]) + np.broadcast_to(level, rows)[:, None]
        return 60 + light + self.rng.normal(0, NOISE, light.shape)

    def walk(self, size, *shape):
        return np.cumsum(self.rng.normal(0, size, shape), axis=0)

    def telegraph(self, chance, *shape):
        """0 or 1, changing with this chance from row to row."""
        return np.cumsum(self.rng.random(shape) < chance, axis=0) % 2

    def left(self, readings):
        """What a fit leaves that knows the gains, and follows no drift."""
        light = self.inputs @ self.gain.T
        good = np.ones(len(light), bool)
        sd = np.full_like(light, NOISE)
        names = np.arange(light.shape[1])
        return Leftover(np.arange(len(light)), self.inputs, readings, 60 + light, sd, good, names, self.gain)


FAULTS = {
    "hops of each input": lambda b: b.read(0.03 * b.telegraph(0.02, ROWS, INPUTS)),
    "walks of each input": lambda b: b.read(b.walk(1e-3, ROWS, INPUTS)),
    "walks of each input, and of the source": lambda b: b.read(b.walk(1e-3, ROWS, INPUTS), b.walk(5e-4, ROWS)),
}


@pytest.mark.parametrize("name", everyday(FAULTS, 2))
def test_inputs_of_which_each_changes_by_itself_are_named_and_the_fit_is_not_applied(name):
    b = Bench()
    gate = fit_response(Observations(b.inputs, b.weights, FAULTS[name](b))).gate
    assert not gate.applied
    assert "each on its own (hops or a walk of a source)" in gate.reason


def test_the_input_that_hops_is_the_one_that_is_named():
    b = Bench(rows=1500)
    one = np.zeros((1500, INPUTS))
    one[:, 5] = 0.05 * (np.arange(1500) // 40 % 2)
    found = wandering_inputs(b.left(b.read(one)))
    assert found is not None
    assert "the gain of input 5 changes during the recording" in found.words


@pytest.mark.parametrize("outputs", [1, 3, 8])
def test_what_all_inputs_or_single_outputs_do_is_no_change_of_an_input(outputs):
    for seed in range(30):
        b = Bench(seed, outputs, 300)
        drift = (b.walk(1e-3, 300), b.walk(0.5, 300)) if seed % 2 else (0.0, 0.0)
        own = 10 * b.telegraph(0.02, 300, outputs) if seed % 3 == 0 else 0.0
        assert wandering_inputs(b.left(b.read(0.0, *drift) + own)) is None


def test_a_single_detector_that_hops_by_little_is_followed():
    b = Bench(1, outputs=1, rows=600)
    hops = 5.0 * b.telegraph(0.02, 600)
    light = 60 + b.inputs @ b.gain.T
    fit = fit_response(Observations(b.inputs, b.weights, b.read(level=hops)))
    assert fit.gate.applied
    assert fit.structure["drift"].chosen != "still"
    # beside the hops the noise is that of the detector, not that of both, which is √(3² + 2.5²)
    assert fit.noise.variance(np.array(np.median(light))) < 3.5**2


def test_a_single_detector_that_hops_by_much_is_named():
    b = Bench(2, outputs=1)
    states = b.telegraph(0.04, ROWS)
    followed = np.convolve(states, [0.25, 0.5, 0.25], "same")[:, None] * 0.1  # as a drift does, of the rows about
    left = b.left(b.read(0.1 * states[:, None]))
    left = Leftover(
        left.index, left.inputs, left.readings, 60 + (left.mean - 60) * (1 + followed), left.sd, left.good, left.names,
        left.gain,
    )  # fmt: skip
    words = to_and_fro(left)
    assert "the gain of all outputs goes to and fro between two states" in words
    assert f"{np.abs(np.diff(states)).sum()} times" in words


def test_a_walk_a_jump_and_noise_do_not_go_to_and_fro():
    for seed in range(10):
        b = Bench(seed)
        for drift in (b.walk(2e-3, ROWS), 0.05 * (np.arange(ROWS) > 300), 0.0):
            assert not to_and_fro(b.left(b.read(drift=drift)))


@pytest.mark.parametrize("period", [2.6, 7.3, 21.0])
def test_what_goes_up_and_down_is_named_with_its_period(period):
    b = Bench(3)
    wave = np.sin(2 * np.pi * np.arange(ROWS) / period)
    for readings in (b.read(level=2 * wave), b.read(drift=0.01 * wave)):
        found = hum(b.left(readings))
        assert found is not None
        told = float(found.words.split("a period of ")[1].split(" ")[0])
        assert told == pytest.approx(period, rel=period / ROWS)  # half of what two frequencies are apart


def test_noise_walks_and_jumps_have_no_period():
    for seed in range(20):
        b = Bench(seed)
        for drift in (b.walk(2e-3, ROWS), 0.05 * (np.arange(ROWS) > 300), 0.0):
            assert hum(b.left(b.read(drift=drift))) is None


def test_a_converter_that_keeps_some_of_the_output_before_is_named():
    b = Bench(4)
    readings = b.read()
    readings[1:, 1:] += 0.05 * (b.inputs @ b.gain.T)[:-1, :-1]
    found = of_other_outputs(b.left(readings))
    assert found is not None
    assert found.words.startswith("the readings hold those of other outputs in the row before")
    assert found.left[1:].max() < 0.5
    assert of_other_outputs(b.left(b.read())).left.min() > 0.8


def test_an_input_that_ages_is_named_and_not_the_outputs_that_it_shines_on():
    b = Bench(5)
    ages = np.zeros((ROWS, INPUTS))
    ages[:, 3] = np.exp(-0.3 * np.arange(ROWS) / ROWS) - 0.86
    gate = fit_response(Observations(b.inputs, b.weights, b.read(ages))).gate
    assert not gate.applied
    assert "input 3" in gate.reason
    assert "output" not in gate.reason
