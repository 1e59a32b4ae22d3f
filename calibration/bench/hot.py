"""Hot pixels: those that read far more than their neighbours without light, and what stands in their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float = NDArray[np.float64]

EXCESS = 0.02
"""Of the camera's range, over the median of the pixels around, from which on a pixel counts as hot."""
AROUND_PX = 5
SHARE_MAX = 0.2


@dataclass(frozen=True)
class HotPixels:
    """Where they are, and the nearest pixel of each that is none.

    Attributes
    ----------
    at, nearest
        Each (rows, columns) [camera px].
    """

    at: tuple[NDArray[np.intp], NDArray[np.intp]]
    nearest: tuple[NDArray[np.intp], NDArray[np.intp]]

    @classmethod
    def none(cls) -> Self:
        """No pixel is hot."""
        nowhere = np.zeros(0, np.intp), np.zeros(0, np.intp)
        return cls(nowhere, nowhere)

    @classmethod
    def of(cls, dark: Float, full_scale_dn: int) -> Self:
        """Those of a frame without light (H, W) [DN]; none where so many stand out that it is no dark frame."""
        hot = dark > ndimage.median_filter(dark, AROUND_PX) + EXCESS * full_scale_dn
        at = np.nonzero(hot)
        if not at[0].size or hot.mean() > SHARE_MAX:
            return cls.none()
        rows, columns = ndimage.distance_transform_edt(hot, return_distances=False, return_indices=True)
        return cls((at[0], at[1]), (rows[hot].astype(np.intp), columns[hot].astype(np.intp)))

    def mended(self, frame: Float) -> Float:
        """The frame (H, W) with the nearest good pixel in place of each hot one."""
        mended = frame.copy()
        mended[self.at] = frame[self.nearest]
        return mended
