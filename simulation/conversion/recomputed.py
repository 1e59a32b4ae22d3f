"""Products that gradient checkpointing computes again in a backward pass, and the noise that they had."""

from __future__ import annotations

import torch
from torch import Tensor

REMEMBERED = 1024
"""Products of one layer whose noise can be drawn again."""


class Remembered:
    """How much of a layer's noise was used before each of its last products, by the vectors that they had.

    Their sums are kept on the vectors' device, so that nothing waits for it before a backward pass asks.
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None
        self._known: dict[int, tuple[int, torch.Size, int]] = {}
        self._count = 0

    def note(self, vectors: Tensor, calls: int) -> None:
        """A product of ``vectors`` is computed. In inference mode no backward pass will ask for it."""
        if torch.is_inference_mode_enabled():
            return
        if self._sums is None or self._sums.device != vectors.device:
            self._sums, self._known = torch.full((REMEMBERED,), torch.nan, device=vectors.device), {}
        place = self._count % REMEMBERED
        self._sums[place] = vectors.sum(dtype=torch.float32)
        self._known[place] = self._count, vectors.shape, calls
        self._count += 1

    def calls_before(self, vectors: Tensor) -> int | None:
        """How much was used when a product of these vectors ran last; None if none is remembered."""
        if self._sums is None or self._sums.device != vectors.device:
            return None
        total = vectors.sum(dtype=torch.float32)
        same = (self._sums == total) | (self._sums.isnan() & total.isnan())
        places = [place for place in same.nonzero().flatten().tolist() if place in self._known]
        alike = [self._known[place] for place in places if self._known[place][1] == vectors.shape]
        return max(alike)[2] if alike else None
