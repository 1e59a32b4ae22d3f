"""Numbers that were measured against their limits, and the nodes that measured them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from labctl.summary.parts import PLAIN_BELOW, Number, Part, rounded

NOUGHT = 1e-3
"""A figure below this part of its standard error is shown as 0."""


class Limit(Part):
    """The range that is in spec; null means open."""

    min: float | None = None
    max: float | None = None

    def __str__(self) -> str:
        if self.min is not None and self.max is not None:
            return f"{self.min:g}–{self.max:g}"
        return f"≥ {self.min:g}" if self.min is not None else f"≤ {self.max:g}" if self.max is not None else ""


class Metric(Part):
    """One number with its unit, standard error and limit; ``info`` when no limit applies.

    ``words`` say what it means, and what to do, where it is out of spec, or unusual and no fault.
    """

    name: str
    value: Number
    unit: str = ""
    stderr: Number = None
    limit: Limit | None = None
    verdict: Literal["ok", "out_of_spec", "info"] = "info"
    words: str = ""

    @property
    def figure(self) -> str:
        """``"4.054 ± 0.14 DN/e-"``."""
        return " ".join(part for part in self.parts if part)

    @property
    def parts(self) -> tuple[str, str, str]:
        """``("4.054", "± 0.14", "DN/e-")``; a figure far below its own error is nought, and a number has no unit."""
        value, unit = self.value, "" if self.unit == "1" else self.unit
        if value is None:
            return "not a number", "", ""
        is_nought = bool(self.stderr) and abs(value) < NOUGHT * (self.stderr or 0.0)
        is_plain = abs(value) < PLAIN_BELOW
        error = f"± {rounded(self.stderr, 2) if is_plain else f'{self.stderr:.2g}'}" if self.stderr else ""
        return rounded(0.0 if is_nought else value, 4), error, unit

    @classmethod
    def judge(
        cls,
        name: str,
        value: float,
        unit: str = "",
        *,
        stderr: float | None = None,
        minimum: float | None = None,
        maximum: float | None = None,
        words: str = "",
    ) -> Metric:
        """A metric with its verdict: out of spec outside ``minimum … maximum``, and when it is not a number.

        ``words`` are kept only then.
        """
        if minimum is None and maximum is None:
            return cls(name=name, value=value, unit=unit, stderr=stderr)
        low = -math.inf if minimum is None else minimum
        high = math.inf if maximum is None else maximum
        verdict: Literal["ok", "out_of_spec"] = "ok" if low <= value <= high and math.isfinite(value) else "out_of_spec"
        limit = Limit(min=minimum, max=maximum)
        kept = words if verdict == "out_of_spec" else ""
        return cls(name=name, value=value, unit=unit, stderr=stderr, limit=limit, verdict=verdict, words=kept)


class Node(Part):
    """One node of the calibration graph in this run; ``at``: when it was done with."""

    name: str
    state: Literal["done", "kept", "checked", "applied", "not_applied", "skipped", "failed"]
    check: Literal["in_spec", "out_of_spec", "bad_data"] | None = None
    reason: str = ""
    duration_s: Number = None
    at: datetime | None = None
    metrics: list[Metric] = []


def reasons_out_of_spec(nodes: Sequence[Node]) -> list[str]:
    """``node: reason`` for each node that is out of spec; empty when all are in spec."""
    return [f"{node.name}: {node.reason}" for node in nodes if node.check == "out_of_spec"]
