"""Photon transfer: the line's numbers come back, with standard errors that hold, and what is no line is refused."""

import numpy as np
import pytest

from calibration.bench import fit_photon_transfer
from calibration.errors import BadScan, FitError, Saturated

GAIN, READ_E, OFFSET = 0.37, 6.0, 64.0
FULL_SCALE = 4095
EXPOSURES_E = 200.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0
SHAPE = 96, 128


def camera(rng, electrons, shape=SHAPE):
    """A frame of an ideal camera: Poisson photo-electrons, normal read noise, gain, offset, rounding."""
    noisy = rng.poisson(electrons, shape) + rng.normal(0, READ_E, shape)
    return np.clip(np.round(OFFSET + GAIN * noisy), 0, FULL_SCALE).astype(np.uint16)


def pairs(rng, levels, flicker=0.0, profile=1.0):
    lamp = 1 + flicker * rng.standard_normal((len(levels), 2))
    return [
        np.stack([camera(rng, level * factor * profile * np.ones(SHAPE)) for factor in factors])
        for level, factors in zip(levels, lamp, strict=True)
    ]


def fitted(seed, **scene):
    rng = np.random.default_rng(seed)
    return fit_photon_transfer(pairs(rng, [0.0] * 2), pairs(rng, EXPOSURES_E, **scene), FULL_SCALE)


def test_numbers_come_back_within_their_standard_errors():
    """Over 60 cameras the errors in standard errors have mean 0 and variance 1; bounds are four standard errors."""
    found = [fitted(seed) for seed in range(60)]
    for error in (
        [(one.gain_dn_per_e - GAIN) / one.gain_stderr_dn_per_e for one in found],
        [(one.read_noise_e - READ_E) / one.read_noise_stderr_e for one in found],
        [(one.offset_dn - OFFSET) / one.offset_stderr_dn for one in found],
    ):
        assert abs(np.mean(error)) < 4 / np.sqrt(60)
        assert np.var(error) == pytest.approx(1.0, abs=4 * np.sqrt(2 / 59))
    assert np.mean([one.chi2_per_dof for one in found]) == pytest.approx(1.0, abs=4 * np.sqrt(2 / (6 * 60)))


def test_line_through_exact_moments_is_the_closed_form():
    """Frames of two values only have moments that need no sampling: mean m, variance d²/2 of their difference ±d."""
    sign = np.tile([1.0, -1.0], 64).reshape(8, 16)

    def pair(mean, half):
        return np.stack([mean + half * sign, mean - half * sign]).astype(np.uint16)

    dark, bright = [pair(100, 2)], [pair(150, 3), pair(300, 6)]  # variances 2 h²: 8, 18, 72
    found = fit_photon_transfer(dark, bright, FULL_SCALE)
    assert found.variances_dn2 == pytest.approx([8, 18, 72])
    assert found.means_dn == pytest.approx([100, 150, 300])
    light, variance = np.array([0.0, 50.0, 200.0]), np.array([8.0, 18.0, 72.0])
    expected = variance
    for _ in range(3):
        slope, at_dark = np.polyfit(light, variance, 1, w=1 / expected)
        expected = at_dark + slope * light
    assert found.gain_dn_per_e == pytest.approx(slope, rel=1e-9)
    assert found.read_noise_e == pytest.approx(np.sqrt(at_dark - 1 / 12) / slope, rel=1e-9)
    assert found.e_per_dn == pytest.approx(1 / slope, rel=1e-9)


def test_lamp_that_flickers_between_the_frames_of_a_pair_does_not_matter():
    found = fitted(1, flicker=0.05)
    assert found.gain_dn_per_e == pytest.approx(GAIN, abs=5 * found.gain_stderr_dn_per_e)


def test_picture_need_not_be_uniform():
    """Variance is a line in the mean, so that averages over any picture lie on the same line."""
    found = fitted(2, profile=np.linspace(0.2, 1.0, SHAPE[1]))
    assert found.gain_dn_per_e == pytest.approx(GAIN, abs=5 * found.gain_stderr_dn_per_e)


def test_camera_that_is_not_linear_shows_in_chi2():
    rng = np.random.default_rng(3)
    bent = [(frames * (1 - frames / 12000)).round().astype(np.uint16) for frames in pairs(rng, EXPOSURES_E)]
    assert fit_photon_transfer(pairs(rng, [0.0]), bent, FULL_SCALE).chi2_per_dof > 10


def test_saturated_pair_is_refused():
    rng = np.random.default_rng(4)
    with pytest.raises(Saturated):
        fit_photon_transfer(pairs(rng, [0.0]), pairs(rng, [1000.0, 11000.0]), FULL_SCALE)


def test_dark_bright_frames_are_refused():
    rng = np.random.default_rng(5)
    with pytest.raises(BadScan, match="not brighter"):
        fit_photon_transfer(pairs(rng, [0.0]), pairs(rng, [0.0, 0.0]), FULL_SCALE)


@pytest.mark.parametrize(("dark", "bright"), [(0, 2), (1, 1)])
def test_missing_pairs_are_refused(dark, bright):
    pair = np.zeros((2, 8, 8), np.uint16)
    with pytest.raises(BadScan, match="pairs"):
        fit_photon_transfer([pair] * dark, [pair] * bright, FULL_SCALE)


def test_single_frames_are_no_pairs():
    frame = np.zeros((1, 8, 8), np.uint16)
    with pytest.raises(BadScan, match="pairs"):
        fit_photon_transfer([frame], [frame, frame], FULL_SCALE)


def test_camera_that_averages_its_noise_away_is_refused():
    steady = [np.full((2, 8, 8), level, np.uint16) for level in (100, 500, 900)]
    with pytest.raises(FitError):
        fit_photon_transfer(steady[:1], steady[1:], FULL_SCALE)
