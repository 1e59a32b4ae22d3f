"""Reference frames: known light shown again and again between the others, so that a drift is seen while it happens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.frames.scan import EIGHT_BIT, PanelLevels, Scan
from calibration.machine.lut import Levels

DARK_EVERY = 6
PATIENCE = 1.5
"""How many times ``spacing`` a reference waits for the SLM to be bright or to change, before it goes in anyway."""


@dataclass
class References:
    """Puts reference frames into scans, in the order in which these are shown.

    A reference is a frame with the whole display at its brightest level; every sixth is one with the display at its
    darkest. Between two frames of the same SLM pattern it changes the display alone. Where the scan changes the SLM
    anyway, the reference comes before the new pattern and is shown over a bright SLM. References over a bright SLM
    are the best ones: they are the same through the whole run, and no model is needed to compare them.

    One object serves a whole run: it goes on counting from one scan to the next.

    Attributes
    ----------
    spacing
        Frames of the scan from one reference to the next, at least; 0 for no references at all.
    levels
        Gray levels of the panels.
    """

    spacing: int
    levels: PanelLevels = EIGHT_BIT
    _since: int = 0
    _shown: int = 0

    def into(self, scan: Scan, around: bool) -> tuple[Scan, NDArray[np.bool_]]:
        """Put references between the frames of a scan.

        Parameters
        ----------
        scan
            Of the panels that have ``levels``.
        around
            Also put one before the first frame, unless one has just been shown, and one after the last.

        Returns
        -------
        The scan with its references, (n,) frames, and the (n,) mask of those that are references.
        """
        if not self.spacing or not len(scan):
            return scan, np.zeros(len(scan), np.bool_)
        level = self.levels.slm_bright
        bright = np.nonzero((scan.slm == level).all(axis=(1, 2)))[0]
        slm = scan.slm if len(bright) else np.concatenate([scan.slm, np.full_like(scan.slm[:1], level)])
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

    def _next(self, scan: Scan) -> Levels:
        """The display of the next reference, (k,)."""
        self._since = 0
        self._shown += 1
        level = 0 if self._shown % DARK_EVERY == 0 else self.levels.display_bright
        return np.full(scan.display.shape[1], level, scan.display.dtype)
