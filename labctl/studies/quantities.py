"""Quantities as a person reads them: with a prefix, in three digits."""

from __future__ import annotations

PREFIXES = ((12, "T"), (9, "G"), (6, "M"), (3, "k"), (0, ""), (-3, "m"), (-6, "µ"), (-9, "n"), (-12, "p"), (-15, "f"),
            (-18, "a"))  # fmt: skip


def prefixed(value: float, unit: str) -> str:
    """``3.2 mJ``, ``6.4 TB/s``: a value in ``unit``, with the prefix that leaves 1 to 3 digits before the point."""
    power, prefix = scale(value)
    return f"{value / 10.0**power:.3g} {prefix}{unit}"


def scale(value: float) -> tuple[int, str]:
    """Power of ten and prefix that leave 1 to 3 digits before the point; none for what is smaller than all."""
    shown = float(f"{value:.3g}")
    return next(((power, prefix) for power, prefix in PREFIXES if shown >= 10.0**power), (0, ""))


def joules(value_j: float) -> str:
    """``3.2 mJ``"""
    return prefixed(value_j, "J")


def area(value_m2: float) -> str:
    """In mm², or from a hundredth of a square metre on in m²."""
    return f"{1e6 * value_m2:.3g} mm²" if value_m2 < 0.01 else f"{value_m2:.3g} m²"


def amount(value: float, unit: object) -> str:
    """``5.2e-12 J/sample``; a pure number, whose unit is 1, alone."""
    return f"{value:.3g} {unit}".removesuffix(" 1")


def times(factor: float) -> str:
    """A factor, with a separator of thousands and no power of ten where it is large; of millions in three digits."""
    return f"{float(f'{factor:.3g}') if factor >= 1e6 else factor:,.0f} ×" if factor >= 1000 else f"{factor:.3g} ×"
