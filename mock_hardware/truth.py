"""What the mock bench would measure without noise: for tests and reports, never for the code under test."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.protocols import Levels, Roi
from mock_hardware.bench import MockBench
from mock_hardware.optics import panel_to_camera
from mock_hardware.panel import Term


def expected_electrons(
    bench: MockBench, display_levels: Levels, slm_levels: Levels, roi: Roi, source_on: bool = True
) -> NDArray[np.float64]:
    """Mean electrons per pixel, everything settled, at the bench's present exposure.

    Rendered by the optics that render the frames; the bench's clock, panels and caches are left alone.

    Parameters
    ----------
    display_levels, slm_levels : (rows, cols) integer
    roi
        Region of the sensor.
    source_on
        With the source, or without (ambient light and dark current only).

    Returns
    -------
    (H, W) float64 [e-]
    """
    display, slm = _settled(display_levels), _settled(slm_levels)
    light = bench.optics.light(display, bench.optics.slm_light(slm, roi), roi)
    electrons, floor_e = bench.levels_e(source_on)
    return light.astype(np.float64) * electrons + floor_e


def expected_dn(bench: MockBench, electrons: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean signal, with the black level, below saturation [DN]."""
    camera = bench.config.camera
    return camera.black_level_dn + camera.gain_dn_per_e * electrons


def variance_dn2(bench: MockBench, electrons: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance of a pixel, below saturation: ``K² (λ + σ_read²) + 1/12`` [DN²].

    The source's relative intensity noise is one factor per frame, common to all pixels, and not in here.
    """
    camera = bench.config.camera
    return camera.gain_dn_per_e**2 * (electrons + camera.read_noise_e**2) + 1.0 / 12.0


def truth(bench: MockBench) -> dict[str, Any]:
    """Every parameter as plain JSON types, and what follows from them.

    ``slm_to_camera`` and ``display_to_camera`` map (x, y, 1) of pixel centres; ``display_to_slm`` is their quotient.
    """
    config = bench.config
    slm, display = panel_to_camera(config.slm, config.camera), panel_to_camera(config.display, config.camera)
    return {
        **dataclasses.asdict(config),
        "slm_to_camera": slm.tolist(),
        "display_to_camera": display.tolist(),
        "display_to_slm": (np.linalg.inv(slm) @ display).tolist(),
        "slm_response": bench.slm.response.tolist(),
        "display_response": bench.display.response.tolist(),
        "peak_photons": config.source.peak_electrons / config.camera.quantum_efficiency,
    }


def _settled(levels: Levels) -> tuple[Term]:
    return (Term(0, 1.0, levels),)
