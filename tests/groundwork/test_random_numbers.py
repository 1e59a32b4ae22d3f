"""One stream of random numbers, whoever draws it: the mock's pixels and the simulated products.

The numbers are those of the version before both users shared one module. Whole numbers are compared exactly;
deviates to 1e-6, because processors with and without fused multiply-add round differently.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from drivers.protocols import Roi
from groundwork.compiled import kernel, summing_kernel
from groundwork.random_numbers import normal_pair, threefry
from mock_hardware.compiled import Workers
from mock_hardware.config import CameraConfig
from mock_hardware.sensor import Sensor
from simulation.light.accounting import Tally
from simulation.light.optics import paper
from simulation.light.product import Bench, Noise

KEY = np.uint32(12345), np.uint32(678)


def _deviates(k0: Any, k1: Any, out: Any) -> None:
    for i in range(len(out)):
        first, second = threefry(k0, k1, np.uint32(i), np.uint32(9))
        out[i, 0], out[i, 1] = normal_pair(first, second)


def drawn(compiled: Any) -> NDArray[np.float32]:
    out = np.empty((3000, 2), np.float32)
    compiled(_deviates).py_func(*KEY, out[:1])  # the same function compiled twice, once per set of rules
    compiled(_deviates)(*KEY, out)
    return out
