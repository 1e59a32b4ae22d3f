"""`labctl adapt`: a folder with an ordinary model, a page and a record, or a refusal that says what to type."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import LIMIT_S
from safetensors.torch import load_file

from labctl.__main__ import main
from labctl.errors import RunInUse
from labctl.locks import take
from labctl.resources import data_path
from labctl.studies.alone import alone
from simulation.models.loading import load_language

MODEL = str(data_path("models/family") / "optical-gpt-d32.safetensors")
QUICK = ["--tokens", "192", "--context", "32", "--batch", "2", "--evaluate-every", "2", "--score", "200"]
SENTENCE = "The matrix is shown once, and the vectors pass it one by one; number {} is the {} of them.\n"


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "short.txt"
    path.write_text("".join(SENTENCE.format(i, i * i) for i in range(120)))
    return str(path)


def test_adapted_checkpoint_is_loaded_and_its_table_can_be_had_again(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "adapted"
    command = ["adapt", MODEL, "--calibration", "paper", "--photons-per-mac", "100", "--text", text, *QUICK]
    assert main([*command, "-o", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["adaptation"]
    assert json.loads((out / "adaptation.json").read_text()) == found
    assert (found["photons_per_mac"], found["tokens_learned"], found["tokens_scored"]) == (100, 192, 200)
    assert [row[0] for row in found["curve"]] == [0, 2, 3]
    assert [score["run_as"] for score in found["scores"]] == [
        "digital", "in light, before", "in light, after", "digital, after",
    ]  # fmt: skip
    assert found["scores"][0]["times_digital"] == 1
    assert 0 < found["scores"][2]["times_stderr"] < found["scores"][2]["stderr"]
    assert (out / "report.html").read_text().count("data:image/png") == 1
    assert load_language(found["saved"]).vocabulary == load_language(MODEL).vocabulary
    assert not list(tmp_path.rglob("*.training"))

    (tmp_path / "heldout.txt").write_text(Path(text).read_text()[_ninth(text) :])
    read = ["--text", str(tmp_path / "heldout.txt"), "--tokens", "200", "--json"]
    assert main(["simulate", "ideal", found["saved"], *read]) == 0
    digital = json.loads(capsys.readouterr().out)["simulation"]["perplexity"]["digital"]
    assert digital == pytest.approx(found["scores"][3]["ppl"], rel=0.2)  # with windows of 128 tokens, not 32


def _ninth(text: str) -> int:
    content = Path(text).read_text()
    return content.find("\n", round(0.9 * len(content)))


def test_table_names_what_was_compared(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--full", "--qat", "--text-loss", "0.5", "--clip", "100", "--photons-per-mac", "30"]
    command = ["adapt", MODEL, "--calibration", "paper", "--text", text, *QUICK, *options]
    assert main([*command, "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "86,592 of 86,592 numbers moved" in " ".join(printed.split())
    assert "in light, after" in printed
    value, error = re.search(r"in light, after +([\d.]+) ± ([\d.]+)", printed).groups()
    assert len(value.partition(".")[2]) == len(error.partition(".")[2])
    assert f"labctl simulate paper {tmp_path}/out" in printed.replace("\n", " ")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--photons-per-mac", "0"], "E-USE-001", "light level"),
        (["--photons-per-mac", "-1"], "E-USE-001", "light level"),
        (["--photons-per-mac", "nan"], "E-USE-001", "light level"),
        (["--photons-per-mac", "inf"], "E-USE-001", "light level"),
        (["--calibration", "papper"], "E-USE-001", "paper"),
        (["--text", "none.txt"], "E-CAL-007", "none.txt"),
        (["--learning-rate", "0"], "E-CAL-005", "learning rate"),
        (["--context", "900"], "E-CAL-007", "--text"),
    ],
)
def test_nonsense_is_refused_before_any_work(
    options: list[str],
    code: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("word.txt").write_text("a word")
    command = ["adapt", MODEL, "--calibration", "paper", "--text", "word.txt", *QUICK, "-o", "out"]
    assert main([*command, *options]) == 2
    printed = capsys.readouterr().err
    assert code in printed
    assert words in " ".join(printed.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["word.txt"]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    assert main(["adapt", MODEL, "--calibration", "paper", "-o", str(out)]) == 2
    assert "E-USE-001" in capsys.readouterr().err
    assert (out / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (["adapt", MODEL, "--calibration", "paper", *QUICK, "-o"], "out"),
        (
            ["train", "--width", "8", "--blocks", "1", "--context", "16", "--steps", "2", "--batch", "1"],
            "m.safetensors",
        ),
    ],
)
def test_a_second_command_for_the_same_output_is_refused_and_touches_nothing(
    command: list[str], output: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = take(tmp_path / f".{output}.lock")
    assert lock is not None
    try:
        assert main([*command, str(tmp_path / output), "--text", text]) == 75
    finally:
        lock.release()
    printed = capsys.readouterr().err
    assert "E-RUN-003" in printed
    assert "another command writes there" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".{output}.lock", "short.txt"]


def test_a_place_is_free_again_when_its_holder_has_ended(tmp_path: Path) -> None:
    def interrupted() -> None:
        with alone(tmp_path / "out", "adapting"):
            with pytest.raises(RunInUse):
                alone(tmp_path / "out", "adapting").__enter__()
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_command_killed_at_any_moment_goes_on_bit_for_bit(text: str, tmp_path: Path) -> None:
    def command(out: str) -> list[str]:
        words = ["adapt", MODEL, "--calibration", "paper", "--photons-per-mac", "50", "--text", text, *QUICK]
        return [sys.executable, "-m", "labctl", *words, "--tokens", "1280", "-o", str(tmp_path / out)]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command("whole"), check=True, env=environment, timeout=LIMIT_S, capture_output=True)
    state = tmp_path / "killed.training"
    for wait_s in (0.0, 0.2):
        begun = subprocess.Popen(
            command("killed"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + LIMIT_S
        while not state.exists() and begun.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(wait_s)
        begun.send_signal(signal.SIGKILL)
        begun.wait()
        assert not (tmp_path / "killed" / "adaptation.json").exists()
    subprocess.run(command("killed"), check=True, env=environment, timeout=LIMIT_S, capture_output=True)
    whole, killed = (load_file(tmp_path / out / Path(MODEL).name) for out in ("whole", "killed"))
    assert all((tensor == killed[name]).all() for name, tensor in whole.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "short.txt", "whole"]
