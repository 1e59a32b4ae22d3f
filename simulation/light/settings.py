"""What a product takes besides its operands: how its noise is drawn, and the range of its converters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Variance = Literal["exact", "rank-one", "constant"]
VARIANCES: tuple[Variance, ...] = ("exact", "rank-one", "constant")


@dataclass(frozen=True)
class Range:
    """The range of the converters before and after the light.

    Attributes
    ----------
    clip
        Magnitude at which vectors are clipped.
    step, limit
        Rounding of the results and their largest size; 0: neither.
    """

    clip: float = np.inf
    step: float = 0.0
    limit: float = 0.0

    @property
    def rounding(self) -> tuple[np.float32, np.float32]:
        """``step`` and ``limit`` in single precision."""
        return np.float32(self.step), np.float32(self.limit)

    def round(self, y: Tensor) -> Tensor:
        """Results as converted."""
        if not self.step:
            return y
        top = round(self.limit / self.step)
        return (y / self.step).round().clamp(-top, top) * self.step


AS_IS = Range()
"""Nothing is clipped or rounded."""


@dataclass
class Noise:
    """The state of a layer's noise: the two words of its key, and how many products it has drawn so far."""

    key: tuple[int, int]
    calls: int = 0

    def next(self, count: int) -> NDArray[np.uint32]:
        """Key of the next product, the first of ``count`` that are drawn together."""
        self.calls += count
        key: NDArray[np.uint32] = self._keys(self.calls - count + 1)[0]
        return key

    def now(self) -> NDArray[np.uint32]:
        """Key of the last product."""
        key: NDArray[np.uint32] = self._keys(self.calls)[0]
        return key

    def now_and_next(self) -> NDArray[np.uint32]:
        """(2, 4) keys of the last product and of the next one, which is not drawn yet."""
        return self._keys(self.calls, self.calls + 1)

    def _keys(self, *calls: int) -> NDArray[np.uint32]:
        return np.array([(*self.key, call & 0x3FFFFFFF, 0) for call in calls], np.uint32)
