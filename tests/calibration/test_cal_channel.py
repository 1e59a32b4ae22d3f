"""The channel against dense matrices and Monte Carlo."""

import numpy as np
import pytest
from cal_bench import bench

from calibration.machine.channel import apply_bleed, mix, undo_bleed
from calibration.machine.noise import Noise


def rough(seed=0, **changes):
    """A bench with different crosstalk on every output."""
    return bench((9, 11), "full", seed, crosstalk=np.random.default_rng(seed).uniform(0, 0.08, (9, 2)), **changes)


def test_mixing_is_the_tridiagonal_matrix_and_unmixing_its_inverse():
    truth = rough()
    channel = truth.channel
    light = 1e4 * np.random.default_rng(1).random((5, 9))
    before = light.copy()
    assert mix(channel.crosstalk, light) == pytest.approx(light @ truth.mixing.T, rel=1e-13)
    assert np.array_equal(light, before)
    assert channel.mean(light) == pytest.approx(truth.offset + light @ truth.mixing.T, rel=1e-13)
    assert channel.unmix(channel.mean(light)) == pytest.approx(light, rel=1e-12)
    assert channel.unmixing @ truth.mixing == pytest.approx(np.eye(9), abs=1e-13)


def test_light_is_the_gain_times_both_transmissions_with_the_bleed_of_the_inputs():
    truth = rough(bleed=(0.03, 0.01))
    rng = np.random.default_rng(2)
    slm, display = rng.random((9, 11)), rng.random((4, 11))
    expected = [(truth.gain * slm) @ (truth.blending @ d) for d in display]
    assert truth.channel.light(slm, display) == pytest.approx(np.array(expected), rel=1e-13)
    assert truth.channel.shape == (9, 11)


@pytest.mark.parametrize("bleed", [(0.0, 0.0), (0.03, 0.01), (0.2, 0.1)])
def test_bleed_is_the_blending_matrix_and_undone_by_the_weights(bleed):
    truth = rough(bleed=bleed)
    rng = np.random.default_rng(3)
    x, w = rng.random((6, 11)), rng.uniform(-1, 1, (9, 11))
    blended = apply_bleed(np.array(bleed), x)
    assert blended == pytest.approx(x @ truth.blending.T, rel=1e-13)
    compensated = undo_bleed(np.array(bleed), w)
    assert compensated == pytest.approx(w @ np.linalg.inv(truth.blending), rel=1e-11)
    assert blended @ compensated.T == pytest.approx(x @ w.T, rel=1e-11)
    stack = np.stack([w, 2 * w])
    assert undo_bleed(np.array(bleed), stack) == pytest.approx(np.stack([compensated, 2 * compensated]))


def test_variance_is_read_noise_shot_noise_and_flicker():
    noise = Noise(10.0, 0.5, 0.01, np.zeros(3))
    assert noise.variance(np.array([-5.0, 0.0, 1000.0])).tolist() == [100.0, 100.0, 100 + 500 + 100]


@pytest.mark.parametrize("flicker", [0.0, 0.005])
def test_unmixed_variance_is_that_of_unmixed_readings(flicker):
    """40000 draws: a variance is known to √(2/40000) = 0.7 %; nine outputs within 4.5 of these."""
    truth = rough(flicker=flicker)
    rng = np.random.default_rng(4)
    light = np.linspace(2000, 20000, 9)
    mean = light @ truth.mixing.T
    source = 1 + flicker * rng.standard_normal((40000, 1))
    reading = truth.offset + truth.shot * rng.poisson(mean * source / truth.shot)
    reading = reading + truth.read * rng.standard_normal(reading.shape)
    seen = truth.channel.unmix(reading).var(axis=0)
    predicted = truth.channel.unmixed_variance(truth.offset + mean[None])[0]
    assert seen / predicted == pytest.approx(np.ones(9), abs=4.5 * np.sqrt(2 / 40000))
