from dataclasses import replace

import numpy as np
import pytest
from somebodys_bench import bench

from calibration.response.fit import fit_response
from calibration.statistics.difference import differences


@pytest.fixture(scope="module")
def pair():
    """One bench, fitted on two days; and a third day, on which its second output is 1 % brighter."""
    rng = np.random.default_rng(4)
    one = bench(rng, per_output=0.05, per_input=0.05)
    brighter = replace(one, gain=one.gain * np.array([1, 1.01, 1, 1])[:, None])
    return [fit_response(b.observe(rng, 300)).response.families() for b in (one, one, brighter)]


def test_two_days_of_one_bench_are_the_same_within_their_errors(pair):
    found, left = differences(pair[0], pair[1])
    assert {"gain", "output gain", "offset", "shot noise"} <= {d.name for d in found}
    assert not [d.words for d in found if d.changed]
    assert not left


def test_a_brighter_output_is_found_and_nothing_else(pair):
    found, _ = differences(pair[0], pair[2])
    gain = next(d for d in found if d.name == "output gain")
    assert gain.changed
    assert gain.largest_z > 4
    assert not {d.name for d in found if d.changed} - {"gain", "output gain"}


def test_other_units_are_not_compared(pair):
    volts = [replace(f, unit="V") if f.name == "offset" else f for f in pair[1]]
    found, left = differences(pair[0], volts)
    assert "offset" not in {d.name for d in found}
    assert left == ["offset: in DN in the first, in V in the second"]
