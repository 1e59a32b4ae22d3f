"""The law of the operands: closed forms against Poisson counts, and against the folded products of the simulation."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.frames.products import ProductGroup
from simulation.scaling.operands import ENCODINGS, photons_for_error, product_light, random_photons
from simulation.scaling.powerlaw import power_law


def normal_group(k: int, rng: np.random.Generator) -> ProductGroup:
    weight, inputs = rng.standard_normal((48, k)), rng.standard_normal((256, k))
    positions = np.zeros((256, 2), np.int64)
    scale = float(np.percentile(np.abs(weight), 99))
    weight, inputs = weight.astype(np.float32), inputs.astype(np.float32)
    return ProductGroup("a", "linear", 0, weight, inputs, inputs @ weight.T, positions, scale)


def test_variances_are_those_of_photons_counted_pass_by_pass() -> None:
    rng = np.random.default_rng(0)
    k, n, draws = 24, 30.0, 20_000
    w, x = np.clip(rng.normal(0, 0.5, k), -1, 1), rng.standard_normal(k)
    x /= np.abs(x).max()
    g = 2 * n * k / np.abs(x).sum()  # two input passes share 2 n K photons
    counted = sum(
        sign * rng.poisson(g * np.maximum(a * w, 0) @ np.maximum(b * x, 0), draws) / g
        for a, b, sign in ((1, 1, 1), (-1, -1, 1), (1, -1, -1), (-1, 1, -1))
    )
    g_offset = n * k / ((1 + x) / 2).sum()
    light = rng.poisson(g_offset * ((1 + w) / 2 @ ((1 + x) / 2)), draws) / g_offset
    offset = 4 * light - w.sum() - x.sum() - k
    for encoding, seen in (("four-pass", counted), ("offset", offset)):
        variance, square = product_light(w[None], x[None], encoding)
        assert seen.mean() == pytest.approx(w @ x, abs=5 * np.sqrt(variance.item() / n / draws))
        # The relative standard error of a variance from that many draws is √(2 / draws) = 1 %.
        assert seen.var() == pytest.approx(variance.item() / n, rel=0.04)
        assert square.item() == pytest.approx((w @ x) ** 2)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_closed_form_is_that_of_normal_operands(encoding: str) -> None:
    group = normal_group(128, np.random.default_rng(1))
    # 48 × 256 products share 48 rows of weights: mean squares scatter by about √(2 / 48 / 128) and offset's s_x by 2 %.
    assert photons_for_error([group], encoding, 0.05) == pytest.approx(random_photons(128, encoding, 0.05), rel=0.08)


@pytest.mark.parametrize(
    ("encoding", "exponent"), [("four-pass", 0.0), ("net-output", -0.5), ("full-scale", -1.0), ("offset", 0.24)]
)
def test_each_encoding_has_its_own_exponent(encoding: str, exponent: float) -> None:
    widths = np.array([32.0, 64.0, 128.0, 256.0])
    law = power_law(widths, np.array([random_photons(int(d), encoding, 0.05) for d in widths]))
    # Offset: the logarithm of K through the largest of K inputs, as fitted over these widths: no power law.
    assert law.exponent == pytest.approx(exponent, abs=0.005 if encoding == "offset" else 1e-9)


def test_operands_of_one_sign_need_fewer_photons_the_wider_they_are() -> None:
    """Without cancellation y is the light itself: the paper's 1/d, also measured against y."""
    rng = np.random.default_rng(2)
    needed = []
    for k in (64, 256):
        w, x = rng.uniform(0, 1, (32, k)), rng.uniform(0, 1, (64, k))
        variance, square = product_light(w, x / x.max(1, keepdims=True), "four-pass")
        needed.append(variance.mean() / square.mean())
    assert needed[0] / needed[1] == pytest.approx(4, rel=0.05)


def test_inputs_of_one_sign_take_one_pass() -> None:
    w = np.array([[0.5, -0.5]])
    both, _ = product_light(w, np.array([[1.0, -1.0]]), "four-pass")
    one, _ = product_light(w, np.array([[1.0, 1.0]]), "four-pass")
    assert one.item() == 2 * both.item()
