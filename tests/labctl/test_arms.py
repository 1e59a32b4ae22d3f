"""Arms of a family from the command line: models that differ in one thing, trained once, and the law that they give."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.__main__ import main
from labctl.resources import shipped_family
from simulation.models.checkpoint import load_checkpoint
from simulation.models.gpt import GPT, GPTConfig
from simulation.models.text import Text
from simulation.scaling.law import Shape, load_law
from simulation.training.arms import Recipe, parameters_of, planned

TINY = ("--width", "16,32,48", "--context", "16", "--vocabulary", "300", "--batch", "64", "--quiet")
SHORT = ("--replicas", "1", "--tokens-per-parameter", "0.2")


@pytest.fixture(autouse=True, scope="module")
def short_reference() -> Iterator[None]:
    page = "the light is cheap and the answer of the bench is noisy, how noisy is a number. " * 60
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulation.training.train.pydoc_text", lambda split: Text(f"page/{split}", page, split))
        yield


@pytest.fixture(scope="module")
def arms(short_reference: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("family") / "arms"
    assert main(["train", str(folder), "--arms", "width,qat", *TINY, *SHORT]) == 0
    return folder


def test_parameters_are_counted_as_the_model_has_them() -> None:
    model = GPT(GPTConfig(300, 16, 48, 3, 4))
    assert parameters_of(48, 3, 300, 16) == sum(p.numel() for p in model.parameters())


def test_arms_differ_in_one_thing_and_see_as_many_tokens_for_each_parameter() -> None:
    recipe = Recipe(tokens_per_parameter=10, seeds=(0, 1), widths=(32, 64, 128))
    by_arm = {arm: planned(arm, recipe) for arm in ("width", "depth", "heads")}
    shapes = {arm: {(p.config.width, p.config.blocks, p.config.heads) for p in some} for arm, some in by_arm.items()}
    assert shapes["width"] == {(32, 2, 2), (64, 2, 4), (128, 2, 8)}
    assert shapes["depth"] == {(32, 2, 2), (32, 4, 2), (32, 8, 2), (32, 12, 2)}
    assert shapes["heads"] == {(32, 2, 4), (64, 2, 4), (128, 2, 4)}
    for each in (one for some in by_arm.values() for one in some):
        c = each.config
        parameters = parameters_of(c.width, c.blocks, c.vocabulary, c.context)
        assert c.steps * c.batch * c.context / parameters == pytest.approx(10, rel=0.01)
    assert {p.config.seed for p in by_arm["width"]} == {0, 1}


def test_quantised_arm_goes_on_from_the_one_in_float(arms: Path) -> None:
    names = json.loads((arms / "arms.json").read_text())["arms"]
    assert len(names["width"]) == len(names["qat"]) == 3
    for name in names["qat"]:
        record = load_checkpoint(arms / f"{name}.safetensors").record
        assert record["forward"]["kind"] == "quantisation-aware"


def test_what_is_trained_is_not_trained_again_and_another_recipe_is_refused(
    arms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in arms.glob("*.safetensors")}
    assert main(["train", str(arms), "--arms", "width", *TINY, *SHORT]) == 0
    assert {path: path.stat().st_mtime_ns for path in arms.glob("*.safetensors")} == before
    capsys.readouterr()
    assert main(["train", str(arms), "--arms", "width", *TINY, *SHORT, "--batch", "32"]) == 2
    assert "trained otherwise" in capsys.readouterr().err


def test_law_of_the_arms_is_written_and_says_what_is_assumed(
    arms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "law"
    one = str(next(path for path in shipped_family() if path.stem.endswith("-d32")))
    command = ["scaling", "ideal", one, "--arms", str(arms), "-o", str(out), "--document-tokens", "512"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    law = load_law(out / "law.json")
    assert set(law.assumed()) == {"blocks", "head_width", "tokens_per_parameter"}
    assert law.outside(Shape(4096, 2, 16)) == ("width",)
    assert [arm["arm"] for arm in found["arms"]] == ["width", "qat"]
    assert {ratio["part"] for ratio in found["quantised"]} == {"ffn", "qkvo", "qk", "av", "all"}
    (beside,) = found["beside"]
    assert beside["photons"] == pytest.approx(sum(beside["kl"].values()) / found["tolerance_nats"])
    assert main([*command, "--report"]) == 0
    printed = capsys.readouterr()
    assert "quantised" in printed.err + printed.out
    assert "± 0.15 is not reached" in printed.err + printed.out
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") == 2
    for said in ("Exponents, arm by arm", "All arms together", one.rsplit("/", 1)[1].removesuffix(".safetensors"),
                 "± 0.15 is not reached", "Models beside the law", "assumed"):  # fmt: skip
        assert said in page
    assert not (out / "curves.csv").exists()
    assert load_law(out / "law.json") == law


@pytest.mark.parametrize(
    "options",
    [("--arms", "colour"), ("--arms", "width", "--steps", "3"), ("--arms", "width", "--width", "20")],
    ids=["no such arm", "steps", "a width that no head divides"],
)
def test_impossible_arms_are_refused_before_anything_is_written(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert main(["train", str(tmp_path / "arms"), *options, "--quiet"]) == 2
    assert not (tmp_path / "arms").exists()


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        ({}, "too few models"),
        ({"width": "d32"}, "no arms of a family"),
        ({"width": [1, None]}, "no arms of a family"),
        ({"width": []}, "too few models"),
        ({"width": ["d8-b1-h1-t1-s0"]}, "too few models"),
        ([], "too few models"),
        (7, "no arms of a family"),
    ],
)
def test_a_damaged_list_of_arms_is_refused(tmp_path: Path, capsys, arms, words) -> None:
    (tmp_path / "arms.json").write_text(json.dumps({"schema": "labctl.arms/1", "arms": arms}))
    assert main(["scaling", "ideal", "--arms", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err


def test_copies_are_no_other_training(arms: Path, tmp_path: Path, capsys) -> None:
    folder = Path(shutil.copytree(arms, tmp_path / "arms"))
    names = json.loads((folder / "arms.json").read_text())
    first = names["arms"]["width"][0]
    names["arms"]["width"] += [first, "d16-copy"]
    (folder / "arms.json").write_text(json.dumps(names))
    command = ["scaling", "ideal", "--arms", str(folder), "-o", str(tmp_path / "law"), "--document-tokens", "300"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["arms"][0]["models"] == names["arms"]["width"][:3]
    assert found["law"]["spread"]["degrees"] == 1
    shutil.copy(folder / f"{first}.safetensors", folder / "d16-copy.safetensors")
    assert main(command) == 2
    assert "copies of each other" in capsys.readouterr().err


def test_a_model_of_the_arms_is_not_compared_with_their_law(arms: Path, tmp_path: Path, capsys) -> None:
    one = str(next(arms.glob("d32*-s0.safetensors")))
    command = ["scaling", "ideal", one, "--arms", str(arms), "-o", str(tmp_path / "law"), "--document-tokens", "300"]
    assert main(command) == 2
    assert "fitted to a model" in capsys.readouterr().err


@pytest.mark.parametrize("machine", ["netcast-2022", "hamerly-2019"])
def test_law_of_shot_noise_is_not_said_of_other_machines(arms: Path, tmp_path: Path, capsys, machine: str) -> None:
    assert main(["scaling", machine, "--arms", str(arms), "-o", str(tmp_path / "law")]) == 2
    assert "signs in four passes" in capsys.readouterr().err
    assert not (tmp_path / "law").exists()


def test_folder_without_arms_says_how_to_make_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scaling", "ideal", "--arms", str(tmp_path), "-o", str(tmp_path / "out"), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["first_error"]
    assert "labctl train" in error["hint"]
    assert not (tmp_path / "out").exists()
