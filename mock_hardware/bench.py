"""One physical bench: clock, panels, light, optics and sensor. Devices are views of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.protocols import Roi
from mock_hardware import noise
from mock_hardware.config import BenchConfig
from mock_hardware.optics import Image, Optics
from mock_hardware.panel import Panel, Terms
from mock_hardware.sensor import Sensor

REFERENCE_S = 0.010
"""Exposure at which ``peak_electrons`` counts [s]."""


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
    config, display, slm, optics, sensor
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
        self.display, self.slm = Panel(self.config.display), Panel(self.config.slm)
        self.optics = Optics(self.config)
        self.sensor = Sensor(self.config.camera, self.config.seed, self.config.threads)
        self.clock_s = 0.0
        self.sequence = 0
        self.exposure_s = self.config.camera.exposure_s
        self.is_lit = True
        self._slm_light: tuple[tuple[Terms, Roi], Image] | None = None
        self._light: tuple[tuple[Terms, Terms, Roi], Image] | None = None

    @property
    def frame_period_s(self) -> float:
        """From one start of exposure to the next [s]."""
        return max(self.exposure_s, 1.0 / self.config.camera.max_fps)

    def pass_frames(self, count: int) -> None:
        """Let ``count`` frames be exposed and numbered unseen: the clock moves, nothing is rendered."""
        self.sequence += count
        self.clock_s += count * self.frame_period_s

    def expose(self, roi: Roi) -> Frame:
        """The next frame, of ``roi``."""
        start_s, sequence = self.clock_s, self.sequence
        ripple = 1.0 + self.config.source.rin_rms * noise.generator(self.config.seed, sequence, 0).standard_normal()
        end_s = start_s + self.exposure_s
        light = self._rendered(self.display.terms(start_s, end_s), self.slm.terms(start_s, end_s), roi)
        electrons, floor_e = self.levels_e(self.is_lit, max(ripple, 0.0))
        self.pass_frames(1)
        return Frame(self.sensor.expose(light, electrons, floor_e, sequence), sequence, start_s)

    def levels_e(self, is_lit: bool, ripple: float = 1.0) -> tuple[float, float]:
        """Electrons per unit of relative light, and electrons everywhere (stray, ambient, dark current) [e-]."""
        source, optics, camera = self.config.source, self.config.optics, self.config.camera
        peak_e = ripple * source.power_mw * source.peak_electrons * self.exposure_s / REFERENCE_S if is_lit else 0.0
        dark_e = (optics.ambient_e_per_s + camera.dark_current_e_per_s) * self.exposure_s
        return peak_e, peak_e * optics.stray_fraction + dark_e

    def _rendered(self, display: Terms, slm: Terms, roi: Roi) -> Image:
        """Relative light; what the last exposure rendered is used again as far as it is the same."""
        if self._slm_light is None or self._slm_light[0] != (slm, roi):
            self._slm_light = (slm, roi), self.optics.slm_light(slm, roi)
        if self._light is None or self._light[0] != (display, slm, roi):
            self._light = (display, slm, roi), self.optics.light(display, self._slm_light[1], roi)
        return self._light[1]
