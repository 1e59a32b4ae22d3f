"""Bad input and bad disks: a coded error, the right exit code, and nothing half-written that passes for a result."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from labctl.studies.demo import shipped_model


def run(*arguments: str | Path) -> int:
    return main([str(a) for a in arguments])


@pytest.fixture
def broken_workload(products, tmp_path: Path) -> Path:
    path = tmp_path / "broken.h5"
    shutil.copy(products[0], path)
    return path


def test_workload_with_nan_is_refused_before_the_bench_opens(
    broken_workload: Path, small_file: Path, tmp_path: Path, capsys
) -> None:
    with h5py.File(broken_workload, "r+") as file:
        file["groups/000001/inputs"][3, 4] = np.nan
    assert run("measure", broken_workload, "--bench", small_file, "--runs", tmp_path / "runs") == 2
    error = capsys.readouterr().err
    assert "E-CAL-007" in error
    assert "tall" in error
    assert not (tmp_path / "runs").exists()


def test_truncated_workload_is_refused(broken_workload: Path, small_file: Path, tmp_path: Path, capsys) -> None:
    broken_workload.write_bytes(broken_workload.read_bytes()[:-100])
    assert run("measure", broken_workload, "--bench", small_file, "--runs", tmp_path / "runs") == 2
    assert "E-CAL-006" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_truncated_checkpoint_is_refused(tmp_path: Path, capsys) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(shipped_model().read_bytes()[:-1000])
    for command in (
        ("sample", path, "-o", tmp_path / "p.h5"),
        ("demo", "--model", path, "--runs", tmp_path / "runs"),
    ):
        assert run(*command) == 2
        error = capsys.readouterr().err
        assert "E-CAL-006" in error
        assert "cut.safetensors" in error
    assert list(tmp_path.iterdir()) == [path]


def test_station_with_a_typo_names_the_key_that_was_meant(products, small_file: Path, tmp_path: Path, capsys) -> None:
    station = tmp_path / "typo.toml"
    text, changed = re.subn(r"^columns =", "colums =", small_file.read_text(), count=1, flags=re.MULTILINE)
    assert changed
    station.write_text(text)
    assert run("measure", products[0], "--bench", station, "--runs", tmp_path / "runs") == 2
    error = capsys.readouterr().err
    assert "E-CFG-001" in error
    assert "did you mean layout.columns" in error


def test_mock_parameter_with_a_typo_is_refused(products, small_file: Path, tmp_path: Path, capsys) -> None:
    code = run(
        "measure", products[0], "--bench", small_file, "--runs", tmp_path / "runs", "--set", "mock.source.powr_mw=1.0"
    )
    assert code != 0
    assert "power_mw" in capsys.readouterr().err


def test_layout_larger_than_the_slm_is_refused(products, small_file: Path, tmp_path: Path, capsys) -> None:
    code = run("measure", products[0], "--bench", small_file, "--runs", tmp_path / "runs", "--set", "layout.columns=64")
    assert code == 2
    assert "E-CAL-005" in capsys.readouterr().err


def test_unknown_layer_is_refused_with_the_nearest_name(tmp_path: Path, capsys) -> None:
    assert run("sample", "-o", tmp_path / "p.h5", "--layer", "blocks.0.ffn.donw") == 2
    assert "blocks.0.ffn.down" in capsys.readouterr().err
    assert not (tmp_path / "p.h5").exists()


def test_disk_that_is_too_small_is_refused_before_a_device_opens_and_leaves_no_result(
    mount: Callable[[str], Path], products, small_file: Path, capsys
) -> None:
    disk = mount("size=3m")
    assert run("measure", products[0], "--bench", small_file, "--runs", disk / "runs", "--quiet") == 22
    said = capsys.readouterr().err
    assert "E-STO-004" in said
    assert "no device was opened" in said
    assert list(disk.rglob("*.tmp")) == []
    assert list(disk.rglob("*.calib.*")) == []
    assert list(disk.rglob("report.html")) == []
    ended = RunReader(find_run(disk / "runs", "latest"))
    assert ended.status == ended.summary().verdict == "storage"


def test_read_only_folder_is_refused_before_the_bench_opens(
    mount: Callable[[str], Path], products, small_file: Path, capsys
) -> None:
    disk = mount("ro")
    assert run("measure", products[0], "--bench", small_file, "--runs", disk / "runs") == 22
    assert "E-STO-003" in capsys.readouterr().err


def test_altered_calibration_is_refused_by_simulate(tmp_path: Path, capsys) -> None:
    path = tmp_path / "x.calib.safetensors"
    path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    assert run("simulate", path) == 2
    assert "E-CAL-006" in capsys.readouterr().err
