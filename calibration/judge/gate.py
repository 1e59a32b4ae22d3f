"""The rule by which one calibration replaces another: paired predictions of held-out readings, in standard errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

from calibration.judge.comparison import PairedComparison

SIGMAS = 3.0
"""Standard errors that a difference must exceed to count."""
MARGIN = 0.01
"""Difference that never counts, however sure it is: one hundredth of the noise of a reading."""


@dataclass(frozen=True)
class GateDecision:
    """Whether the new calibration is applied.

    Attributes
    ----------
    applied
        True: the new calibration replaces the one before. False: the one before stays.
    reason
        Why, in words and numbers.
    """

    applied: bool
    reason: str


def gate_decision(found: PairedComparison, name: str, expired: str | None = None) -> GateDecision:
    """Apply the new calibration if it predicts better, or as well: of two that are equal the fresher one counts.

    A difference counts when it exceeds `SIGMAS` standard errors and `MARGIN`. A calibration that predicts worse
    replaces only one that has expired.

    Parameters
    ----------
    found
        How both predict the same held-out readings.
    name
        Of the calibration before, for the reason.
    expired
        When the calibration before expired; None where it is still valid.
    """
    digits = max(1 - math.floor(math.log10(found.stderr)), 0) if found.stderr > 0 else 3
    figures = (
        f"held-out {found.figure} {found.new:.3f} against {found.before:.3f} of {name} "
        f"(paired difference of −2 log L {found.difference:+.{digits}f} ± {found.stderr:.{digits}f})"
    )
    enough = max(SIGMAS * found.stderr, MARGIN)
    if found.difference > enough:
        return GateDecision(True, figures)
    if found.difference >= -enough:
        return GateDecision(True, f"equal within errors, and fresher: {figures}")
    if expired is not None:
        return GateDecision(True, f"predicts worse, but {name} has expired on {expired}: {figures}")
    return GateDecision(False, f"predicts worse: {figures}; {name} stays")
