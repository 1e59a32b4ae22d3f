"""Nested hypotheses: the simplest that no richer one improves upon."""

import numpy as np
import pytest
from scipy import stats

from calibration.statistics.choice import Hypothesis, choose

CHAIN = (
    ("scalar", 1, ()),
    ("rows", 24, ("scalar",)),
    ("smooth", 6, ("scalar",)),
    ("full", 768, ("scalar", "rows", "smooth")),
)


def hypotheses(**chi2):
    return [Hypothesis(name, chi2[name], p, frozenset(contains)) for name, p, contains in CHAIN]


def test_without_evidence_the_simplest_is_chosen_and_the_nearest_rival_named():
    choice = choose(hypotheses(scalar=800, rows=770, smooth=790, full=100), claims={"rows": "per-output gains"})
    assert choice.chosen == "scalar"
    assert choice.runner_up == "smooth"  # χ²(5) = 10: p = 0.08; rows: χ²(23) = 30, p = 0.15
    assert (choice.statistic, choice.value) == ("χ²(5)", 10)
    assert choice.p_value == pytest.approx(stats.chi2.sf(10, 5))
    assert choice.reason == "no evidence for smooth: χ²(5) = 10, p = 0.075"


def test_evidence_for_a_form_is_against_the_best_simpler_one():
    choice = choose(hypotheses(scalar=1000, rows=800, smooth=999, full=50), claims={"rows": "per-output gains"})
    assert choice.chosen == "rows"
    assert choice.reason == (
        "evidence for per-output gains over scalar: χ²(23) = 200, p = "
        f"{stats.chi2.sf(200, 23):.2g}; no evidence for full: χ²(744) = 750, p = {stats.chi2.sf(750, 744):.2g}"
    )


def test_of_two_adequate_forms_that_are_not_nested_the_criterion_decides():
    choice = choose(hypotheses(scalar=1000, rows=800, smooth=801, full=100))
    assert choice.chosen == "smooth"  # 801 + 12 < 800 + 48
    assert choice.reason.endswith("rows is adequate, too, with a larger AIC")


def test_the_richest_is_chosen_when_all_else_fails():
    choice = choose(hypotheses(scalar=9000, rows=9000, smooth=9000, full=100))
    assert choice.chosen == "full"
    assert choice.runner_up == "scalar"


def test_misfit_that_noise_cannot_explain_is_no_evidence():
    badly = hypotheses(scalar=4000, rows=3880, smooth=3960, full=1000)
    assert choose(badly).chosen != "scalar"
    assert choose(badly, scale=4.0).chosen == "scalar"


def test_the_level_holds_for_all_pairs_together():
    """4000 scalar worlds: χ² of nested models falls by independent χ² steps; 0.1 % false alarms at the most."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(4000):
        rows, smooth, rest = rng.chisquare([23, 5, 739])
        wrong += (
            choose(hypotheses(scalar=rows + smooth + rest, rows=smooth + rest, smooth=rows + rest, full=0)).chosen
            != "scalar"
        )
    assert wrong <= 4 + 3 * np.sqrt(4)


def test_one_form_is_no_choice():
    choice = choose([Hypothesis("only", 1.0, 2, frozenset())])
    assert (choice.chosen, choice.runner_up, choice.p_value) == ("only", "", 1.0)
