"""Runs, stations and small file systems to try them on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from undrawn_figures import Undrawn

from labctl.__main__ import main
from labctl.archive import RunWriter
from labctl.station.loading import load_station

ACME = Path(__file__).parent / "acme"


@pytest.fixture(scope="module", autouse=True)
def figures_of_fits(request: pytest.FixtureRequest) -> Iterator[None]:
    """Those of an import's fit are drawn in files marked ``figures`` only: two thirds of a fit of 200 rows."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.node.get_closest_marker("figures"):
            patch.setattr("labctl.report.response_figures.Figure", Undrawn)
        yield


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The folder that holds the runs."""
    return tmp_path / "runs"


@pytest.fixture
def new_run(runs: Path) -> Iterator[Callable[[], RunWriter]]:
    """Makes runs, and lets go of their locks at the end."""
    made: list[RunWriter] = []

    def make() -> RunWriter:
        made.append(RunWriter.create(runs, "demo", load_station()))
        return made[-1]

    yield make
    for run in made:
        run.close()


@pytest.fixture
def labctl(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: exit code, stdout, stderr."""

    def invoke(*argv: str | Path) -> tuple[int, str, str]:
        code = main([str(word) for word in argv])
        return code, *capsys.readouterr()

    return invoke


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in a folder of the test, and logs, locks and runs go there."""
    monkeypatch.delenv("LABCTL_RUNS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def acme_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installed distribution with the backends of Acme, in a folder that is not yet on the path."""
    folder = tmp_path_factory.mktemp("acme")
    shutil.copy(ACME / "labctl_acme.py", folder)
    installed = folder / "labctl_acme-2.5.dist-info"
    installed.mkdir()
    shutil.copy(ACME / "entry_points.txt", installed)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: labctl-acme\nVersion: 2.5\n")
    return folder


@pytest.fixture
def acme(acme_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Acme's backends are installed, and the current folder is empty; gives that folder."""
    monkeypatch.syspath_prepend(acme_folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABCTL_BENCH", raising=False)
    yield tmp_path
    sys.modules.pop("labctl_acme", None)
