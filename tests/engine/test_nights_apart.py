"""Nights a day apart: each checks what the next day rests on, and a knock between two of them is found at once."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from changed_bench import PANELS, bench_as

from calibration.frames.products import ProductGroup
from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from labctl.clock import played_at
from labctl.engine.graph import statuses
from labctl.osal import can_supervise
from labctl.station.loading import load_station
from labctl.summary import Summary
from labctl.workload import write_workload
from mock_hardware import BenchConfig

pytestmark = pytest.mark.skipif(not can_supervise(), reason="POSIX only; see labctl.osal.can_supervise")

FIRST = dt.datetime(2026, 12, 1, 2, tzinfo=dt.UTC)
KNOCKED = 1
"""The night before which somebody knocks the bench."""
MOVED_PX = 0.8
NIGHTS = 3
STATION = """
[bench]
name = "apart"
[layout]
rows = 16
columns = 16
[limits]  # of few products
chi2_per_dof_min = 0.6
chi2_per_dof_max = 1.6
coverage95_min = 0.85
coverage95_max = 1.0
[mock]
seed = 1
"""


def few_products(path: Path) -> Path:
    rng = np.random.default_rng(7)
    weight, inputs = rng.standard_normal((12, 8)).astype(np.float32), rng.standard_normal((48, 8)).astype(np.float32)
    positions = np.stack([np.zeros(48, np.int64), np.arange(48)], axis=1)
    scale = float(np.percentile(np.abs(weight), 99))
    group = ProductGroup("few", "linear", 0, weight, inputs, inputs @ weight.T, positions, scale)
    write_workload(path, [group], {"model": "random", "text": "none", "seed": 7})
    return path


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> list[RunReader]:
    """Nights 24 hours from start to start, without the report; before one of them the SLM's image has moved."""
    folder = tmp_path_factory.mktemp("apart")
    (station := folder / "apart.toml").write_text(STATION + PANELS)
    products, runs = few_products(folder / "products.h5"), folder / "runs"

    def moved(config: BenchConfig) -> BenchConfig:
        return replace(config, slm=replace(config.slm, offset_x_px=config.slm.offset_x_px + MOVED_PX))

    def no_report(path: Path, *given: object) -> Path:
        path.write_text("")
        return path

    words = ["nightly", "run", "--bench", str(station), "--runs", str(runs), "--workload", str(products), "--quiet"]
    readers = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("labctl.report.write_report", no_report)
        for number in range(NIGHTS):
            change = moved if number >= KNOCKED else lambda config: config
            with played_at(FIRST + dt.timedelta(days=number)), bench_as(change):
                main(words)
            readers.append(RunReader(find_run(runs, "latest")))
    return readers


def summaries(nights: list[RunReader]) -> list[Summary]:
    found = [reader.summary() for reader in nights]
    assert None not in found
    return [summary for summary in found if summary is not None]


def test_a_knock_between_two_nights_is_found_the_night_it_happens_and_only_then(nights: list[RunReader]) -> None:
    moved = {
        number: str(event["why"])
        for number, reader in enumerate(nights)
        for event in reader.journal()
        if event.get("event") == "check" and event.get("node") == "registration"
    }
    assert list(moved) == [KNOCKED]
    assert moved[KNOCKED].startswith("slm_moved 0.8")
    assert [str(summary.verdict) for summary in summaries(nights)] == ["ok"] * NIGHTS


def test_what_rests_on_the_registration_is_measured_anew_after_a_knock_and_kept_in_other_nights(
    nights: list[RunReader],
) -> None:
    measured = [
        {node.name for node in summary.nodes if node.state == "done"} & {"registration", "lut", "noise", "gain"}
        for summary in summaries(nights)[1:]
    ]
    assert measured == [{"registration", "lut", "noise", "gain"}, set()]


def test_what_was_measured_long_ago_and_kept_since_is_not_forgotten(
    nights: list[RunReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.engine.graph.MAX_RUNS", 1)
    runs = nights[0].path.parents[3]
    with played_at(FIRST + dt.timedelta(days=NIGHTS - 1, hours=1)):
        found = statuses(runs, load_station(runs.parent / "apart.toml"))
    due = {status.name for status in found if status.due}
    assert due == {"validation", "export"}, [status.because for status in found]


def test_a_calibration_of_a_night_holds_until_the_next_one(nights: list[RunReader]) -> None:
    for number, summary in enumerate(summaries(nights)):
        assert summary.calibration is not None
        assert summary.calibration.valid_until is not None
        left = summary.calibration.valid_until - (FIRST + dt.timedelta(days=number + 1))
        assert abs(left) < dt.timedelta(minutes=1)  # it counts from when the run began
