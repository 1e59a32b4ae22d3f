"""A liquid-crystal panel: gray level → relative intensity, and how it settles after a new frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from drivers.protocols import Levels
from mock_hardware.config import PanelConfig

SETTLED = 1e-5
"""Weight below which an earlier image is forgotten."""


@dataclass(frozen=True)
class Term:
    """An image on the panel and its share in one exposure; equal when frame and share are.

    Attributes
    ----------
    frame_id
        Which frame.
    weight
        Its share; the terms of an exposure sum to 1.
    levels : (rows, cols) uint8 or uint16
    """

    frame_id: int
    weight: float
    levels: Levels = field(compare=False, repr=False)


Terms = tuple[Term, ...]


class Panel:
    """What is on a panel as a function of device time.

    The drive is piecewise constant, the transmission relaxes to it with time constant τ, so it is at any time a
    mixture of the images shown, ``Σ_k w_k(t) T_k``. With ``F_k(t) = exp(−max(0, t − t_k)/τ)``, the part that image k,
    in effect from t_k, has not yet reached, ``w_k = F_{k+1} − F_k``. That covers transitions that were interrupted.

    Parameters
    ----------
    config
        Its parameters.
    """

    def __init__(self, config: PanelConfig) -> None:
        self.config = config
        self.response = response(config)
        self.frame_id = 0
        self._dtype = np.uint8 if config.levels <= 256 else np.uint16
        dark = np.zeros((config.rows, config.cols), self._dtype)
        self._history = [(-math.inf, 0, dark)]

    def show(self, levels: Levels, now_s: float) -> float:
        """Hand over a frame at device time ``now_s``; returns the refresh tick at which it takes effect [s].

        Parameters
        ----------
        levels : (rows, cols) integer
            Copied.
        """
        hz = self.config.refresh_hz
        tick_s = math.ceil(now_s * hz - 1e-6) / hz
        if self._history[-1][0] == tick_s:
            self._history.pop()
        self.frame_id += 1
        self._history.append((tick_s, self.frame_id, levels.astype(self._dtype)))
        return tick_s

    def terms(self, start_s: float, end_s: float) -> Terms:
        """The images seen by an exposure from ``start_s`` to ``end_s``, with their mean weights."""
        tau_s = self.config.tau_s
        while len(self._history) > 1 and _mean_decay(self._history[1][0], start_s, start_s, tau_s) < SETTLED:
            del self._history[0]
        pending = [_mean_decay(since_s, start_s, end_s, tau_s) for since_s, _, _ in self._history[1:]]
        weights = np.diff([0.0, *pending, 1.0])
        return tuple(
            Term(frame_id, float(weight), levels)
            for weight, (_, frame_id, levels) in zip(weights, self._history, strict=True)
            if weight > 0
        )


def response(config: PanelConfig) -> NDArray[np.float32]:
    """(levels,) relative intensity of each gray level, 0 … 1."""
    drive = np.linspace(0.0, 1.0, config.levels)
    return (config.floor + (1.0 - config.floor) * drive**config.gamma).astype(np.float32)


def _mean_decay(since_s: float, start_s: float, end_s: float, tau_s: float) -> float:
    """Mean of ``exp(−max(0, t − since)/τ)`` over start … end; its value at start where both are the same."""
    if end_s <= since_s:
        return 1.0
    if end_s == start_s:
        return math.exp(-(start_s - since_s) / tau_s)
    begin_s = max(start_s, since_s)
    decayed_s = tau_s * (math.exp(-(begin_s - since_s) / tau_s) - math.exp(-(end_s - since_s) / tau_s))
    return (begin_s - start_s + decayed_s) / (end_s - start_s)
