"""Control charts against closed forms, the published run lengths, and simulated nights."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.statistics.control_chart import (
    ALARM_AT,
    FROZEN_AFTER,
    LEARNING_NIGHTS,
    WEIGHT,
    Baseline,
    control_chart,
    learned,
    moving_average,
)

KNOWN = Baseline(0.0, 1.0)


def mean_run_length(limit: float, rng: np.random.Generator, shift: float = 0.0, drift: float = 0.0) -> float:
    """Nights to the first alarm with known centre and spread: at risk over alarms, so that no series need end."""
    nights, series = (12000, 400) if not (shift or drift) else (400, 4000)
    values = rng.standard_normal((nights, series)) + shift + drift * np.arange(1, nights + 1)[:, None]
    spread = np.array([KNOWN.spread(i) for i in range(1, nights + 1)])
    fired = np.abs(moving_average(values, 0.0)) > limit * spread[:, None]
    first = np.where(fired.any(axis=0), fired.argmax(axis=0) + 1, nights)
    return float(first.sum() / fired.any(axis=0).sum())


def by_markov_chain(limit: float, states: int = 401) -> float:
    """Run length of the average with its final variance, by the chain of Brook and Evans (1972)."""
    from scipy.stats import norm

    edge = limit * np.sqrt(WEIGHT / (2 - WEIGHT))
    edges = np.linspace(-edge, edge, states + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    step = norm.cdf((edges[None, :] - (1 - WEIGHT) * middle[:, None]) / WEIGHT)
    inside = np.diff(step, axis=1)
    return float(np.linalg.solve(np.eye(states) - inside, np.ones(states))[states // 2])


@pytest.mark.parametrize(("limit", "table"), [(2.86, 375.0), (3.5, 2850.0), (3.8, 8960.0)])
def test_false_alarms_are_as_rare_as_published(limit: float, table: float) -> None:
    assert by_markov_chain(limit) == pytest.approx(table, rel=0.15)
    if limit < 3.8:
        found = mean_run_length(limit, np.random.default_rng(1))
        assert found == pytest.approx(table, rel=0.15)
        assert found == pytest.approx(by_markov_chain(limit), rel=0.15)


@pytest.mark.parametrize(
    ("limit", "shift", "drift", "table"),
    [
        (2.86, 1.0, 0.0, 8.6), (2.86, 2.0, 0.0, 2.8), (2.86, 0.0, 0.1, 12.0), (2.86, 0.0, 0.05, 19.0),
        (3.5, 1.0, 0.0, 15.5), (3.5, 2.0, 0.0, 3.7), (3.5, 0.0, 0.1, 15.0), (3.5, 0.0, 0.05, 24.0),
        (3.8, 1.0, 0.0, 20.0), (3.8, 2.0, 0.0, 4.4), (3.8, 0.0, 0.1, 16.0), (3.8, 0.0, 0.05, 26.0),
    ],
)  # fmt: skip
def test_shifts_and_drifts_are_found_as_fast_as_published(
    limit: float, shift: float, drift: float, table: float
) -> None:
    assert mean_run_length(limit, np.random.default_rng(2), shift, drift) == pytest.approx(table, rel=0.15)


def false_alarms(series: int, nights: int, metrics: int, widened: float = 1.0) -> float:
    """Share of benches on which nothing happens and some chart fires all the same, limits learned on the way."""
    rng = np.random.default_rng(3)
    fired = [
        any(
            any(point.state == "alarm" for point in control_chart(rng.standard_normal(nights), widened=widened))
            for _ in range(metrics)
        )
        for _ in range(series)
    ]
    return float(np.mean(fired))


def test_a_bench_that_does_not_change_rarely_fires_in_ninety_nights() -> None:
    # 0.16 where centre and spread are known; learned from twenty nights they cost more false alarms
    assert false_alarms(300, 90, 5) < 0.45


def test_a_chart_of_doubled_spread_hardly_ever_fires_for_nothing_and_still_finds_a_drift() -> None:
    assert false_alarms(400, 90, 1, widened=2.0) <= 0.01
    rng, found = np.random.default_rng(4), []
    for _ in range(50):
        values = rng.standard_normal(120)
        values[LEARNING_NIGHTS + 5 :] += 0.5 * np.arange(1, 120 - LEARNING_NIGHTS - 4)
        states = [point.state for point in control_chart(values, widened=2.0)]
        found.append(states.index("alarm") - LEARNING_NIGHTS - 4 if "alarm" in states else 999)
    assert np.median(found) <= 20


def test_a_learned_centre_and_spread_are_right_on_average() -> None:
    rng = np.random.default_rng(4)
    found = [learned(rng.normal(7.0, 2.0, LEARNING_NIGHTS)) for _ in range(4000)]
    assert np.mean([b.centre for b in found]) == pytest.approx(7.0, abs=0.03)
    assert np.mean([b.sigma for b in found]) == pytest.approx(2.0, rel=0.02)
    expected = np.sqrt(np.pi / 2 / LEARNING_NIGHTS) * 2.0
    assert np.std([b.centre for b in found]) == pytest.approx(expected, rel=0.06)


def test_the_spread_of_an_average_is_that_of_many() -> None:
    averages = moving_average(np.random.default_rng(5).standard_normal((30, 20000)), 0.0)
    for nights in (1, 2, 5, 30):
        assert averages[nights - 1].std() == pytest.approx(KNOWN.spread(nights), rel=0.02)


def test_one_wild_night_while_learning_changes_little() -> None:
    rng = np.random.default_rng(6)
    values = rng.standard_normal(LEARNING_NIGHTS)
    wild = np.where(np.arange(LEARNING_NIGHTS) == 7, 500.0, values)
    assert learned(wild).centre == pytest.approx(learned(values).centre, abs=0.3)
    assert learned(wild).sigma == pytest.approx(learned(values).sigma, rel=0.3)


def test_no_chart_fires_before_it_has_learned() -> None:
    points = control_chart([float(i**3) for i in range(LEARNING_NIGHTS)])
    assert {point.state for point in points} == {"learning"}
    assert all(point.z is None for point in points)


def test_limits_are_learned_at_twenty_and_at_fifty_nights_and_then_stay() -> None:
    points = control_chart(np.random.default_rng(7).standard_normal(120))
    learned_from = [point.baseline.nights if point.baseline else 0 for point in points]
    assert learned_from == [0] * LEARNING_NIGHTS + [LEARNING_NIGHTS] * (FROZEN_AFTER - LEARNING_NIGHTS) + [
        FROZEN_AFTER
    ] * (120 - FROZEN_AFTER)


def test_a_drift_that_was_found_is_not_learned_away() -> None:
    rng = np.random.default_rng(8)
    values = rng.standard_normal(120)
    values[30:] += 8.0
    points = control_chart(values)
    assert points[31].state == "alarm"
    assert {point.state for point in points[31:]} == {"alarm"}
    assert {point.baseline.nights for point in points[31:] if point.baseline} == {LEARNING_NIGHTS}


def test_an_acknowledged_alarm_is_silent_until_it_has_returned() -> None:
    values = [float((-1) ** i) for i in range(LEARNING_NIGHTS)] + [6.0] * 6 + [0.0] * 20 + [6.0] * 4
    acknowledged = [i == LEARNING_NIGHTS + 3 for i in range(len(values))]
    states = [point.state for point in control_chart(values, acknowledged=acknowledged)]
    fired = LEARNING_NIGHTS + 1
    assert states[fired : LEARNING_NIGHTS + 3] == ["alarm"] * 2
    assert set(states[LEARNING_NIGHTS + 3 : LEARNING_NIGHTS + 6]) == {"acknowledged"}
    assert states[LEARNING_NIGHTS + 25] == "in_control"
    assert states[-1] == "alarm"


def test_an_acknowledgement_without_an_alarm_silences_nothing() -> None:
    values = [float((-1) ** i) for i in range(LEARNING_NIGHTS)] + [0.0] * 5 + [9.0] * 4
    acknowledged = [i == LEARNING_NIGHTS + 2 for i in range(len(values))]
    assert control_chart(values, acknowledged=acknowledged)[-1].state == "alarm"


def test_a_new_phase_learns_anew() -> None:
    values = np.random.default_rng(9).standard_normal(80)
    values[40:] += 50.0
    points = control_chart(values, phases=[i == 40 for i in range(80)])
    assert {point.state for point in points[40:60]} == {"learning"}
    assert (points[40].phase, points[40].night) == (1, 1)
    last = points[-1].baseline
    assert last is not None
    assert last.centre == pytest.approx(50.0, abs=1.0)
    assert points[-1].state == "in_control"


def test_nights_differ_by_no_less_than_a_single_value_is_uncertain() -> None:
    values = [5.0] * LEARNING_NIGHTS + [5.1] * 10
    assert control_chart(values, errors=[0.1] * 30)[-1].state == "in_control"
    assert control_chart(values)[-1].state == "alarm"


def test_a_number_that_never_changes_stays_in_control() -> None:
    assert {p.state for p in control_chart([0.0] * 40)[LEARNING_NIGHTS:]} == {"in_control"}
    assert {p.state for p in control_chart([3.25] * 40)[LEARNING_NIGHTS:]} == {"in_control"}


def test_an_alarm_is_at_the_limit() -> None:
    points = control_chart([float((-1) ** i) for i in range(LEARNING_NIGHTS)] + [1.0] * 40)
    for point in points[LEARNING_NIGHTS:]:
        assert point.z is not None
        assert (point.state == "alarm") == (abs(point.z) > ALARM_AT)
