"""Photon transfer through a driver: the numbers of a camera that we did not write come back.

Micro-Manager's demonstration camera simulates shot noise and read noise with numbers that are its properties. What is
measured goes the whole way: its pixels through the core, the driver and its frames to the fit.

In 16 bits its offset is 100, whatever its property says. It cuts down to whole counts twice, first its read noise and
then its light, so that its frames are darker than that by nearly 1 DN: 0.94 % of the offset, which leaves little of the
hundredth. How much it is follows from the two cuts, and is tested, too.
"""

import math

import numpy as np
import pytest

from calibration.bench import fit_photon_transfer
from drivers import OpenContext, open_device
from drivers.testing import require_module

E_PER_DN, READ_E, OFFSET_DN = 0.5, 4.0, 100
FLUX_E_PER_MS = 500
DARKEST_E_PER_MS, SHORTEST_MS = 2, 0.01
EXPOSURES_S = 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02
PAIRS = 6
WITHIN = 0.01


def noise(flux_e_per_ms):
    return {
        "PixelType": "16bit",
        "BitDepth": 16,
        "Mode": "Noise",
        "Photon Conversion Factor": E_PER_DN,
        "ReadNoise (electrons)": READ_E,
        "Photon Flux": flux_e_per_ms,
    }


def pairs(flux_e_per_ms, exposures_s, frames=2 * PAIRS):
    """Frames at each exposure, two by two, and the camera's full scale."""
    options = {"library": "DemoCamera", "device": "DCam", "properties": noise(flux_e_per_ms)}
    with open_device("micromanager.camera", "camera", options, OpenContext()) as camera:
        found = []
        for exposure_s in exposures_s:
            camera.exposure_s = exposure_s
            assert camera.exposure_s == pytest.approx(exposure_s)
            camera.arm(frames)
            block = camera.fetch(30.0)
            assert block.dropped == 0
            found += [block.frames[i : i + 2] for i in range(0, frames, 2)]
        return found, 2**camera.bit_depth - 1


@pytest.fixture(scope="module")
def transfer():
    require_module("pymmcore_plus", "pip install labctl[micromanager]")
    require_module("mm_test_adapters", "pip install mm-test-adapters")
    dark, _ = pairs(DARKEST_E_PER_MS, [1e-3 * SHORTEST_MS])
    bright, full_scale_dn = pairs(FLUX_E_PER_MS, EXPOSURES_S)
    return fit_photon_transfer(dark, bright, full_scale_dn)


def test_conversion_factor_comes_back(transfer):
    assert transfer.e_per_dn == pytest.approx(E_PER_DN, rel=WITHIN)


def test_read_noise_comes_back(transfer):
    assert transfer.read_noise_e == pytest.approx(READ_E, rel=WITHIN)


def test_offset_comes_back(transfer):
    assert transfer.offset_dn == pytest.approx(OFFSET_DN, rel=WITHIN)


def test_offset_is_lower_by_what_the_camera_cuts_off(transfer):
    """Half a count of the read noise, and a whole one where the light's noise is negative: normal, of n electrons."""
    electrons = DARKEST_E_PER_MS * SHORTEST_MS
    negative = math.erfc(math.sqrt(electrons / 2)) / 2
    assert transfer.offset_dn == pytest.approx(OFFSET_DN - 0.5 - negative, abs=5 * transfer.offset_stderr_dn)


def test_light_follows_the_exposure_that_was_set(transfer):
    """Means lie on offset + flux · exposure / conversion factor: exposures are really those that were asked for."""
    means = transfer.means_dn[-PAIRS * len(EXPOSURES_S) :].reshape(-1, PAIRS).mean(axis=1)
    expected = OFFSET_DN + FLUX_E_PER_MS * 1e3 * np.array(EXPOSURES_S) / E_PER_DN
    assert means == pytest.approx(expected, rel=WITHIN)
