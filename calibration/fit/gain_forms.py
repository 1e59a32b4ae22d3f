"""Forms of the gain map: scalar → per output → separable → smooth → full, and what the light changes by with each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

Float = NDArray[np.float64]

DEGREES = (2, 4, 6, 8)
CLAIMS = {
    "per output": "per-output gains",
    "separable": "separable gains",
    "full": "a gain of every macropixel",
    **{f"smooth({p})": f"a smooth gain map of degree {p}" for p in DEGREES},
}


class GainForm(Protocol):
    """A gain map with few parameters: ``local`` ones that belong to one output each, then ``shared`` ones."""

    @property
    def name(self) -> str: ...

    @property
    def contains(self) -> frozenset[str]:
        """Names of the simpler forms that this one includes."""

    @property
    def local(self) -> int:
        """1 when every output has a parameter of its own, else 0."""

    @property
    def shared(self) -> int: ...

    @property
    def parameters(self) -> int:
        """Number of free parameters."""

    def start(self, gain: Float) -> Float:
        """Parameters (local·M + shared,) near those of the map ``gain`` (M, K)."""

    def gain(self, theta: Float) -> Float:
        """(M, K) [DN]"""

    def slopes(self, theta: Float, slm: Float, display: Float) -> tuple[Float | None, Float]:
        """Light of row m by its own parameter (n, M) or None, and by the shared ones (n, M, shared).

        ``slm`` (M, K) and ``display`` (n, K) are transmissions.
        """

    def stderr(self, theta: Float, covariance: Float) -> Float:
        """(M, K) standard errors of the map [DN]."""

    def gauge(self, theta: Float) -> Float | None:
        """Direction of the parameters that leaves the map unchanged, or None."""


@dataclass(frozen=True)
class Scalar:
    """One number: u_mk = g."""

    shape: tuple[int, int]
    name: str = "scalar"
    contains: frozenset[str] = frozenset()
    local: int = 0
    shared: int = 1
    parameters: int = 1

    def start(self, gain: Float) -> Float:
        return np.array([gain.mean()])

    def gain(self, theta: Float) -> Float:
        return np.full(self.shape, theta[0])

    def slopes(self, theta: Float, slm: Float, display: Float) -> tuple[Float | None, Float]:
        return None, (display @ slm.T)[..., None]

    def stderr(self, theta: Float, covariance: Float) -> Float:
        return np.full(self.shape, np.sqrt(covariance[0, 0]))

    def gauge(self, theta: Float) -> Float | None:
        return None


@dataclass(frozen=True)
class PerOutput:
    """One number for each output: u_mk = r_m."""

    shape: tuple[int, int]
    name: str = "per output"
    contains: frozenset[str] = frozenset({"scalar"})
    local: int = 1
    shared: int = 0

    @property
    def parameters(self) -> int:
        return self.shape[0]

    def start(self, gain: Float) -> Float:
        return np.asarray(gain.mean(axis=1))

    def gain(self, theta: Float) -> Float:
        return np.tile(theta[:, None], self.shape[1])

    def slopes(self, theta: Float, slm: Float, display: Float) -> tuple[Float | None, Float]:
        own = display @ slm.T
        return own, np.empty((*own.shape, 0))

    def stderr(self, theta: Float, covariance: Float) -> Float:
        return np.tile(np.sqrt(np.diag(covariance))[:, None], self.shape[1])

    def gauge(self, theta: Float) -> Float | None:
        return None


@dataclass(frozen=True)
class Separable:
    """u_mk = r_m c_k; the scale of r against c is free."""

    shape: tuple[int, int]
    name: str = "separable"
    contains: frozenset[str] = frozenset({"scalar", "per output"})
    local: int = 1

    @property
    def shared(self) -> int:
        return self.shape[1]

    @property
    def parameters(self) -> int:
        return sum(self.shape) - 1

    def start(self, gain: Float) -> Float:
        scale = np.sqrt(abs(gain.mean()))
        return np.concatenate([gain.mean(axis=1) / scale, gain.mean(axis=0) * scale / gain.mean()])

    def gain(self, theta: Float) -> Float:
        return np.outer(*self._split(theta))

    def slopes(self, theta: Float, slm: Float, display: Float) -> tuple[Float | None, Float]:
        row, column = self._split(theta)
        return (display * column) @ slm.T, (row[:, None] * slm) * display[:, None, :]

    def stderr(self, theta: Float, covariance: Float) -> Float:
        row, column = self._split(theta)
        m = len(row)
        own, shared = np.diag(covariance)[:m], np.diag(covariance)[m:]
        variance = np.outer(own, column**2) + np.outer(row**2, shared)
        return np.asarray(np.sqrt(variance + 2 * np.outer(row, column) * covariance[:m, m:]))

    def gauge(self, theta: Float) -> Float | None:
        row, column = self._split(theta)
        return np.concatenate([row, -column])

    def _split(self, theta: Float) -> tuple[Float, Float]:
        return theta[: self.shape[0]], theta[self.shape[0] :]


@dataclass(frozen=True)
class Smooth:
    """Legendre polynomials of the row and column, up to a total degree."""

    shape: tuple[int, int]
    degree: int
    local: int = 0

    @property
    def name(self) -> str:
        return f"smooth({self.degree})"

    @property
    def contains(self) -> frozenset[str]:
        return frozenset({"scalar", *(f"smooth({p})" for p in DEGREES if p < self.degree)})

    @property
    def shared(self) -> int:
        return (self.degree + 1) * (self.degree + 2) // 2

    @property
    def parameters(self) -> int:
        return self.shared

    def start(self, gain: Float) -> Float:
        basis = self._basis.reshape(-1, self.shared)
        return np.asarray(np.linalg.lstsq(basis, gain.ravel(), rcond=None)[0])

    def gain(self, theta: Float) -> Float:
        return np.asarray(self._basis @ theta)

    def slopes(self, theta: Float, slm: Float, display: Float) -> tuple[Float | None, Float]:
        rows, columns = self._polynomials
        across = np.einsum("nk,mk,kj->nmj", display, slm, columns, optimize=True)
        i, j = self._terms
        return None, across[..., j] * rows[:, i]

    def stderr(self, theta: Float, covariance: Float) -> Float:
        variance = np.einsum("mki,ij,mkj->mk", self._basis, covariance, self._basis, optimize=True)
        return np.asarray(np.sqrt(variance))

    def gauge(self, theta: Float) -> Float | None:
        return None

    @cached_property
    def _terms(self) -> tuple[list[int], list[int]]:
        pairs = [(i, j) for i in range(self.degree + 1) for j in range(self.degree + 1 - i)]
        return [i for i, _ in pairs], [j for _, j in pairs]

    @cached_property
    def _polynomials(self) -> tuple[Float, Float]:
        rows, columns = (legendre.legvander(np.linspace(-1, 1, size), self.degree) for size in self.shape)
        return np.asarray(rows), np.asarray(columns)

    @cached_property
    def _basis(self) -> Float:
        rows, columns = self._polynomials
        i, j = self._terms
        return np.asarray(rows[:, None, i] * columns[None, :, j])


def gain_forms(shape: tuple[int, int]) -> list[GainForm]:
    """The forms with few parameters that a map of this size allows, simplest first (the full map is `full_fit`'s).

    On a single row or column all but one number are the full map under another name.
    """
    if min(shape) == 1:
        return [Scalar(shape)] if max(shape) > 1 else []
    smooth: list[GainForm] = [Smooth(shape, p) for p in DEGREES if p < min(shape) - 1]
    forms: list[GainForm] = [Scalar(shape), PerOutput(shape), Separable(shape)]
    return forms + smooth
