"""What the mock bench would measure without noise: for tests and reports, never for the code under test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.protocols import Levels, Roi
from mock_hardware.bench import MockBench
from mock_hardware.devices import MockDevice
from mock_hardware.geometry import panel_to_camera
from mock_hardware.panel import response

Float = NDArray[np.float64]


def expected_electrons(
    bench: MockBench, display_levels: Levels, slm_levels: Levels, roi: Roi, source_on: bool = True
) -> Float:
    """Mean electrons per pixel, everything settled, no flicker, at the bench's present exposure and place.

    Rendered by the optics that render the frames; the bench's clock and panels are left alone.

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
    at_s = bench.clock_s
    light = bench.optics.light(
        bench.display.settled(display_levels),
        bench.slm.settled(slm_levels),
        roi,
        bench.drift.pointing(at_s),
        bench.drift.display_pointing(at_s),
    )
    electrons, floor_e = bench.photo_electrons(source_on, bench.drift.power(at_s))
    sensor = bench.sensor
    rows, cols = slice(roi.y, roi.y + roi.height), slice(roi.x, roi.x + roi.width)
    dark_e_per_s = np.full(sensor.config.rows * sensor.config.cols, sensor.dark_e_per_s())
    index, rate = sensor.hot_e_per_s
    dark_e_per_s[index] += rate
    dark_e = bench.exposure_s * dark_e_per_s.reshape(sensor.config.rows, sensor.config.cols)[rows, cols]
    photo_e = light.astype(np.float64) * electrons + floor_e
    return np.asarray(photo_e * sensor.responsivity.of(roi) + dark_e)


def expected_dn(bench: MockBench, electrons: Float, roi: Roi | None = None) -> Float:
    """Mean signal, with the black level and what each pixel of ``roi`` adds to it, below saturation [DN]."""
    camera = bench.config.camera
    signal_e = electrons - camera.nonlinearity / camera.full_well_e**3 * electrons**4
    if roi is not None:
        signal_e = signal_e + bench.sensor.offset_e.of(roi)
    return np.asarray(camera.black_level_dn + camera.gain_dn_per_e * signal_e)


def variance_dn2(bench: MockBench, electrons: Float) -> Float:
    """Variance of a pixel, below saturation: ``K² (s² λ + σ_read² + σ_row²) + 1/12`` [DN²].

    s is the slope of the non-linearity. The source's relative intensity noise is one factor per frame, common to all
    pixels, and not in here.
    """
    camera = bench.config.camera
    slope = 1.0 - 4 * camera.nonlinearity * (electrons / camera.full_well_e) ** 3
    noise_e2 = slope**2 * electrons + camera.read_noise_e**2 + camera.row_noise_e**2
    return np.asarray(camera.gain_dn_per_e**2 * noise_e2 + 1.0 / 12.0)


def truth(bench: MockBench) -> dict[str, Any]:
    """Every parameter as plain JSON types, and what follows from them.

    ``slm_to_camera`` and ``display_to_camera`` map (x, y, 1) of pixel centres, through a lens without distortion;
    ``display_to_slm`` is their quotient.
    """
    config = bench.config
    slm, display = panel_to_camera(config.slm, config.camera), panel_to_camera(config.display, config.camera)
    return {
        **dataclasses.asdict(config),
        "faults": [dataclasses.asdict(fault) for fault in config.faults],
        "slm_to_camera": slm.tolist(),
        "display_to_camera": display.tolist(),
        "display_to_slm": (np.linalg.inv(slm) @ display).tolist(),
        "slm_response": response(config.slm).tolist(),
        "display_response": response(config.display).tolist(),
        "peak_photons": config.source.peak_electrons / config.camera.quantum_efficiency,
    }


class MockTruth(MockDevice):
    """An instrument that no laboratory has: its snapshot is the truth about the bench.

    Parameters
    ----------
    name, bench
        As of any device.
    layout
        The station's ``[layout]``, for the channel that follows from the pixels.
    """

    model = "MockTruth"

    def __init__(
        self, name: str, bench: MockBench, layout: Mapping[str, Any], on_close: Callable[[], None] | None = None
    ) -> None:
        super().__init__(name, bench, on_close)
        self._layout = dict(layout)

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        from mock_hardware.effective import effective  # what it needs of scipy takes long to import

        return {**truth(self.bench), "layout": self._layout, "effective": effective(self.bench, self._layout)}

    def _make_safe(self) -> None:
        pass
