"""One stream of random numbers for both of its users: the mock's pixels and the simulated products.

The numbers were written down when each user still had functions of its own. Whole numbers are compared exactly,
others to 2e-6, because processors with and without fused multiply-add round differently.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from drivers.protocols import Roi
from groundwork.compiled import kernel, summing_kernel
from groundwork.random_numbers import normal_pair, threefry
from groundwork.threads import Threads
from mock_hardware.config import CameraConfig
from mock_hardware.sensor import Sensor
from simulation.light.accounting import Tally
from simulation.light.optics import paper
from simulation.light.product import Bench
from simulation.light.randomness import fill_normal, poisson
from simulation.light.settings import Noise

KEY = np.uint32(12345), np.uint32(678)
ROUNDING = 2e-6


@kernel
def deviates_in_order(k0: Any, k1: Any, out: Any) -> None:
    for i in range(len(out)):
        first, second = threefry(k0, k1, np.uint32(i), np.uint32(9))
        out[i, 0], out[i, 1] = normal_pair(first, second)


@summing_kernel
def deviates_in_any_order(k0: Any, k1: Any, out: Any) -> None:
    for i in range(len(out)):
        first, second = threefry(k0, k1, np.uint32(i), np.uint32(9))
        out[i, 0], out[i, 1] = normal_pair(first, second)


@summing_kernel
def draws(k0: Any, k1: Any, normal: Any, counts: Any) -> None:
    fill_normal(normal, k0, k1, np.uint32(0), np.uint32(4))
    for i in range(len(counts)):
        word, _ = threefry(k0, k1, np.uint32(i), np.uint32(6))
        counts[i] = poisson(7.5, word)


@pytest.mark.parametrize("compiled", [deviates_in_order, deviates_in_any_order])
def test_deviates_are_the_same_in_both_kinds_of_kernel(compiled: Any) -> None:
    out = np.empty((3000, 2), np.float32)
    compiled(*KEY, out)
    expected = [[1.2800051, 0.7815132], [0.8422159, 1.4085963], [-0.9465708, -1.3551759]]
    np.testing.assert_allclose(out[:3], expected, rtol=ROUNDING)


def test_a_frame_of_the_mock_sensor_is_unchanged() -> None:
    sensor = Sensor(CameraConfig(rows=8, cols=16), 7, Threads(1))
    light = np.geomspace(0.001, 1, 16, dtype=np.float32).reshape(2, 8)
    frame = sensor.expose(light, np.full(2, 3000.0), 2.0, 0.010, Roi(x=2, y=3, width=8, height=2), 5)
    assert frame.tolist() == [
        [142, 116, 142, 132, 194, 176, 278, 375],
        [576, 975, 1293, 1934, 3079, 4091, 4095, 4094],
    ]


def test_draws_for_simulated_products_are_unchanged() -> None:
    normal, counts = np.empty(6, np.float32), np.empty(12)
    draws(*KEY, normal, counts)
    expected = [0.5126245, -0.6186332, -1.0844758, -0.8033786, 0.23409571, -0.7865474]
    np.testing.assert_allclose(normal, expected, rtol=ROUNDING)
    assert counts.tolist() == [7, 6, 15, 5, 7, 13, 7, 7, 5, 13, 8, 8]


@pytest.mark.parametrize(
    ("photons_per_mac", "expected", "electrons"),
    [
        (
            1.0,
            [[-1.6728832, -1.6987858, 2.2094088, 1.1005994], [1.6758007, 1.6551437, -1.1052161, -3.360344]],
            26.45742,
        ),
        (1e3, [[-2.817503, -1.1501594, 0.5567364, 2.2931619], [2.2415683, 0.5803809, -1.1551955, -2.822417]], 26408.57),
    ],
    ids=["Poisson counts", "normal deviates"],
)
def test_a_simulated_product_is_unchanged(photons_per_mac: float, expected: list[float], electrons: float) -> None:
    vectors, matrix = torch.linspace(-1, 1, 12).reshape(1, 2, 6), torch.linspace(1, -1, 24).reshape(1, 4, 6)
    bench, tally = Bench(paper(), photons_per_mac, "exact"), Tally()
    weights = bench.place((4, 6)).show(matrix, static=True)
    found = bench.product(vectors, weights, Noise((12345, 678)), tally, unit=torch.ones(1))
    np.testing.assert_allclose(found.numpy()[0], expected, rtol=ROUNDING)
    assert tally.electrons == pytest.approx(electrons, rel=ROUNDING)
