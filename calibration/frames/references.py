"""Reference frames: known light shown again and again between the others, so that a drift is seen while it happens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.frames.scan import Scan

BRIGHT = 255
DARK_EVERY = 6
PATIENCE = 1.5
"""How much longer than ``spacing`` a reference waits for the SLM to be bright or to change."""


@dataclass
class References:
    """Puts reference frames into scans, in the order in which these are shown.

    A reference is a bright display, every sixth time a dark one. It changes the display alone where the SLM stays as it
    is; where the SLM changes anyway it comes first, over a bright SLM. A bright SLM is the best reference: one that is
    the same through the whole run and needs no model.

    Attributes
    ----------
    spacing
        Frames from one reference to the next, at least; 0 for none at all.
    """

    spacing: int
    _since: int = 0
    _shown: int = 0

    def into(self, scan: Scan, around: bool) -> tuple[Scan, NDArray[np.bool_]]:
        """The scan with its references, and a mask of which frames these are.

        Parameters
        ----------
        around
            Also one before the first frame, unless one has just been shown, and one after the last.
        """
        if not self.spacing or not len(scan):
            return scan, np.zeros(len(scan), np.bool_)
        bright = np.nonzero((scan.slm == BRIGHT).all(axis=(1, 2)))[0]
        slm = scan.slm if len(bright) else np.concatenate([scan.slm, np.full_like(scan.slm[:1], BRIGHT)])
        best = int(bright[0]) if len(bright) else len(slm) - 1
        index, display, mask = [], [], []
        for i, pattern in enumerate(scan.slm_index):
            changes = i == 0 or pattern != scan.slm_index[i - 1]
            wait = self.spacing * (1.0 if changes or pattern == best else PATIENCE)
            if self._since >= wait or (i == 0 and around and (self._since or not self._shown)):
                index.append(best if changes else pattern)
                display.append(self._next(scan))
                mask.append(True)
            index.append(pattern)
            display.append(scan.display[i])
            mask.append(False)
            self._since += 1
        if around:
            index.append(best)
            display.append(self._next(scan))
            mask.append(True)
        return Scan(slm, np.array(index, np.int64), np.stack(display)), np.array(mask)

    def _next(self, scan: Scan) -> NDArray[np.uint8]:
        """The display of the next reference."""
        self._since = 0
        self._shown += 1
        return np.full(scan.display.shape[1], 0 if self._shown % DARK_EVERY == 0 else BRIGHT, np.uint8)
