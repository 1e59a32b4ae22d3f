"""The rule by which one calibration replaces another, case by case."""

import numpy as np
import pytest

from calibration.judge.comparison import PairedComparison, paired_difference
from calibration.judge.gate import gate_decision


@pytest.mark.parametrize(
    ("difference", "stderr", "expired", "applied", "words"),
    [
        (0.35, 0.02, None, True, "paired difference of −2 log L +0.350 ± 0.020"),
        (4012.3, 351.2, None, True, "paired difference of −2 log L +4012 ± 351"),  # another bench altogether
        (0.02, 0.02, None, True, "equal within errors, and fresher"),
        (-0.02, 0.02, None, True, "equal within errors, and fresher"),
        (-0.005, 0.0001, None, True, "equal within errors, and fresher"),  # below a hundredth of the noise
        (-0.07, 0.01, None, False, "cal-before stays"),
        (-0.07, 0.01, "2026-11-22T02:00:00Z", True, "has expired"),
    ],
)
def test_better_or_equal_and_fresher_is_applied(difference, stderr, expired, applied, words):
    decision = gate_decision(PairedComparison(difference, stderr, 0.99, 0.99 + difference, 100), "cal-before", expired)
    assert decision.applied is applied
    assert words in decision.reason
    assert "held-out χ² per reading 0.990 against" in decision.reason


def test_losses_of_one_owner_are_one_pair():
    """Ten readings that repeat their owner's loss say no more than one: the error is that of the owners' means."""
    rng = np.random.default_rng(1)
    gain = rng.standard_normal(50)
    owner = np.repeat(np.arange(50), 10)
    difference, stderr, pairs = paired_difference(np.zeros(500), np.repeat(gain, 10), owner)
    assert pairs == 50
    assert difference == pytest.approx(gain.mean())
    assert stderr == pytest.approx(gain.std(ddof=1) / np.sqrt(50))
