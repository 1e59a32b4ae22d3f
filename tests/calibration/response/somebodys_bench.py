"""Benches of somebody else, photon by photon and with dense matrices: nothing here is shared with the fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.response.observations import Observations


@dataclass(frozen=True)
class Bench:
    """``y = b + K·Poisson(photons · ((1 + X)(u∘w) x) (1 + drift))``; u (M, N), X (M, M), drift (rows,)."""

    weights: np.ndarray
    gain: np.ndarray
    crosstalk: np.ndarray
    photons: float = 2e4
    k: float = 0.5
    offset: float = 50.0

    def record(self, rng, rows, *, drift=0.0, flicker=0.0, bend=0.0, spread=1.0):
        n = self.weights.shape[1]
        x = rng.random((rows, n)) * (1 - spread + spread * rng.random((rows, 1)))
        light = (x + bend * x**2) @ (self.gain * self.weights).T
        light = light + light @ self.crosstalk.T
        light *= self.photons / (0.25 * n)
        light *= 1 + np.broadcast_to(drift, rows)[:, None] + flicker * rng.normal(size=(rows, 1))
        return x, self.offset + self.k * rng.poisson(np.maximum(light, 0)).astype(float)

    def observe(self, rng, rows, **more):
        x, y = self.record(rng, rows, **more)
        return Observations(x, self.weights, y)


def bench(rng, outputs=4, inputs=12, *, per_output=0.0, per_input=0.0, single=0.0, neighbours=0.0, **more):
    """Relative spreads of the gains by output, by input and of each one; crosstalk of neighbours."""
    gain = np.outer(1 + per_output * rng.normal(size=outputs), 1 + per_input * rng.normal(size=inputs))
    gain = gain * (1 + single * rng.normal(size=gain.shape))
    x = neighbours * (np.eye(outputs, k=1) + np.eye(outputs, k=-1))
    return Bench(rng.random((outputs, inputs)), gain, x, **more)
