"""The page about the run folder against run folders: one in spec, one stalled, one imported, one that was killed."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from processes import LIMIT_S

from labctl.__main__ import main
from labctl.archive import RunReader, RunWriter, find_run
from labctl.bench.bench import open_bench
from labctl.osal import can_supervise
from labctl.station.loading import load_station

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "run-folder.md"
EITHER = {True, False}


@dataclass(frozen=True)
class Row:
    """A line of the page's table."""

    file: str
    there_when: str
    sealed: str


CONDITIONS: Mapping[str, frozenset[str]] = {
    "always": frozenset({"in spec", "stalled", "imported", "killed"}),
    "the bench was to be used": frozenset({"in spec", "stalled"}),
    "the run has not ended": frozenset({"killed"}),
    "products were to be measured": frozenset({"in spec"}),
    "devices were opened": frozenset({"in spec", "stalled"}),
    "the devices did all that was asked": frozenset({"in spec"}),
    "something was read": frozenset({"in spec", "stalled", "imported"}),
    "something was shown and read": frozenset({"in spec", "stalled"}),
    "the run ended, however it ended": frozenset({"in spec", "stalled", "imported"}),
    "the analysis got to its end": frozenset({"in spec", "imported"}),
    "the supervisor ended a stalled run": frozenset({"stalled"}),
    "something was logged": frozenset({"killed"}),
}
"""In which of the four runs each condition of the page holds."""

needs_supervisor = pytest.mark.skipif(not can_supervise(), reason="POSIX only; see labctl.osal.can_supervise")
RUNS = [
    pytest.param(name, marks=needs_supervisor if name == "stalled" else ()) for name in sorted(CONDITIONS["always"])
]


def table() -> list[Row]:
    cells = [line.strip("| \n").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if "|" in line]
    return [Row(file.removesuffix(" …").strip("`"), when, sealed) for file, _, when, sealed in cells[2:]]


def stalled(runs: Path, station: Path) -> None:
    """Frame 40 hangs, when the dark frames are sealed. The mock's loops are compiled before: that is no stall."""
    with open_bench(load_station(station).station) as bench:
        bench.source.on()
        bench.slm.show(np.full(bench.slm.shape, bench.slm.levels - 1, np.uint8))
        bench.camera.arm(2)
        bench.camera.fetch(10.0)
    done = subprocess.run(
        [sys.executable, "-m", "labctl", "calibrate", "--bench", str(station), "--runs", str(runs), "--quiet",
         "--set", 'mock.faults=["hang@40"]', "--set", "acquisition.stall_s=12.0"],
        capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 20, done.stderr


def imported(runs: Path, station: Path) -> None:
    rng = np.random.default_rng(2)
    inputs, weights = rng.uniform(0, 10, (400, 6)), rng.uniform(0.1, 1, (3, 6))
    readings = 500 + 40 * inputs @ weights.T + rng.normal(0, 3, (400, 3))
    capture = runs.parent / "capture.npz"
    np.savez(capture, inputs=inputs, weights=weights, readings=readings)
    assert main(["import", str(capture), "--name", "elsewhere", "--runs", str(runs), "--quiet"]) == 0
    assert main(["fit", "--runs", str(runs), "--quiet"]) == 0


def killed(runs: Path, station: Path) -> None:
    """A run that nobody finished, after one line of log."""
    with RunWriter.create(runs, "killed", load_station(station)):
        logging.getLogger("labctl").warning("a word for the log")


MAKE: Mapping[str, Callable[[Path, Path], None]] = {
    "stalled": stalled,
    "imported": imported,
    "killed": killed,
}


@pytest.fixture(scope="module")
def archive(small_file: Path, measured_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the archive with a run of the given sort, once."""
    made = {"in spec": measured_once}

    def make(name: str) -> Path:
        if name not in made:
            runs = made[name] = tmp_path_factory.mktemp("runs") / "runs"
            MAKE[name](runs, small_file)
        return made[name]

    return make


def files_in(folder: Path) -> set[str]:
    """Paths inside the folder, all segments under the name of the first."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {re.sub(r"segments/\d{6}\.h5", "segments/000000.h5", name) for name in names}


def test_every_condition_of_the_page_is_known_and_is_seen_to_hold_and_not_to_hold() -> None:
    assert {row.there_when for row in table()} == set(CONDITIONS)
    for condition, runs in CONDITIONS.items():
        assert {name in runs for name in CONDITIONS["always"]} == ({True} if condition == "always" else EITHER), (
            condition
        )


@pytest.mark.parametrize("name", RUNS)
def test_folder_holds_the_files_of_the_page_and_no_others(name: str, archive: Callable[[str], Path]) -> None:
    promised = {row.file for row in table() if name in CONDITIONS[row.there_when]}
    assert files_in(find_run(archive(name), "latest")) == promised


@pytest.mark.parametrize("name", ["in spec", "imported", pytest.param("stalled", marks=needs_supervisor)])
def test_seal_covers_what_the_page_says(name: str, archive: Callable[[str], Path]) -> None:
    folder = find_run(archive(name), "latest")
    seal = RunReader(folder).seal
    assert seal is not None
    assert set(seal.files) == {row.file for row in table() if row.sealed == "yes" and (folder / row.file).exists()}
    assert {row.file for row in table() if row.sealed == "through the manifest"} == {"segments/000000.h5"}


def test_calibrations_lie_where_the_page_says(archive: Callable[[str], Path]) -> None:
    promised = re.findall(r"`(?:runs/calibrations/)?([\w/]*<(?:id|bench)>[\w.]+)`", PAGE.read_text(encoding="utf-8"))
    assert len(promised) == 4
    folder = archive("in spec") / "calibrations"
    summary = RunReader(find_run(archive("in spec"), "latest")).summary()
    assert summary is not None
    assert summary.calibration is not None
    names = {name.replace("<id>", summary.calibration.id).replace("<bench>", "small") for name in promised}
    assert files_in(folder) == names
