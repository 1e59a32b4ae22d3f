"""Bad frames of the probe scans: found under the fit, left out, and the gain map is that of clean data."""

from dataclasses import replace

import numpy as np
import pytest
from cal_bench import bench
from everyday import everyday

from calibration.fit import screening
from calibration.fit.screening import ScreenedFit
from calibration.fit.structured import UNEXPLAINED
from calibration.frames import probes

PLAN = probes.ProbePlan()


def scans(truth, seed=0):
    rng = np.random.default_rng(seed)
    shape = truth.shape
    made = {
        "gain": probes.gain_scan(shape, PLAN),
        "crosstalk": probes.crosstalk_scan(shape, PLAN),
        "holdout": probes.holdout_scan(shape, PLAN, np.random.default_rng(1)),
    }
    return {name: truth.read_scan(scan, rng) for name, scan in made.items()}


def screened(truth, read):
    return ScreenedFit(*truth.luts, truth.noise, read, 0.0)


def left_out(found):
    return {name: [(frame.index, frame.reason) for frame in frames] for name, frames in found.bad.items()}


def misses(found, truth):
    """rms of the gain map's relative error."""
    return np.sqrt(np.mean((found.fit.channel.gain_dn / truth.gain - 1) ** 2))


@pytest.mark.parametrize("structure", ["full", "smooth"])
@pytest.mark.parametrize(
    ("name", "index", "kind"),
    everyday(
        [("gain", 5, "garbage"), ("gain", 50, "blank"), ("gain", 70, "garbage"), ("crosstalk", 61, "blank")], 0, 3
    ),
)
def test_gross_faults_cost_the_gain_map_nothing(structure, name, index, kind):
    truth = bench((24, 32), structure, flicker=0.002)
    read = scans(truth)
    clean = screened(truth, read)
    assert clean.bad == {}
    dn = read[name].dn.copy()
    rng = np.random.default_rng(2)
    blank = truth.offset + truth.read * rng.standard_normal(24)
    dn[index] = blank if kind == "blank" else rng.uniform(0, dn.max(), 24)
    found = screened(truth, {**read, name: replace(read[name], dn=dn)})
    assert left_out(found) == {name: [(index, kind)]}
    assert misses(found, truth) < 1.05 * misses(clean, truth)


@pytest.mark.parametrize("index", [5, 50])
def test_a_stale_frame_is_told_from_the_complement_that_shares_its_blame(index):
    """A pattern and its complement are known twice in their sum only: residuals alone accuse both alike."""
    truth = bench((24, 32), "full", flicker=0.002)
    read = scans(truth)
    dn = read["gain"].dn.copy()
    dn[index] = dn[index - 1]
    found = screened(truth, {**read, "gain": replace(read["gain"], dn=dn)})
    assert left_out(found) == {"gain": [(index, "stale")]}
    assert misses(found, truth) < 1.05 * misses(screened(truth, read), truth)


def test_swapped_frames_of_the_hold_out_scan_are_both_found():
    truth = bench((24, 32), "smooth")
    read = scans(truth)
    dn = read["holdout"].dn.copy()
    dn[[20, 21]] = dn[[21, 20]]
    found = screened(truth, {**read, "holdout": replace(read["holdout"], dn=dn)})
    assert left_out(found) == {"holdout": [(20, "swapped"), (21, "swapped")]}


def test_when_many_frames_are_bad_nothing_is_left_out():
    truth = bench((24, 32), "smooth")
    read = scans(truth)
    dn = read["holdout"].dn.copy()
    dn[::3] *= 1.3
    assert screened(truth, {**read, "holdout": replace(read["holdout"], dn=dn)}).bad == {}


def test_a_screening_that_explains_nothing_ends_after_the_first_round_of_candidates(monkeypatch):
    """A camera that is no straight line is no fault of frames: leaving out one after another took thirteen fits."""
    fits, fit_channel = [], screening.fit_channel

    def counted(*args):
        fits.append(fit_channel(*args))
        return fits[-1]

    monkeypatch.setattr(screening, "fit_channel", counted)
    truth = bench((8, 12), "smooth")
    read = scans(truth)
    top = max(scan.dn.max() for scan in read.values())
    bent = {name: replace(scan, dn=scan.dn - 0.2 * scan.dn**2 / top) for name, scan in read.items()}
    found = screened(truth, bent)
    assert screening.MISFIT < min(fits[0].chi2_per_dof.values()) < UNEXPLAINED  # no other rule ends it
    assert found.bad == {}
    assert found.fit is fits[0]
    assert 1 < len(fits) <= 1 + screening.CANDIDATES


def test_a_saturated_frame_is_left_out_and_named():
    truth = bench((24, 32), "smooth")
    read = scans(truth)
    saturated = np.zeros(len(read["gain"]))
    saturated[12] = 0.2
    dn = read["gain"].dn.copy()
    dn[12] *= 3
    found = screened(truth, {**read, "gain": replace(read["gain"], dn=dn, saturated=saturated)})
    assert left_out(found) == {"gain": [(12, "saturated")]}
