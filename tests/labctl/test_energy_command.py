"""`labctl energy`: one document, every constant in it, and a page."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.__main__ import main
from labctl.resources import data_path
from labctl.studies.energy import cost_of, scenario
from labctl.studies.energy_claims import CLAIMS, misses
from labctl.studies.light import CLAIMED
from labctl.studies.quantities import joules
from labctl.studies.traced import operations_for
from simulation.energy.machine import Machine


def run(capsys, *arguments):
    code = main(["energy", *arguments])
    return code, capsys.readouterr()


@pytest.mark.parametrize("bits", [(), ("--bits", "6")])
def test_json_holds_every_constant_and_sums_up(capsys, bits):
    code, out = run(capsys, "--shape", "gpt2", *bits, "--json")
    document = json.loads(out.out)
    assert code == 0
    assert sum(row["energy_j"] for row in document["rows"]) == pytest.approx(document["total_j"])
    for row in document["rows"]:
        energy = row["amount"]
        for name, power in row["constants"].items():
            energy *= document["constants"][name]["value"] ** power
        assert energy == pytest.approx(row["energy_j"])
        assert (row["receiver"] is not None) == (row["component"] == "light")
    assert {"receiver.noise", "detector.quantum_efficiency", "photons.law"} <= set(document["constants"])
    assert document["macs"] == 1024 * (12 * 12 * 768**2 + 768 * 50257) + 12 * 2 * 1024**2 * 768


def test_page_is_written_and_names_what_is_assumed_of_bits_as_the_terminal_does(capsys, tmp_path):
    code, out = run(capsys, "--array", "128x128", "--reload", "--bits", "6", "--report", str(tmp_path / "energy.html"))
    assert code == 0
    assert "other models by width, each of 12 blocks" in out.out
    page = (tmp_path / "energy.html").read_text()
    assert "What the answer hangs on" in page
    table = out.out.partition("share\n")[2].partition("shares:")[0]
    for line in table.splitlines():
        part, value, share = re.split(r"\s{2,}", line.strip())
        assert f"<td class=short>{part}<td class=short>{value}<td class=short>{share}" in page
    others = out.out.partition("array ")[2].partition("published")[0].splitlines()
    rows = [re.split(r"\s{2,}", line.strip())[-3:] for line in others if line.strip()]
    assert len(rows) > 10
    for cells in rows:
        assert "<td class=short>".join(cells) in page or cells[-1] == "a pass", cells
    assumed = "words of 6 bits, converters stated for 8: scaled by assumption"
    rule = "DAC and ADC 2 × (1.19 … 4) a bit, modulators in proportion to bits"
    for words in (assumed, rule, "rounding to 6 bits adds comes on top"):
        assert words in out.out
        assert words in page
    assert "converter.per_bit" in page
    assert "by assumption" not in run(capsys, "--bits", "8")[1].out


@pytest.mark.parametrize(
    "arguments", [("--shape", "gpt5"), ("--scenario", "never"), ("--array", "128"), ("--table", "missing.toml")]
)
def test_bad_input_is_usage(capsys, arguments):
    code, out = run(capsys, *arguments)
    assert code == 2
    assert "E-" in out.err


def test_claims_stand_beside_the_same_scenario_and_a_miss_is_printed(capsys):
    code, out = run(capsys, "--shape", "future-1e15", "--json")
    assert code == 0
    claims = {claim["scenario"]: claim for claim in json.loads(out.out)["claims"]}
    assert (claims["scaled-optics"]["low"], claims["future"]["low"]) == (8000, 100_000)
    for claim in claims.values():
        assert claim["verdict"].startswith("agrees" if claim["found"] >= claim["low"] else "differs")
        factors = [each["factor"] for each in claim["kinder"]]
        assert factors == sorted(factors, reverse=True)
        assert claim["found"] <= min(factors)
        assert max(factors) < claim["together"]
        assert "digital.mac" not in {each["constant"] for each in claim["kinder"]}
    code, out = run(capsys, "--shape", "future-1e15")
    assert out.out.count("published:") == 2
    assert "× less than published" in out.out
    assert out.out.count("with adc.energy alone at") == 2


def test_bill_is_given_for_arrays_of_several_sizes_and_both_schedules(capsys):
    _, out = run(capsys, "--shape", "gpt2", "--json")
    document = json.loads(out.out)
    others = {(tuple(a["array"] or ()), a["schedule"]): a["total_j"] for a in document["alternatives"]}
    assert len(others) == 6
    assert others[(1024, 1024), "pipelined"] == pytest.approx(document["total_j"])
    assert others[(), "pipelined"] <= others[(1024, 1024), "pipelined"] <= others[(1024, 1024), "in turn"]


@pytest.mark.parametrize("scenario", ["today", "future"])
def test_bits_scale_converters_and_memory_and_say_by_which_assumption(capsys, scenario):
    parts, stated = [], {"today": 8, "future": 4}[scenario]
    for bits in (4, 6, 8):
        code, out = run(capsys, "--shape", "gpt2", "--bits", str(bits), "--scenario", scenario, "--json")
        assert code == 0
        document = json.loads(out.out)
        parts.append(document["by_component_j"])
        assert document["bits"] == bits
        assert (
            (document["bits_assumed"] is None) == (bits == stated) == ("converter.per_bit" not in document["constants"])
        )
        assert document["constants"]["adc.energy"]["bits"] == stated
    for more, fewer in ((parts[1], parts[0]), (parts[2], parts[1])):
        assert more["ADC"] == pytest.approx(4 * fewer["ADC"])
        assert more["DAC"] == pytest.approx(4 * fewer["DAC"])
    assert parts[2]["memory"] == pytest.approx(2 * parts[0]["memory"])
    assert parts[2]["modulator"] == pytest.approx(2 * parts[0]["modulator"])


def test_inputs_weights_and_outputs_have_bits_of_their_own(capsys):
    def document(bits: str) -> dict:
        code, out = run(capsys, "--shape", "gpt2", "--bits", bits, "--json")
        assert code == 0, out.err
        return json.loads(out.out)

    mixed, four, eight = document("4,4,8"), document("4"), document("8")
    assert (mixed["bits"], four["bits"]) == ([4, 4, 8], 4)
    for part, same in (("DAC", four), ("modulator", four), ("weight load", four), ("ADC", eight)):
        assert mixed["by_component_j"][part] == pytest.approx(same["by_component_j"][part])
    assert four["total_j"] < mixed["total_j"] < eight["total_j"]
    assert [machine["bits"] for machine in mixed["elsewhere"]] == [[4, 4, 8]] * len(mixed["elsewhere"])
    assert mixed["bits_assumed"].startswith("words of 4 bits in, 4 of weights, 8 out, converters stated for 8")
    said = run(capsys, "--shape", "gpt2", "--bits", "4,4,8")[1].out
    assert "what rounding to 4 bits in, 4 of weights, 8 out adds comes on top" in said


@pytest.mark.parametrize("bits", ["4,4", "0", "33", "4,4,eight", ""])
def test_what_is_no_number_of_bits_is_refused_with_what_to_type(capsys, bits):
    code, out = run(capsys, "--shape", "gpt2", "--bits", bits)
    assert code == 2
    assert "--bits 4, or --bits 4,4,8" in out.err


def test_a_published_factor_is_counted_from_where_it_begins():
    assert misses(0.275, *CLAIMS["mt-nlg-530b"][0][2:]) == (
        "115 × less than 31.6 ×, the least that counts as about 100 ×"
    )
    assert misses(200.0, 25.0, 100.0) == "2 × more than 100 ×, the most that counts as about 50 ×"
    assert misses(2000.0, 8000.0, math.inf) == "4 × less than published"
    assert misses(100.0, 31.6, 316.0) == misses(9e9, 8000.0, math.inf) == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "at no width tried, 64 to 1,048,576"),
        ((64, 40832), "up to a width of 40,832"),
        ((128, 4096), "from a width of 128 to 4,096"),
        ((128, None), "from a width of 128 on"),
        ((64, None), "at every width tried, 64 to 1,048,576"),
    ],
)
def test_where_other_widths_pay_is_said_in_words(found, words):
    machine, components = Machine(CLAIMED, array=(64, 64)), scenario(None, "today")
    cost = cost_of(operations_for(None, "gpt2", 8), machine, components)
    assert replace(cost, paying_widths=found).paying_words == words


def own_table(tmp_path, *changes):
    text = data_path("energy/components.toml").read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after, 1)
    (tmp_path / "own.toml").write_text(text)
    return "--table", str(tmp_path / "own.toml")


def test_a_table_of_ones_own_is_scaled_from_the_bits_that_it_states(capsys, tmp_path):
    def total(*arguments):
        code, out = run(capsys, "--shape", "gpt2", *arguments, "--json")
        assert code == 0, out.err
        return json.loads(out.out)["total_j"]

    six = own_table(
        tmp_path,
        ("value = 5.2e-12\nlow = 0.793e-12\nhigh = 10e-12\nunit = \"J/sample\"\nbits = 8",
         "value = 1.3e-12\nlow = 0.1e-12\nhigh = 3e-12\nunit = \"J/sample\"\nbits = 6"),
        ("value = 3e-12\nlow = 0.773e-12\nhigh = 5e-12\nunit = \"J/sample\"\nbits = 8",
         "value = 0.75e-12\nlow = 0.1e-12\nhigh = 3e-12\nunit = \"J/sample\"\nbits = 6"),
        ("value = 0.336e-12\nlow = 0.042e-12\nhigh = 3.6e-12\nunit = \"J/symbol\"\nbits = 8",
         "value = 0.252e-12\nlow = 0.042e-12\nhigh = 3.6e-12\nunit = \"J/symbol\"\nbits = 6"),
    )  # fmt: skip
    assert total(*six) == pytest.approx(total("--bits", "6"))
    assert total(*six, "--bits", "8") == pytest.approx(total())
    without = own_table(tmp_path, ("[converter.per_bit.any]", "[converter.other.any]"))
    assert total(*without, "--bits", "6") == pytest.approx(total("--bits", "6"))


@pytest.mark.parametrize("bits", [(), ("--bits", "6")])
def test_a_table_that_mixes_converters_of_several_bits_is_refused(capsys, tmp_path, bits):
    mixed = own_table(tmp_path, ('unit = "J/sample"\nbits = 8', 'unit = "J/sample"\nbits = 4'))
    code, out = run(capsys, "--shape", "gpt2", *mixed, *bits)
    assert code != 0
    assert "E-CAL-005" in out.err
    assert "dac.energy: 4, adc.energy: 8" in out.err


def test_a_conversation_has_its_axes_and_places(capsys):
    code, out = run(
        capsys, "--shape", "qwen3-30b-a3b", "--prompt", "512", "--generate", "256", "--batch", "8", "--json"
    )
    assert code == 0
    document = json.loads(out.out)
    talk = document["conversation"]
    assert talk["total_j"] == pytest.approx(talk["prompt_j"] + 256 * talk["token_j"])
    assert document["per_token_j"] == pytest.approx(talk["token_j"])
    assert document["tokens"] == 8
    assert {(a["prompt"], a["sequences"]) for a in talk["axes"]} >= {(512, 8), (128, 1), (16384, 64)}
    by_place = {(p["cache"], p["experts"], p["schedule"]): p for p in talk["places"]}
    assert by_place["reloaded", "held", "pipelined"]["optical_j"] == pytest.approx(talk["token_j"])
    assert len(by_place) == 8
    assert len(document["elsewhere"]) >= 4


def test_a_generated_token_costs_what_all_of_them_cost_on_average(capsys):
    light, prompt, generated = ("--photons-per-mac", "1"), 20, 81

    def token(length, count):
        talk = ("--shape", "gpt2", "--prompt", str(length), "--generate", str(count), *light, "--json")
        return json.loads(run(capsys, *talk)[1].out)["conversation"]["token_j"]

    # a step that begins with 20 … 100 tokens: the cost is a line between these, and 60 is its middle
    assert token(prompt, generated) == pytest.approx((token(20, 1) + token(100, 1)) / 2, rel=1e-6)


def test_light_is_that_of_the_measured_law_unless_it_is_stated(capsys):
    stated = ("--photons-per-mac", "1")
    measured, other = (json.loads(run(capsys, "--shape", "gpt3-175b", *more, "--json")[1].out) for more in ((), stated))
    assert measured["light"]["low"] < 1 < measured["light"]["high"]
    assert set(measured["light"]["outside"]) == {"width", "blocks", "head_width"}
    interval = measured["constants"]["photons.law"]
    assert (interval["low"], interval["high"]) == (measured["light"]["low"], measured["light"]["high"])
    assert "photons.law" not in other["constants"]
    assert measured["advantage_at_claimed_light"] == pytest.approx(other["against"][0]["advantage"])
    assert measured["against"][0]["low"] < other["against"][0]["low"]


def test_every_line_fits_a_terminal(capsys):
    talk = ("--generate", "128", "--prompt", "1024", "--batch", "1000")
    machine = ("--machine", "lightening-transformer-2024-8bit", "--bits", "12")
    for arguments in (("--shape", "future-1e15"), ("--shape", "mixtral-8x7b", *talk), (*machine, *talk[:4])):
        _, out = run(capsys, *arguments)
        assert max(map(len, out.out.splitlines() + out.err.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments",
    [
        ("--shape", "gpt2", "--generate", "9999"),
        ("--shape", "gpt2", "--batch", "4"),
        ("--shape", "gpt2", "--context", "64", "--generate", "4"),
        ("--shape", "gpt2", "--context", "4096"),
        ("--machine", "abacus"),
        ("--machine", "in-memory-2023", "--scenario", "future"),
        ("--shape", "gpt2", "--prompt", "64"),
        ("--shape", "gpt2", "--cache", "held"),
        ("--shape", "gpt2", "--exponent", "0"),
        ("--shape", "gpt2", "--photons-per-mac", "1", "--tolerance", "0.1"),
        ("model.gguf", "--shape", "gpt2"),
    ],
)
def test_work_that_no_model_does_is_refused_with_what_to_type(capsys, arguments):
    code, out = run(capsys, *arguments)
    assert code == 2
    assert "try:" in out.err


@pytest.mark.parametrize("light", [("1", "--exponent", "nan"), ("1", "--exponent", "1e9")])
def test_light_that_is_no_law_is_refused(capsys, light):
    code, out = run(capsys, "--shape", "gpt2", "--photons-per-mac", *light)
    assert code != 0
    assert "not a law of photons" in out.err


@pytest.mark.parametrize("light", ["0", "-1", "inf", "nan"])
def test_a_light_level_that_there_is_not_is_refused_as_it_is_simulated(capsys, light):
    code, out = run(capsys, "--shape", "gpt2", "--photons-per-mac", light)
    assert code == main(["simulate", "ideal", "--photons-per-mac", light]) == 2
    assert out.err == capsys.readouterr().err
    assert "a light level is a positive number" in out.err


def test_a_law_that_is_not_there_is_refused(capsys, tmp_path):
    code, out = run(capsys, "--law", str(tmp_path / "law.json"))
    assert code != 0
    assert "labctl scaling" in out.err


def test_a_named_machine_has_its_own_array_and_converters(capsys):
    document = json.loads(run(capsys, "--shape", "gpt2", "--machine", "in-memory-2023", "--json")[1].out)
    assert document["scenario"] == "in-memory-2023"
    assert "array.mac" in document["constants"]
    assert "photon.energy" not in document["constants"]


def test_what_is_published_stands_beside_the_published_machine_whatever_is_asked_for(capsys):
    def found(*machine):
        shape = ("--shape", "future-1e15", "--photons-per-mac", "1", "--json")
        return [claim["found"] for claim in json.loads(run(capsys, *shape, *machine)[1].out)["claims"]]

    for machine in (("--reload",), ("--bits", "6"), ("--machine", "in-memory-2023"), ("--machine", "aoc-2025-48")):
        assert found(*machine) == found()


@pytest.mark.parametrize("usage", [("--in-turn",), ("--reload",), ("--bits", "6")])
def test_a_machine_costs_the_same_by_name_and_among_the_others(capsys, usage):
    others = json.loads(run(capsys, "--shape", "gpt2", *usage, "--json")[1].out)["elsewhere"]
    for each in others:
        named = json.loads(run(capsys, "--shape", "gpt2", "--machine", each["name"], *usage, "--json")[1].out)
        assert named["total_j"] == pytest.approx(each["total_j"])
        assert named["limits"]["seconds"] == pytest.approx(each["seconds"])
        beside = {other["name"]: other["total_j"] for other in named["elsewhere"]}
        assert beside == pytest.approx({other["name"]: other["total_j"] for other in others})


def test_a_cache_held_by_a_machine_that_holds_none_is_refused(capsys):
    talk = ("--shape", "gpt2", "--generate", "8", "--cache", "held", "--machine")
    for name in ("in-memory-2023", "aoc-2025-48", "lightening-transformer-2024-8bit"):
        code, out = run(capsys, *talk, name)
        assert code == 2
        assert "holds no keys" in out.err
    assert run(capsys, *talk, "free-space-slm")[0] == 0


def test_light_says_whose_detectors_and_bits_it_is_for_and_a_machine_without_says_none(capsys):
    code, out = run(capsys, "--shape", "gpt2")
    assert code == 0
    assert "at a quantum efficiency of 1; here 0.7, so 1.43 times as many" in out.out
    assert "rounding to 8 bits adds comes on top" in out.out
    assert "quantum efficiency" not in run(capsys, "--shape", "gpt2", "--photons-per-mac", "1")[1].out
    dark = run(capsys, "--shape", "gpt2", "--machine", "in-memory-2023")[1].out
    assert "light: none, this machine" in dark
    assert "photons" not in dark
    assert "in light" not in dark
    assert "light is better" not in dark


@pytest.mark.slow
def test_how_a_models_own_configuration_decodes_is_believed_where_its_operations_agree():
    path = Path(__file__).parents[3] / "shared" / "data" / "models" / "stories260K.bin"
    if not path.is_file():
        pytest.skip("the model of stories is not here")
    traced = operations_for(str(path), None, 64)
    assert traced.decoder is not None
    assert (traced.decoder.kv_heads, traced.decoder.feed_forward, traced.decoder.gated) == (4, 172, True)
    assert traced.decoder.forward(64).macs == traced.operations.macs


def test_a_quantity_never_shows_a_thousand_of_its_unit():
    assert [joules(value) for value in (999.6e-6, 0.9994, 1.0, 0.0)] == ["1 mJ", "999 mJ", "1 J", "0 J"]


def test_tiles_with_scales_have_their_price_and_the_published_machine_has_none(capsys):
    code, out = run(capsys, "--shape", "gpt3-175b", "--tile", "64", "--json")
    tiled = json.loads(out.out)
    _, out = run(capsys, "--shape", "gpt3-175b", "--json")
    whole = json.loads(out.out)
    assert code == 0
    assert tiled["by_component_j"]["ADC"] > 10 * whole["by_component_j"]["ADC"]
    assert tiled["by_component_j"]["scales"] > 0
    assert (tiled["tile"], whole["tile"]) == (64, None)
    assert "scales" not in whole["by_component_j"]
    assert [c["found"] for c in tiled["claims"]] == [c["found"] for c in whole["claims"]]
    code, out = run(capsys, "--machine", "in-memory-2023", "--tile", "64")
    assert code != 0
    assert "signs are split" in out.err


def test_light_of_hybrids_is_said_to_be_an_extrapolation_and_without_attention_it_must_be_stated(capsys):
    code, out = run(capsys, "--shape", "jamba-v0.1", "--generate", "16")
    assert "300 fJ/MAC stands for a chip that fetches matrices and cache at each step, too" in out.out
    assert code == 0
    assert "recurrent blocks" in out.out
    assert "state read" in out.out
    code, out = run(capsys, "--shape", "mamba-2.8b")
    assert code == 2
    assert "models with attention" in out.err
    code, out = run(capsys, "--shape", "mamba-2.8b", "--photons-per-mac", "100", "--generate", "16", "--json")
    assert code == 0
    assert json.loads(out.out)["by_component_j"]["state"] > 0
