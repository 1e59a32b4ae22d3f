"""What a bill counts against what a simulated bench does; other machines against what their authors claim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.errors import OutOfDomain
from calibration.machine.layout import Layout
from simulation.benches.machines import MACHINES
from simulation.benches.opening import open_bench
from simulation.energy.constants import ADC, DAC, MODULATOR, load_components
from simulation.energy.decoders import HEAD, Decoder
from simulation.energy.machine import CONVERSIONS, Machine, PhotonLaw
from simulation.energy.machines import load_machines
from simulation.energy.operations import MatrixProduct, Operations
from simulation.energy.pricing import PER_BIT, price_optical
from simulation.light.accounting import Tally
from simulation.light.optics import ideal
from simulation.light.settings import Noise

DATA = Path(__file__).parents[2] / "data" / "energy"
ONE = PhotonLaw(1.0)
N, K, M = 5, 42, 10
ROWS, COLUMNS = 8, 16  # of a tile: the matrix is cut into 2 × 3


@pytest.fixture(scope="module")
def today():
    return load_components(DATA / "components.toml", "today")


@pytest.fixture(scope="module")
def machines():
    return load_machines(DATA / "machines.toml")


@pytest.mark.parametrize(
    ("encoding", "family", "detectors"),
    [
        ("sign-split-balanced", "sign-split", 2),
        ("sign-split-in-turn", "sign-split", 1),
        ("offset", "offset", 1),
        ("differential", "differential", 1),
        ("coherent", "coherent", 1),
        ("partial-sums", "partial-sums:8", 1),
    ],
)
@pytest.mark.parametrize("tiled", [False, True])
def test_converters_and_photons_are_those_of_the_simulated_bench(today, encoding, family, detectors, tiled):
    layout = Layout((ROWS, COLUMNS), ROWS, COLUMNS, 1, 1, 1, 1) if tiled else Layout((64, 64), 64, 64, 1, 1, 1, 1)
    optics = replace(ideal(), layout=layout, detectors=detectors)
    bench, tally = open_bench(optics, 3.0, "exact", encoding=family), Tally()
    rng = np.random.default_rng(2)
    vectors, weight = (torch.from_numpy(rng.uniform(-1, 1, size)).float()[None] for size in ((N, K), (M, K)))
    bench.product(vectors, bench.show(weight, static=True), Noise((1, 2)), tally, unit=torch.ones(1))

    each = CONVERSIONS[encoding]
    array = (each.pixels * ROWS, COLUMNS) if tiled else None
    silent = {**today.constants, "receiver.noise": replace(today["receiver.noise"], value=1e-9, low=1e-9)}
    bill = price_optical(
        Operations(N, (MatrixProduct("layer", "linear", N, K, M),)),
        Machine(PhotonLaw(3.0), array=array, conversions=each),
        replace(today, constants=silent),
    )
    amounts = {row.component: row.amount for row in bill.rows}
    assert amounts["DAC"] == tally.input_conversions
    assert amounts["ADC"] == tally.output_conversions
    assert amounts["light"] == pytest.approx(tally.photons, rel=1e-5)
    assert amounts["light"] == pytest.approx(3.0 * tally.passes, rel=1e-6)


def test_signs_side_by_side_share_what_is_shown():
    beside, in_turn = CONVERSIONS["sign-split"], CONVERSIONS["sign-split-in-turn"]
    assert (2 * beside.shows, replace(beside, name="", shows=2)) == (in_turn.shows, replace(in_turn, name=""))


def test_offset_is_corrected_by_two_operations_and_one_sum_of_the_inputs(today):
    products = Operations(N, (MatrixProduct("layer", "linear", N, K, M),))
    bill = price_optical(products, Machine(ONE, conversions=CONVERSIONS["offset"]), today)
    (row,) = [row for row in bill.rows if row.component == "digital sum"]
    assert row.amount == N * (2 * M + K)


def test_every_machine_prices_a_model_and_every_constant_has_a_source(today, machines):
    operations = Decoder("small", "a test", 300, 64, 64, 2, 4).step(2, 20)
    assert len(machines) >= 4
    for known in machines.values():
        bill = price_optical(operations, known.with_light(ONE, (HEAD,)), known.components(today))
        assert bill.total_j > 0
        assert known.source
        assert all(constant.source for constant in known.constants.values())
    assert {name for name in machines if "2025" in name or "2024" in name} <= set(MACHINES)


def test_a_machine_without_light_has_no_photons_and_leaves_attention_to_the_chip(today, machines):
    known = machines["in-memory-2023"]
    operations = Decoder("small", "a test", 300, 64, 64, 2, 4).forward(20)
    bill = price_optical(operations, known.with_light(ONE, (HEAD,)), known.components(today))
    components = bill.by(lambda row: row.component)
    assert "array" in components
    assert not {"light", "detector"} & set(components)
    assert all(row.kind == "digital" for row in bill.rows if row.layer.endswith((".qk", ".av")))


def test_matrices_that_are_modulated_with_their_vectors_are_written_for_each_dozen(today, machines):
    known = machines["lightening-transformer-2024-8bit"]

    def written(vectors):
        products = Operations(vectors, (MatrixProduct("layer", "linear", vectors, 24, 24),))
        bill = price_optical(products, known.with_light(ONE, ()), known.components(today))
        (row,) = [r for r in bill.rows if r.component == "weight load" and dict(r.factors).get("dac.energy")]
        return row.amount

    assert (written(1), written(12), written(13)) == (24 * 24, 24 * 24, 2 * 24 * 24)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("in-memory-2023", 0.8, 1.25), ("lightening-transformer-2024-4bit", 1.5, 3), ("aoc-2025-48", 2, 6)],
)
def test_claims_of_the_authors_stand_beside_ours(today, machines, name, low, high):
    """The last two differ, and say by how much: our conversions are per 12 wavelengths, and signs take four passes."""
    known = machines[name]
    assert low < known.at_claimed_work(PhotonLaw(1.0, 12288, 1.0), today) / known.claim.joules_per_mac < high


def test_energy_of_a_tile_is_what_its_converters_and_cells_cost(today, machines):
    known = machines["in-memory-2023"]
    own = known.components(today)
    inputs = (own["dac.energy"].value + own["modulator.energy"].value) / 256
    expected = inputs + own["adc.energy"].value / 256 + own["array.mac"].value
    assert known.at_claimed_work(ONE, today) == pytest.approx(expected)


def test_noise_of_a_receiver_is_that_of_its_own_bandwidth(today, machines):
    """White noise of a current over half the rate, gathered for one period: electrons go as 1/√rate."""
    for known in machines.values():
        if known.machine.photons is not None:
            own = known.components(today)
            slower = today["clock.rate"].value / own["clock.rate"].value
            expected = today["receiver.noise"].value * slower**0.5
            assert own["receiver.noise"].value == pytest.approx(expected, rel=0.02), known.name


def test_machines_published_for_two_numbers_of_bits_lie_in_the_range_of_the_rule(today, machines):
    eight, four = (machines[f"lightening-transformer-2024-{bits}bit"].constants for bits in (8, 4))
    rule = today[PER_BIT]
    for name in (DAC, ADC):
        each = (eight[name].value / four[name].value) ** (1 / 4)
        assert rule.low <= each + 1e-3 <= rule.high, name
    assert eight[MODULATOR].value == pytest.approx(2 * four[MODULATOR].value)


def test_every_machine_has_a_price_at_any_bits_and_more_cost_more(today, machines):
    operations = Decoder("small", "a test", 300, 64, 64, 2, 4).step(2, 20)
    for known in machines.values():
        machine = known.with_light(ONE, (HEAD,))
        totals = [
            price_optical(operations, replace(machine, bits=bits), known.components(today)).total_j
            for bits in (4, 6, 8, 10)
        ]
        assert totals == sorted(set(totals)), known.name


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ('encoding = "sign-split"', "unknown or missing keys"),
        ('encoding = "morse"', "encoding"),
        ('encoding = "offset"\ncolour = 3', "unknown or missing keys"),
        ('encoding = "offset"\nconstants."dac.energy" = { value = 1 }', "unknown or missing keys"),
    ],
)
def test_bad_machines_are_refused(tmp_path, entry, what):
    stated = 'words = "x"\narray = [8, 8]\nweights = "held"\nattention = "optical"\n'
    path = tmp_path / "machines.toml"
    source = "" if "sign-split" in entry else 'source = "x"\n'
    path.write_text(f"[a]\n{stated}{source}{entry}\n")
    with pytest.raises(OutOfDomain, match=what):
        load_machines(path)
