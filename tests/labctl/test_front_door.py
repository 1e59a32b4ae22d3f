"""``import labctl`` and ``import simulation``: cheap, complete, typed, and as their docstrings say."""

from __future__ import annotations

import doctest
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from cal_bench import bench
from processes import LIMIT_S

import labctl
import simulation
from calibration.frames.products import ProductGroup
from calibration.machine.artefact import Calibration, Domain, save
from calibration.machine.findings import Findings
from calibration.response.artefact import save_response
from labctl.archive import RunWriter
from labctl.archive.reader import RunReader
from labctl.resources import shipped_family
from labctl.station.loading import load_station
from labctl.studies.adapt import Adaptation, Score
from labctl.verdicts import Verdict
from labctl.workload import write_workload

ROOT = Path(__file__).parents[2]
FRONTS = [labctl, simulation]
NEEDS_A_BENCH_RUN = {"calibrate", "demo", "measure", "report_run"}
"""Their examples are checked where a bench or a whole run is at hand: tests/engine, and the notebook."""
NEEDS_AN_EXTRA = {"as_aihwkit", "as_bluesky", "as_micromanager", "as_slmsuite", "to_xarray"}
"""Their examples are checked where these packages are at hand, in tests/endpoints."""


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=LIMIT_S)
    return done.stdout.strip()


@pytest.mark.parametrize("front", FRONTS, ids=lambda front: front.__name__)
def test_every_name_resolves_to_what_its_home_calls_by_that_name(front) -> None:
    assert set(front.__all__) <= set(dir(front))
    for name in front.__all__:
        value = getattr(front, name)
        assert value.__name__ == name
        assert value is getattr(import_module(value.__module__), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'labctl' has no attribute 'opticalise'"):
        _ = labctl.opticalise
    with pytest.raises(ImportError):
        exec("from labctl import opticalise", {})


@pytest.mark.parametrize("front", FRONTS, ids=lambda front: front.__name__)
def test_importing_a_front_imports_nothing_heavy(front) -> None:
    heavy = ("numpy", "torch", "pydantic", "typer", "rich", "h5py", "numba", "calibration")
    assert python(f"import sys, {front.__name__}; print([m for m in {heavy} if m in sys.modules])") == "[]"


@pytest.mark.parametrize(
    ("arguments", "most_s"),
    [(["-c", "import labctl"], 0.1), (["-m", "labctl", "--help"], 0.3)],
    ids=["import labctl", "labctl --help"],
)
def test_the_front_opens_at_once(arguments: list[str], most_s: float) -> None:
    """Processor time beyond that of an empty program, best of five: the machine may be busy with something else."""
    spent = min(processor_s(arguments) for _ in range(5)) - min(processor_s(["-c", ""]) for _ in range(5))
    assert spent < most_s


def processor_s(arguments: list[str]) -> float:
    before = os.times()
    subprocess.run([sys.executable, *arguments], check=True, timeout=LIMIT_S, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_names_that_need_no_torch_do_not_import_it() -> None:
    used = "labctl.load_calibration, labctl.open_run, labctl.fit, labctl.predict, labctl.Station, labctl.Workload"
    assert python(f"import sys, labctl; {used}; print([m for m in ('torch', 'cv2') if m in sys.modules])") == "[]"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the examples name."""
    folder = tmp_path_factory.mktemp("desk")
    machine, domain = bench((24, 20)).machine(), Domain(0.01, 24, 20, 0.5, 525.0)
    full, _ = save(Calibration(machine, domain, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", Findings(), {}), folder)
    full.rename(folder / "bench.calib.h5")
    rng = np.random.default_rng(1)
    inputs, weights = rng.random((400, 12)), rng.random((4, 12))
    found = labctl.fit(inputs, weights, 50 + 100 * inputs @ weights.T + rng.normal(0, 2, (400, 4)))
    full, _ = save_response(found.response, folder)
    full.rename(folder / "response.calib.h5")
    weight, vectors = (rng.standard_normal(shape).astype(np.float32) for shape in ((24, 20), (6, 20)))
    positions = np.stack([np.zeros(6, np.int64), np.arange(6)], axis=1)
    group = ProductGroup("ffn", "linear", 0, weight, vectors, vectors @ weight.T, positions, 2.5)
    write_workload(folder / "products.h5", [group], {"model": "my-model", "text": "my-text", "seed": 1})
    with RunWriter.create(folder / "runs", "measure", load_station()) as run:
        run.finish(Verdict.OK)
    return folder


def test_looking_at_what_lies_there_imports_nothing_that_computes(desk: Path) -> None:
    words = (["run", "show", "latest"], ["run", "list"], ["run", "verify", "latest"], ["calib", "list"])
    look = "; ".join(f"main([*{w}, '--runs', {str(desk / 'runs')!r}])" for w in words)
    heavy = ("numpy", "scipy", "h5py", "torch", "numba", "matplotlib", "calibration.machine", "labctl.foreign")
    shown = python(
        f"import sys; from labctl.__main__ import main; {look}; print([m for m in {heavy} if m in sys.modules])"
    )
    assert shown.splitlines()[-1] == "[]"


@pytest.mark.slow  # and a step of .ci/run
def test_a_type_checker_sees_every_name() -> None:
    pytest.importorskip("mypy", reason="needs the extra 'dev'")
    command = [sys.executable, "-m", "mypy", "tests/typing/front_door.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout


def examples() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder(recurse=False)
    yield from finder.find(labctl, "labctl")
    for name in labctl.__all__:
        found = [test for test in finder.find(getattr(labctl, name), name) if test.examples]
        assert found, f"labctl.{name} has no example"
        yield from (test for test in found if name not in NEEDS_A_BENCH_RUN | NEEDS_AN_EXTRA)


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.name)
def test_the_examples_in_the_docstrings_work(
    example: doctest.DocTest, desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(desk)
    example.globs = {}
    failed, tried = doctest.DocTestRunner().run(example)
    assert tried
    assert not failed, capsys.readouterr().out


def test_both_kinds_of_calibration_are_opened_by_what_they_are(desk: Path) -> None:
    assert labctl.load_calibration(desk / "bench.calib.h5").machine.channel.shape == (24, 20)
    assert labctl.load_calibration(str(desk / "response.calib.h5")).n_outputs == 4
    (desk / "broken.calib.h5").write_bytes(b"no HDF5")
    with pytest.raises(Exception, match="cannot be read as a calibration") as caught:
        labctl.load_calibration(desk / "broken.calib.h5")
    assert caught.value.code == "E-CAL-006"


def test_what_the_front_door_gives_prints_a_line_and_shows_a_table_in_a_notebook(desk: Path) -> None:
    response = labctl.load_calibration(desk / "response.calib.h5")
    language = labctl.load_language(next(path for path in shipped_family() if path.stem.endswith("d32")))
    ids = language.encode("The value of the expression is the value of its last operand. " * 8)
    scores = (Score("digital", 12.5, 0.1, 1.0, None), Score("in light, after", 13.0, None, 1.04, 0.01))
    adapted = Adaptation("my-model", "paper", None, "adapted", (), 10, 20, scores, [], {}, 1, 2, 3.0)
    rng = np.random.default_rng(2)
    inputs, weights = rng.random((200, 12)), rng.random((4, 12))
    found = labctl.fit(inputs, weights, 50 + 100 * inputs @ weights.T + rng.normal(0, 2, (200, 4)), unit="DN")
    predicted = labctl.predict(found.response, 5 * inputs, 50 + 500 * inputs @ weights.T)
    shown = [
        (labctl.load_calibration(desk / "bench.calib.h5"), "calibration cal-", "24 × 20", "10 ms"),
        (response, "response res-", "4 outputs, 12 inputs", "crosstalk none"),
        (found, "fit of res-", "applied: ", "200 used, 0 left out"),
        (predicted, "prediction", "200 rows, 200 beyond what the fit has seen", "% of the range"),
        (labctl.open_run("latest", desk / "runs"), "run 20", "measure: ok", "(mock)"),
        (labctl.load_station(overrides=["layout.rows=64"]), "station ", "mock, 64 × ", "64  (--set)"),
        (labctl.read_workload(desk / "products.h5"), "workload", "6 products of my-model", "24 × 20, 6 inputs"),
        (language, "language model ", "parameters", "windows of 128"),
        (labctl.perplexity(language.model, ids, context=64), "perplexity", f"on {len(ids) - 1} tokens", "±"),
        (adapted, "adaptation", "my-model to paper", "perplexity 12.50 ± 0.10, 1 × digital"),
    ]
    for thing, title, words, row in shown:
        line, table = repr(thing), thing._repr_html_()
        assert line.startswith(f"<{title}"), line
        assert words in line
        assert len(line) < 300
        assert "\n" not in line
        assert title in table
        assert row in table
        assert len(table) < 10_000


def test_a_run_that_is_damaged_still_shows_what_it_is(desk: Path, tmp_path: Path) -> None:
    folder = tmp_path / labctl.open_run("latest", desk / "runs").path.name
    shutil.copytree(labctl.open_run("latest", desk / "runs").path, folder)
    (folder / "summary.json").write_text("{")
    shown = RunReader(folder)._repr_html_() or ""
    assert folder.name in shown
    assert "E-RUN-" in shown
