"""What a fit takes of memory, and the refusal of one that does not fit into this computer."""

from __future__ import annotations

from calibration.errors import FitError
from groundwork.memory import memory_bytes

_MATRICES = 20  # of the largest equations, alive at once: their factors, and covariances of the structures tried
_FOLDED = 12  # sums of eight folds, those of one output without them, and half as much again
_BASE_BYTES = 2e8
_PER_OUTPUT = 3  # unknowns: its gain and a leak from either neighbour


def needed_bytes(outputs: int, inputs: int, rows: int) -> float:
    """About what the fit of a bench takes [byte], within a factor of two."""
    equations = 8.0 * (_PER_OUTPUT * outputs + inputs) ** 2
    sums = 8.0 * (outputs + inputs) ** 2
    readings = 8.0 * rows * (outputs + inputs)
    return _BASE_BYTES + _MATRICES * equations + 4 * _FOLDED * sums + 10 * readings


def require_memory(outputs: int, inputs: int, rows: int) -> None:
    """Refuse a recording whose fit this computer cannot hold.

    Raises
    ------
    FitError
        With what it would take.
    """
    needed, there = needed_bytes(outputs, inputs, rows), memory_bytes()
    if there is not None and needed > there:
        raise FitError(
            "the fit does not fit into memory",
            action="fit response",
            expected=f"at most {there / 1e9:.3g} GB, which this computer has",
            seen=f"about {needed / 1e9:.3g} GB for {outputs:,} outputs, {inputs:,} inputs and {rows:,} rows",
            hint="fewer outputs, each part as a bench of its own; or fewer rows: labctl import FILE --rows 0:2000",
        )
