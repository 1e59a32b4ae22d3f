"""What multiplies, and the strategies by which a bench multiplies signed numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from calibration.errors import OutOfDomain
from calibration.machine.encoding import Encoding
from simulation.light.accounting import Tally
from simulation.light.optics import Optics
from simulation.light.settings import AS_IS, Noise, Range, Variance


class Multiplier(Protocol):
    """A bench at one light level: `simulation.light.product.Bench`, and whatever can stand in for it."""

    @property
    def clip(self) -> tuple[float, float]:
        """Percentile of the magnitudes that full scale stands for: weights, second operands of attention."""

    def at(self, photons_per_mac: float) -> Multiplier:
        """The same bench at another light level."""

    def show(self, scaled: Tensor, *, static: bool) -> Any:
        """Matrices (B, M, K) that are scaled to −1 … 1, as `product` takes them; ``static`` ones stay for many."""

    def product(
        self,
        x: Tensor,
        weights: Any,
        noise: Noise,
        tally: Tally,
        *,
        unit: Tensor,
        bias: Tensor | None = None,
        converters: Range = AS_IS,
        attention: bool = False,
    ) -> Tensor:
        """Vectors (B, n, K) by B shown matrices: (B, n, M), see `simulation.light.product.Bench.product`.

        A result depends on no other vector than its own, and its noise on nothing but the key, the call and its place.
        """


class Family(Protocol):
    """A way to multiply signed numbers with light."""

    @property
    def name(self) -> str:
        """As in ``labctl simulate --encoding``."""

    @property
    def words(self) -> str:
        """One line: what is shown and detected."""

    def bench(self, optics: Optics, photons_per_mac: float | None, variance: Variance) -> Multiplier:
        """The bench that multiplies so.

        Raises
        ------
        OutOfDomain
            When such a bench cannot.
        """


@dataclass(frozen=True)
class Scaled:
    """Vectors on the scale of their own largest number.

    Attributes
    ----------
    values
        (n, K) float32 −1 … 1; 0 where the vector holds a NaN, or an infinity that is not clipped.
    scale
        (n,) float32; NaN there.
    """

    values: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def of(cls, x: Tensor, clip: float) -> Scaled:
        """Vectors (…, K), clipped at a magnitude."""
        vectors = np.clip(np.ascontiguousarray(x.float().numpy()).reshape(-1, x.shape[-1]), -clip, clip)
        largest = np.abs(vectors).max(1, initial=0.0)
        known = np.isfinite(largest)
        scale = np.where(known, largest, np.nan).astype(np.float32)
        values = np.where(known[:, None], vectors, 0) / np.where(known & (largest > 0), largest, 1)[:, None]
        return cls(values.astype(np.float32), scale)


def require_plain(optics: Optics, family: Family, why: str) -> None:
    """Refuse a calibrated bench, and the paper's reading error, where a family has no way for them."""
    if optics.channel is not None or any(optics.spread):
        raise OutOfDomain(
            f"{family.name} is not what this bench does",
            device=optics.name,
            action="simulating",
            expected="the preset ideal, or a machine that is built for it: labctl presets",
            seen=why,
            hint="--encoding sign-split or --encoding offset",
        )


def encoded(optics: Optics, code: Encoding, detectors: int = 1) -> Optics:
    """The same bench with signs shown by ``code``."""
    return replace(optics, encoding=code, detectors=detectors)
