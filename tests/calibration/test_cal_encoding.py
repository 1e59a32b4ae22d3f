"""Signed operands as light: exact identities."""

import numpy as np
import pytest

from calibration.errors import OutOfDomain
from calibration.machine.encoding import ENCODINGS, encoding


def grid(rng, *shape):
    """Multiples of 1/1024 in −1 … 1, ends and zero among them: every product and sum below is exact in float64."""
    values = rng.integers(-1024, 1025, shape)
    values.flat[:3] = -1024, 0, 1024
    return values / 1024


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_the_passes_and_digital_sums_give_the_product_exactly(name):
    code, rng = encoding(name), np.random.default_rng(1)
    w, x = grid(rng, 17, 23), grid(rng, 11, 23)
    v, u = code.split_weight(w), code.split_input(x)
    a, c = code.weight_constant, code.input_constant
    total = np.full((11, 17), a * c * 23)
    for i, ai in enumerate(code.weight_factors):
        total += c * ai * v[i].sum(1)
        for j, cj in enumerate(code.input_factors):
            total += ai * cj * u[j] @ v[i].T
    for j, cj in enumerate(code.input_factors):
        total += (a * cj * u[j].sum(1))[:, None]
    assert np.array_equal(total, x @ w.T)


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_parts_rebuild_the_operand_and_are_light(name):
    code, rng = encoding(name), np.random.default_rng(2)
    w, x = grid(rng, 17, 23), grid(rng, 11, 23)
    v, u = code.split_weight(w), code.split_input(x)
    assert v.shape == (len(code.weight_factors), 17, 23)
    assert u.shape == (len(code.input_factors), 11, 23)
    for parts in (v, u):
        assert parts.min() == 0
        assert parts.max() == 1
    assert np.array_equal(np.tensordot(code.weight_factors, v, 1) + code.weight_constant, w)
    assert np.array_equal(np.tensordot(code.input_factors, u, 1) + code.input_constant, x)


def test_sign_split_never_lights_both_parts_of_a_number():
    plus, minus = encoding("sign-split").split_weight(grid(np.random.default_rng(3), 30, 30))
    assert not (plus * minus).any()


def test_unknown_encoding_is_refused_with_the_known_ones():
    with pytest.raises(OutOfDomain) as caught:
        encoding("ternary")
    assert "sign-split" in caught.value.expected
    assert "offset" in caught.value.expected
