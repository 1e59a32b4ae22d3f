"""Counts against torch's own counter; prices against closed forms."""

import math
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from calibration.errors import OutOfDomain
from simulation.energy.constants import Constant, load_components
from simulation.energy.machine import Machine, PhotonLaw, Words
from simulation.energy.operations import MatrixProduct, Operations, count_operations
from simulation.energy.pricing import PER_BIT, WRITE_TIME, limits, price_digital, price_optical
from simulation.energy.receiver import EFFICIENCY, LAW, NOISE, Receiver
from simulation.energy.shapes import load_shapes, operations_of, widths_that_pay
from simulation.energy.units import JOULE, Unit
from simulation.models.gpt import GPT, GPTConfig

DATA = Path(__file__).parents[2] / "data" / "energy"
TABLE = DATA / "components.toml"
MACHINE = Machine(PhotonLaw(1.0, 12288, 1.0), digital=("GPT",))


@pytest.fixture(scope="module")
def today():
    return load_components(TABLE, "today")


def gpt():
    return GPT(GPTConfig(300, 16, 32, 3, 4)), (torch.zeros(2, 16, dtype=torch.long),)


def encoder():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).train(), (torch.zeros(2, 10, 32),)


def mlp():
    return nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10)), (
        torch.zeros(7, 784),
    )


@pytest.mark.parametrize("make", [gpt, encoder, mlp])
def test_macs_are_those_of_torchs_counter(make):
    model, inputs = make()
    # torch's counter knows no fused attention on a CPU: both count the unfused one
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(*inputs)
        assert count_operations(model, *inputs, tokens=1).macs == counter.get_total_flops() / 2


def test_operations_are_named_and_told_apart():
    model, inputs = gpt()
    seen = count_operations(model, *inputs, tokens=32)
    by_name = {p.layer: p for p in seen.products}
    assert by_name["blocks.1.ffn.down"] == MatrixProduct("blocks.1.ffn.down", "linear", 32, 128, 32, 1, True)
    assert by_name["blocks.0.ffn.up"] == MatrixProduct("blocks.0.ffn.up", "linear", 32, 32, 128)
    assert by_name["blocks.2.attention.qk"] == MatrixProduct("blocks.2.attention.qk", "attention", 16, 8, 16, 8)
    assert by_name["blocks.2.attention.av"].non_negative
    assert seen.elementwise["blocks.0.attention", "softmax"] == 2 * 4 * 16 * 16


def test_fused_attention_counts_both_products():
    q = torch.zeros(2, 4, 10, 8)

    class Fused(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    seen = count_operations(Fused(), q, tokens=10)
    assert seen.macs == 2 * (2 * 4 * 10 * 10 * 8)


def test_a_shape_counts_as_the_whole_model_does():
    config = GPTConfig(300, 16, 32, 5, 4)
    with torch.device("meta"):
        model, tokens = GPT(config), torch.zeros(1, 16, dtype=torch.long)
    whole, short = count_operations(model, tokens, tokens=16), operations_of(config)
    seen = Counter()
    for p in whole.products:
        seen[re.sub(r"blocks\.\d", "blocks.*", p.layer), p.kind, p.n, p.k, p.m, p.non_negative] += p.batch
    assert seen == {(p.layer, p.kind, p.n, p.k, p.m, p.non_negative): p.batch for p in short.products}
    assert _by_kind(whole) == _by_kind(short)


def _by_kind(operations):
    found = Counter()
    for (_, kind), elements in operations.elementwise.items():
        found[kind] += elements
    return found


def test_total_is_the_sum_over_layers_and_over_components(today):
    bill = price_optical(operations_of(GPTConfig(300, 16, 32, 3, 4)), MACHINE, today)
    for key in (lambda row: row.layer, lambda row: row.component):
        assert sum(bill.by(key).values()) == pytest.approx(bill.total_j, rel=1e-12)


def test_twice_the_tokens_cost_twice(today):
    def price(n):
        product = MatrixProduct("layer", "linear", n, 64, 64)
        return price_optical(Operations(n, (product,), {("norm", "norm"): 64 * n}), MACHINE, today).total_j

    assert price(200) == pytest.approx(2 * price(100), rel=1e-12)


@pytest.mark.parametrize("name", ["dac.energy", "photon.energy", "memory.sram", "weight.hold_power", "digital.op"])
def test_energy_rises_with_every_price(today, name):
    dearer = replace(today, constants={**today.constants, name: replace(today[name], value=2 * today[name].value)})
    operations = operations_of(GPTConfig(300, 16, 32, 3, 4))
    assert price_optical(operations, MACHINE, dearer).total_j > price_optical(operations, MACHINE, today).total_j


def test_conversions_per_mac_fall_as_one_over_width(today):
    def electrical(d):
        operations = Operations(8, (MatrixProduct("layer", "linear", 8, d, d),))
        bill = price_optical(operations, MACHINE, today)
        return sum(bill.energy_j(r) for r in bill.rows if r.component in ("DAC", "ADC")) / operations.macs

    # each of two signs: an input is converted once, for W⁺ and W⁻ together; an output of each is
    expected = 2 * today["dac.energy"].value + 4 * today["adc.energy"].value
    for d in (64, 1024):
        assert electrical(d) == pytest.approx(expected / d, rel=1e-12)


def test_light_is_photons_over_efficiencies(today):
    operations = Operations(8, (MatrixProduct("layer", "linear", 8, 512, 64),))
    quiet = with_value(today, "receiver.noise", 1e-9)
    bill = price_optical(operations, Machine(PhotonLaw(3.0, 128, 0.5)), quiet)
    (row,) = [r for r in bill.rows if r.component == "light"]
    efficiency = today["source.transmission"].value * today["laser.wall_plug"].value
    photons = 4 * 8 * 512 * 64 * 3.0 / 2.0
    assert bill.energy_j(row) == pytest.approx(photons * today["photon.energy"].value / efficiency, rel=1e-12)


@pytest.mark.parametrize(("per_mac", "readings", "noise"), [(1.0, 1, 220.0), (0.01, 3, 50.0), (100.0, 1, 5.0)])
def test_light_makes_up_for_the_noise_of_the_receiver(today, per_mac, readings, noise):
    k, efficiency = 1024, today["detector.quantum_efficiency"].value
    more = Receiver(per_mac, k, readings).more({NOISE: noise, EFFICIENCY: efficiency})
    before, after = per_mac * k * efficiency, more * per_mac * k * efficiency
    assert (after + readings * noise**2) / after**2 == pytest.approx(1 / before)


def light_of(machine, components):
    operations = Operations(8, (MatrixProduct("layer", "linear", 8, 512, 64),))
    bill = price_optical(operations, machine, components)
    return replace(bill, rows=tuple(row for row in bill.rows if row.component == "light"))


def test_light_of_a_law_of_other_detectors_is_as_many_electrons(today):
    perfect, here = PhotonLaw(3.0, efficiency=1.0), today["detector.quantum_efficiency"].value
    same = PhotonLaw(3.0 / here)  # of these detectors
    found = [light_of(Machine(law), today) for law in (perfect, same)]
    assert found[0].total_j == pytest.approx(found[1].total_j)
    silent = with_value(today, NOISE, 1e-9)
    measured, stated = (light_of(Machine(law), silent).total_j for law in (perfect, PhotonLaw(3.0)))
    assert measured == pytest.approx(stated / here)


def test_intervals_and_tornado_price_what_the_light_depends_on_as_a_whole_bill_does(today):
    """Receivers' noise, efficiency and the law decide about light by no power law: each end is a bill of its own."""
    law = Constant(LAW, 1.0, 1e-4, 1e3, Unit.parse("1"), "a test")
    table = replace(today, constants={**today.constants, LAW: law})
    for efficiency in (None, 1.0):
        machine = Machine(PhotonLaw(0.5, efficiency=efficiency))
        bill = light_of(machine, table)
        assert {NOISE, EFFICIENCY, LAW} <= set(bill.constants)
        found = {name: (low, high) for name, low, high in bill.sensitivity()}
        for name in (NOISE, EFFICIENCY, LAW):
            for end, total in zip((table[name].low, table[name].high), found[name], strict=True):
                stated = end if name == LAW else 1.0
                other = with_value(today, name, end) if name != LAW else today
                alone = light_of(Machine(PhotonLaw(0.5 * stated, efficiency=efficiency)), other)
                assert total == pytest.approx(alone.total_j), (name, end, efficiency)
    drawn = bill.samples_j(500, 1)
    fixed = {name: replace(table[name], low=table[name].value, high=table[name].value) for name in (NOISE, LAW)}
    steady = light_of(machine, replace(table, constants={**table.constants, **fixed}))
    assert np.std(np.log(steady.samples_j(500, 1))) < np.std(np.log(drawn))


def test_in_turn_a_held_matrix_is_charged_while_others_are_written(today):
    slow = Constant(WRITE_TIME, 2e-3, 1e-3, 1e-2, Unit.parse("s"), "a test")
    table = replace(today, constants={**today.constants, WRITE_TIME: slow})
    scores = MatrixProduct("a", "attention", 8, 64, 64, 3)
    operations = Operations(8, (MatrixProduct("layer", "linear", 8, 64, 64), scores))
    machine = replace(MACHINE, schedule="in turn")
    bill, seconds = price_optical(operations, machine, table), limits(operations, machine, table).seconds
    assert seconds == pytest.approx(3 * 2e-3, rel=1e-3)
    held = 2 * 64 * 64 * seconds * today["weight.hold_power"].value
    assert bill.by(lambda row: row.component)["weight hold"] == pytest.approx(held)
    assert bill.total_j > 100 * price_optical(operations, MACHINE, table).by(lambda r: r.component)["weight hold"]


def with_value(components, name, value):
    changed = replace(components[name], value=value)
    return replace(components, constants={**components.constants, name: changed})


def test_a_small_array_converts_inputs_once_per_tile(today):
    operations = Operations(8, (MatrixProduct("layer", "linear", 8, 512, 256),))
    whole, tiled = (price_optical(operations, replace(MACHINE, array=a), today) for a in (None, (128, 128)))
    before, after = ({c: b.by(lambda r: r.component)[c] for c in ("DAC", "ADC")} for b in (whole, tiled))
    assert after["DAC"] == pytest.approx(4 * before["DAC"])  # 2 · 256 outputs of both signs
    assert after["ADC"] == pytest.approx(4 * before["ADC"])


def test_vectors_that_cannot_be_negative_need_half_the_passes(today):
    def light(non_negative):
        operations = Operations(8, (MatrixProduct("layer", "linear", 8, 64, 64, 1, non_negative),))
        return price_optical(operations, MACHINE, today).by(lambda r: r.component)["light"]

    assert light(False) == pytest.approx(2 * light(True))


def test_interval_and_tornado_contain_the_value(today):
    bill = price_optical(operations_of(GPTConfig(300, 64, 256, 2, 4)), MACHINE, today)
    drawn = bill.samples_j(2000, 0)
    assert np.quantile(drawn, 0.005) < bill.total_j < np.quantile(drawn, 0.995)
    assert bill.sensitivity()
    for _, low, high in bill.sensitivity():
        assert min(low, high) <= bill.total_j * (1 + 1e-12)
        assert max(low, high) >= bill.total_j * (1 - 1e-12)
    assert np.array_equal(drawn, bill.samples_j(2000, 0))


def test_widths_that_pay_on_a_toy_machine_are_the_closed_form():
    def macs_per_token(d):
        return 12 * d**2 + 2 * 8 * d + 64 * d

    def ratio(config):
        o = operations_of(config)
        return 1000.0 * o.tokens / (o.macs / o.tokens) ** 0.5

    width, widest = widths_that_pay(ratio, GPTConfig(64, 8, 64, 1, 1))
    assert macs_per_token(width) > 8000.0**2 > macs_per_token(width - 64)
    assert widest is None


@pytest.mark.parametrize(("narrowest", "widest"), [(64, 64), (64, 640), (1920, 6400), (2048, 4096), (64, None)])
def test_light_pays_between_two_widths(narrowest, widest):
    def ratio(config):
        return 0.5 if narrowest <= config.width <= (widest or 1 << 30) else 2.0

    assert widths_that_pay(ratio, GPTConfig(64, 8, 64, 1, 1)) == (narrowest, widest)


def test_light_that_never_pays_has_no_width():
    assert widths_that_pay(lambda o: 2.0, GPTConfig(64, 8, 64, 1, 1)) is None


def test_limits(today):
    operations = Operations(
        8, (MatrixProduct("layer", "linear", 8, 512, 256), MatrixProduct("a", "attention", 8, 4, 4))
    )
    found = limits(operations, MACHINE, today)
    assert found.macropixels == 2 * 512 * 256 + 2 * 4 * 4  # the operands of attention are written on some, too
    assert found.converters == 512 + 2 * 256
    assert found.seconds == pytest.approx(2 * 16 / 1e10)


def test_one_layout_is_counted_in_converters_seconds_and_samples(today):
    """Samples per second and converter never exceed the clock, and reach it at the largest matrix."""
    operations = Operations(8, (MatrixProduct("layer", "linear", 8, 512, 256),))
    for array in (None, (128, 128)):
        for weights in ("held", "reloaded"):
            machine = replace(MACHINE, array=array, weights=weights)
            bill, found = price_optical(operations, machine, today), limits(operations, machine, today)
            samples = sum(r.amount for r in bill.rows if r.component in ("DAC", "ADC"))
            rate = samples / found.seconds / found.converters
            arrays = math.prod(machine.tiles(operations.products[0])) if weights == "reloaded" else 1
            assert rate == pytest.approx(today["clock.rate"].value / arrays)


def test_held_matrices_are_charged_for_their_own_vectors_or_for_all(today):
    products = tuple(MatrixProduct(f"layer{i}", "linear", 8, 64, 64) for i in range(5))
    operations = Operations(8, products)

    def hold(schedule):
        bill = price_optical(operations, replace(MACHINE, schedule=schedule), today)
        return bill.by(lambda row: row.component)["weight hold"]

    assert hold("in turn") == pytest.approx(5 * hold("pipelined"))
    seconds = limits(operations, MACHINE, today).seconds
    assert hold("in turn") == pytest.approx(5 * 2 * 64 * 64 * seconds * today["weight.hold_power"].value)


def test_what_stays_digital_is_computed_on_the_chip_that_light_is_compared_with(today):
    shapes = load_shapes(DATA / "models.toml")
    operations = operations_of(shapes["gpt2"].config)
    head = sum(p.macs for p in operations.products if p.layer == "GPT")
    most = operations.macs / head  # were everything but the head free of cost
    for reference in ("digital.mac", "digital.h100", "digital.research_5nm"):
        optical = price_optical(operations, MACHINE, today, reference).total_j
        assert price_digital(operations, today, reference).total_j / optical < most


def test_ratio_of_two_machines_of_the_same_parts_is_certain(today):
    operations = operations_of(GPTConfig(300, 16, 32, 3, 4))
    bill = price_digital(operations, today, "digital.h100")
    assert np.ptp(bill.samples_j(200, 3) / bill.samples_j(200, 3)) == 0
    light, other = (price_optical(operations, replace(MACHINE, weights=w), today) for w in ("held", "reloaded"))
    together = light.samples_j(2000, 0) / other.samples_j(2000, 0)
    apart = light.samples_j(2000, 0) / other.samples_j(2000, 1)
    assert np.std(np.log(together)) < 0.9 * np.std(np.log(apart))


def test_a_bill_at_six_bits_is_the_count_by_hand(today):
    """Three vectors of five inputs, two outputs; DAC and ADC two bits below theirs, a modulator in proportion."""
    operations = Operations(3, (MatrixProduct("layer", "linear", 3, 5, 2),))
    machine = Machine(PhotonLaw(0.0), 6)
    bill = price_optical(operations, machine, today)
    held = {
        "memory": 6 * (30 + 6) * 0.103e-12,
        "DAC": 30 * 5.2e-12 / 4,
        "modulator": 30 * 0.336e-12 * 6 / 8,
        "detector": 24 * 0.41e-12,
        "ADC": 24 * 3e-12 / 4,
        "digital sum": 18 * 0.4e-12,
        "weight hold": 20 * 6 * 1e-6 / 1e10,
    }
    assert bill.by(lambda row: row.component) == pytest.approx(held)
    assert bill.total_j == pytest.approx(sum(held.values()))
    written = price_optical(operations, replace(machine, weights="reloaded"), today).by(lambda row: row.component)
    assert written["weight load"] == pytest.approx(6 * 10 * 3.9e-12 + 20 * (5.2e-12 / 4 + 0.336e-12 * 6 / 8))


@pytest.mark.parametrize("scenario", ["today", "scaled-optics", "future"])
@pytest.mark.parametrize("usage", [{}, {"weights": "reloaded"}, {"tile": 8, "array": (64, 64)}])
def test_more_bits_never_cost_less(scenario, usage):
    components = load_components(TABLE, scenario)
    operations = operations_of(GPTConfig(300, 16, 32, 3, 4))
    bills = [price_optical(operations, replace(MACHINE, bits=b, **usage), components) for b in (1, 3, 4, 6, 8, 9, 12)]
    for fewer, more in pairwise(bills):
        assert fewer.total_j < more.total_j
        assert np.all(fewer.samples_j(200, 0) < more.samples_j(200, 0))


def test_future_converters_at_eight_bits_are_those_of_today_twice_as_good(today):
    operations = Operations(8, (MatrixProduct("layer", "linear", 8, 64, 64),))
    future = load_components(TABLE, "future")
    assert future.bits == 4
    then, now = (price_optical(operations, MACHINE, each).by(lambda r: r.component) for each in (future, today))
    assert (2 * then["DAC"], 2 * then["ADC"]) == pytest.approx((now["DAC"], now["ADC"]))
    assert then["modulator"] == pytest.approx(2 * 8 * 2 * 8 * 64 * 0.042e-12 / 8)


def test_what_a_bit_costs_is_drawn_once_and_named_only_where_it_is_asked_for(today):
    operations = Operations(8, (MatrixProduct("layer", "linear", 8, 64, 64),))
    native, scaled = (price_optical(operations, replace(MACHINE, bits=b), today) for b in (8, 6))
    assert PER_BIT not in native.constants
    (ends,) = [(low, high) for name, low, high in scaled.sensitivity() if name == PER_BIT]
    assert ends[0] > scaled.total_j > ends[1]  # fewer bits: the steeper the rule, the less they cost


def test_a_bill_of_mixed_bits_is_the_count_by_hand(today):
    """The same product with inputs of 4 bits, weights of 6, outputs of 10: each converter by its own."""
    operations = Operations(3, (MatrixProduct("layer", "linear", 3, 5, 2),))
    machine = Machine(PhotonLaw(0.0), Words(4, 6, 10))
    held = price_optical(operations, machine, today).by(lambda row: row.component)
    assert held["memory"] == pytest.approx((4 * 30 + 10 * 6) * 0.103e-12)
    assert held["DAC"] == pytest.approx(30 * 5.2e-12 / 2**4)
    assert held["modulator"] == pytest.approx(30 * 0.336e-12 * 4 / 8)
    assert held["ADC"] == pytest.approx(24 * 3e-12 * 2**2)
    written = price_optical(operations, replace(machine, weights="reloaded"), today).by(lambda row: row.component)
    assert written["weight load"] == pytest.approx(6 * 10 * 3.9e-12 + 20 * (5.2e-12 / 4 + 0.336e-12 * 6 / 8))
    rate = today["clock.rate"].value
    assert limits(operations, machine, today).memory_bits_per_s == pytest.approx(rate * (4 * 5 + 10 * 4))


def test_words_of_one_length_cost_what_the_one_number_costs(today):
    operations = operations_of(GPTConfig(300, 16, 32, 3, 4))
    for usage in ({}, {"weights": "reloaded"}):
        one, three = (replace(MACHINE, bits=bits, **usage) for bits in (6, Words(6, 6, 6)))
        assert price_optical(operations, one, today).rows == price_optical(operations, three, today).rows
        assert limits(operations, one, today) == limits(operations, three, today)


@pytest.mark.parametrize("bits", [0, -1, 33, 6.5])
def test_words_of_no_bits_are_refused(bits):
    with pytest.raises(OutOfDomain, match="not a number of bits"):
        replace(MACHINE, bits=bits)
    with pytest.raises(OutOfDomain, match="not a number of bits"):
        Words(8, bits, 8)


def test_a_rule_by_which_more_bits_may_cost_less_is_refused(today):
    rule = replace(today[PER_BIT], low=0.9)
    table = replace(today, constants={**today.constants, PER_BIT: rule})
    operations = Operations(8, (MatrixProduct("layer", "linear", 8, 64, 64),))
    assert price_optical(operations, MACHINE, table).total_j > 0
    with pytest.raises(OutOfDomain, match="rule of what a bit more costs"):
        price_optical(operations, replace(MACHINE, bits=6), table)


def test_scaled_optics_has_the_electronics_of_today(today):
    scaled = load_components(TABLE, "scaled-optics")
    differ = {name for name in today.constants if scaled[name] != today[name]}
    assert differ == {"weight.hold_power", "weight.pitch", "laser.wall_plug"}


@pytest.mark.parametrize("scenario", ["today", "scaled-optics", "future"])
def test_every_constant_has_a_source_and_makes_joules(scenario):
    components = load_components(TABLE, scenario)
    operations = operations_of(GPTConfig(300, 16, 32, 3, 4))
    machine = replace(MACHINE, weights="reloaded", bits=components.bits)
    assert price_optical(operations, machine, components).total_j > 0
    for reference in ("digital.mac", "digital.h100", "digital.tpu_v4", "digital.research_5nm"):
        assert price_digital(operations, components, reference).total_j > 0


def test_a_wrong_unit_is_named(today):
    wrong = replace(today["adc.energy"], unit=Unit.parse("J/bit"))
    broken = replace(today, constants={**today.constants, "adc.energy": wrong})
    with pytest.raises(OutOfDomain, match="joules") as caught:
        price_optical(operations_of(GPTConfig(300, 16, 32, 3, 4)), MACHINE, broken)
    assert "adc.energy" in caught.value.device


@pytest.mark.parametrize(
    ("text", "same"),
    [("W", "J/s"), ("J/bit", "J/bit"), ("W/pixel", "J/pixel*s"), ("1", "Hz*s"), ("sample*Hz", "sample/s")],
)
def test_units(text, same):
    assert Unit.parse(text) == Unit.parse(same)
    assert Unit.parse("bit") * Unit.parse("J/bit") == JOULE


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ('value = 1\nlow = 1\nhigh = 1\nunit = "J"\nsource = " "', "no source"),
        ('value = 1\nlow = 2\nhigh = 3\nunit = "J"\nsource = "x"', "outside its own range"),
        ('value = 1\nlow = 1\nhigh = 1\nunit = "kWh"\nsource = "x"', "no such unit"),
        ('value = 1\nlow = 1\nhigh = 1\nunit = "J"\nsource = "x"\ncolour = 3', "unknown or missing keys"),
        ("value = ", "not TOML"),
    ],
)
def test_bad_tables_are_refused(tmp_path, entry, what):
    path = tmp_path / "table.toml"
    path.write_text(f"[dac.energy.today]\n{entry}\n")
    with pytest.raises(OutOfDomain, match=what):
        load_components(path, "today")


def test_unknown_scenario_and_missing_constant(today):
    with pytest.raises(OutOfDomain, match="scenario"):
        load_components(TABLE, "tomorrow")
    with pytest.raises(OutOfDomain, match="missing"):
        today["flux.capacitor"]
