"""Recordings of somebody else's bench in which something went wrong, each with its truth; numpy alone, no code of ours.

The bench is ``y = offset + K·Poisson(light) + read noise`` with light linear in the inputs, in the order recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

ROWS, OUTPUTS, INPUTS = 1200, 4, 12
OFFSET, K, PHOTONS, READ = 60.0, 0.5, 4000.0, 2.0


@dataclass(frozen=True)
class Recording:
    """What somebody recorded, and what is true of it.

    Attributes
    ----------
    inputs, weights, readings
        (rows, N), (M, N) and (rows, M) as the file has them.
    mean
        (rows, M) what a sound camera would have read of each row, on average.
    bad
        Rows that are no measurement of their inputs.
    clipped
        (rows, M) readings that stand at a rail of the camera.
    lag
        (rows,) by how many rows the readings come late (+) or early (−).
    """

    inputs: Float
    weights: Float
    readings: Float
    mean: Float
    bad: frozenset[int] = frozenset()
    clipped: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))
    lag: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


def sound(
    seed: int, rows: int = ROWS, outputs: int = OUTPUTS, inputs: int = INPUTS, photons: float = PHOTONS
) -> Recording:
    """A still bench with gains of its own for every pair, shot noise and read noise, in whole DN."""
    rng = np.random.default_rng([0, seed])  # the same bench for any number of rows
    w = rng.random((outputs, inputs))
    gain = w * (1 + 0.05 * rng.normal(size=w.shape))
    rng = np.random.default_rng([1, seed])
    x = rng.random((rows, inputs))
    light = photons * x @ gain.T / (0.25 * inputs)
    noisy = OFFSET + K * rng.poisson(light) + READ * rng.normal(size=light.shape)
    return Recording(x, w, np.round(noisy), OFFSET + K * light)


def stopped(seed: int, rows: int, value: float = 0.0, at: int | None = None, *, inputs_too: bool = False) -> Recording:
    """The camera delivers ``value`` in each output for ``rows`` rows, the last of the recording if ``at`` is None."""
    good = sound(seed)
    first = len(good.inputs) - rows if at is None else at
    gone = slice(first, first + rows)
    readings, inputs = good.readings.copy(), good.inputs.copy()
    readings[gone] = value
    if inputs_too:
        inputs[gone] = 0.0
    return replace(good, readings=readings, inputs=inputs, bad=frozenset(range(gone.start, gone.stop)))


def frozen(seed: int, rows: int, at: int | None = None) -> Recording:
    """The camera delivers its last frame again and again."""
    good = sound(seed)
    first = len(good.inputs) - rows if at is None else at
    readings = good.readings.copy()
    readings[first : first + rows] = readings[first - 1]
    return replace(good, readings=readings, bad=frozenset(range(first, first + rows)))


def dark(seed: int, rows: int, at: int | None = None) -> Recording:
    """The lamp is off: offset and read noise are all that is left."""
    good = sound(seed)
    first = len(good.inputs) - rows if at is None else at
    rng = np.random.default_rng([2, seed])
    readings = good.readings.copy()
    readings[first : first + rows] = np.round(OFFSET + READ * rng.normal(size=(rows, readings.shape[1])))
    return replace(good, readings=readings, bad=frozenset(range(first, first + rows)))


def clipped(seed: int, share: float, *, below: bool = False, only: int | None = None) -> Recording:
    """Readings beyond a rail that ``share`` of all readings would pass stand at it."""
    good = sound(seed)
    rail = np.round(np.quantile(good.readings, share if below else 1 - share))
    readings = np.maximum(good.readings, rail) if below else np.minimum(good.readings, rail)
    if only is not None:
        readings = np.where(np.arange(readings.shape[1]) == only, readings, good.readings)
    beyond = (good.readings < rail) if below else (good.readings > rail)
    return replace(good, readings=readings, clipped=beyond & (readings == rail))


def slipped(seed: int, at: int = 300, by: int = 1, rows: int = ROWS) -> Recording:
    """``by`` frames are delivered twice (+) or lost (−) at row ``at``; everything after is late or early."""
    good = sound(seed, rows + max(-by, 0))
    mean, readings = good.mean, good.readings
    source = np.arange(rows)
    source[at:] -= by
    lag = np.where(np.arange(rows) >= at, by, 0)
    return replace(good, inputs=good.inputs[:rows], readings=readings[source], mean=mean[:rows], lag=lag)


def started_up(seed: int, rows: int = 12, of: int = ROWS, size: float = 0.06) -> Recording:
    """The gains of the outputs are each a little off at first, and settle."""
    good = sound(seed, of)
    rng = np.random.default_rng([3, seed])
    off = size * rng.normal(size=good.readings.shape[1]) * np.exp(-np.arange(len(good.inputs)) / rows)[:, None]
    off[2 * rows :] = 0.0
    readings = np.round(good.readings + off * (good.mean - OFFSET))
    return replace(good, readings=readings)


def heavy(seed: int, rows: int = 800, degrees: float = 3.0) -> Recording:
    """The read noise is Student's t."""
    good = sound(seed, rows)
    rng = np.random.default_rng([4, seed])
    return replace(good, readings=good.mean + 20.0 * rng.standard_t(degrees, size=good.mean.shape))


def speckled(seed: int, rows: int = 800, contrast: float = 0.25) -> Recording:
    """The light of each reading is speckled: a gamma variate of the given contrast."""
    good = sound(seed, rows)
    rng = np.random.default_rng([5, seed])
    shape = contrast**-2
    factor = rng.gamma(shape, 1 / shape, size=good.mean.shape)
    return replace(good, readings=OFFSET + (good.mean - OFFSET) * factor + READ * rng.normal(size=good.mean.shape))


FAULTS: dict[str, Callable[[int], Recording]] = {
    "sound": sound,
    **{f"0 in the last {n} rows": (lambda seed, n=n: stopped(seed, n)) for n in (2, 4, 6, 8, 12, 40)},
    **{f"65535 in the last {n} rows": (lambda seed, n=n: stopped(seed, n, 65535.0)) for n in (2, 8, 40)},
    "0 and no inputs in the last 8 rows": lambda seed: stopped(seed, 8, inputs_too=True),
    "0 in 12 rows in the middle": lambda seed: stopped(seed, 12, at=500),
    "1234 in the first 9 rows": lambda seed: stopped(seed, 9, 1234.0, at=0),
    "0 in the first 6 rows": lambda seed: stopped(seed, 6, at=0),
    **{f"the last {n} rows repeat a frame": (lambda seed, n=n: frozen(seed, n)) for n in (2, 10, 40)},
    "25 rows in the middle repeat a frame": lambda seed: frozen(seed, 25, at=700),
    "lamp off for the last 12 rows": lambda seed: dark(seed, 12),
    "lamp off for 30 rows in the middle": lambda seed: dark(seed, 30, at=500),
    "4 % clipped above": lambda seed: clipped(seed, 0.04),
    "4 % clipped below": lambda seed: clipped(seed, 0.04, below=True),
    "one output clipped": lambda seed: clipped(seed, 0.03, only=2),
    "a frame twice at row 300": slipped,
    "a frame lost at row 300": lambda seed: slipped(seed, by=-1),
    "two frames lost at row 900": lambda seed: slipped(seed, at=900, by=-2),
    "start-up": started_up,
    "Student t, 3 degrees": heavy,
    "speckle of 25 %": speckled,
}
"""Name → recording of a seed."""
