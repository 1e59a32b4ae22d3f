"""Two runs side by side: figures in standard errors, and what differs about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from kept import unpacked

from labctl.archive import RunReader, RunWriter
from labctl.engine.compare import compare
from labctl.station.loading import load_station
from labctl.summary import Metric, Node, Summary
from labctl.verdicts import Verdict


@pytest.fixture(autouse=True)
def _archive(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_RUNS", str(runs))


def measured(runs: Path, level: float, verdict: Verdict, *overrides: str) -> RunReader:
    with RunWriter.create(runs, "demo", load_station(None, overrides)) as run:
        metrics = [Metric(name="level", value=level, unit="DN", stderr=0.3), Metric(name="frames", value=level)]
        node = Node(name="dark", state="done" if verdict is Verdict.OK else "failed")
        run.finish(verdict, Summary(run_id=run.run_id, verdict=verdict, metrics=metrics, nodes=[node]))
        return RunReader(run.path)


def test_differences_are_in_standard_errors_of_both(runs: Path, labctl: Callable[..., tuple[int, str, str]]) -> None:
    a = measured(runs, 100.0, Verdict.OK)
    b = measured(runs, 101.0, Verdict.PARTIAL, "acquisition.segment_frames=32")
    code, out, _ = labctl("run", "compare", a.run_id, b.run_id, "--json")
    assert code == 0
    found = json.loads(out)
    figures = {figure["name"]: figure for figure in found["figures"]}
    assert figures["level"]["z"] == pytest.approx(1 / (0.3 * 2**0.5))
    assert figures["frames"]["z"] is None
    assert found["nodes"] == [{"name": "dark", "a": "done", "b": "failed"}]
    assert {"name": "acquisition.segment_frames", "a": 64, "b": 32} in found["station"]
    assert found["code"] == []
    text = labctl("run", "compare", a.run_id, b.run_id)[1]
    assert "acquisition.segment_frames: 64 → 32" in text
    assert "code: the same" in text


def test_run_of_version_0_1_0_is_compared_with_one_that_died(runs: Path, tmp_path: Path) -> None:
    unpacked(tmp_path / "kept")
    kept = RunReader(next((tmp_path / "kept").rglob("run.json")).parent)
    with RunWriter.create(runs, "demo", load_station()) as run:
        run.journal("node", name="dark", state="done")
    found = compare(kept, RunReader(run.path), runs)
    assert found.status.b == "crashed"
    assert found.figures
    assert all(figure.b is None and figure.z is None for figure in found.figures)
    assert found.code
    assert found.changed is None
    assert found.why_not == "not both exported a calibration"
