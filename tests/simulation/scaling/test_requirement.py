"""The crossing, its interval and the power law against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.errors import BadOperands
from simulation.scaling.powerlaw import power_law
from simulation.scaling.requirement import Requirement, Resamples, Sweep, bright_cost, crossing, requirement, resample

LEVELS = np.array([10 ** (i / 4) for i in range(17)])


def sweep(
    width: int = 64, needed: float = 120.0, windows: int = 40, noise: float = 0.0, floor: float = 0.0, seed: int = 0
) -> Sweep:
    """Excess ``ln 1.01 · needed / n`` nats per token; windows differ, and so do seeds, in how much they suffer."""
    rng = np.random.default_rng(seed)
    tokens = np.full(windows, 32.0)
    int8 = 3.0 * tokens * rng.uniform(0.7, 1.3, windows)
    excess = floor + math.log(1.01) * needed / LEVELS
    share = (1 + noise * rng.standard_normal(windows)) * (1 + 0.3 * noise * rng.standard_normal((1, 3, windows)))
    return Sweep(width, LEVELS, int8 + excess[:, None, None] * tokens * share, int8, int8 * 0.99, tokens)


@given(needed=st.floats(3.0, 3000.0), power=st.floats(0.5, 2.0), tolerance=st.sampled_from([0.01, 0.05]))
@settings(max_examples=60, deadline=None)
def test_crossing_of_a_power_law_is_found_between_levels(needed: float, power: float, tolerance: float) -> None:
    nats = math.log1p(tolerance)
    excess = nats * (needed / LEVELS) ** power
    # Over a quarter of a decade the interpolated curve leaves a power law by a few parts in a thousand.
    assert crossing(LEVELS, excess, nats) == pytest.approx(needed, rel=0.01)


def test_scatter_below_the_tolerance_does_not_move_the_crossing() -> None:
    nats = math.log(1.01)
    excess = nats * 100 / LEVELS
    excess[LEVELS > 400] += np.random.default_rng(0).normal(0, 0.1 * nats, (LEVELS > 400).sum())
    assert crossing(LEVELS, excess, nats) == pytest.approx(100, rel=0.01)


def test_beyond_the_levels_there_is_a_side_and_no_number() -> None:
    assert crossing(LEVELS, 10 / LEVELS, 100.0) == -math.inf
    assert crossing(LEVELS, 10 / LEVELS, 1e-5) == math.inf


def test_interval_of_the_requirement_holds_the_truth_and_shrinks_with_text() -> None:
    def need(windows: int, seed: int) -> Requirement:
        found = sweep(windows=windows, noise=0.5, seed=seed)
        return requirement(found, 0.01, resample(found, 100, np.random.default_rng(1), np.random.default_rng(2)))

    needs = [need(32, seed) for seed in range(30)]
    # 95 % of 30, less four binomial standard errors: 0.95 − 4 √(0.95 · 0.05 / 30) = 0.79
    assert np.mean([n.low < 120 < n.high for n in needs]) > 0.79
    wide = np.mean([math.log(n.high / n.low) for n in needs])
    narrow = math.log(need(512, 0).high / need(512, 0).low)
    assert narrow == pytest.approx(wide / 4, rel=0.35)  # √16; of 100 draws, percentiles scatter by a sixth


def test_floor_above_the_tolerance_is_said_and_not_extrapolated() -> None:
    found = sweep(floor=0.02)
    draws = resample(found, 50, np.random.default_rng(1), np.random.default_rng(2))
    need = requirement(found, 0.01, draws)
    assert need.photons is None
    assert need.high is None
    assert "without light" in need.reason
    assert "already" in requirement(sweep(needed=0.1), 0.01, draws).reason


def test_perplexities_are_those_of_the_sums() -> None:
    found = sweep(noise=0.2)
    draws = resample(found, 200, np.random.default_rng(1), np.random.default_rng(2))
    assert found.reference() == pytest.approx(math.exp(found.int8.sum() / found.tokens.sum()))
    assert np.log(found.perplexity / found.reference()) == pytest.approx(found.excess())
    low, high = np.percentile(draws.perplexity(found), [0, 100], axis=0)
    assert (low < found.perplexity).all()
    assert (found.perplexity < high).all()


def test_one_window_and_one_seed_have_no_interval() -> None:
    def drawn(found: Sweep) -> Resamples:
        return resample(found, 50, np.random.default_rng(1), np.random.default_rng(2))

    several = sweep(windows=1, noise=0.2)
    assert requirement(several, 0.05, drawn(several)).low is not None
    found = replace(several, nats=several.nats[:, :1])
    draws, need = drawn(found), requirement(found, 0.05, drawn(found))
    assert need.photons is not None
    assert need.low is need.high is None
    assert np.isnan(draws.interval(draws.perplexity(found))).all()
    assert np.isnan(bright_cost(found, draws)[1:]).all()
    assert power_law(np.array([32.0, 64.0]), np.array([9.0, 7.0]), np.stack([need.draws] * 2, 1)).bootstrap is None


def test_same_generator_gives_every_width_the_same_windows() -> None:
    a, b = (resample(sweep(d, seed=d), 20, np.random.default_rng(0), np.random.default_rng((1, d))) for d in (32, 64))
    assert np.array_equal(a.windows, b.windows)
    assert not np.array_equal(a.seeds, b.seeds)


def test_float_as_the_reference_asks_for_more_light() -> None:
    """The model in float is 1 % of its nats better than with 8 bits here, and light has to make up for that too."""
    found = sweep()
    draws = resample(found, 20, np.random.default_rng(1), np.random.default_rng(2))
    assert found.excess("digital") - found.excess() == pytest.approx(0.01 * found.int8.sum() / found.tokens.sum())
    exact = 120 * math.log(1.01) / (math.log(1.05) - 0.01 * found.int8.sum() / found.tokens.sum())
    assert requirement(found, 0.05, draws, "digital").photons == pytest.approx(exact, rel=0.01)


def test_two_levels_make_no_curve() -> None:
    found = sweep()
    short = Sweep(found.width, found.photons[:2], found.nats[:2], found.int8, found.digital, found.tokens)
    with pytest.raises(BadOperands, match="too few light levels"):
        requirement(short, 0.01, resample(short, 5, np.random.default_rng(0), np.random.default_rng(0)))


def test_power_law_is_exact_on_a_line_and_says_which_rival_predicts_better() -> None:
    d = np.array([32.0, 64.0, 128.0, 256.0])
    law = power_law(d, 5000 / d)
    assert law.exponent == pytest.approx(-1)
    assert law.photons(d) == pytest.approx(5000 / d)
    assert law.scatter == pytest.approx((-1, -1))
    assert law.without == pytest.approx(dict.fromkeys((32, 64, 128, 256), -1))
    assert law.rivals["1/d"] < 1e-12 < law.rivals["constant"]


def test_intervals_cover_the_exponent_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    d = np.array([32.0, 64.0, 128.0, 256.0])
    trials = 400
    laws = [power_law(d, 3000 * d**-0.6 * np.exp(rng.normal(0, 0.2, 4))) for _ in range(trials)]
    covered = np.mean([law.scatter[0] < -0.6 < law.scatter[1] for law in laws])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / trials))


def test_bootstrap_of_the_exponent_leaves_out_few_draws_beyond_the_levels_and_has_no_end_with_many() -> None:
    d = np.array([32.0, 64.0, 128.0])
    rng = np.random.default_rng(0)
    draws = 100 * np.exp(rng.normal(0, 0.1, (2000, 3)))
    draws[::40, 1] = np.inf
    law = power_law(d, np.full(3, 100.0), draws)
    spread = 0.1 / np.sqrt(np.sum((np.log(d) - np.log(d).mean()) ** 2))
    assert law.bootstrap == pytest.approx((-1.96 * spread, 1.96 * spread), rel=0.15)  # percentiles of 1950 draws
    draws[::7, 1] = np.inf
    assert power_law(d, np.full(3, 100.0), draws).bootstrap is None
    assert power_law(d, np.full(3, 100.0)).bootstrap is None


def test_one_width_has_no_exponent() -> None:
    with pytest.raises(BadOperands):
        power_law(np.array([64.0]), np.array([10.0]))
