"""A family of widths from the command line: trained, resumed, swept, reported; and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pages import without_figures
from safetensors.torch import load_file, safe_open, save_file

from labctl.__main__ import main
from labctl.studies.train import state_path
from simulation.models.checkpoint import load_checkpoint
from simulation.models.text import Text

pytestmark = pytest.mark.figures

SHAPE = ("--blocks", "1", "--heads", "2", "--context", "16", "--vocabulary", "300", "--batch", "4")
LEVELS = ("--photons-per-mac", "1", "--photons-per-mac", "30", "--photons-per-mac", "1000")
QUICK = ("--steps", "6", "--evaluate-every", "3")


@pytest.fixture(autouse=True, scope="module")
def short_reference() -> Iterator[None]:
    """A page of text instead of a book."""
    page = "the light is cheap and the answer of the bench is noisy, how noisy is a number. " * 60
    short = {split: Text(f"page/{split}", page, split) for split in ("train", "heldout")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulation.training.train.pydoc_text", short.__getitem__)
        patch.setattr("labctl.studies.simulate.pydoc_text", short.__getitem__)
        yield


@pytest.fixture(scope="module")
def trained(short_reference: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three widths."""
    folder = tmp_path_factory.mktemp("family")
    assert main(["train", str(folder), "--width", "4,8,16", *SHAPE, *QUICK, "--quiet"]) == 0
    return folder


@pytest.fixture
def family(trained: Path, tmp_path: Path) -> Path:
    """The same, free to be damaged."""
    return Path(shutil.copytree(trained, tmp_path / "family"))


def models(family: Path) -> list[str]:
    return [str(path) for path in sorted(family.glob("*.safetensors"))]


def test_widths_differ_in_nothing_but_their_width(family: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [json.loads(path.read_text()) for path in sorted(family.glob("*.json"))]
    assert sorted(record["config"].pop("width") for record in records) == [4, 8, 16]
    assert records[0]["config"] == records[1]["config"] == records[2]["config"]
    assert records[0]["texts"] == records[2]["texts"]
    tokenizers = {load_checkpoint(Path(model)).tokenizer.to_str() for model in models(family)}
    assert len(tokenizers) == 1
    assert not list(family.glob("*.training"))  # finished


def test_sweep_reports_every_number_and_the_next_one_computes_nothing(
    family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["scaling", "ideal", *models(family), *LEVELS, "--seeds", "2", "--tokens", "66"]
    command += ["-o", str(tmp_path / "sweep"), "--json"]
    capsys.readouterr()
    assert main([*command, "--report"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first == json.loads((tmp_path / "sweep/scaling.json").read_text())
    assert first["points"] == {"computed": 3 * (2 + 3 * 2), "reused": 0}
    assert "weight plane" in first["unit"]
    assert len(first["widths"]) == 3
    for width in first["widths"]:
        assert [point["photons_per_mac"] for point in width["curve"]] == [1, 30, 1000]
        assert all(point["low"] <= point["perplexity"] <= point["high"] for point in width["curve"])
        assert width["trained_on_tokens"] == 6 * 4 * 16
    exponents = {(row["operands"], row["encoding"]): row["exponent"] for row in first["operands"]}
    # −1 and 0, but for the largest of all weights, which grows with their number and is full transmission here.
    assert exponents["normal", "full-scale"] == pytest.approx(-1 + exponents["normal", "four-pass"], abs=0.15)
    assert 0 < exponents["normal", "four-pass"] < 0.4
    order = first["second_order"]
    assert [width["width"] for width in order["widths"]] == [4, 8, 16]
    assert all(width["total"]["kl"] > 0 and len(width["products"]) == 8 for width in order["widths"])
    assert [each["width"] for each in order["agreement"]] == [4, 8, 16]
    assert {operands for operands, _ in exponents} == {
        "normal",
        "linear of the models",
        "qk of the models",
        "av of the models",
    }
    page = (tmp_path / "sweep/report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") >= 4
    assert "http" not in without_figures(page)
    with (tmp_path / "sweep/curves.csv").open() as file:
        assert "weight plane" in next(file)
        assert len(list(csv.DictReader(file))) == 9

    assert main(command) == 0
    again = json.loads(capsys.readouterr().out)
    assert again.pop("points") == {"computed": 0, "reused": 24}
    first.pop("points")
    assert again == first


def swept(folder: Path, machine: str, *paths: str) -> int:
    return main(["scaling", machine, *paths, *LEVELS, "--seeds", "1", "--tokens", "66", "-o", str(folder / "sweep")])


def test_what_stands_in_the_exponents_besides_the_width_is_said(
    family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    law = tmp_path / "sweep/law.json"
    assert swept(tmp_path, "ideal", *models(family)) == 0
    assert law.exists()
    assert "the models differ in head width and tokens of training for each parameter, too" in "".join(
        capsys.readouterr()
    )
    assert swept(tmp_path, "ideal", *models(family)[1:]) == 0
    told = "".join(capsys.readouterr())
    assert "not of another training" in told
    assert "no law.json: no law of these models: too few models" in told
    assert not law.exists()  # that of other models does not stay beside this sweep


def test_models_of_two_depths_have_no_law_in_the_width(
    family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = tmp_path / "deep.safetensors"
    assert main(["train", str(deep), "--width", "32", "--blocks", "2", *SHAPE[2:], "--steps", "2", "--quiet"]) == 0
    capsys.readouterr()
    assert swept(tmp_path, "ideal", *models(family), str(deep)) == 0
    told = "".join(capsys.readouterr())
    assert "the models differ in depth, head width and tokens" in told
    assert "no law.json: the models differ in depth, too: 1, 2 blocks" in told


def test_models_of_one_name_are_told_apart_in_the_law(family: Path, tmp_path: Path) -> None:
    paths = []
    for path in map(Path, models(family)):
        paths.append(tmp_path / path.stem / "model.safetensors")
        paths[-1].parent.mkdir()
        shutil.copy(path, paths[-1])
    assert swept(tmp_path, "ideal", *map(str, paths)) == 0
    named = json.loads((tmp_path / "sweep/law.json").read_text())["law"]["provenance"]["models"]
    assert sorted(named) == ["model (d = 16)", "model (d = 4)", "model (d = 8)"]


def test_models_of_two_tokenizers_are_refused_before_the_sweep(
    family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the same context and number of tokens: their windows hold other words."""
    other, words = tmp_path / "other.safetensors", tmp_path / "words.txt"
    words.write_text("zebras graze where quick foxes jump over lazy dogs, " * 400)
    shape = [*SHAPE[:-4], "--vocabulary", "270", "--batch", "4", "--width", "32", "--text", str(words)]
    assert main(["train", str(other), *shape, "--steps", "2", "--quiet"]) == 0
    capsys.readouterr()
    assert swept(tmp_path, "ideal", models(family)[0], str(other)) != 0
    assert "same tokens" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


def test_second_order_of_shot_noise_is_not_said_of_other_machines(
    family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert swept(tmp_path, "hamerly-2019", *models(family), "--report") == 0
    assert "no second order: it is known for signs in four passes" in "".join(capsys.readouterr())
    found = json.loads((tmp_path / "sweep/scaling.json").read_text())
    assert found["second_order"] is None
    assert not (tmp_path / "sweep/law.json").exists()
    assert "What each kind of product costs" not in (tmp_path / "sweep/report.html").read_text()


def test_quantisation_and_light_come_after_float(family: Path, tmp_path: Path) -> None:
    start = str(family / "optical-gpt-d8.safetensors")
    out = tmp_path / "qat.safetensors"
    assert main(["train", str(out), "--qat", "--quiet"]) == 2
    assert main(["train", str(out), "--start", start, "--qat", "--calibration", "ideal", "--quiet"]) == 2
    assert main(["train", str(out), "--start", start, "--width", "8", "--quiet"]) == 2
    assert not out.exists()
    assert main(["train", str(out), "--start", start, "--qat", "--steps", "2", "--quiet"]) == 0
    record = load_checkpoint(out).record
    assert record["forward"]["levels"] == 256
    assert record["forward"]["ranges"]["blocks.0.ffn.down.inputs"][0] == 0
    light = tmp_path / "light.safetensors"
    options = ["--calibration", "ideal", "--photons-per-mac", "20", "--steps", "2", "--quiet"]
    assert main(["train", str(light), "--start", str(out), *options]) == 0
    assert load_checkpoint(light).record["forward"]["photons_per_mac"] == 20


def test_stopped_training_goes_on_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, stopped = tmp_path / "a/m.safetensors", tmp_path / "b/m.safetensors"
    options = ["--width", "8", *SHAPE, "--steps", "8", "--evaluate-every", "3", "--quiet"]
    assert main(["train", str(whole), *options]) == 0

    class StoppingBar:
        def __init__(self) -> None:
            self.steps = 0

        def advance(self, n: float, note: str) -> None:
            self.steps += 1
            if self.steps == 5:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("labctl.console._Silent", StoppingBar)
        assert main(["train", str(stopped), *options]) == 130
    assert state_path(stopped).exists()
    assert not stopped.exists()
    assert main(["train", str(stopped), *options]) == 0
    a, b = load_file(whole), load_file(stopped)
    assert a.keys() == b.keys() != set()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not state_path(stopped).exists()


@pytest.mark.parametrize("damage", ["NaN", "truncated", "pickle", "missing"])
def test_bad_checkpoint_is_refused_before_anything_is_written(
    family: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = family / "optical-gpt-d8.safetensors"
    if damage == "NaN":
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        tensors["norm.weight"][0] = torch.nan
        save_file(tensors, path, metadata)
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-7])
    elif damage == "pickle":
        torch.save({}, path)
    else:
        path.unlink()
    capsys.readouterr()
    out = tmp_path / "sweep"
    assert main(["scaling", "ideal", str(path), *LEVELS, "-o", str(out), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["first_error"]["code"] == "E-CAL-006"
    assert not out.exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--photons-per-mac", "-1", *LEVELS),
        ("--photons-per-mac", "10"),
        ("--photons-per-mac", "nan", *LEVELS),
        ("--tolerance", "0", *LEVELS),
    ],
    ids=["negative light", "one level", "NaN", "no tolerance"],
)
def test_impossible_sweep_is_refused(family: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    out = tmp_path / "sweep"
    assert main(["scaling", "ideal", models(family)[0], *options, "-o", str(out), "--quiet"]) == 2
    assert not out.exists()


def test_several_widths_need_a_folder_and_one_width_one_model(family: Path, tmp_path: Path) -> None:
    assert main(["train", str(tmp_path / "m.safetensors"), "--width", "8,16", "--quiet"]) == 2
    assert main(["train", str(tmp_path / "m"), "--width", "8,x", "--quiet"]) == 2
    one = models(family)[0]
    assert main(["scaling", "ideal", one, one, *LEVELS, "-o", str(tmp_path / "sweep"), "--quiet"]) == 2
