"""A liquid-crystal panel: gray level → relative intensity, and how it settles after a new frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from drivers.protocols import Levels
from mock_hardware.config import PanelConfig

Float = NDArray[np.float64]

SETTLED = 1e-4
"""Part of a step below which an earlier image is forgotten."""


@dataclass(frozen=True)
class Shown:
    """A frame on the panel; two are equal when their numbers are.

    Attributes
    ----------
    frame_id
        Which frame.
    levels : (rows, cols) uint8 or uint16
    """

    frame_id: int
    levels: Levels = field(compare=False, repr=False)


@dataclass(frozen=True)
class Seen:
    """What one exposure sees of a panel: the image it was at rest with, and those it went for since.

    Attributes
    ----------
    shown
        One image or more; the first is the one at rest.
    factors : (len(shown) − 1, 5, rows) float32
        Of each later image and panel row: share of the exposure in which it was driven; mean part of its step still to
        come in that time, towards bright, towards dark; the part left when the next image takes over, bright, dark.
    """

    shown: tuple[Shown, ...]
    factors: NDArray[np.float32] = field(compare=False, repr=False)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for exposures that see the same."""
        return (*(shown.frame_id for shown in self.shown), self.factors.tobytes())


class Panel:
    """What is on a panel as a function of device time.

    The drive is piecewise constant; each pixel's transmission relaxes to it exponentially, with one time constant on
    the way up and another on the way down. It never crosses what it goes for, so between two frames each pixel has one
    of the two, and transitions that are interrupted go on from where they were.

    Parameters
    ----------
    config
        Its parameters.
    row_delay_s : (rows,)
        How much later than the first one of the sensor each row of the panel is exposed (rolling shutter) [s].
    """

    def __init__(self, config: PanelConfig, row_delay_s: Float | None = None) -> None:
        self.config = config
        self.frame_id = 0
        self._hypothetical = 0
        self._delay_s = np.zeros(config.rows) if row_delay_s is None else row_delay_s
        self._delays_s = float(self._delay_s.min()), float(self._delay_s.max())
        self._tau_s = config.tau_s, config.tau_s * config.fall_ratio
        self._dtype = np.uint8 if config.levels <= 256 else np.uint16
        idle = 3 * (config.levels - 1) // 4 if config.elsewhere else 0
        self._history = [(-math.inf, Shown(0, np.full((config.rows, config.cols), idle, self._dtype)))]

    def show(self, levels: Levels, now_s: float) -> float:
        """Hand over a frame at device time ``now_s``; returns the refresh tick at which it takes effect [s].

        Parameters
        ----------
        levels : (rows, cols) integer
            Copied.
        """
        tick_s = self.tick_s(now_s)
        if self.config.elsewhere:
            return tick_s
        if self._history[-1][0] == tick_s:
            self._history.pop()
        self.frame_id += 1
        self._history.append((tick_s, Shown(self.frame_id, levels.astype(self._dtype))))
        return tick_s

    def tick_s(self, now_s: float) -> float:
        """The first refresh at or after ``now_s`` [s]."""
        hz = self.config.refresh_hz
        return math.ceil(now_s * hz - 1e-6) / hz

    def seen(self, start_s: float, end_s: float) -> Seen:
        """What an exposure sees whose first row lasts from ``start_s`` to ``end_s``."""
        first_s, last_s = start_s + self._delays_s[0], end_s + self._delays_s[1]
        while len(self._history) > 1 and math.exp((self._history[1][0] - first_s) / max(self._tau_s)) < SETTLED:
            del self._history[0]
        visible = [entry for entry in self._history if entry[0] < last_s]
        since_s = [at_s for at_s, _ in visible[1:]]
        until_s = [*since_s[1:], math.inf][: len(since_s)]
        begin_s, finish_s = start_s + self._delay_s, end_s + self._delay_s
        factors = [self._factors(a, b, begin_s, finish_s) for a, b in zip(since_s, until_s, strict=True)]
        shape = len(factors), 5, self.config.rows
        return Seen(tuple(shown for _, shown in visible), np.array(factors, np.float32).reshape(shape))

    def settled(self, levels: Levels) -> Seen:
        """A panel that has shown ``levels`` for ever."""
        self._hypothetical += 1
        frame = Shown(-self._hypothetical, np.ascontiguousarray(levels, self._dtype))
        return Seen((frame,), np.empty((0, 5, self.config.rows), np.float32))

    def _factors(self, since_s: float, until_s: float, begin_s: Float, finish_s: Float) -> list[Float]:
        """(5, rows) of `Seen.factors` for the image in effect from ``since_s`` until ``until_s``."""
        exposure_s = finish_s - begin_s
        a = np.maximum(begin_s, since_s) - since_s
        b = np.maximum(np.minimum(finish_s, until_s) - since_s, a)
        to_come = [tau_s * (np.exp(-a / tau_s) - np.exp(-b / tau_s)) / exposure_s for tau_s in self._tau_s]
        left = [np.full_like(a, math.exp((since_s - until_s) / tau_s)) for tau_s in self._tau_s]
        return [(b - a) / exposure_s, *to_come, *left]


def response(config: PanelConfig, fine: int = 1) -> NDArray[np.float32]:
    """Relative intensity 0 … 1 of each gray level, with ``fine`` steps from one to the next."""
    drive = np.linspace(0.0, 1.0, (config.levels - 1) * fine + 1) ** config.gamma
    drive = 1.0 - drive if config.inverted else drive
    curve = (1.0 - config.s_shape) * drive + config.s_shape * np.sin(np.pi / 2 * config.retardance * drive) ** 2
    return (config.floor + (1.0 - config.floor) * curve).astype(np.float32)
