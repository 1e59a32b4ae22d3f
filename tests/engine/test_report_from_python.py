"""The report of a run, made again from Python as the front door's docstring says; its figures are not drawn."""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path

import pytest

import labctl


@pytest.fixture(scope="module")
def calibrated(calibrated_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive of one run without products."""
    folder = tmp_path_factory.mktemp("front")
    shutil.copytree(calibrated_once, folder / "runs")
    return folder


def test_the_example_works_and_the_page_is_whole(calibrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(calibrated)
    run = labctl.open_run()
    (run.path / "report.html").unlink(missing_ok=True)
    [example] = [test for test in doctest.DocTestFinder().find(labctl.report_run, "report_run") if test.examples]
    failed, tried = doctest.DocTestRunner().run(example)
    assert tried
    assert not failed
    assert run.run_id in (run.path / "report.html").read_text(encoding="utf-8")


def test_the_page_goes_where_it_is_asked_for_and_the_run_stays_as_it_was(calibrated: Path, tmp_path: Path) -> None:
    run = labctl.open_run("latest", calibrated / "runs")
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    assert labctl.report_run(run, tmp_path / "page.html") == tmp_path / "page.html"
    assert (tmp_path / "page.html").stat().st_size > 10_000
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before
