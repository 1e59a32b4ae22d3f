"""Readings that go up and down with a period: the mains, a fan, a refresh, seen once in a row of a recording."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.response.leftover import Leftover
from calibration.response.wandering import InTime

Float = NDArray[np.float64]

FEWEST = 64  # rows
LONGEST = 40  # rows of a period: what is slower is drift
ABOUT = 16  # frequencies on either side, among which a line stands out
CHANCE = 1e-7  # that any line of a recording is said to be one
MATTERS = 0.05  # of the mean square of an output's residuals


def hum(left: Leftover) -> InTime | None:
    """The strongest line in the spectra of what the fit leaves of each output's level and gain; None without one.

    Ordinates of a spectrum are exponential about what those beside them are on average: a walk has large ones at slow
    frequencies, many together, and a period one by itself.
    """
    gaps = np.nonzero(np.diff(left.index) != 1)[0]
    n = int(gaps[0]) + 1 if len(gaps) else len(left.index)
    good = left.good[:n]
    if n < FEWEST or good.sum() < FEWEST:
        return None
    own = np.where(good[:, None], left.score[:n] - left.score[:n][good].mean(axis=0), 0.0)
    best: tuple[float, str, float, int] | None = None
    for what, series in (("level", own), ("gain", own * left.signal[:n])):
        power = (np.abs(np.fft.rfft(series, axis=0)) ** 2)[1:]
        period = n / np.arange(1, len(power) + 1)
        beside = np.stack([_beside(column) for column in power.T], axis=1)
        ratio = np.where(period[:, None] < LONGEST, power / np.maximum(beside, 1e-300), 0.0)
        at, m = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
        if ratio[at, m] > np.log(2 * power.size / CHANCE) and (best is None or ratio[at, m] > best[0]):
            near = slice(max(int(at) - 1, 0), int(at) + 2)
            share = 2 * float((power[near, m] - beside[near, m]).sum()) / n / float((series[:, m] ** 2).sum())
            best = float(ratio[at, m]), f"the {what} of output {left.names[m]}", min(share, 1.0), int(at) + 1
    if best is None or best[2] < MATTERS:
        return None
    _, which, share, waves = best
    words = (
        f"{which} goes up and down with a period of {n / waves:.3g} rows (the mains, a fan, a refresh), which is "
        f"{100 * share:.2g} % of what the fit leaves: no drift that the fit follows is so fast; shield it, or set the "
        "exposure to whole periods, then record again"
    )
    return InTime(words, share)


def _beside(power: Float) -> Float:
    """(k,) mean of the ordinates about each one, told by their median."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(power, ABOUT, mode="reflect"), 2 * ABOUT + 1)
    return np.asarray(np.median(windows, axis=1) / np.log(2))
