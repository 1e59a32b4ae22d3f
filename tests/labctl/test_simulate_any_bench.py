"""`labctl simulate` on an imported bench, on published machines, and with each encoding."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from calibration.response.artefact import save_response
from calibration.response.fit import fit_response
from calibration.response.observations import Observations
from labctl.__main__ import main
from simulation.benches.families import FAMILIES
from simulation.benches.machines import MACHINES

TEXT = "The matrix is shown once, and the vectors pass it one by one. " * 4


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A text, and the calibration that `labctl fit` keeps of somebody's bench with a gain of its own for each pair."""
    folder = tmp_path_factory.mktemp("lab")
    rng = np.random.default_rng(1)
    weights, gain = rng.uniform(0, 1, (8, 16)), 400 * (1 + 0.1 * rng.standard_normal((8, 16)))
    inputs = rng.uniform(0, 1, (600, 16)) * rng.uniform(0, 1, (600, 1))
    readings = 50 + inputs @ (gain * weights).T + rng.normal(0, 0.5, (600, 8))
    response = fit_response(Observations(inputs, weights, readings)).response
    text = folder / "short.txt"
    text.write_text(TEXT)
    return text, save_response(response, folder)[0]


def run(*argv: str | Path) -> tuple[int, str, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main([str(a) for a in argv])
    return code, out.getvalue(), err.getvalue()


def simulated(lab: tuple[Path, Path], machine: str | Path, *more: str) -> dict:
    code, out, err = run("simulate", machine, "--text", lab[0], "--tokens", "30", "--json", *more)
    assert code == 0, err
    return json.loads(out)


def test_an_imported_bench_carries_a_model_and_says_what_nobody_measured(lab) -> None:
    document = simulated(lab, lab[1], "--clip", "100")
    found = document["simulation"]
    assert document["calibration"].startswith("res-")
    assert found["encoding"] == "sign-split"
    assert any("one weight only" in words for words in found["not_measured"])
    assert found["perplexity"]["digital"] < found["perplexity"]["optical"] < 3 * found["perplexity"]["digital"]
    assert found["drawn"] != found["perplexity"]["optical"]
    assert found["drawn"] < 3 * found["perplexity"]["digital"]
    used = found["light_used"]
    assert used["output_conversions"] == pytest.approx(used["frames"] * 8)  # outputs of the bench
    assert used["input_conversions"] == pytest.approx(used["frames"] * 16)
    code, out, err = run("simulate", lab[1], "--text", lab[0], "--tokens", "30")
    assert code == 0, err
    assert out.count("not measured: ") == len(found["not_measured"])


def test_the_page_says_what_nobody_measured(lab, tmp_path) -> None:
    page = tmp_path / "page.html"
    simulated(lab, lab[1], "--report", str(page))
    text = page.read_text(encoding="utf-8")
    assert "one weight only" in text
    assert "encoding: sign-split" in text


@pytest.mark.parametrize("name", [*FAMILIES, "partial-sums:8"])
def test_each_encoding_is_an_option(lab, name) -> None:
    found = simulated(lab, "ideal", "--encoding", name, "--photons-per-mac", "1e6")["simulation"]
    assert found["encoding"] == name
    assert found["levels"][0]["perplexity"] == pytest.approx(found["perplexity"]["digital"], rel=0.2)


def test_a_published_machine_has_its_own_encoding(lab) -> None:
    document = simulated(lab, "lightning-2023")
    assert document["calibration"] == "lightning-2023"
    assert document["simulation"]["encoding"] == "partial-sums:8"
    assert not document["simulation"]["not_measured"]
    assert document["simulation"]["drawn"] is None


@pytest.mark.parametrize(
    ("machine", "more", "code", "says"),
    [
        ("lcd", ["--photons-per-mac", "10"], "E-CAL-005", "no part that goes with the light"),
        ("lcd", ["--encoding", "coherent"], "E-CAL-005", "cannot be simulated so"),
        ("lcd", ["--encoding", "offset"], "E-CAL-005", "in proportion to the weights"),
        ("ideal", ["--encoding", "sideways"], "E-CAL-005", "no such encoding"),
        ("ideal", ["--encoding", "tiled-scales:0"], "E-CAL-005", "a number from 1 on"),
        ("ideal", ["--encoding", "tiled-scales:0"], "E-CAL-005", "--encoding tiled-scales:64"),
        ("ideal", ["--encoding", "partial-sums:x"], "E-CAL-005", "--encoding partial-sums:8"),
        ("paper", ["--encoding", "coherent"], "E-CAL-005", "not what this bench does"),
        ("netcast-2022", ["--photons-per-mac", "10"], "E-CAL-005", "not published"),
        ("netcast", [], "E-USE-001", "did you mean netcast-2022?"),
    ],
)
def test_what_cannot_be_simulated_is_refused(lab, machine, more, code, says) -> None:
    named = lab[1] if machine == "lcd" else machine
    exit_code, _, err = run("simulate", named, "--text", lab[0], "--tokens", "10", *more)
    assert exit_code == 2
    assert code in err
    assert says in " ".join(err.split())


def test_presets_lists_every_machine_with_its_sources() -> None:
    code, out, err = run("presets", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert [machine["name"] for machine in document["machines"]] == list(MACHINES)
    assert document["presets"] == ["ideal", "paper"]
    assert set(FAMILIES) < set(document["encodings"])
    code, out, err = run("presets")
    assert code == 0, err
    assert all(name in out for name in MACHINES)


@pytest.fixture(scope="module")
def of_photons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calibration of somebody's bench whose readings are counts of photons."""
    rng = np.random.default_rng(1)
    weights, inputs = rng.uniform(0, 1, (8, 16)), rng.uniform(0, 1, (600, 16)) * rng.uniform(0, 1, (600, 1))
    readings = 50 + 0.5 * rng.poisson(4e3 * inputs @ weights.T)
    response = fit_response(Observations(inputs, weights, readings)).response
    return save_response(response, tmp_path_factory.mktemp("photons"))[0]


def test_an_import_that_counts_photons_has_light_levels_below_its_own(lab, of_photons) -> None:
    found = simulated((lab[0], of_photons), of_photons, "--photons-per-mac", "20,1000", "--clip", "100")["simulation"]
    digital, own = found["perplexity"]["digital"], found["perplexity"]["optical"]
    dim, bright = (level["perplexity"] for level in found["levels"])
    assert abs(np.log(own / digital)) < abs(np.log(dim / digital))
    assert abs(np.log(bright / digital)) < abs(np.log(dim / digital))
    assert any("other light than its own" in words for words in found["not_measured"])


SMALLEST = Path(__file__).parents[2] / "data/models/family/optical-gpt-d32.safetensors"


@pytest.mark.slow
def test_a_sweep_of_light_runs_on_an_import_that_counts_photons(of_photons, tmp_path) -> None:
    command = ["scaling", of_photons, SMALLEST, "--tokens", "66", "--seeds", "1", "-o", tmp_path / "sweep", "--json"]
    code, out, err = run(*command, "--photons-per-mac", "5,50,500")
    assert code == 0, err
    (width,) = json.loads(out)["widths"]
    assert [point["photons_per_mac"] for point in width["curve"]] == [5, 50, 500]
    assert width["curve"][0]["perplexity"] != width["curve"][2]["perplexity"]


def _adapt(of_photons: Path, tmp_path: Path) -> list[str | Path]:
    text = tmp_path / "text.txt"
    text.write_text(TEXT * 2)
    adapt: list[str | Path] = ["adapt", SMALLEST, "--calibration", of_photons, "--text", text, "--context", "8"]
    return [*adapt, "--batch", "1", "--tokens", "8", "--score", "8", "-o", tmp_path / "adapted"]


@pytest.mark.slow
def test_a_model_is_adapted_to_an_import_in_light_that_it_can_have(of_photons, tmp_path) -> None:
    """Training is `tests/simulation/test_physical.py`; its held-out text takes minutes on such a bench."""
    code, _, err = run(*_adapt(of_photons, tmp_path), "--photons-per-mac", "50")
    assert code == 0, err
    assert (tmp_path / "adapted").is_dir()


def test_light_that_an_import_cannot_have_is_refused_before_anything_is_computed(lab, of_photons, tmp_path) -> None:
    train = ["train", tmp_path / "trained.safetensors", "--start", SMALLEST, "--calibration", of_photons]
    scaling = ["scaling", of_photons, SMALLEST, "-o", tmp_path / "sweep"]
    for command in (_adapt(of_photons, tmp_path), train):
        code, _, err = run(*command, "--photons-per-mac", "1e6")
        assert code == 2
        assert "cannot be brighter than it was measured" in " ".join(err.split())
    code, _, err = run(*scaling, "--photons-per-mac", "5,50,500000")
    assert code == 2
    assert "cannot be brighter than it was measured" in " ".join(err.split())
    code, _, err = run("scaling", lab[1], SMALLEST, "--photons-per-mac", "1,10,100", "-o", tmp_path / "sweep")
    assert code == 2
    assert "no part that goes with the light" in " ".join(err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]
