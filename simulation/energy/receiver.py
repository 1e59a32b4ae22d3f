"""The noise of receivers, which more light makes up for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

NOISE, EFFICIENCY = "receiver.noise", "detector.quantum_efficiency"
LAW = "photons.law"
"""A factor of 1 with the interval of the law that the photons come from, where it was measured."""

Value = TypeVar("Value", float, NDArray[np.float64])
"""Of a constant: what the table says, or one number for each draw."""


@dataclass(frozen=True)
class Receiver:
    """What reads one sum of products.

    Attributes
    ----------
    photons
        That the law asks for where receivers have no noise [photon/MAC].
    inputs
        Products in the sum.
    readings
        Partial sums that are read one by one.
    efficiency
        Electrons per photon of the bench on which the law was measured; None: of the detectors that read here.
    """

    photons: float
    inputs: int
    readings: int
    efficiency: float | None = None

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of those that decide about the light."""
        return (NOISE, EFFICIENCY) if self.efficiency is None else (NOISE,)

    def more(self, values: Mapping[str, Value]) -> Value:
        """How many times as much light as the law asks for gives the same relative variance.

        The law's light is N electrons in the sum and has the relative variance 1/N by shot noise alone. With r
        electrons of noise in each of the ``readings``, N' electrons have ``(N' + readings r²)/N'²``; equal for

            N' = N/2 (1 + √(1 + 4 readings r² / N))

        N is counted at full transmission: what really falls on a detector is less, and the noise of the receiver weighs
        more.

        Parameters
        ----------
        values
            Of `constants` and, where it is one of those of the bill, `LAW`.
        """
        efficiency = values[EFFICIENCY] if self.efficiency is None else self.efficiency
        electrons = self.photons * self.inputs * efficiency
        if LAW in values:
            electrons = electrons * values[LAW]
        read = self.readings * values[NOISE] ** 2
        more: Value = (1 + (1 + 4 * read / electrons) ** 0.5) / 2
        return more
