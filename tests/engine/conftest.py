"""A bench small enough to calibrate in seconds, and a workload that fits it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from fitted import fit_channel_once, fit_step_once
from undrawn_figures import Undrawn

from calibration.frames.products import ProductGroup
from labctl.__main__ import main
from labctl.station.loading import LoadedStation, load_station
from labctl.workload import Workload, read_workload, write_workload

SMALL = """
[bench]
name = "small"
[layout]
rows = {size}
columns = {size}
[mock]
seed = {seed}
[mock.slm]
levels = {levels}
rows = {panel[0]}
cols = {panel[1]}
rotation_deg = {rotation}
offset_x_px = {shift}
[mock.display]
levels = {levels}
rows = {panel[0]}
cols = {panel[1]}
magnification = {magnification}
[mock.camera]
rows = {sensor[0]}
cols = {sensor[1]}
"""
FEW_LEVELS = 64
"""A calibration shows every gray level: of 256, those would be half of all its frames."""
SIZE = {"size": 16, "panel": (160, 180), "sensor": (210, 230)}
LARGER = {"size": 32, "panel": (256, 320), "sensor": (310, 380)}
FIRST = {"seed": 1, "rotation": 0.25, "shift": 3.4, "magnification": 1.003, "levels": FEW_LEVELS}
UNDRAWN = Path(__file__).parent / "undrawn"


@contextmanager
def undrawn() -> Iterator[None]:
    """Reports have a pixel for each figure, and those of commands that are started, too.

    A command that is to run something first gets it by the fixture ``at_start``, and draws nothing either.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in ("nodes.figures", "report.drift", "report.response_figures", "report.simulation"):
            patch.setattr(f"labctl.{module}.Figure", Undrawn)
        patch.setenv("PYTHONPATH", str(UNDRAWN), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module", autouse=True)
def figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures are drawn in files marked ``figures`` only: drawing takes half the time of a run."""
    with nullcontext() if request.node.get_closest_marker("figures") else undrawn():
        yield


@pytest.fixture(scope="session", autouse=True)
def fitted_once() -> Iterator[None]:
    """Every run on one bench has the same readings of the panels' steps, and of its probes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labctl.nodes.timing.fit_step", fit_step_once)
        patch.setattr("labctl.nodes.gain.ScreenedFit", fit_channel_once)
        yield


@pytest.fixture
def at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has every Python that is started from now on run some lines before anything else."""

    def run(lines: str) -> None:
        folder = tmp_path / "at_start"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(f"import undrawing\n{lines}")
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)

    return run


Make = Callable[[Path], object]
Shared = Callable[[str, Make], Path]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Has a file or an archive made once for all processes of the suite. Who must write into it, writes into a copy."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def once(name: str, make: Make) -> Path:
        path, made = folder / "shared" / name, folder / "shared" / f"{name}.made"
        path.parent.mkdir(exist_ok=True)
        with FileLock(made.with_suffix(".lock")):
            if not made.exists():
                shutil.rmtree(path, ignore_errors=True)  # of a process that was ended in the middle
                make(path)
                made.touch()
        return path

    return once


@pytest.fixture(scope="session")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small station as a file."""
    path = tmp_path_factory.mktemp("station") / "small.toml"
    path.write_text(SMALL.format(**FIRST, **SIZE))
    return path


@pytest.fixture(scope="session")
def larger_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A station with four times as many macropixels, for what is seen above the noise of so many only."""
    path = tmp_path_factory.mktemp("station") / "larger.toml"
    path.write_text(SMALL.format(**FIRST, **LARGER))
    return path


@pytest.fixture
def small_station(tmp_path: Path) -> Callable[..., LoadedStation]:
    """Makes small stations: geometry and noise follow the seed."""
    return partial(make_station, tmp_path, SIZE)


@pytest.fixture
def larger_station(tmp_path: Path) -> Callable[..., LoadedStation]:
    """Makes stations with four times as many macropixels."""
    return partial(make_station, tmp_path, LARGER)


def make_station(folder: Path, size: Mapping[str, Any], seed: int = 1, *overrides: str) -> LoadedStation:
    rng = np.random.default_rng(seed)
    text = SMALL.format(
        seed=seed,
        levels=256,
        rotation=round(float(rng.uniform(-0.5, 0.5)), 3),
        shift=round(float(rng.uniform(-4, 4)), 2),
        magnification=round(float(rng.uniform(0.998, 1.004)), 4),
        **size,
    )
    path = folder / f"small-{seed}.toml"
    path.write_text(text)
    return load_station(path, overrides)


@pytest.fixture(scope="session")
def products(shared: Shared) -> tuple[Path, Workload]:
    """A few random products of both kinds: signed vectors on a wide matrix, sparse ones on a tall one."""
    path = shared("products.h5", lambda path: write_products(path, 12, 20))
    return path, read_workload(path)


@pytest.fixture(scope="session")
def larger_products(shared: Shared) -> tuple[Path, Workload]:
    """The same for the larger station."""
    path = shared("larger_products.h5", lambda path: write_products(path, 24, 40))
    return path, read_workload(path)


def write_products(path: Path, short: int, long: int) -> None:
    rng = np.random.default_rng(7)
    groups = []
    for name, operation, m, k, sparse in (("wide", "qk", short, long, False), ("tall", "linear", long, short, True)):
        weight = rng.standard_normal((m, k)).astype(np.float32)
        inputs = rng.standard_normal((48, k)).astype(np.float32)
        if sparse:
            inputs = np.maximum(inputs, 0) * (rng.random(inputs.shape) < 0.4)
        positions = np.stack([np.zeros(len(inputs), np.int64), np.arange(len(inputs))], axis=1)
        scale = float(np.percentile(np.abs(weight), 99))
        inputs = inputs.astype(np.float32)
        groups.append(ProductGroup(name, operation, 0, weight, inputs, inputs @ weight.T, positions, scale))
    write_workload(path, groups, {"model": "random", "text": "none", "seed": 7})


@pytest.fixture(scope="session")
def calibrated_once(small_file: Path, shared: Shared) -> Path:
    """The archive after ``labctl calibrate`` on the small bench; not to be written into."""

    def calibrate(runs: Path) -> None:
        with undrawn():
            assert main(["calibrate", "--bench", str(small_file), "--runs", str(runs), "--quiet"]) == 0

    return shared("calibrated", calibrate)


@pytest.fixture(scope="session")
def measured_once(small_file: Path, products: tuple[Path, Workload], shared: Shared) -> Path:
    """The archive after ``labctl measure`` of the products on the small bench; not to be written into."""

    def measure(runs: Path) -> None:
        with undrawn():
            assert main(["measure", str(products[0]), "--bench", str(small_file), "--runs", str(runs), "--quiet"]) == 0

    return shared("measured", measure)


@pytest.fixture
def launched() -> Iterator[Callable[..., subprocess.Popen[Any]]]:
    """Starts ``labctl`` as a process, with `subprocess.Popen`'s own options; what still runs at the end is killed."""
    started: list[subprocess.Popen[Any]] = []

    def launch(*words: str, **options: Any) -> subprocess.Popen[Any]:
        command = [sys.executable, "-m", "labctl", *words]
        started.append(subprocess.Popen(command, **{"stdin": subprocess.DEVNULL, **options}))
        return started[-1]

    yield launch
    for process in started:
        process.kill()
        process.communicate()
