"""A run that cannot go on as it began is refused in words: no device is opened, nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.__main__ import main
from labctl.archive import RunReader, RunWriter, find_run
from labctl.cli.jobs import archive_of, file_hashes

Interrupted = Callable[..., RunReader]


@pytest.fixture
def interrupted(small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Interrupted:
    """Runs a command until it has sealed one segment, then stops it."""

    def stopped(self: RunWriter, *arguments: object) -> object:
        raise KeyboardInterrupt

    def run(*command: str) -> RunReader:
        with monkeypatch.context() as patch:
            patch.setattr(RunWriter, "write_segment", stopped)
            options = ["--bench", str(small_file), "--runs", str(tmp_path / "runs"), "--quiet"]
            assert main([*command, *options]) == 130
        return RunReader(find_run(tmp_path / "runs", "latest"))

    return run


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    def resumed(*arguments: object) -> None:
        raise AssertionError("the run was opened again")

    monkeypatch.setattr(RunWriter, "resume", resumed)


def change(run: RunReader, **keys: Any) -> None:
    info = json.loads((run.path / "run.json").read_text())
    info |= keys
    kept = {key: value for key, value in info.items() if value != "gone"}
    (run.path / "run.json").write_text(json.dumps(kept))


DARK = ["dark", "measure", None, None]


@pytest.mark.usefixtures("untouched")
def test_damaged_run_is_refused_with_what_is_wrong(
    interrupted: Interrupted, capsys: pytest.CaptureFixture[str]
) -> None:
    run = interrupted("calibrate", "dark")
    whole = run.info
    damages = [
        ({"job": {"legs": [["dark", "measured", None, None]]}}, "measured"),
        ({"job": {"legs": [["drak", "measure", None, None]]}}, "drak"),
        ({"job": {"legs": [["dark", "measure"]]}}, "job.legs"),
        ({"job": {"legs": [3]}}, "job.legs"),
        ({"job": {"legs": []}}, "job.legs"),
        ({"job": {"legs": [["dark", "keep", None, None]]}}, "names the run"),
        ({"job": {"legs": [["gain", "measure", None, None]]}}, "parents first"),
        ({"job": {"legs": 3}}, "job.legs: 3"),
        ({"job": {"nodes": []}}, "without legs"),
        ({"job": 3}, "job: 3"),
        ({"purpose": "demo", "job": {"legs": [DARK]}}, "without per_stratum, seed"),
        ({"purpose": "demo", "job": {"legs": [DARK], "per_stratum": 2, "seed": "x"}}, "job.seed: 'x'"),
        ({"purpose": "gone"}, "purpose"),
        ({"started": "gone"}, "started"),
        ({"started": "yesterday"}, "yesterday"),
        ({"clock_epoch_s": "noon"}, "noon"),
    ]
    for keys, words in damages:
        change(run, **{**whole, **keys})
        assert main(["run", "resume", str(run.path)]) == 22, keys
        err = capsys.readouterr().err
        assert "E-RUN-002" in err
        assert words in err
    change(run, **whole)
    for text in (None, "[layout]\nrows = ", "[layout]\nrows = 'many'\n"):
        (run.path / "config.toml").unlink() if text is None else (run.path / "config.toml").write_text(text)
        assert main(["run", "resume", str(run.path)]) == 22
        err = capsys.readouterr().err
        assert "E-RUN-002" in err
        assert "config.toml" in err
        assert "station init" not in err


@pytest.mark.usefixtures("untouched")
def test_run_without_its_products_is_refused(
    interrupted: Interrupted, products, capsys: pytest.CaptureFixture[str]
) -> None:
    run = interrupted("measure", str(products[0]))
    (run.path / "workload.h5").unlink()
    assert main(["run", "resume", str(run.path)]) == 22
    err = capsys.readouterr().err
    assert "E-RUN-002" in err
    assert "workload.h5 is missing" in err
    assert run.seal is not None


def test_run_goes_on_in_its_own_archive(
    interrupted: Interrupted, products, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = interrupted("measure", str(products[0]))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["run", "resume", str(run.path), "--quiet"]) == 0
    assert not list(elsewhere.iterdir())
    assert Path(RunReader(run.path).summary().calibration.path).parent == tmp_path / "runs" / "calibrations"


@pytest.mark.usefixtures("untouched")
def test_run_outside_an_archive_is_refused(
    interrupted: Interrupted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = interrupted("calibrate", "dark")
    copy = tmp_path / "copy" / run.run_id
    shutil.copytree(run.path, copy)
    assert main(["run", "resume", str(copy)]) == 2
    assert "lies in no archive" in capsys.readouterr().err
    assert archive_of(copy) is None
    assert archive_of(run.path) == tmp_path / "runs"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("which", ["model", "text"])
def test_demo_does_not_go_on_with_another_file_of_the_same_name(
    which: str, interrupted: Interrupted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = interrupted("calibrate", "dark")
    file = tmp_path / "file"
    file.write_bytes(b"one")
    hashes = file_hashes(**{"model": None, "text": None, which: file})
    job = {"legs": [DARK], "per_stratum": 2, "seed": 0, "model": None, "text": None, which: str(file), "sha256": hashes}
    change(run, purpose="demo", job=job)
    for content in (b"other", None):
        file.unlink() if content is None else file.write_bytes(content)
        assert main(["run", "resume", str(run.path)]) == 2
        err = capsys.readouterr().err
        assert "E-RUN-005" in err
        assert f"the {which} is not the one" in err


def test_stopped_run_says_how_to_go_on(
    interrupted: Interrupted, small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = interrupted("calibrate", "dark")
    short = run.run_id.rpartition("-")[2]
    named = f"{short} --runs {tmp_path / 'runs'}"
    assert f"go on: labctl run resume {named}   ·   the run: labctl run show {named}" in capsys.readouterr().err
    options = ["--bench", str(small_file), "--runs", str(tmp_path / "faults"), "--quiet"]
    lost = ["--set", 'mock.faults=["disconnect@3"]', "--set", "acquisition.reopen_attempts=0"]
    assert main(["calibrate", "dark", *options, *lost]) == 20
    assert "go on: labctl run resume" in capsys.readouterr().err
