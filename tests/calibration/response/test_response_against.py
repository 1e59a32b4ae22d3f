"""Two responses are compared by what both describe; where they describe other things, it is said which and why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from somebodys_bench import bench

from calibration.errors import OutOfDomain
from calibration.response.against import compared
from calibration.response.fit import fit_response
from calibration.response.observations import Observations


def fitted(made, seed, rows=300, **more):
    return fit_response(made.observe(np.random.default_rng(seed), rows, **more)).response


@pytest.fixture(scope="module")
def near():
    """A bench whose neighbours leak, fitted on two days."""
    made = bench(np.random.default_rng(11), per_output=0.05, neighbours=0.06)
    return made, fitted(made, 1), fitted(made, 2)


@pytest.fixture(scope="module")
def curved():
    """Another one with curved inputs, fitted on two days, and on one on which it is straight."""
    made = bench(np.random.default_rng(12), per_output=0.05, per_input=0.05)
    return fitted(made, 1, bend=0.2), fitted(made, 2, bend=0.2), fitted(made, 3)


def changed(found):
    return {d.name for d in found if d.changed}


def test_two_days_of_a_bench_agree_in_all_that_both_have(near):
    _, a, b = near
    found, _ = compared(a, b)
    assert {"gain", "output gain", "offset", "crosstalk", "scatter of a reading"} <= {d.name for d in found}
    assert not changed(found)


def test_crosstalk_that_only_one_bench_has_is_a_change(near):
    made, a, _ = near
    found, _ = compared(a, fitted(replace(made, crosstalk=np.zeros((4, 4))), 3))
    assert "crosstalk" in changed(found)


def test_noise_laws_of_other_forms_are_compared_by_the_scatter_that_they_state(near):
    made, a, _ = near
    found, _ = compared(a, fitted(replace(made, k=4.0, photons=made.photons / 8), 4))
    assert "scatter of a reading" in changed(found)


def test_a_curve_is_compared_over_the_range_that_both_have(curved):
    one, two, straight = curved
    same, left = compared(one, two)
    assert {"input curve", "detector curve", "reading in the middle"} <= {d.name for d in same}
    assert not {"input curve", "reading in the middle"} & changed(same)
    assert any(line.startswith("offset: the bench is curved") for line in left)
    assert "input curve" in changed(compared(one, straight)[0])


def test_benches_of_another_size_or_unit_have_nothing_to_compare(near):
    _, a, _ = near
    small = fitted(bench(np.random.default_rng(13), outputs=3, inputs=8), 1, 200)
    with pytest.raises(OutOfDomain, match="another size") as refused:
        compared(a, small)
    assert "4 outputs, 12 inputs" in str(refused.value.expected)
    assert "3 outputs, 8 inputs" in str(refused.value.seen)
    with pytest.raises(OutOfDomain, match="another unit"):
        compared(a, replace(a, unit="V"))


def test_with_other_weights_on_the_bench_gains_are_not_compared(near):
    _, a, b = near
    found, left = compared(a, replace(b, weights=b.weights[::-1]))
    assert not {"gain", "output gain"} & {d.name for d in found}
    assert "offset" in {d.name for d in found}
    assert any("other weights stood on the bench" in line for line in left)


def test_an_output_that_one_fit_left_out_takes_no_part():
    made = bench(np.random.default_rng(14), per_output=0.05)
    observed = made.observe(np.random.default_rng(1), 300)
    dead = np.array(observed.readings)
    dead[:, 2] = 17.0
    b = fit_response(Observations(np.array(observed.inputs), made.weights, dead)).response
    found, left = compared(fitted(made, 2), b)
    assert "output 2: left out of one of the two" in left
    assert next(d for d in found if d.name == "offset").parameters == 3
    assert not changed(found)
