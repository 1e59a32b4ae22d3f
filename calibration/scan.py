"""What a bench is asked to show, and what it read: gray levels and region sums, nothing about devices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadOperands

Float = NDArray[np.float64]
Levels = NDArray[np.uint8]


@dataclass(frozen=True)
class Scan:
    """An ordered list of frames: for each, which SLM pattern and which display vector.

    Attributes
    ----------
    slm
        (s, m, k) uint8 gray levels of the macropixels, one entry for each *different* SLM pattern.
    slm_index
        (n,) which entry of ``slm`` each frame uses; equal neighbours cost no SLM change.
    display
        (n, k) uint8 gray levels of the columns.
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
    """

    scan: Scan
    dn: Float
    saturated: Float

    def __len__(self) -> int:
        return len(self.scan)

    def minus(self, dark_dn: Float) -> Readings:
        """The same readings with the dark signal (M,) subtracted."""
        return Readings(self.scan, self.dn - dark_dn, self.saturated)

    def without(self, frames: list[int]) -> Readings:
        """The same readings with some frames left out, by index."""
        keep = np.delete(np.arange(len(self)), frames)
        scan = Scan(self.scan.slm, self.scan.slm_index[keep], self.scan.display[keep])
        return Readings(scan, self.dn[keep], self.saturated[keep])


def repeats(readings: Readings) -> list[NDArray[np.int64]]:
    """Indices of frames that showed the same thing, for every thing shown at least twice."""
    groups: dict[tuple[int, bytes], list[int]] = {}
    for i, s in enumerate(readings.scan.slm_index):
        groups.setdefault((int(s), readings.scan.display[i].tobytes()), []).append(i)
    return [np.array(g) for g in groups.values() if len(g) > 1]
