"""What a bench is asked to show, and what it read: gray levels and region sums, nothing about devices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadOperands, OutOfDomain
from calibration.machine.lut import Levels, level_dtype

Float = NDArray[np.float64]
LEVELS_MAX = 1 << 16


@dataclass(frozen=True)
class PanelLevels:
    """How many gray levels the display and the SLM of a bench have, each its own number.

    Level 0 of a panel is its darkest and level n − 1 its brightest. Frames for a panel are arrays of the smallest
    unsigned integers that hold its levels: uint8 for 2 … 256 of them, uint16 for more.

    Attributes
    ----------
    display, slm
        Number of gray levels, 2 (a binary micromirror array) … 65536.
    """

    display: int = 256
    slm: int = 256

    def __post_init__(self) -> None:
        for panel, levels in (("display", self.display), ("slm", self.slm)):
            if not 2 <= levels <= LEVELS_MAX:
                raise OutOfDomain(
                    f"no scan can be designed for a {panel} of {levels} gray levels",
                    device=panel,
                    action="designing frames",
                    expected=f"2 … {LEVELS_MAX} gray levels",
                    seen=str(levels),
                    hint="labctl devices list",
                )

    @property
    def display_bright(self) -> int:
        """The display's brightest level."""
        return self.display - 1

    @property
    def slm_bright(self) -> int:
        """The SLM's brightest level."""
        return self.slm - 1

    @property
    def display_dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """Integers of the display's frames."""
        return level_dtype(self.display)

    @property
    def slm_dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """Integers of the SLM's frames."""
        return level_dtype(self.slm)


EIGHT_BIT = PanelLevels()
"""Both panels have 256 levels."""


@dataclass(frozen=True)
class Scan:
    """An ordered list of frames: for each, which SLM pattern and which display vector.

    Attributes
    ----------
    slm
        (s, m, k) gray levels of the macropixels, one entry for each *different* SLM pattern.
    slm_index
        (n,) which entry of ``slm`` each frame uses; equal neighbours cost no SLM change.
    display
        (n, k) gray levels of the columns. Both arrays are unsigned integers as `PanelLevels` has them for the panel.
    """

    slm: Levels
    slm_index: NDArray[np.int64]
    display: Levels

    def __post_init__(self) -> None:
        if (
            self.slm.ndim != 3
            or self.display.shape != (len(self.slm_index), self.slm.shape[2])
            or (len(self.slm_index) and not 0 <= self.slm_index.min() <= self.slm_index.max() < len(self.slm))
        ):
            raise BadOperands(
                "shapes of a scan do not fit together",
                expected="slm (s, m, k), slm_index (n,) in 0…s−1, display (n, k)",
                seen=f"slm {self.slm.shape}, slm_index {self.slm_index.shape}, display {self.display.shape}",
            )

    def __len__(self) -> int:
        return len(self.slm_index)


@dataclass(frozen=True)
class Readings:
    """A scan and what the camera read.

    Attributes
    ----------
    scan
        `Scan`
    dn
        (n, M) region sums [DN]; as read, or `minus` the dark signal.
    saturated
        (n,) fraction of the sensor window at full scale [1].
    at_s
        (n,) device time of each frame [s]; None where nobody noted it.
    drift_covariance
        (n, 2, 2) of the gain's relative deviation [1] and the offset's [DN] that `steadied` could not take out; None
        where nothing was taken out.
    power
        (n,) light at which each frame was read, over that of the calibration, which `steadied` divided by [1]; None
        where nothing was taken out.
    """

    scan: Scan
    dn: Float
    saturated: Float
    at_s: Float | None = None
    drift_covariance: Float | None = None
    power: Float | None = None

    def __len__(self) -> int:
        return len(self.scan)

    def minus(self, dark_dn: Float) -> Readings:
        """The same readings with the dark signal (M,) subtracted."""
        return replace(self, dn=self.dn - dark_dn)

    def where(self, keep: NDArray[np.bool_]) -> Readings:
        """Only the frames of the (n,) mask ``keep``, and the SLM patterns that they show."""
        used, index = np.unique(self.scan.slm_index[keep], return_inverse=True)
        return Readings(
            Scan(self.scan.slm[used], index.astype(np.int64), self.scan.display[keep]),
            self.dn[keep],
            self.saturated[keep],
            None if self.at_s is None else self.at_s[keep],
            None if self.drift_covariance is None else self.drift_covariance[keep],
            None if self.power is None else self.power[keep],
        )

    def drift_variance_dn2(self, mean_dn: Float) -> Float:
        """(n, M) variance of readings of expectation ``mean_dn`` by what is left of the drift [DN²]."""
        if self.drift_covariance is None:
            return np.zeros_like(mean_dn)
        (gain2, both), (_, offset2) = np.moveaxis(self.drift_covariance, 0, -1)[..., None]
        return np.asarray(gain2 * mean_dn**2 + 2 * both * mean_dn + offset2)

    def steadied(self, course: Float, covariance: Float) -> Readings:
        """Dark-subtracted readings as they would be without drift: (y − o) / (1 + g).

        Parameters
        ----------
        course, covariance
            (n, 2) and (n, 2, 2): relative deviation g of the gain [1] and deviation o of the offset [DN] in each frame.
        """
        gain, offset_dn = course.T[:, :, None]
        steady = (self.dn - offset_dn) / (1 + gain)
        return replace(self, dn=steady, drift_covariance=covariance, power=1 + course[:, 0])


def repeats(readings: Readings) -> list[NDArray[np.int64]]:
    """Indices of frames that showed the same thing, for every thing shown at least twice."""
    groups: dict[tuple[int, bytes], list[int]] = {}
    for i, s in enumerate(readings.scan.slm_index):
        groups.setdefault((int(s), readings.scan.display[i].tobytes()), []).append(i)
    return [np.array(g) for g in groups.values() if len(g) > 1]
