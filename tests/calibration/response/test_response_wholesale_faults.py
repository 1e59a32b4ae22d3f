"""A fault of a whole recording is no noise: the fit is not applied, and the fault is named with what to do."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from everyday import everyday

from calibration.response.fit import fit_response
from calibration.response.observations import Observations

ROWS, OUTPUTS, INPUTS, NOISE = 400, 4, 8, 2.0


class Bench:
    """``y = 60 + 250·(w∘g) x`` with gains of its own for every pair, and normal noise."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.weights = self.rng.random((OUTPUTS, INPUTS))
        self.gain = self.turned(0.05)
        self.inputs = self.rng.random((ROWS, INPUTS))

    def turned(self, spread):
        return self.weights * (1 + spread * self.rng.normal(size=self.weights.shape))

    def light(self, inputs=None, gain=None):
        return 250.0 * (self.inputs if inputs is None else inputs) @ (self.gain if gain is None else gain).T

    def noise(self):
        return self.rng.normal(0, NOISE, (ROWS, OUTPUTS))

    def read(self, *, factor=1.0):
        return 60 + self.light() * factor + self.noise()


ODD = np.arange(ROWS)[:, None] % 2 == 1
LATE = np.arange(ROWS)[:, None] >= ROWS // 2


def outputs_swapped(b):
    y = b.read()
    y[ROWS // 2 :, [0, 1]] = y[ROWS // 2 :, [1, 0]]
    return b.inputs, y


def inputs_swapped(b):
    y, x = b.read(), b.inputs.copy()
    x[250:, [3, 5]] = x[250:, [5, 3]]
    return x, y


def two_lamps(b):
    return b.inputs, b.read(factor=np.where(ODD, 0.93, 1.0))


def two_benches_in_turn(b):
    other = 60 + b.light(gain=b.turned(0.2)) + b.noise()
    return b.inputs, np.where(ODD, other, b.read())


def two_benches_in_blocks(b):
    other = 60 + b.light(gain=b.turned(0.2)) + b.noise()
    return b.inputs, np.where((np.arange(ROWS)[:, None] // 50) % 2 == 1, other, b.read())


def two_recordings(b):
    other = 60 + b.light(gain=b.turned(0.1)) + b.noise()
    return b.inputs, np.where(np.arange(ROWS)[:, None] >= 300, other, b.read())


def three_recordings(b):
    part = np.arange(ROWS)[:, None] * 3 // ROWS
    return b.inputs, b.read(factor=1 + np.array([0.1, -0.15, 0.12, 0.0]) * (part - 1) ** 2 * np.sign(part - 0.5))


def outputs_swapped_for_a_while(b):
    y = b.read()
    y[150:250, [0, 1]] = y[150:250, [1, 0]]
    return b.inputs, y


def inputs_of_8_bits(b):
    levels = np.floor(300 * b.inputs)
    return (levels.astype(np.int64) % 256).astype(np.uint8), 60 + b.light(levels / 300) + b.noise()


def inputs_of_16_bits(b):
    levels = np.floor(45_000 * b.inputs)
    return levels.astype(np.int64).astype(np.int16), 60 + b.light(levels / 45_000) + b.noise()


def readings_of_16_bits(b):
    y = b.read()
    return b.inputs, np.round(y * 32_767 / np.median(y)).astype(np.int64).astype(np.int16)


def running_averages(b):
    y = b.read()
    y[2:] = (y[2:] + y[1:-1] + y[:-2]) / 3
    return b.inputs, y


def differences(b):
    y = b.read()
    return b.inputs, np.concatenate([y[:1], np.diff(y, axis=0)])


def pairs_averaged(b):
    y = b.read()
    return b.inputs, np.repeat((y[::2] + y[1::2]) / 2, 2, axis=0)


def a_slow_detector(b):
    light = b.light()
    return b.inputs, 60 + 0.85 * light + 0.15 * np.roll(light, 1, axis=0) + b.noise()


def one_input_late(b):
    y, x = b.read(), b.inputs.copy()
    x[1:, 2] = x[:-1, 2].copy()
    return x, y


def an_input_stops(b):
    y, x = b.read(), b.inputs.copy()
    x[200:, 6] = 0
    return x, y


def outputs_drift_apart(b):
    course = np.linspace(0, 1, ROWS)[:, None] * np.linspace(-0.1, 0.1, OUTPUTS)
    return b.inputs, b.read(factor=1 + course)


def noise_grows(b):
    return b.inputs, b.read() + np.where(LATE, b.rng.normal(0, 20 * NOISE, (ROWS, OUTPUTS)), 0)


def garbage(b):
    y, wrong = b.read(), b.rng.random(ROWS) < 0.4
    y[wrong] = b.rng.uniform(y.min(), y.max(), (int(wrong.sum()), OUTPUTS))
    return b.inputs, y


NAMED = {
    outputs_swapped: "outputs 0 and 1 change places",
    inputs_swapped: "inputs 3 and 5 change places",
    two_lamps: "odd and even rows follow different benches",
    two_benches_in_turn: "odd and even rows follow different benches",
    two_benches_in_blocks: "in stretches of about 50, follow different benches",
    two_recordings: "are of another bench",
    three_recordings: "follow different benches",
    outputs_swapped_for_a_while: "are of another bench (outputs 0 and 1 change places)",
    inputs_of_8_bits: "inputs go round at 256: they were cut to 8 bits",
    inputs_of_16_bits: "inputs go round at 65536: they were cut to 16 bits",
    readings_of_16_bits: "go round at 65536: they were cut to 16 bits",
    running_averages: "each reading is a running average over 3 rows",
    differences: "each reading is the difference to the row before",
    pairs_averaged: "of the rows repeat the readings of the row before, though their inputs are others",
    a_slow_detector: "of those of the row before",
    one_input_late: "input 2 acts one row early",
    outputs_drift_apart: "outputs drift each on its own",
    noise_grows: "the halves of the recording scatter unequally",
    garbage: "of the rows do not belong to the bench that the others follow",
    an_input_stops: "input 6 is recorded as 0 in every row from 200 to 399, while the readings there scatter as if",
}


@cache
def gate_of(fault):
    """What becomes of the fit of a recording with a fault, fitted once for all that is asked of it."""
    bench = Bench()
    inputs, readings = fault(bench)
    return fit_response(Observations(inputs, bench.weights, readings)).gate


@pytest.mark.parametrize("fault", everyday(NAMED, 0, 2, 4, 6, 9, 11, 13, 15, 16), ids=lambda f: f.__name__)
def test_a_fault_of_the_whole_recording_is_named_and_its_fit_not_applied(fault):
    gate = gate_of(fault)
    assert not gate.applied
    assert NAMED[fault] in gate.reason
    assert "fit again" in gate.reason or "fit the steady part" in gate.reason


def test_the_row_of_a_change_and_the_gain_of_it_are_said():
    bench = Bench(1)
    gate = fit_response(Observations(bench.inputs, bench.weights, outputs_swapped(bench)[1])).gate
    row = int(gate.reason.split("from about ")[1].split()[0])
    assert abs(row - ROWS // 2) <= 3
    assert "instead of" in gate.reason


def test_where_three_recordings_begin_and_rows_amid_others_are_said():
    assert "from about 134 and 267 on" in gate_of(three_recordings).reason
    assert "rows 150 to 249" in gate_of(outputs_swapped_for_a_while).reason


@pytest.mark.parametrize("seed", everyday([100, 108], 1))
def test_an_input_that_stops_is_found_where_no_half_scatters_much_more(seed):
    rng = np.random.default_rng([14, seed])
    weights, inputs = rng.random((4, 24)), rng.random((400, 24))
    light = 83 * inputs @ weights.T
    readings = 60 + light + rng.normal(0, np.sqrt(6.0**2 + 0.5 * light))
    inputs[200:, 7] = 0
    gate = fit_response(Observations(inputs, weights, readings)).gate
    assert not gate.applied
    assert "input 7 is recorded as 0 in every row from 200 to 399" in gate.reason


def _walk(b):
    drift = np.cumsum(5e-4 * b.rng.normal(size=ROWS)) + 0.05 * (np.arange(ROWS) > 250)
    return b.inputs, b.read(factor=1 + drift[:, None])


def _speckle(b):
    return b.inputs, 60 + b.light() * b.rng.gamma(16, 1 / 16, (ROWS, OUTPUTS))


def _student(b):
    return b.inputs, 60 + b.light() + 5 * b.rng.standard_t(3, (ROWS, OUTPUTS))


def _products(b):
    return b.inputs, b.read() + 5 * (b.inputs.sum(axis=1, keepdims=True) - INPUTS / 2) ** 2


def _in_order(b):
    b.inputs = b.inputs[np.argsort(b.inputs.sum(axis=1))]
    return b.inputs, b.read()


def _all_levels_of_a_byte(b):
    levels = np.round(255 * b.inputs)
    return levels.astype(np.uint8), 60 + b.light(levels / 255) + b.noise()


def _quantised(b):
    return b.inputs, 8 * np.round(b.read() / 8)


def _an_input_is_switched_off(b):
    b.inputs[200:, 6] = 0
    return b.inputs, b.read()


SOUND = [
    _walk, _speckle, _student, _products, _in_order, _all_levels_of_a_byte, _quantised, _an_input_is_switched_off,
]  # fmt: skip


@pytest.mark.parametrize("seed", everyday([10, 11], 0))
@pytest.mark.parametrize("kind", everyday(SOUND, 0, 2, 4, 7), ids=lambda f: f.__name__.lstrip("_"))
def test_a_recording_without_such_a_fault_is_applied(kind, seed):
    bench = Bench(seed)
    inputs, readings = kind(bench)
    gate = fit_response(Observations(inputs, bench.weights, readings)).gate
    assert gate.applied, gate.reason
