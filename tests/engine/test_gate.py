"""The rule of the gate, case by case."""

from __future__ import annotations

import pytest

from calibration.judge.comparison import Comparison
from labctl.engine.gate import decide


@pytest.mark.parametrize(
    ("difference", "stderr", "expired", "applied", "words"),
    [
        (0.35, 0.02, None, True, "paired difference of −2 log L +0.350 ± 0.020"),
        (0.02, 0.02, None, True, "equal within errors, and fresher"),
        (-0.02, 0.02, None, True, "equal within errors, and fresher"),
        (-0.005, 0.0001, None, True, "equal within errors, and fresher"),  # below a hundredth of the noise
        (-0.07, 0.01, None, False, "cal-before stays"),
        (-0.07, 0.01, "2026-11-22T02:00:00Z", True, "has expired"),
    ],
)
def test_better_or_equal_and_fresher_is_applied(
    difference: float, stderr: float, expired: str | None, applied: bool, words: str
) -> None:
    gate = decide(Comparison(0.99, 0.99 + difference, difference, stderr, 100), "cal-before", expired)
    assert gate.applied is applied
    assert words in gate.why
    assert "held-out χ² per reading 0.990 against" in gate.why
