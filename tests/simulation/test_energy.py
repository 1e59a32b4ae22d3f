"""Counts against torch's own counter; prices against closed forms."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from calibration.errors import OutOfDomain
from simulation.energy.constants import load_components
from simulation.energy.operations import MatrixProduct, Operations, count_operations
from simulation.energy.pricing import Machine, PhotonLaw, limits, price_digital, price_optical
from simulation.energy.shapes import crossover_width, load_shapes, operations_of
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
    assert whole.macs == short.macs
    assert sum(whole.elementwise.values()) == sum(short.elementwise.values())
    assert len(short.products) == 9


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

    expected = 4 * (today["dac.energy"].value + today["adc.energy"].value)
    for d in (64, 1024):
        assert electrical(d) == pytest.approx(expected / d, rel=1e-12)


def test_light_is_photons_over_efficiencies(today):
    operations = Operations(8, (MatrixProduct("layer", "linear", 8, 512, 64),))
    bill = price_optical(operations, Machine(PhotonLaw(3.0, 128, 0.5)), today)
    (row,) = [r for r in bill.rows if r.component == "light"]
    efficiency = today["optics.transmission"].value * today["laser.wall_plug"].value
    photons = 4 * 8 * 512 * 64 * 3.0 / 2.0
    assert bill.energy_j(row) == pytest.approx(photons * today["photon.energy"].value / efficiency, rel=1e-12)


def test_a_small_array_converts_inputs_once_per_tile(today):
    operations = Operations(8, (MatrixProduct("layer", "linear", 8, 512, 256),))
    whole, tiled = (price_optical(operations, replace(MACHINE, array=a), today) for a in (None, (128, 128)))
    dac, adc = ({c: b.by(lambda r: r.component)[c] for c in ("DAC", "ADC")} for b in (whole, tiled))
    assert adc["DAC"] == pytest.approx(2 * dac["DAC"])
    assert adc["ADC"] == pytest.approx(4 * dac["ADC"])


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


def test_crossover_of_a_toy_machine_is_the_closed_form(today):
    width = crossover_width(lambda o: 1000.0 * o.tokens / (o.macs / o.tokens) ** 0.5, GPTConfig(64, 8, 64, 1, 1))

    def macs_per_token(d):
        return 12 * d**2 + 2 * 8 * d + 64 * d

    assert macs_per_token(width) > 8000.0**2 > macs_per_token(width - 64)


def test_light_that_never_pays_has_no_crossover():
    assert crossover_width(lambda o: 2.0, GPTConfig(64, 8, 64, 1, 1)) is None


def test_limits(today):
    operations = Operations(
        8, (MatrixProduct("layer", "linear", 8, 512, 256), MatrixProduct("a", "attention", 8, 4, 4))
    )
    found = limits(operations, MACHINE, today)
    assert found.macropixels == 2 * 512 * 256
    assert found.converters == 768
    assert found.seconds == pytest.approx(2 * 16 / 1e10)


@pytest.mark.parametrize("scenario", ["today", "future"])
def test_every_constant_has_a_source_and_makes_joules(scenario):
    components = load_components(TABLE, scenario)
    operations = operations_of(GPTConfig(300, 16, 32, 3, 4))
    assert price_optical(operations, replace(MACHINE, weights="reloaded"), components).total_j > 0
    for reference in ("digital.mac", "digital.h100", "digital.tpu_v4", "digital.research_5nm"):
        assert price_digital(operations, components, reference).total_j > 0


def test_orders_of_magnitude_of_the_paper():
    """About 100 times less for the largest models of 2023, more than 8,000 at 10^15 parameters (arXiv 2302.10360)."""
    shapes = load_shapes(DATA / "models.toml")

    def advantage(shape, scenario, bits):
        components = load_components(TABLE, scenario)
        operations = operations_of(shapes[shape].config)
        digital = price_digital(operations, components, "digital.mac").total_j
        return digital / price_optical(operations, replace(MACHINE, bits=bits), components).total_j

    assert 100 / math.sqrt(10) < advantage("mt-nlg-530b", "today", 8) < 100 * math.sqrt(10)
    assert advantage("future-1e15", "future", 4) > 8000


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
