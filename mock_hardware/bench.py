"""One physical bench: clock, panels, light, optics and sensor. Devices are views of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from drivers.errors import CapabilityError
from drivers.protocols import Levels, Moment, Roi
from groundwork.threads import Threads
from mock_hardware import noise
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


@dataclass(frozen=True)
class _Cue:
    """A pattern of a list that is being played: handed to its panel when the exposure of number ``at`` begins."""

    at: int
    panel: Panel
    hand_over: Callable[[Levels], object]
    levels: Levels


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
        threads = Threads(self.config.threads)
        self.display, self.slm = (
            Panel(panel, self._row_delay_s(panel)) for panel in (self.config.display, self.config.slm)
        )
        self.optics = Optics(self.config, threads)
        self.sensor = Sensor(self.config.camera, self.config.seed, threads)
        self.drift = Drift(self.config.drift, self.config.seed)
        self.faults = FaultScript(self.config.faults)
        self.clock_s = 0.0
        self.sequence = 0
        self.exposure_s = self.config.camera.exposure_s
        self.is_lit = True
        self._cues: list[_Cue] = []

    @property
    def frame_period_s(self) -> float:
        """From one start of exposure to the next [s]."""
        return max(self.exposure_s, 1.0 / self.config.camera.max_fps)

    def now(self) -> Moment:
        """The device time, and the number of the next frame."""
        return Moment(self.clock_s, self.sequence)

    def continue_at(self, moment: Moment) -> None:
        """Go on there; the panels keep what they show, and faults of earlier frames are gone.

        Raises
        ------
        CapabilityError
            When the bench is beyond that time or number already.
        """
        if moment.device_time_s < self.clock_s or moment.sequence < self.sequence:
            raise CapabilityError(
                "time does not run backwards",
                action="continue at another time",
                expected=f"{self.clock_s:g} s, frame {self.sequence}, or later",
                seen=f"{moment.device_time_s:g} s, frame {moment.sequence}",
                hint="open the bench anew",
            )
        self.clock_s, self.sequence = moment.device_time_s, moment.sequence
        self.faults.forget_before(moment.sequence)

    def play(
        self, panel: Panel, hand_over: Callable[[Levels], object], patterns: Sequence[Levels], frames_each: int
    ) -> None:
        """Hand each pattern to ``panel`` by ``hand_over`` as its first exposure begins, ``frames_each`` exposures after
        the pattern before; the first with the next exposure."""
        self.end_play(panel)
        self._cues += [_Cue(self.sequence + k * frames_each, panel, hand_over, p) for k, p in enumerate(patterns)]
        self._cues.sort(key=lambda cue: cue.at)

    def end_play(self, panel: Panel) -> None:
        """Drop what is left of the list that the panel plays."""
        self._cues = [cue for cue in self._cues if cue.panel is not panel]

    def pass_frames(self, count: int) -> None:
        """Let ``count`` frames be exposed and numbered unseen: the clock moves, nothing is rendered."""
        end = self.sequence + count
        while self._cues and self._cues[0].at < end:
            self._move_to(max(self._cues[0].at, self.sequence))
            self._hand_over_due()
        self._move_to(end)

    def _move_to(self, sequence: int) -> None:
        self.clock_s += (sequence - self.sequence) * self.frame_period_s
        self.sequence = sequence

    def _hand_over_due(self) -> None:
        """Give the panels the patterns whose exposures begin now."""
        while self._cues and self._cues[0].at <= self.sequence:
            cue = self._cues.pop(0)
            cue.hand_over(cue.levels)

    def expose(self, roi: Roi, brightness: float = 1.0) -> Frame:
        """The next frame, of ``roi``; ``brightness`` is a factor on the source for this frame."""
        self._hand_over_due()
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
        self._move_to(sequence + 1)
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
        return np.asarray(np.cos(2 * math.pi * hz * middle_s) * _sinc(hz * self.exposure_s))

    def _row_delay_s(self, panel: PanelConfig) -> Float:
        """When the sensor's rows see those of a panel, its middle column; a tilt within a row is left out [s]."""
        camera = self.config.camera
        column = np.full(panel.rows, (panel.cols - 1) / 2)
        seen = panel_to_camera(panel, camera) @ np.stack([column, np.arange(panel.rows), np.ones(panel.rows)])
        return np.asarray(camera.row_time_s * np.clip(seen[1] / seen[2], 0, camera.rows - 1))


@lru_cache(maxsize=64)
def _sinc(x: float) -> float:
    """``sin(πx) / (πx)``, the same in every frame of an exposure."""
    return float(np.sinc(x))
