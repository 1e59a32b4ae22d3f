"""Curves of a bench as sums of few terms: of the inputs' transmission, of the detectors, and of single inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

Float = NDArray[np.float64]

ROOT = 0.5
"""Name of the term that is a square root; whole numbers are orders of Legendre's polynomials."""


@dataclass(frozen=True)
class PowerCurve:
    """``f(v) = v + scale·Σ_j c_j (B_j(v) − B_j(0))``; beyond its range it goes on as a straight line.

    B of a whole number is Legendre's polynomial of that order over the range, B of `ROOT` the square root of ``v /
    scale`` without what a straight line has of it: the terms do not stand in for gain and offset.

    Attributes
    ----------
    powers
        (J,) names of the terms; empty for a straight line.
    coefficients
        (J, K) c: of all channels alike (K = 1), or of each.
    scale
        In the unit of v.
    low, high
        Range of v / scale that the curve was fitted on.
    """

    powers: tuple[float, ...] = ()
    coefficients: Float = field(default_factory=lambda: np.zeros((0, 1)))
    scale: float = 1.0
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def square(cls, coefficients: Float, reach: float) -> PowerCurve:
        """``v + c·v²`` with c (K,) [1 per unit of v], up to twice the reach."""
        if not coefficients.any():
            return cls()
        # the second Legendre polynomial over −2 … 2 is 3/8 u² − 1/2
        return cls((2.0,), coefficients[None] * reach * 8 / 3, reach, -2.0, 2.0)

    @property
    def straight(self) -> bool:
        """Whether there is no curvature."""
        return not self.powers

    def terms(self, v: Float) -> Float:
        """(J, …) ``scale·(B_j(v) − B_j(0))``, the derivatives of f by the coefficients."""
        found = np.empty((len(self.powers), *v.shape))
        for j, power in enumerate(self.powers):
            found[j] = self.scale * (self._term(power, v / self.scale) - self._term(power, np.zeros(1)))
        return found

    def value(self, v: Float, coefficients: Float | None = None) -> Float:
        """The curve at values (n, K), or (n, …) where all channels are alike; ``coefficients`` (J, n, 1) by row."""
        if self.straight:
            return v
        c = self.coefficients[:, None, :] if coefficients is None else coefficients
        return np.asarray(v + (c * self.terms(v)).sum(0))

    def slope(self, v: Float, coefficients: Float | None = None) -> Float:
        """Derivative of the curve at values, like `value`."""
        if self.straight:
            return np.ones_like(v)
        c = self.coefficients[:, None, :] if coefficients is None else coefficients
        seen = np.clip(v / self.scale, self.low, self.high)
        return np.asarray(1 + (c * np.stack([self._slope(p, seen) for p in self.powers])).sum(0))

    def parabola(self, v: Float) -> Float:
        """(J, …) how far the parabola that goes on from each term at the end of its range leaves the straight line."""
        u = v / self.scale
        seen = np.clip(u, self.low, self.high)
        found = np.empty((len(self.powers), *v.shape))
        for j, power in enumerate(self.powers):
            found[j] = self.scale * 0.5 * self._bending(power, seen) * (u - seen) ** 2
        return found

    def remainder(self, v: Float, low: Float, high: Float) -> Float:
        """(J, …) what each term has beyond the line through it at the end of a narrower range ``low … high``."""
        edge = np.clip(v, low, high)
        slopes = np.stack([self._slope(p, np.clip(edge / self.scale, self.low, self.high)) for p in self.powers])
        return np.asarray(self.terms(v) - self.terms(edge) - slopes * (v - edge))

    def least_slope(self) -> Float:
        """(K,) smallest slope over the range, relative to the mean slope."""
        u = np.linspace(self.low, self.high, 65)[1:-1, None]
        slope = self.slope(self.scale * np.broadcast_to(u, (63, self.coefficients.shape[1])))
        return np.asarray(slope.min(0) / np.maximum(np.abs(slope.mean(0)), 1e-300))

    def document(self) -> dict[str, Any]:
        """JSON types of everything but the coefficients."""
        return {"terms": list(self.powers), "scale": self.scale, "range": [self.low, self.high]}

    @classmethod
    def of(cls, document: dict[str, Any], coefficients: Float | None) -> PowerCurve:
        """Read back from `document` and its coefficients (None where there are none)."""
        powers = tuple(float(p) for p in document["terms"])
        if coefficients is None:
            coefficients = np.zeros((0, 1))
        if coefficients.ndim != 2 or len(coefficients) != len(powers):
            raise ValueError(f"{len(powers)} terms have coefficients of shape {coefficients.shape}")
        low, high = (float(v) for v in document["range"])
        return cls(powers, coefficients, float(document["scale"]), low, high)

    def _term(self, power: float, u: Float) -> Float:
        """B of ``u = v / scale``; a straight line beyond the range."""
        seen = np.clip(u, self.low, self.high)
        if power == ROOT:
            level, slope = _line_of_root(self.low, self.high)
            inside: Float = np.sqrt(np.maximum(seen, 0)) - level - slope * seen
        else:
            inside = np.asarray(legendre.legval(self._unit(seen), _only(power)))
        return np.asarray(inside + (u - seen) * self._slope(power, seen))

    def _slope(self, power: float, seen: Float) -> Float:
        """dB/du within the range."""
        if power == ROOT:
            return np.asarray(0.5 / np.sqrt(np.maximum(seen, 1e-4)) - _line_of_root(self.low, self.high)[1])
        width = max(self.high - self.low, 1e-300)
        return np.asarray(legendre.legval(self._unit(seen), legendre.legder(_only(power))) * 2 / width)

    def _bending(self, power: float, seen: Float) -> Float:
        """d²B/du² within the range."""
        if power == ROOT:
            return np.asarray(-0.25 * np.maximum(seen, 1e-4) ** -1.5)
        width = max(self.high - self.low, 1e-300)
        return np.asarray(legendre.legval(self._unit(seen), legendre.legder(_only(power), 2)) * (2 / width) ** 2)

    def _unit(self, u: Float) -> Float:
        return np.asarray((2 * u - self.low - self.high) / max(self.high - self.low, 1e-300))


@dataclass(frozen=True)
class Bend:
    """Curvature of every single input at every output, ``Σ_jk B_jmk (f_j(x_k) − level_jk − slope_jk·x_k)``.

    The terms f are those of `PowerCurve`. Level and slope take off what a straight line has of them where the inputs
    are, so that the curvature does not stand in for the gain.

    Attributes
    ----------
    powers, scale
        As of `PowerCurve`; empty powers where there is no such curvature.
    level, slope
        (J, N)
    gain
        (J, M, N) B [unit per unit of x].
    """

    powers: tuple[float, ...] = ()
    scale: float = 1.0
    low: float = 0.0
    high: float = 1.0
    level: Float = field(default_factory=lambda: np.zeros((0, 0)))
    slope: Float = field(default_factory=lambda: np.zeros((0, 0)))
    gain: Float = field(default_factory=lambda: np.zeros((0, 0, 0)))

    def terms(self, x: Float) -> Float:
        """(J, n, N) what curves of inputs (n, N)."""
        return np.asarray(self._curve.terms(x) - self.level[:, None, :] - self.slope[:, None, :] * x)

    def light(self, x: Float, output: NDArray[np.intp] | None) -> Float:
        """(n, M) or, of a single detector, (n, 1): what the curvature adds."""
        terms = self.terms(x)
        if output is None:
            return np.asarray(np.einsum("jnk,jmk->nm", terms, self.gain, optimize=True))
        return np.asarray(np.einsum("jnk,jnk->n", terms, self.gain[:, output])[:, None])

    def guessed(self, x: Float, ranges: Float, output: NDArray[np.intp] | None) -> Float:
        """(n, M) or (n, 1) rms over the inputs of what the curvature may add where no row showed it.

        Beyond the range of all inputs a parabola may go on, as `PowerCurve.parabola` has it; beyond the ``ranges``
        (2, N) of single inputs these may be bent as the others are.
        """
        curve, bent = self._curve, self.gain**2
        squares, beyond = curve.parabola(x) ** 2, curve.remainder(x, ranges[0], ranges[1]) ** 2
        others = np.maximum(bent, bent.mean(2, keepdims=True))
        if output is None:
            parts = [np.einsum("jnk,jmk->nm", a, b, optimize=True) for a, b in ((squares, bent), (beyond, others))]
        else:
            own = ((squares, bent), (beyond, others))
            parts = [np.einsum("jnk,jnk->n", a, b[:, output])[:, None] for a, b in own]
        return np.asarray(np.sqrt(parts[0] + parts[1]))

    def document(self) -> dict[str, Any]:
        """JSON types of everything but the arrays."""
        return self._curve.document()

    @property
    def _curve(self) -> PowerCurve:
        """Its terms and their range."""
        return PowerCurve(self.powers, np.zeros((len(self.powers), 1)), self.scale, self.low, self.high)


def _only(order: float) -> list[float]:
    return [0.0] * int(order) + [1.0]


@cache
def _line_of_root(low: float, high: float) -> tuple[float, float]:
    """Level and slope of the line through the square root between ``low`` and ``high``."""
    u = np.linspace(max(low, 0.0), max(high, 1e-300), 101)
    slope, level = np.polyfit(u, np.sqrt(u), 1)
    return float(level), float(slope)
