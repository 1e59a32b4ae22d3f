"""The image in a panel's plane: each pixel's response, with its imperfections, averaged over an exposure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from groundwork.threads import Threads
from mock_hardware import kernels, noise
from mock_hardware.config import PanelConfig
from mock_hardware.noise import Floats
from mock_hardware.panel import Seen, Shown, response
from mock_hardware.scratch import Scratch

_FINE_ENTRIES = 4096
_SPARE = 2
_UNIFORMITY, _DEAD, _STUCK = range(1 << 40, (1 << 40) + 3)

Box = tuple[int, int, int, int]
"""First row and column, rows and columns, of part of a panel's plane; it may reach beyond the panel, into the dark."""


class Plane:
    """The pixels of one panel: what each transmits during an exposure, its own imperfections included.

    Parameters
    ----------
    config
        Of the panel.
    seed
        From which its fixed patterns are drawn.
    illumination : (rows, cols) float32
        Light that falls on each pixel, relative to the brightest [1]; None for the same everywhere.
    threads
        The threads that compute frames, each a part of the rows.

    Attributes
    ----------
    uniformity : (rows, cols) float32
        Transmission of each pixel relative to the response [1].
    dead, stuck : (n,)
        Flat indices of pixels that show the lowest, or the highest level.
    """

    def __init__(self, config: PanelConfig, seed: int, illumination: Floats | None, threads: Threads) -> None:
        self.config, self._threads = config, threads
        shape, size = (config.rows, config.cols), config.rows * config.cols
        self.uniformity = np.ones(shape, np.float32)
        if config.uniformity_rms:
            spread = noise.generator(seed, _UNIFORMITY).standard_normal(shape, np.float32)
            self.uniformity += np.float32(config.uniformity_rms) * spread
            np.maximum(self.uniformity, 0, out=self.uniformity)
        self._static = self.uniformity if illumination is None else self.uniformity * illumination
        self.dead = _some(size, config.dead_fraction, noise.generator(seed, _DEAD))
        self.stuck = _some(size, config.stuck_fraction, noise.generator(seed, _STUCK))
        self._fine = max(1, _FINE_ENTRIES // config.levels) if config.fringing else 1
        self._table = response(config, self._fine)
        self._kept: dict[tuple[int, Box], Floats] = {}
        self._spare: list[Floats] = []
        self._scratch = Scratch()

    def image(self, seen: Seen, box: Box) -> Floats:
        """(rows, cols) of ``box``: relative intensity, mean over the exposure; valid until the next call [1]."""
        images = [self._transmission(shown, box) for shown in seen.shown]
        wanted = {(shown.frame_id, box) for shown in seen.shown}
        self._spare += [image for key, image in self._kept.items() if key not in wanted]
        self._spare = [image for image in self._spare if image.shape == box[2:]][:_SPARE]
        self._kept = dict(zip(((shown.frame_id, box) for shown in seen.shown), images, strict=True))
        state = mean = images[0]
        weight = 1 - self._rows(seen.factors.sum(axis=0), box)[0]
        steps = [np.split(self._rows(factors, box), [3]) for factors in seen.factors]
        last = len(steps) - 1
        for i, (target, (part, left)) in enumerate(zip(images[1:], steps, strict=True)):
            if i == last - 1 and not part.any():  # the usual end: one way not yet at its end, and the one after it
                before, mean = mean, self._scratch.take(f"mean {i % 2}", box[2:])
                onward = images[-1], steps[last][0], weight, before, mean
                self._threads.rows(kernels.advance_average, len(mean), state, target, left, *onward)
                break
            if part.any():
                before, mean = mean, self._scratch.take(f"mean {i % 2}", box[2:])
                self._threads.rows(kernels.average, len(mean), state, target, part, weight, before, mean)
                weight = np.ones_like(weight)
            if i < last:
                now, state = state, self._scratch.take(f"state {i % 2}", box[2:])
                self._threads.rows(kernels.advance, len(state), now, target, left, state)
        return mean

    def _transmission(self, shown: Shown, box: Box) -> Floats:
        kept = self._kept.get((shown.frame_id, box))
        if kept is not None:
            return kept
        y0, x0, height, width = box
        image = self._spare.pop() if self._spare else np.empty((height, width), np.float32)
        if image.shape != (height, width):
            image = np.empty((height, width), np.float32)
        fringing = np.float32(self.config.fringing)
        static, corner = self._static, (y0, x0)
        self._threads.rows(
            kernels.transmission, height, shown.levels, self._table, self._fine, fringing, static, corner, image
        )
        for pixels, value in ((self.dead, self._table[0]), (self.stuck, self._table[-1])):
            row, col = np.divmod(pixels, self.config.cols)
            here = (row >= y0) & (row < y0 + height) & (col >= x0) & (col < x0 + width)
            image[row[here] - y0, col[here] - x0] = value * static[row[here], col[here]]
        return image

    def _rows(self, factors: Floats, box: Box) -> Floats:
        """Factors of the rows of ``box``; rows beyond the panel have those of its edge."""
        rows = np.clip(np.arange(box[0], box[0] + box[2]), 0, self.config.rows - 1)
        return np.ascontiguousarray(factors[:, rows])


def _some(size: int, fraction: float, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.unique(rng.integers(0, size, round(fraction * size)))
