"""`labctl reproduce`: every verdict can be given, what is kept is not computed again, and the page says it all."""

import json
import math
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from calibration.frames.products import ProductGroup
from labctl.__main__ import main
from labctl.cli.handler import report_error
from labctl.console import Console
from labctl.errors import RunInUse
from labctl.lab import Lab
from labctl.locks import take
from labctl.report.reproduction import errors
from labctl.studies.reproduce import article, judge
from labctl.studies.reproduce.experiment import BINS, ended, simulated
from labctl.studies.reproduce.form import FULL, QUICK
from labctl.studies.reproduce.kept import Kept, kept
from labctl.studies.reproduce.language import ratio_of
from labctl.studies.reproduce.verdict import Ours, Published, compare, judged
from simulation.light.optics import ideal, paper


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (6.0, 7.5, "agree"),
        (8.1, 9.0, "differ"),
        (7.0, 9.0, "cannot say"),
        (math.nan, math.nan, "cannot say"),
        (7.0, math.inf, "cannot say"),
        (7.0, 8.0, "agree"),
    ],
)
def test_interval_decides(low, high, word):
    assert compare(Ours((low + high) / 2, low, high), Published(high=8.0)) == word


def test_a_miss_under_a_handicap_is_no_contradiction_and_a_hit_counts():
    def word(value: float, **said: str) -> str:
        return judged("c", Ours(value, value, value), Published(high=1.0), ".1f", "why", **said).verdict

    assert [word(2.0), word(2.0, handicap="untrained"), word(0.5, handicap="untrained")] == [
        "differ",
        "cannot say",
        "agree",
    ]
    assert word(0.5, unlike="a mock") == "cannot say"


def error(rms: float) -> dict:
    return {
        "rms": rms, "low": 0.98 * rms, "high": 1.02 * rms, "effective_bits": -math.log2(rms),
        "density": [1.0] * (len(BINS) - 1), "outside": 0.0,
    }  # fmt: skip


def experiment(measured: float, simulated: float) -> dict:
    products = [
        {"name": f"{kind}{block}", "kind": kind, "block": block, "products": 4, "outputs": 8,
         "measured": error(measured), "simulated": error(simulated), "article": error(0.02)}
        for block in (0, 3)
        for kind in ("linear", "qk")
    ]  # fmt: skip
    return {"station": "mock", "bins": BINS.tolist(), "products": products}


def curve(*over: float) -> list[dict]:
    return [
        {"photons_per_mac": 10.0 ** (i + 1), "perplexity": 20 * x, "over_int8": x, "low": x - 0.01, "high": x + 0.01}
        for i, x in enumerate(over)
    ]


def paper_part(*over: float) -> dict:
    return {"widths": [{"width": d, "digital": 19.9, "int8": 20.0, "curve": curve(*over)} for d in (32, 64)]}


def law_part(exponent: float, half: float) -> dict:
    found = {"exponent": exponent, "scatter": [exponent - half, exponent + half]}
    return {
        "laws": [{"reference": "int8", "tolerance": 0.05, "reason": "", **found}],
        "trends": [{"kind": kind, "metric": "kl", "reason": "", **found} for kind in ("all", "ffn")],
        "widths": [
            {"width": d, "requirements": [
                {"reference": "int8", "tolerance": 0.05, "photons_per_mac": 3e3 / d, "low": None, "high": 4e3 / d}
            ]}
            for d in (32, 64)
        ],
        "second_order": [
            {"width": d, "kl": 9.0, "ffn": 4.0, "qkvo": 1.0, "qk": 2.0, "av": None} for d in (32, 64)
        ],
    }  # fmt: skip


def price_part(found: float, slope: float) -> dict:
    bills = [
        {"scenario": name, "array": array, "model": f"m{d}", "width": d, "parameters": 12 * d**2, "macs": 1e9,
         "parts_j": {"DAC": 1e-3 * d**slope, "light": 1e-9}, "advantage": d / 10, "low": d / 20, "high": d / 5}
        for name in ("today", "scaled-optics", "future")
        for array in ("unlimited", "1,024 × 1,024")
        for d in (768, 1600, 5120, 12288)
    ]  # fmt: skip
    claims = [
        {"shape": "m768", "scenario": "today", "light": "claimed", "words": "about 100 ×",
         "published": [32.0, 316.0], "advantage": found,
         "low": found / 1.5, "high": found * 1.5, "bits": 8}
    ]  # fmt: skip
    return {"bills": bills, "claims": claims}


def bits_part(ratio: float, trained: str) -> dict:
    row = {"width": 32, "trained": trained, "bits": 4, "perplexity": 20.0, "over_int8": ratio}
    return {"rows": [row | {"low": ratio - 0.01, "high": ratio + 0.01}], "clip": 99.0}


def words(found) -> list[str]:
    return [each.verdict for each in found]


def test_experiment_is_judged_by_the_simulation_and_never_as_the_articles_own():
    assert words(judge.experiment(experiment(0.010, 0.010)))[:2] == ["agree", "agree"]
    assert words(judge.experiment(experiment(0.015, 0.010)))[:2] == ["differ", "differ"]
    assert words(judge.experiment(experiment(0.0108, 0.010)))[:2] == ["cannot say", "cannot say"]
    assert words(judge.experiment(experiment(0.010, 0.010)))[2:] == ["agree", "cannot say"]


def test_levels_and_light_are_judged():
    assert words(judge.levels(paper_part(1.5, 1.02))) == ["agree"]
    assert words(judge.levels(paper_part(1.5, 1.2))) == ["cannot say"]
    assert words(judge.curves(paper_part(1.5, 1.2, 1.1))) == ["agree"]
    assert words(judge.curves(paper_part(1.5, 1.6, 1.1))) == ["differ"]
    assert words(judge.curves(paper_part(1.5, 1.2, 1.21))) == ["cannot say"]


def test_law_is_judged_by_its_interval():
    assert words(judge.law(law_part(-1.0, 0.1))) == ["agree"] * 3
    assert words(judge.law(law_part(-0.4, 0.1))) == ["differ"] * 3
    assert words(judge.law(law_part(-1.0, 0.8))) == ["cannot say"] * 3
    assert words(judge.law({**law_part(-1.0, 0.1), "laws": [], "trends": []})) == ["cannot say"] * 3


def test_joules_are_judged():
    assert words(judge.breakdown(price_part(100.0, -1.0)))[:2] == ["agree", "agree"]
    assert words(judge.breakdown(price_part(100.0, 0.0)))[:2] == ["differ", "differ"]
    assert words(judge.advantage(price_part(100.0, -1.0))) == ["agree"]
    assert words(judge.advantage(price_part(10.0, -1.0))) == ["differ"]
    found = next(iter(judge.advantage(price_part(30.0, -1.0))))
    assert found.verdict == "cannot say"
    assert "1.07 × less" in found.why


def test_four_bits_are_judged_as_trained():
    assert words(judge.four_bits(bits_part(1.02, "float"))) == ["agree"]
    assert words(judge.four_bits(bits_part(1.5, "float"))) == ["cannot say"]
    assert words(judge.four_bits(bits_part(1.5, "4 bits"))) == ["differ"]
    assert words(judge.four_bits({"rows": []})) == ["cannot say"]


def test_perplexity_ratio_is_paired():
    rng = np.random.default_rng(0)
    base, tokens = rng.normal(300, 60, 40), np.full(40, 100.0)
    ratio, low, high = ratio_of(base + 5 + rng.normal(0, 1, 40), base, tokens)
    assert low < math.exp(0.05) < high
    assert high - low < 0.02
    assert ratio == pytest.approx(math.exp(0.05), abs=0.01)


def test_errors_of_several_heads_are_shown_together_for_each_block():
    part = experiment(0.01, 0.01)
    other = {**part["products"][1], "products": 12, "measured": error(0.02)}
    panels = errors({**part, "products": [*part["products"], other]}).axes
    kinds = [f"{kind}, block {block}" for kind in ("feed-forward, second layer", "Q·Kᵀ") for block in (1, 4)]
    assert [panel.get_title() for panel in panels] == kinds
    bench = panels[2].get_legend().get_texts()[0].get_text()
    assert bench == f"bench: {-math.log2(math.sqrt((0.01**2 + 3 * 0.02**2) / 4)):.1f} bits"


def test_products_are_simulated_in_the_units_of_the_model():
    rng = np.random.default_rng(0)
    weight, inputs = rng.normal(size=(6, 8)).astype(np.float32), rng.normal(size=(5, 8)).astype(np.float32)
    for kind in ("linear", "qk"):
        group = ProductGroup(
            kind, kind, 0, weight, inputs, inputs @ weight.T, np.zeros((5, 2), np.int64), float(np.abs(weight).max())
        )
        assert np.allclose(simulated(group, ideal()), inputs @ weight.T, atol=1e-4)
        assert not np.allclose(simulated(group, paper()), inputs @ weight.T, atol=1e-3)


def test_what_is_kept_is_not_computed_again_until_something_changes(tmp_path):
    def at(about: int, found: int = 1) -> dict:
        return kept(tmp_path, "part", {"about": about}, lambda: {"found": found, "nan": math.nan}).part

    assert at(1)["found"] == 1
    assert at(1, found=2)["found"] == 1
    assert at(2, found=3)["found"] == 3
    file = tmp_path / "part.json"
    file.write_text(file.read_text().replace('"found": 3', '"found": 4'))
    assert at(2, found=5)["found"] == 5
    assert at(2)["nan"] is None


def test_the_time_of_a_part_is_that_of_all_calls_that_computed_it(tmp_path, monkeypatch):
    clock = iter(range(0, 1000, 10)).__next__
    monkeypatch.setattr("labctl.studies.reproduce.kept.time.monotonic", lambda: float(clock()))

    def at(about: int, compute=lambda: {"found": 1}):
        return kept(tmp_path, "part", {"about": about}, compute)

    def stopped():
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            at(1, stopped)
    done = at(1)
    spent_s = json.loads((tmp_path / "part.json").read_text())["seconds"]
    assert done.seconds == spent_s > done.seconds_now > 0
    assert spent_s - done.seconds_now == pytest.approx(2 * done.seconds_now, rel=0.6)
    again = at(1)
    assert (again.seconds, again.seconds_now) == (spent_s, 0)
    with pytest.raises(KeyboardInterrupt):
        at(2, stopped)
    other = at(3)
    assert other.seconds == other.seconds_now


@pytest.fixture
def computed(monkeypatch):
    """Parts as if they had been computed: four of a minute each before, one now."""
    parts = {
        "price": price_part(100.0, -1.0),
        "experiment": experiment(0.01, 0.01),
        "paper": paper_part(1.5, 1.2),
        "bits": bits_part(1.5, "float"),
        "law": law_part(-0.4, 0.1),
    }
    found = {name: Kept(part, 60.0, 60.0 * (name == "law")) for name, part in parts.items()}
    monkeypatch.setattr(article, "_parts", lambda *_: iter(found.items()))
    monkeypatch.setattr("labctl.studies.reproduce.form.expected_s", lambda *_: 200.0)


def test_command_says_how_long_and_every_verdict_and_writes_the_page(computed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "r"
    assert main(["reproduce", "optical-transformers", "-o", "r"]) == 0
    out = capsys.readouterr().out
    assert "quick form: about 3 min" in out
    assert max(map(len, out.splitlines())) <= 80
    page = (folder / "report.html").read_text()
    document = json.loads((folder / "reproduction.json").read_text())
    claims = [claim for figure in document["figures"] for claim in figure["claims"]]
    assert len(document["figures"]) == 7 == page.count("<img")
    assert {claim["verdict"] for claim in claims} == {"agree", "differ", "cannot say"}
    assert sum(document["verdicts"].values()) == len(claims) == len(re.findall(r"<span class='verdict", page))
    assert "0 agree" not in out
    assert (document["seconds"], document["seconds_now"]) == (300, 60)
    for said in (" ".join(out.split()), page):
        assert "computed in 5 min, 1 min of it now" in said
    found = article.reproduce(None, QUICK, [], folder, None)  # type: ignore[arg-type]
    assert replace(found, seconds_now=0.0).took == "computed before, in 5 min"
    assert replace(found, seconds_now=300.0).took == "computed in 5 min"


def test_a_stop_is_handed_to_the_part_and_waited_for(monkeypatch, capfd):
    monkeypatch.setattr("labctl.studies.reproduce.experiment.is_attended", lambda: False)
    part = (
        "import os, signal, sys, time\n"
        "def stop(number, frame):\n"
        "    time.sleep(0.6)  # more than Python waits for by itself\n"
        "    print('made safe', os.environ['LABCTL_PART'], file=sys.stderr)\n"
        "    sys.exit(130)\n"
        "signal.signal(signal.SIGINT, stop)\n"
        "os.kill(os.getppid(), signal.SIGINT)\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(KeyboardInterrupt):
        ended([sys.executable, "-c", part])
    assert capfd.readouterr().err == "made safe 1\n"
    assert ended([sys.executable, "-c", "raise SystemExit(11)"]) == 11


def test_a_command_that_is_a_part_of_another_leaves_it_to_that_one_to_say_that_it_was_stopped(monkeypatch, capsys):
    lab = Lab(Console())
    assert report_error(KeyboardInterrupt(), lab) == 130
    assert "E-ABT-001" in capsys.readouterr().err
    monkeypatch.setenv("LABCTL_PART", "1")
    assert report_error(KeyboardInterrupt(), lab) == 130
    assert capsys.readouterr().err == ""
    assert report_error(RunInUse("busy"), lab) == RunInUse.exit_code
    assert "busy" in capsys.readouterr().err


def test_two_do_not_compute_in_one_folder(computed, tmp_path):
    folder = tmp_path / "reproduction"
    lock = take(tmp_path / ".reproduction.lock")
    assert lock is not None
    with pytest.raises(RunInUse):
        article.reproduce(None, QUICK, [], folder, None)  # type: ignore[arg-type]
    lock.release()
    found = article.reproduce(None, FULL, [], folder, None)  # type: ignore[arg-type]
    assert found.document()["form"]["name"] == "full"
