"""A bench for tests and benchmarks, of dense matrices and real photons: it shares no physics with `calibration`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from calibration.frames.products import ProductGroup
from calibration.frames.scan import Readings
from calibration.machine.channel import Channel
from calibration.machine.encoding import encoding
from calibration.machine.layout import Layout
from calibration.machine.lut import Lut
from calibration.machine.machine import Machine
from calibration.machine.noise import Noise

LEVEL = np.arange(256) / 255


def display_curve(floor=1 / 150):
    return floor + (1 - floor) * LEVEL**2.2


def slm_curve(floor=1 / 200):
    return floor + (1 - floor) * np.sin(0.5 * np.pi * LEVEL) ** 2


@dataclass
class Bench:
    """``y = b + X (u∘T) B D``: pixel by pixel as in the papers, photon by photon when ``rng`` is given."""

    gain: np.ndarray
    offset: np.ndarray
    crosstalk: np.ndarray
    bleed: tuple[float, float] = (0.0, 0.0)
    read: float = 12.0
    shot: float = 0.3
    flicker: float = 0.0
    display: np.ndarray = field(default_factory=display_curve)
    slm: np.ndarray = field(default_factory=slm_curve)

    @property
    def shape(self):
        return self.gain.shape

    @property
    def mixing(self):
        m = len(self.offset)
        x = np.eye(m)
        for i in range(m):
            if i > 0:
                x[i, i - 1] = self.crosstalk[i, 0]
            if i < m - 1:
                x[i, i + 1] = self.crosstalk[i, 1]
        return x

    @property
    def blending(self):
        k = self.shape[1]
        before, after = self.bleed
        b = np.zeros((k, k))
        for i in range(k):
            b[i, i] = 1 - before - after
            if i > 0:
                b[i, i - 1] = before
            if i < k - 1:
                b[i, i + 1] = after
        return b

    def light(self, slm_level, display_level):
        """(M,) of one frame; panels are at level 0 where the operands do not reach."""
        t, d = np.full(self.shape, self.slm[0]), np.full(self.shape[1], self.display[0])
        t[: slm_level.shape[0], : slm_level.shape[1]] = self.slm[slm_level]
        d[: len(display_level)] = self.display[display_level]
        return self.mixing @ ((self.gain * t) @ (self.blending @ d))

    def read_scan(self, scan, rng=None):
        light = np.empty((len(scan), len(self.offset)))
        seen = {}
        for i, s in enumerate(scan.slm_index):
            key = (int(s), scan.display[i].tobytes())
            if key not in seen:
                seen[key] = self.light(scan.slm[s], scan.display[i])
            light[i] = seen[key]
        offset = self.offset
        if rng is not None:
            source = 1 + self.flicker * rng.standard_normal((len(scan), 1))
            light, offset = light * source, offset * source
            light = self.shot * rng.poisson(light / self.shot) + self.read * rng.standard_normal(light.shape)
        return Readings(scan, offset + light, np.zeros(len(scan)))

    @property
    def noise(self):
        return Noise(self.read, self.shot, self.flicker, np.zeros(3))

    @property
    def luts(self):
        return Lut(self.display, np.zeros(256)), Lut(self.slm, np.zeros(256))

    @property
    def channel(self):
        """The truth in the words of `calibration`, without errors."""
        m, k = self.shape
        crosstalk = self.crosstalk.copy()
        crosstalk[0, 0] = crosstalk[-1, 1] = 0
        return Channel(
            self.gain,
            np.zeros((m, k)),
            self.offset,
            np.zeros(m),
            crosstalk,
            np.zeros((m, 2)),
            np.array(self.bleed),
            np.zeros(2),
            self.noise,
        )

    def machine(self, name="sign-split"):
        m, k = self.shape
        layout = Layout((m * 6 + 4, k * 5 + 3), m, k, 6, 5, 4, 4)
        return Machine(layout, *self.luts, self.channel, encoding(name))


def common_crosstalk(m, before, after):
    return np.tile([before, after], (m, 1)).astype(float)


def bench(shape=(24, 32), structure="smooth", seed=0, **changes):
    """A bench whose gain map has the given structure, about 1000 DN a macropixel."""
    m, k = shape
    rng = np.random.default_rng(seed)
    y, x = np.linspace(-1, 1, m)[:, None], np.linspace(-1, 1, k)
    shapes = {
        "scalar": np.ones((m, k)),
        "per output": np.tile(1 + 0.08 * rng.standard_normal((m, 1)), k),
        "separable": np.outer(1 + 0.08 * rng.standard_normal(m), 1 + 0.08 * rng.standard_normal(k)),
        "smooth": 1 - 0.15 * y**2 - 0.2 * x**2 + 0.1 * x * y + 0.05 * x**2 * y,
        "full": 1 + 0.08 * rng.standard_normal((m, k)),
    }
    values = {"offset": 40 + 10 * rng.random(m), "crosstalk": common_crosstalk(m, 0.02, 0.03), "bleed": (0.015, 0.01)}
    return Bench(1000 * shapes[structure], **{**values, **changes})


def products(shape, n, seed=0, *, signed=True, peak=0.9, name="test"):
    """A random product group whose weights stay inside the clipping range."""
    rng = np.random.default_rng(seed)
    weight = rng.uniform(-peak, peak, shape).astype(np.float32) * np.float32(0.25)
    inputs = rng.uniform(-1 if signed else 0, 1, (n, shape[1])).astype(np.float32) * np.float32(3)
    positions = np.stack([np.zeros(n, np.int64), np.arange(n)], axis=1)
    outputs = (inputs.astype(np.float64) @ weight.astype(np.float64).T).astype(np.float32)
    return ProductGroup(name, "linear", 0, weight, inputs, outputs, positions, 0.25)
