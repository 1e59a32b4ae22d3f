"""Canaries: the same few vectors on the same matrix, shown for the life of a bench, that tell whether it has changed.

Their gray levels rest on the shape of the layout and on nothing that was ever measured, so that no calibration changes
what is shown. The bits are those of SHAKE-256, whose output no later version of any library changes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadScan
from calibration.frames.scan import PanelLevels, Scan
from calibration.machine.lut import Levels

Float = NDArray[np.float64]

VECTORS = 32
REPEATS = 4
LEAD = 8
"""Frames shown before the first one that counts: so that every one comes after the same picture."""
SEEN_MIN = 5.0
"""Least light of the canaries, in standard deviations of a single reading."""


def canary_scan(shape: tuple[int, int], levels: PanelLevels) -> Scan:
    """`VECTORS` vectors on one matrix, `REPEATS` times in the same order, after `LEAD` frames that do not count.

    Parameters
    ----------
    shape
        Macropixels (m, k).
    """
    rows, columns = shape
    pattern = _drawn("matrix", (1, rows, columns), levels.slm).astype(levels.slm_dtype)
    vectors = _drawn("vectors", (VECTORS, columns), levels.display).astype(levels.display_dtype)
    order = np.concatenate([np.arange(VECTORS - LEAD, VECTORS), np.tile(np.arange(VECTORS), REPEATS)])
    return Scan(pattern, np.zeros(len(order), np.int64), vectors[order])


def _drawn(what: str, shape: tuple[int, ...], levels: int) -> Levels:
    """Gray levels 0 … levels − 1, evenly distributed, that are the same wherever and whenever they are drawn."""
    count = int(np.prod(shape))
    bits = hashlib.shake_256(f"canaries {what} {shape} {levels}".encode()).digest(4 * count)
    fraction = np.frombuffer(bits, "<u4").astype(np.uint64)
    return ((fraction * np.uint64(levels)) >> np.uint64(32)).reshape(shape)


@dataclass(frozen=True)
class Canaries:
    """What the canaries read at one moment.

    Attributes
    ----------
    mean_dn
        (VECTORS, M) over the repeats, dark signal subtracted [DN].
    noise_dn
        (M,) standard deviation of a single reading, the source's flicker taken out [DN].
    flicker
        Relative standard deviation from frame to frame of the light of all outputs together [1].
    """

    mean_dn: Float
    noise_dn: Float
    flicker: float

    @property
    def signal_dn(self) -> float:
        """Mean over vectors and outputs [DN]."""
        return float(self.mean_dn.mean())

    @property
    def signal_stderr_dn(self) -> float:
        """Standard error of `signal_dn` [DN]."""
        return self.signal_dn * self.flicker / float(np.sqrt(VECTORS * REPEATS))

    @property
    def tilt(self) -> float:
        """Slope of the light over the outputs in their order: what the last has more than the middle, of the mean [1].

        The canaries differ from output to output, so that it is a number of the bench and not 0. A beam that walks, a
        wedge or dust on one side change it, the source and its flicker do not.
        """
        return float(self._tilting @ self.mean_dn.mean(axis=0)) / self.signal_dn

    @property
    def tilt_stderr(self) -> float:
        """Standard error of `tilt` by the noise of single readings [1]."""
        noise = self._tilting * self.noise_dn
        return float(np.sqrt((noise**2).sum() / (VECTORS * REPEATS))) / self.signal_dn

    @property
    def _tilting(self) -> Float:
        """(M,) weights of the least-squares slope over −1 … 1."""
        at: Float = np.linspace(-1.0, 1.0, len(self.noise_dn))
        return np.asarray(at / (at**2).sum())


def read_canaries(dn: Float) -> Canaries:
    """Readings of `canary_scan`.

    Parameters
    ----------
    dn
        (LEAD + REPEATS · VECTORS, M), dark signal subtracted [DN].

    Raises
    ------
    BadScan
        When there is no light in them.
    """
    frames = dn[LEAD:].reshape(REPEATS, VECTORS, -1)
    mean = frames.mean(axis=0)
    outputs = frames.shape[2]
    factor = (frames * mean).sum(axis=2) / np.maximum((mean**2).sum(axis=1), np.finfo(float).tiny)
    left = frames - factor[:, :, None] * mean
    freedom = VECTORS * (REPEATS - 1) * (1 - 1 / outputs)
    noise = np.sqrt((left**2).sum(axis=(0, 1)) / freedom)
    typical = float(np.sqrt(np.mean(noise**2)))
    if not mean.mean() > SEEN_MIN * typical / np.sqrt(outputs):
        raise BadScan(
            "the canaries show no light",
            device="camera",
            action="reading the canaries",
            expected="more light than noise",
            seen=f"{mean.mean():.4g} DN on average, noise {typical:.4g} DN",
            hint="look at the bench: is the source on, does anything block the light?",
        )
    together = frames.mean(axis=2) / mean.mean(axis=1)
    flicker = float(np.sqrt(((together - 1) ** 2).sum() / (VECTORS * (REPEATS - 1))))
    return Canaries(mean, noise, flicker)


@dataclass(frozen=True)
class Change:
    """What lies between two moments.

    Attributes
    ----------
    light
        Light of now over that of then, less one [1].
    light_stderr
        Its standard error [1].
    left
        (M,) what one factor for all outputs does not explain of each, over its standard deviation.
    shape
        Root mean square of ``left``: 1 where nothing but the light has changed.
    """

    light: float
    light_stderr: float
    left: Float
    shape: float


def change(then: Canaries, now: Canaries) -> Change:
    """How the canaries of now differ from those of then.

    The source may have become brighter or darker; how the light is shared among the outputs, all vectors together, may
    not have changed by more than noise.
    """
    before, after = then.mean_dn.mean(axis=0), now.mean_dn.mean(axis=0)
    variance = (then.noise_dn**2 + now.noise_dn**2) / (2 * REPEATS * VECTORS)
    factor = (after * before / variance).sum() / (before**2 / variance).sum()
    left = (after - factor * before) / np.sqrt((1 + factor**2) * variance)
    light = now.signal_dn / then.signal_dn
    errors = now.signal_stderr_dn / now.signal_dn, then.signal_stderr_dn / then.signal_dn
    shape = float(np.sqrt((left**2).sum() / (len(left) - 1)))
    return Change(light - 1, light * float(np.hypot(*errors)), left, shape)
