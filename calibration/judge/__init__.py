"""Whether a calibration is to be trusted: validation, comparison with the one before, the gate."""

from calibration.judge.comparison import PairedComparison, compare, paired_difference
from calibration.judge.gate import GateDecision, gate_decision
from calibration.judge.validation import Validation, validate

__all__ = [
    "GateDecision",
    "PairedComparison",
    "Validation",
    "compare",
    "gate_decision",
    "paired_difference",
    "validate",
]
