"""What a generated token costs: caches, experts and fetched matrices against closed forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from simulation.energy.constants import Constant, load_components
from simulation.energy.decoders import HEAD, Decoder
from simulation.energy.machine import Machine, PhotonLaw
from simulation.energy.pricing import WRITE_TIME, limits, price_digital, price_optical
from simulation.energy.units import Unit

TABLE = Path(__file__).parents[2] / "data" / "energy" / "components.toml"
DENSE = Decoder("dense", "a test", 100, 4096, 64, 3, 8, kv_heads=2)
ROUTED = replace(DENSE, name="routed", experts=16, active=2, expert_width=32)
MACHINE = Machine(PhotonLaw(10.0), array=(1024, 1024), digital=(HEAD,))


@pytest.fixture(scope="module")
def today():
    return load_components(TABLE, "today")


def amounts(bill, component, *factors):
    return sum(r.amount for r in bill.rows if r.component == component and set(factors) <= {n for n, _ in r.factors})


def test_a_held_cache_takes_the_new_keys_and_values_only(today):
    step, elements = DENSE.step(5, 100), 3 * 5 * 2 * 2 * 8  # blocks, sequences, heads, keys and values, their width
    held, reloaded = (price_optical(step, replace(MACHINE, cache=c), today) for c in ("held", "reloaded"))
    # on W⁺ and W⁻ each
    assert amounts(held, "weight load", "modulator.energy") == 2 * elements
    assert amounts(reloaded, "weight load", "modulator.energy") == 2 * elements * 100
    assert amounts(reloaded, "cache read", "memory.dram") == 8 * elements * 99
    assert amounts(reloaded, "cache write", "memory.dram") == 8 * elements
    assert not amounts(held, "cache read")


def test_a_held_cache_needs_modulators_and_is_charged_for_them(today):
    step = DENSE.step(5, 100)
    held, reloaded = (replace(MACHINE, cache=c) for c in ("held", "reloaded"))
    more = limits(step, held, today).macropixels - limits(step, reloaded, today).macropixels
    assert more == 2 * 3 * 5 * 2 * 2 * 8 * 100 - 2 * 8 * 100  # reloaded, one after the other on the same
    kinds = [price_optical(step, m, today).by(lambda r: f"{r.kind} {r.component}") for m in (held, reloaded)]
    assert kinds[0]["attention weight hold"] > 0
    assert "attention weight hold" not in kinds[1]


def test_a_matrix_is_read_from_memory_once_and_written_on_both_sides(today):
    bill = price_optical(DENSE.forward(7), replace(MACHINE, weights="reloaded"), today)
    linear = replace(bill, rows=tuple(row for row in bill.rows if row.kind == "linear"))
    assert amounts(linear, "weight load", "memory.dram") == 8 * DENSE.parameters
    assert amounts(linear, "weight load", "dac.energy") == 2 * DENSE.parameters


def test_idle_experts_are_held_while_the_tokens_pass(today):
    step = ROUTED.step(4, 10)

    def hold(machine):
        bill = price_optical(step, machine, today)
        rows = [r for r in bill.rows if r.component == "weight hold" and ".experts." in r.layer]
        return sum(r.amount for r in rows)

    each = 2 * 3 * 64 * 32  # both sides; up is gated, and down
    assert hold(MACHINE) == 3 * 16 * each * 2 * 4  # blocks, all experts; both signs of four tokens
    busy = sum(p.batch for p in step.products if p.layer.endswith("experts.up")) // 3
    reloaded = price_optical(step, replace(MACHINE, experts="reloaded"), today)
    fetched = sum(
        r.amount for r in reloaded.rows
        if r.component == "weight load" and ".experts." in r.layer and "memory.dram" in dict(r.factors)
    )  # fmt: skip
    assert fetched == 8 * 3 * busy * 3 * 64 * 32
    pixels = [limits(step, replace(MACHINE, experts=e), today).macropixels for e in ("held", "reloaded")]
    assert pixels[0] - pixels[1] == 3 * 16 * each - 1024 * 1024


def test_a_digital_chip_fetches_each_matrix_once_for_all_sequences(today):
    every = DENSE.parameters + 64 * 100
    for sequences in (1, 32):
        bill = price_digital(DENSE.step(sequences, 50), today, "digital.mac")
        assert amounts(bill, "weight fetch") == 8 * every
        assert amounts(bill, "cache read") == 8 * sequences * 3 * 49 * 2 * 2 * 8
    forward = price_digital(DENSE.forward(50), today, "digital.mac")
    assert not amounts(forward, "weight fetch")


def test_a_digital_head_beside_the_optics_is_fetched_too(today):
    bill = price_optical(DENSE.step(1, 50), MACHINE, today)
    assert amounts(bill, "weight fetch") == 8 * 64 * 100


def test_the_middle_step_costs_what_steps_cost_on_average(today):
    lengths = range(3001, 3001 + 255)

    def price(length):
        return price_optical(DENSE.step(2, length), MACHINE, today).total_j

    assert price(3001 + 127) == pytest.approx(sum(map(price, lengths)) / len(lengths), rel=2e-3)


def test_together_a_step_costs_less_for_each(today):
    costs = [price_optical(DENSE.step(b, 50), MACHINE, today).per_token_j for b in (1, 8, 64)]
    assert costs == sorted(costs, reverse=True)


def test_a_window_that_moves_over_a_prompt_is_written_for_every_token(today):
    whole, windowed = DENSE, replace(DENSE, window=16, windowed=3)
    for place in ("reloaded", "held"):
        machine = replace(MACHINE, cache=place)
        found = [price_optical(d.prompt(2, 100), machine, today) for d in (whole, windowed)]
        written = [amounts(bill, "weight load", "modulator.energy") for bill in found]
        assert written[0] == written[1] == 2 * 3 * 2 * 2 * 2 * 8 * 100  # sides, blocks, sequences, heads, K and V
        assert found[1].total_j < found[0].total_j
    held = limits(windowed.step(2, 100), replace(MACHINE, cache="held"), today).macropixels
    each = 2 * 8 * 16
    assert held - limits(windowed.step(2, 100), MACHINE, today).macropixels == (3 * 2 * 2 * 2 - 1) * each


def test_a_held_cache_writes_one_pattern_for_each_matrix_and_a_reloaded_one_all(today):
    slow = Constant(WRITE_TIME, 1e-3, 1e-3, 1e-3, Unit.parse("s"), "a test")
    table = replace(today, constants={**today.constants, WRITE_TIME: slow})
    step = DENSE.step(1, 3000)
    matrices = 3 * 2 * 2  # blocks, heads, K and V; the 3,000 keys and values of each take 6 and 3 arrays
    held, reloaded = (limits(step, replace(MACHINE, cache=place), table).seconds for place in ("held", "reloaded"))
    assert held == pytest.approx(matrices * 1e-3, rel=1e-3)
    assert reloaded == pytest.approx(3 * 2 * (6 + 3) * 1e-3, rel=1e-3)


@pytest.mark.parametrize("other", [{"attention": "digital"}, {"vectors_at_once": 12}])
def test_a_machine_that_cannot_hold_a_cache_pays_for_fetching_it(today, other):
    machine = replace(MACHINE, **other)
    bills = [price_optical(DENSE.step(2, 50), replace(machine, cache=place), today) for place in ("held", "reloaded")]
    assert bills[0].total_j == bills[1].total_j
    assert amounts(bills[0], "cache read") > 0
