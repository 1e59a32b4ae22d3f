"""One physical bench: clock, panels, light, optics and sensor. Devices are views of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.protocols import Roi
from mock_hardware import noise
from mock_hardware.compiled import Workers
from mock_hardware.config import BenchConfig, PanelConfig
from mock_hardware.drift import Drift
from mock_hardware.faults import FaultScript
from mock_hardware.geometry import panel_to_camera
from mock_hardware.optics import Optics
from mock_hardware.panel import Panel
from mock_hardware.sensor import Sensor

Float = NDArray[np.float64]

REFERENCE_S = 0.010
"""Exposure at which ``peak_electrons`` counts [s]."""
_RIN = 1 << 42


@dataclass(frozen=True)
class Frame:
    """One exposure.

    Attributes
    ----------
    dn : (H, W) uint16 [DN]
    sequence
        Its number, from 0 when the bench was made; skipped frames count.
    start_s
        Start of exposure on the bench's clock [s].
    """

    dn: NDArray[np.uint16]
    sequence: int
    start_s: float


class MockBench:
    """A bench in software, deterministic: its clock moves by camera frames only.

    Parameters
    ----------
    config
        Its parameters; the default bench if omitted.

    Attributes
    ----------
    config, display, slm, optics, sensor, drift, faults
        Its parts.
    clock_s
        Device time [s].
    sequence
        Number of the next frame.
    exposure_s
        Of the next frame [s].
    is_lit
        Does the source shine? It does from the start, as a lamp without a control; opening the source device takes
        it over and turns it off.

    Examples
    --------
    >>> bench = MockBench()
    >>> frame = bench.expose(Roi(0, 0, 64, 48))
    >>> frame.dn.shape, frame.sequence
    ((48, 64), 0)
    """

    def __init__(self, config: BenchConfig | None = None) -> None:
        self.config = config or BenchConfig()
        workers = Workers(self.config.threads)
        self.display, self.slm = (
            Panel(panel, self._row_delay_s(panel)) for panel in (self.config.display, self.config.slm)
        )
        self.optics = Optics(self.config, workers)
        self.sensor = Sensor(self.config.camera, self.config.seed, workers)
        self.drift = Drift(self.config.drift, self.config.seed)
        self.faults = FaultScript(self.config.faults)
        self.clock_s = 0.0
        self.sequence = 0
        self.exposure_s = self.config.camera.exposure_s
        self.is_lit = True

    @property
    def frame_period_s(self) -> float:
        """From one start of exposure to the next [s]."""
        return max(self.exposure_s, 1.0 / self.config.camera.max_fps)

    def pass_frames(self, count: int) -> None:
        """Let ``count`` frames be exposed and numbered unseen: the clock moves, nothing is rendered."""
        self.sequence += count
        self.clock_s += count * self.frame_period_s

    def expose(self, roi: Roi, brightness: float = 1.0) -> Frame:
        """The next frame, of ``roi``; ``brightness`` is a factor on the source for this frame."""
        start_s, sequence, exposure_s = self.clock_s, self.sequence, self.exposure_s
        end_s = start_s + exposure_s
        ripple = 1.0 + self.config.source.rin_rms * noise.generator(self.config.seed, _RIN, sequence).standard_normal()
        light = self.optics.light(
            self.display.seen(start_s, end_s),
            self.slm.seen(start_s, end_s),
            roi,
            self.drift.pointing(start_s),
            self.drift.display_pointing(start_s),
        )
        electrons, floor_e = self.photo_electrons(
            self.is_lit, brightness * max(ripple, 0.0) * self.drift.power(start_s)
        )
        row_electrons = electrons * self.flicker(start_s, roi)
        dn = self.sensor.expose(light, row_electrons, floor_e, exposure_s, roi, sequence)
        self.pass_frames(1)
        return Frame(dn, sequence, start_s)

    def photo_electrons(self, is_lit: bool, power: float = 1.0) -> tuple[float, float]:
        """Photo-electrons per unit of relative light, and everywhere (stray and ambient light) [e-]."""
        source, optics = self.config.source, self.config.optics
        peak_e = power * source.power_mw * source.peak_electrons * self.exposure_s / REFERENCE_S if is_lit else 0.0
        return peak_e, peak_e * optics.stray_fraction + optics.ambient_e_per_s * self.exposure_s

    def flicker(self, start_s: float, roi: Roi) -> Float:
        """(H,) mean of both panels' flicker over the exposure of each row of ``roi`` that starts at ``start_s`` [1]."""
        begin_s = start_s + np.arange(roi.y, roi.y + roi.height, dtype=np.float64) * self.config.camera.row_time_s
        first, second = self.config.display, self.config.slm
        a, b = first.flicker_depth / 2, second.flicker_depth / 2
        cosine = [
            self._mean_cosine(hz, begin_s)
            for hz in (
                first.flicker_hz,
                second.flicker_hz,
                first.flicker_hz + second.flicker_hz,
                first.flicker_hz - second.flicker_hz,
            )
        ]
        steady = (1 - a) * (1 - b) + (1 - b) * a * cosine[0] + (1 - a) * b * cosine[1]
        return np.asarray(steady + a * b * (cosine[2] + cosine[3]) / 2)

    def _mean_cosine(self, hz: float, begin_s: Float) -> Float:
        """Mean of ``cos(2π f t)`` over an exposure."""
        middle_s = begin_s + self.exposure_s / 2
        return np.asarray(np.cos(2 * math.pi * hz * middle_s) * np.sinc(hz * self.exposure_s))

    def _row_delay_s(self, panel: PanelConfig) -> Float:
        """When the sensor's rows see those of a panel, its middle column; a tilt within a row is left out [s]."""
        camera = self.config.camera
        column = np.full(panel.rows, (panel.cols - 1) / 2)
        seen = panel_to_camera(panel, camera) @ np.stack([column, np.arange(panel.rows), np.ones(panel.rows)])
        return np.asarray(camera.row_time_s * np.clip(seen[1] / seen[2], 0, camera.rows - 1))
