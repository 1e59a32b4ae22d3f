"""Two calibrations, family by family: is it the same bench, and if not, what has changed?

A calibration is seen as families of numbers with standard errors. Another kind of calibration joins in by a function
that returns its `Family` list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.statistics.tails import cauchy_sf, chi2_sf, normal_sf

Float = NDArray[np.float64]

SIGNIFICANCE = 0.001
SIGMAS = 3.3


@dataclass(frozen=True)
class Family:
    """Parameters of one kind.

    Attributes
    ----------
    name, unit
        ``"gain"``, ``"DN"``.
    values, stderr
        Of any shape, the same for both; what has no error is a constant and is left out of the tests.
    free
        How many independent numbers the errors of the entries amount to [1]: the entries of a smooth gain map share the
        errors of a few dozen numbers.
    shared
        Whether entries share errors in a way that nobody has written down, as those of a smooth map do. They are then
        tested one by one, and not by their common χ².
    common_stderr
        Relative error that all share, of the source's flicker [1].
    scaled
        Whether one factor on all of them means something.
    alike
        Whether the errors may be those of one common reference, so that a mean is known no better than one entry.
    """

    name: str
    unit: str
    values: Float
    stderr: Float
    free: int
    common_stderr: float = 0.0
    scaled: bool = False
    alike: bool = False
    shared: bool = False


@dataclass(frozen=True)
class FamilyDifference:
    """One family in two calibrations.

    Attributes
    ----------
    name, unit, parameters
        Of the family; entries compared.
    mean_a, mean_b
        Means over the entries.
    difference, stderr, z
        Of the means, b − a, its standard error, and their ratio.
    largest_z
        Of the entry that has changed most.
    chi2_per_dof, p
        Of all entries against no change: χ² over their number, and the probability that errors alone do as much.
    factor, factor_stderr
        Common factor b/a − 1; None where one means nothing.
    changed
        Whether anything has, at one in a thousand.
    """

    name: str
    unit: str
    parameters: int
    mean_a: float
    mean_b: float
    difference: float
    stderr: float
    z: float
    largest_z: float
    chi2_per_dof: float
    p: float
    factor: float | None
    factor_stderr: float | None
    changed: bool

    @property
    def words(self) -> str:
        """``gain: 16,384 parameters, χ²/dof 1.03, p 0.2: the same; common factor −0.31 ± 0.02 %: changed``"""
        same = "changed" if self.p < SIGNIFICANCE else "the same"
        many = f"{self.parameters:,} parameter{'s' if self.parameters > 1 else ''}"
        text = f"{self.name}: {many}, χ²/dof {self.chi2_per_dof:.3g}, p {self.p:.2g}: {same}"
        if self.factor is None or self.factor_stderr is None:
            return text
        moved = abs(self.factor) > SIGMAS * self.factor_stderr
        word = "changed" if moved else "the same"
        return f"{text}; common factor {100 * self.factor:+.3g} ± {100 * self.factor_stderr:.2g} %: {word}"


def differences(a: list[Family], b: list[Family]) -> tuple[list[FamilyDifference], list[str]]:
    """Families that both have in one shape and unit, compared; and in words why others are not."""
    theirs = {family.name: family for family in b}
    found, left = [], []
    for family in a:
        other = theirs.pop(family.name, None)
        if other is None:
            left.append(f"{family.name}: only in the first")
        elif other.values.shape != family.values.shape:
            left.append(f"{family.name}: shape {family.values.shape} in the first, {other.values.shape} in the second")
        elif other.unit != family.unit:
            left.append(f"{family.name}: in {family.unit} in the first, in {other.unit} in the second")
        else:
            found.append(_difference(family, other))
    return found, left + [f"{name}: only in the second" for name in theirs]


def _difference(a: Family, b: Family) -> FamilyDifference:
    variance = (a.stderr**2 + b.stderr**2).ravel()
    known = variance > 0
    x, y, v = a.values.ravel()[known], b.values.ravel()[known], variance[known]
    n = max(len(v), 1)
    dof = _degrees_of_freedom(a, b, known)
    flicker = float(np.hypot(a.common_stderr, b.common_stderr))
    z, of_common = _beside_common(x, (y - x) / np.sqrt(v), v, flicker, dof / n)
    chi2_per_dof = float(((z**2).sum() + of_common * n / dof) / n)
    if not len(v):
        p = 1.0
    elif a.shared or b.shared:
        p = combined_p_value(2 * normal_sf(np.abs(z)))
    else:
        p = float(chi2_sf(chi2_per_dof * dof, dof))
    mean_a, mean_b = float(a.values.mean()), float(b.values.mean())
    averaged = 1.0 if a.alike else dof
    stderr = float(np.hypot(np.sqrt(v.mean() / averaged), flicker * mean_a)) if len(v) else 0.0
    factor = factor_stderr = None
    if a.scaled and len(v) and (x**2 / v).sum() > 0:
        information = float((x**2 / v).sum())
        factor = float((x * (y - x) / v).sum() / information)
        factor_stderr = float(np.hypot(np.sqrt(n / dof / information), flicker))
    difference = mean_b - mean_a
    moved = factor is not None and factor_stderr is not None and abs(factor) > SIGMAS * factor_stderr
    return FamilyDifference(
        a.name,
        a.unit,
        int(a.values.size),
        mean_a,
        mean_b,
        difference,
        stderr,
        difference / stderr if stderr else 0.0,
        float(z[np.argmax(np.abs(z))]) if len(z) else 0.0,
        chi2_per_dof,
        p,
        factor,
        factor_stderr,
        bool(p < SIGNIFICANCE or moved),
    )


def _beside_common(x: Float, z: Float, v: Float, flicker: float, witnesses: float) -> tuple[Float, float]:
    """What entries ``x`` with errors of variance ``v`` differ by beside the likeliest common factor, and its square.

    The factor is one error of relative size ``flicker``; of n entries, ``witnesses`` n tell it. ``z`` are the
    differences in standard errors, and so is what is given back.
    """
    slope = x / np.sqrt(v)
    size = float((slope**2).sum())
    if flicker <= 0 or size <= 0:
        return z, 0.0
    factor = float((slope * z).sum()) / (size + 1 / (witnesses * flicker**2))
    return z - factor * slope, (factor / flicker) ** 2


def _degrees_of_freedom(a: Family, b: Family, known: NDArray[np.bool_]) -> float:
    """χ² of N correlated entries scatters as that of their effective number (Satterthwaite).

    With p free numbers the N errors fill p dimensions evenly; the simpler of two structures lies within the richer.
    """
    n = max(int(known.sum()), 1)
    simple, rich = sorted((a, b), key=lambda family: family.free)
    s1, s2 = (float((family.stderr.ravel()[known] ** 2).sum()) for family in (simple, rich))
    p1, p2 = (min(max(family.free, 1), n) for family in (simple, rich))
    spread = s1**2 / p1 + (2 * s1 * s2 + s2**2) / p2
    return (s1 + s2) ** 2 / spread if spread > 0 else 1.0


def combined_p_value(p_values: Float) -> float:
    """One p-value from many that depend on each other in any way: the Cauchy combination.

    The mean of tan((½ − p) π) has the upper tail of a Cauchy variable whatever the dependence (Liu & Xie, J. Am. Stat.
    Assoc. 115 (2020) 393). An entry that has not changed at all must not hide one that has: p counts as 0.99 at most.
    """
    p = np.clip(p_values, 1e-300, 0.99)
    return float(cauchy_sf(np.where(p < 1e-15, 1 / (np.pi * p), np.tan((0.5 - p) * np.pi)).mean()))
