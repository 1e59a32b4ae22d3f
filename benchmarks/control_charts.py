"""How often does a control chart fire for nothing, and how soon for something?

First with centre and spread known, as published tables have it; then as a bench has it, with both learned from its own
first twenty and fifty nights. "For nothing" is the share of benches of which some chart fires in ninety nights.

    python benchmarks/control_charts.py [--json] [--quick]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _common import figure, parser, show
from numpy.typing import NDArray

from calibration.statistics.control_chart import ALARM_AT, FROZEN_AFTER, LEARNING_NIGHTS, Baseline, control_chart
from calibration.statistics.control_chart import moving_average as averaged

NIGHTS = 90
METRICS = 5
WIDENED = 2.0
TOLERANCE = 0.15
PUBLISHED = {
    "run length to a false alarm": (0.0, 0.0, 2850.0),
    "shift of one sigma, found after": (1.0, 0.0, 15.5),
    "shift of two sigmas, found after": (2.0, 0.0, 3.7),
    "drift of 0.1 sigma a night, found after": (0.0, 0.1, 15.0),
    "drift of 0.05 sigma a night, found after": (0.0, 0.05, 24.0),
}
"""Shift and drift, and the published mean run length at 3.5 standard deviations [nights]."""


def run_length(rng: np.random.Generator, shift: float, drift: float, series: int) -> float:
    """Mean nights to the first alarm with known centre and spread: nights at risk over alarms."""
    nights = 400 if shift or drift else 12000
    values = rng.standard_normal((nights, series)) + shift + drift * np.arange(1, nights + 1)[:, None]
    spread = np.array([Baseline(0.0, 1.0).spread(i) for i in range(1, nights + 1)])
    fired = np.abs(averaged(values, 0.0)) > ALARM_AT * spread[:, None]
    first = np.where(fired.any(axis=0), fired.argmax(axis=0) + 1, nights)
    return float(first.sum() / fired.any(axis=0).sum())


def alarms(values: NDArray[np.float64], widened: float) -> tuple[int, int | None]:
    """How often a chart that learns begins to fire, and the first night on which it does."""
    fires = np.array([point.state == "alarm" for point in control_chart(values, widened=widened)])
    begins = np.flatnonzero(fires & ~np.concatenate([[False], fires[:-1]]))
    return len(begins), int(begins[0]) if len(begins) else None


def for_nothing(
    rng: np.random.Generator, nights: int, benches: int, metrics: int = METRICS, widened: float = 1.0
) -> tuple[float, float]:
    """Share of benches with a false alarm, and the mean number of false alarms of a bench."""
    found = [sum(alarms(rng.standard_normal(nights), widened)[0] for _ in range(metrics)) for _ in range(benches)]
    return float(np.mean(np.array(found) > 0)), float(np.mean(found))


def for_something(rng: np.random.Generator, at: int, shift: float, benches: int) -> float:
    """Median nights from a shift to the alarm, of charts that have learned."""
    late = []
    for _ in range(benches):
        values = rng.standard_normal(at + 200)
        values[at:] += shift
        first = next((i for i, p in enumerate(control_chart(values)) if i >= at and p.state == "alarm"), at + 200)
        late.append(first - at + 1)
    return float(np.median(late))


def figures(quick: bool) -> list[dict[str, Any]]:
    rng = np.random.default_rng(11)
    found = []
    for name, (shift, drift, published) in PUBLISHED.items():
        value = run_length(rng, shift, drift, 200 if quick and not (shift or drift) else 1000)
        goal = f"{published:g} ± {TOLERANCE:.0%}"
        found.append(figure(name, value, "nights", goal, abs(value / published - 1) <= TOLERANCE))
    benches = 200 if quick else 2000
    for nights in (NIGHTS, NIGHTS + LEARNING_NIGHTS):
        share, count = for_nothing(rng, nights, benches)
        name = f"{METRICS} learned charts, {nights} nights"
        found.append(figure(f"{name}: some false alarm", share, "1", "< 0.45", share < 0.45))
        found.append(figure(f"{name}: false alarms", count, "1", "≤ 1", count <= 1))
        share, _ = for_nothing(rng, nights, benches, 1, WIDENED)
        name = f"a chart of {WIDENED:g} times the spread, {nights} nights: some false alarm"
        found.append(figure(name, share, "1", "≤ 0.01", share <= 0.01))
    for at in (LEARNING_NIGHTS + 5, FROZEN_AFTER + 10):
        late = for_something(rng, at, 2.0, benches // 4)
        found.append(figure(f"learned from {at} nights: two sigmas, found after", late, "nights"))
    return found


if __name__ == "__main__":
    options = parser(__doc__).parse_args()
    show("control_charts", lambda: figures(options.quick), options.json)
