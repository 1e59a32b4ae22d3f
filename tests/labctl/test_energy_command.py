"""`labctl energy`: one document, every constant in it, and a page."""

import json

import pytest

from labctl.__main__ import main


def run(capsys, *arguments):
    code = main(["energy", *arguments])
    return code, capsys.readouterr()


def test_json_holds_every_constant_and_sums_up(capsys):
    code, out = run(capsys, "--shape", "gpt2", "--json")
    document = json.loads(out.out)
    assert code == 0
    assert sum(row["energy_j"] for row in document["rows"]) == pytest.approx(document["total_j"])
    for row in document["rows"]:
        energy = row["amount"]
        for name, power in row["constants"].items():
            energy *= document["constants"][name]["value"] ** power
        assert energy == pytest.approx(row["energy_j"])
    assert document["macs"] == 1024 * (12 * 12 * 768**2 + 768 * 50257) + 12 * 2 * 1024**2 * 768


def test_page_is_written(capsys, tmp_path):
    code, out = run(capsys, "--array", "128x128", "--reload", "--report", str(tmp_path / "energy.html"))
    assert code == 0
    assert "light pays from width" in out.out or "does not pay" in out.out
    assert "What the answer hangs on" in (tmp_path / "energy.html").read_text()


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
    code, out = run(capsys, "--shape", "future-1e15")
    assert out.out.count("published:") == 2
    assert "× less than published" in out.out


def test_bill_is_given_for_arrays_of_several_sizes_and_both_schedules(capsys):
    _, out = run(capsys, "--shape", "gpt2", "--json")
    document = json.loads(out.out)
    others = {(tuple(a["array"] or ()), a["schedule"]): a["total_j"] for a in document["alternatives"]}
    assert len(others) == 6
    assert others[(1024, 1024), "pipelined"] == pytest.approx(document["total_j"])
    assert others[(), "pipelined"] <= others[(1024, 1024), "pipelined"] <= others[(1024, 1024), "in turn"]


def test_bits_that_the_converters_do_not_have_are_refused(capsys):
    code, out = run(capsys, "--shape", "gpt2", "--bits", "4")
    assert code != 0
    assert "4 bits" in out.err
    assert run(capsys, "--shape", "gpt2", "--bits", "4", "--scenario", "future")[0] == 0
