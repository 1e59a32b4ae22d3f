"""The compiled loops of a frame: what they add up to, and the frames that they made when they were written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drivers.protocols import Roi
from mock_hardware import MockBench, kernels, parse

SIZE = {"rows": 120, "cols": 170}
PANEL = SIZE | {
    "s_shape": 0.5, "fringing": 0.1, "uniformity_rms": 0.01, "dead_fraction": 1e-4, "stuck_fraction": 1e-4,
    "flicker_depth": 0.02, "fall_ratio": 1.5, "keystone_x": 0.002, "keystone_y": -0.001,
}  # fmt: skip
CAMERA = SIZE | {
    "prnu": 0.01, "dsnu_e": 0.5, "row_noise_e": 0.3, "hot_fraction": 1e-4, "hot_e_per_s": 100.0,
    "nonlinearity": 0.01, "row_time_s": 5e-6,
}  # fmt: skip
DRIFT = {"power_walk_per_sqrt_s": 1e-3, "power_flicker_rms": 1e-3, "pointing_walk_px_per_sqrt_s": 0.02}
OPTICS = {"camera_psf_growth_px2": 0.2, "distortion": 0.002}
MEANS = [104.26, 187.21, 202.97, 203.44, 204.09, 201.96]
FIRST = [[132, 161, 144, 184, 182, 179, 258, 232], [134, 124, 136, 147, 156, 190, 166, 176]]


def test_frames_with_every_effect_on_are_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both panels change while the liquid crystal of the other is on its way; on any machine to one rounding."""
    used: list[str] = []
    for name in ("average", "advance_average"):
        monkeypatch.setattr(kernels, name, noted(getattr(kernels, name), name, used))
    table = {"slm": PANEL, "display": PANEL, "camera": CAMERA, "optics": OPTICS, "drift": DRIFT}
    bench = MockBench(parse({**table, "seed": 3, "threads": 1}))
    shown = np.random.default_rng(0).integers(0, 256, (4, *SIZE.values()), dtype=np.uint8)
    bench.is_lit = True
    frames = []
    for k in range(6):
        (bench.display if k % 3 else bench.slm).show(shown[k % 4], bench.clock_s)
        frames.append(bench.expose(Roi(3, 5, 160, 110)).dn)
    assert set(used) == {"average", "advance_average"}
    np.testing.assert_allclose([frame.mean() for frame in frames], MEANS, atol=0.01)
    np.testing.assert_allclose(frames[-1][:2, :8], FIRST, atol=1)


def noted(function: Any, name: str, used: list[str]) -> Any:
    """The function, which writes down that it was called."""

    def call(*arguments: Any) -> None:
        used.append(name)
        function(*arguments)

    return call


def test_one_pass_over_two_segments_is_one_after_the_other() -> None:
    rng = np.random.default_rng(1)
    state, between, target, before = rng.random((4, 9, 31), dtype=np.float32)
    left, part, weight = rng.random((2, 9), np.float32), rng.random((3, 9), np.float32), rng.random(9, np.float32)
    after, expected, mean = (np.empty((9, 31), np.float32) for _ in range(3))
    kernels.advance(0, 9, state, between, left, after)
    kernels.average(0, 9, after, target, part, weight, before, expected)
    kernels.advance_average(0, 9, state, between, left, target, part, weight, before, mean)
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)
    up = state < between
    way = between + (state - between) * np.where(up, left[0][:, None], left[1][:, None])
    np.testing.assert_allclose(after, way, rtol=1e-5, atol=1e-6)
