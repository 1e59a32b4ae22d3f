"""Forms of the crosstalk between neighbouring outputs: none, one pair for all, a pair for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

CLAIMS = {"common": "crosstalk", "per output": "per-output crosstalk"}


@dataclass(frozen=True)
class CrosstalkForm:
    """How many numbers the crosstalk takes.

    Attributes
    ----------
    name
        ``"none"``, ``"common"`` or ``"per output"``.
    contains
        Names of the simpler forms.
    local, shared
        Parameters of each output, and of all.
    """

    name: str
    contains: frozenset[str]
    local: int
    shared: int

    def parameters(self, outputs: int) -> int:
        """Free ones: the outermost outputs have one neighbour only."""
        return self.shared + (self.local * outputs - 2 if self.local else 0)

    def nearest(self, crosstalk: Float) -> Float:
        """(M, 2) of this form, about the ``crosstalk`` of another."""
        if self.local:
            return crosstalk.copy()
        pair = np.array([crosstalk[1:, 0].mean(), crosstalk[:-1, 1].mean()]) if self.shared else np.zeros(2)
        return everywhere(pair, len(crosstalk))


NONE = CrosstalkForm("none", frozenset(), 0, 0)
COMMON = CrosstalkForm("common", frozenset({"none"}), 0, 2)
PER_OUTPUT = CrosstalkForm("per output", frozenset({"none", "common"}), 2, 0)


def everywhere(pair: Float, outputs: int) -> Float:
    """(M, 2) of one pair; the outermost outputs have no neighbour beyond the edge."""
    crosstalk = np.tile(pair, (outputs, 1))
    crosstalk[0, 0] = crosstalk[-1, 1] = 0.0
    return crosstalk


def neighbours(light: Float) -> Float:
    """(2, n, M): light of row m − 1 and of row m + 1, from the light (n, M)."""
    sides = np.zeros((2, *light.shape))
    sides[0, :, 1:], sides[1, :, :-1] = light[:, :-1], light[:, 1:]
    return sides
