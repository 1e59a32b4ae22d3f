"""``junit.xml`` and ``metrics.prom``: read by parsers that others wrote, for every verdict."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from prometheus_client.parser import text_string_to_metric_families

from labctl.archive import RunWriter, find_run
from labctl.archive.junit import junit
from labctl.archive.prometheus import prometheus
from labctl.clock import played_at
from labctl.errors import Aborted
from labctl.station.loading import load_station
from labctl.summary import ChartState, DeviceEvent, FirstError, Metric, Node, Summary
from labctl.verdicts import COMPLETE, VERDICTS, Verdict

AT = datetime(2026, 11, 23, 2, 0, 3, tzinfo=UTC)
BENCH = 'a "quoted" \\ bench\n2'


def summary_of(verdict: Verdict, exit_code: int | None = None) -> Summary:
    return Summary(
        run_id="20261123T020003Z-nightly-k7f2",
        bench=BENCH,
        mode="mock",
        verdict=verdict,
        exit_code=exit_code,
        started=AT,
        finished=AT.replace(minute=9),
        nodes=[
            Node(name="dark", state="done", check="in_spec", duration_s=0.3),
            Node(name="lut", state="kept", reason="measured in k7f2"),
            Node(name="gain", state="done", check="out_of_spec", reason="gain_chi2 3, limit ≤ 1.5"),
            *([] if verdict in COMPLETE else [Node(name="noise", state="failed", reason="no frame \x00 within 2 s")]),
        ],
        metrics=[
            Metric.judge("nrmse", 0.013, "1", maximum=0.05),
            Metric.judge("gain_chi2", 3.0, "1", maximum=1.5),
            Metric.judge("dark_level", float("nan"), "DN"),
        ],
        drift=[
            ChartState(metric="nrmse", state="in_control", value=0.013, nights=30, z=1.2, limit=3.5),
            ChartState(metric="canary_signal", unit="DN", state="alarm", value=900.0, nights=30, z=-4.2, limit=3.5),
            ChartState(metric="dark_level", unit="DN", state="learning", value=64.0, nights=3),
        ],
        device_events=[DeviceEvent(device="camera", event="reopened")],
        first_error=None if verdict in COMPLETE else FirstError(code="E-XXX-001", message="<that> & this"),
    )


CODES = [(row.verdict, code) for row in VERDICTS for code in (row.exit_codes or (None,))]


@pytest.mark.parametrize(("verdict", "code"), CODES)
def test_junit_of_every_verdict_is_read_by_another_parser(verdict: Verdict, code: int | None) -> None:
    suite = next(iter(JUnitXml.fromstring(junit(summary_of(verdict, code), {"run_id": "k7f2"}).encode())))
    results: dict[tuple[str, str], list[Any]] = {(case.classname, case.name): case.result for case in suite}
    kinds = {name: [type(found) for found in result] for name, result in results.items()}
    assert kinds["node", "dark"] == []
    assert kinds["node", "lut"] == [Skipped]
    assert kinds["node", "gain"] == kinds["metric", "gain_chi2"] == kinds["drift", "canary_signal"] == [Failure]
    assert kinds.get(("node", "noise")) == (None if verdict in COMPLETE else [Error])
    assert kinds["drift", "dark_level"] == [Skipped]
    expected = {Verdict.OK: [], Verdict.OUT_OF_SPEC: [Failure], Verdict.DRIFT: [Failure]}.get(verdict, [Error])
    assert kinds["run", "verdict"] == expected
    assert (suite.tests, suite.failures, suite.errors) == (
        len(results),
        sum(Failure in k for k in kinds.values()),
        sum(Error in k for k in kinds.values()),
    )
    assert "-4.2 of 3.5" in results["drift", "canary_signal"][0].message


@pytest.mark.parametrize(("verdict", "code"), CODES)
def test_metrics_of_every_verdict_are_read_by_another_parser(verdict: Verdict, code: int | None) -> None:
    text = prometheus(summary_of(verdict, code), AT.timestamp(), 5e9)
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {(s.name, s.labels.get("metric")): s.value for s in samples}
    assert {s.labels["bench"] for s in samples} == {BENCH}
    assert found["labctl_run_last_success_timestamp_seconds", None] == AT.timestamp()
    assert found.get(("labctl_run_last_exit_code", None)) == summary_of(verdict, code).exit_code
    assert found["labctl_run_duration_seconds", None] == 540
    assert found["labctl_run_metric_value", "gain_chi2"] == 3
    assert ("labctl_run_metric_value", "dark_level") not in found  # it was no number
    assert found["labctl_run_metric_ewma_z", "canary_signal"] == -4.2
    assert found["labctl_run_device_reconnects_total", None] == 1
    assert found["labctl_disk_free_bytes", None] == 5e9


def test_age_of_the_last_success_survives_a_night_that_failed(small_runs: Any) -> None:
    first = small_runs(Verdict.OK, AT)
    assert small_runs(Verdict.FAULT, AT.replace(day=24)) == pytest.approx(first, abs=60)
    assert small_runs(Verdict.OK, AT.replace(day=25)) - first > 24 * 3600


@pytest.fixture
def small_runs(tmp_path: Path) -> Any:
    """Seals a run of a verdict at a time; returns when its metrics say that the bench last succeeded."""
    station = tmp_path / "station.toml"
    station.write_text('[bench]\nname = "b"\n')

    def seal(verdict: Verdict, at: datetime) -> float:
        with played_at(at), RunWriter.create(tmp_path, "nightly", load_station(station)) as run:
            error = None if verdict in COMPLETE else FirstError.of(Aborted("x"))
            run.finish(verdict, Summary(bench="b", verdict=verdict, started=at, finished=at, first_error=error))
        folder = find_run(tmp_path, run.run_id)
        assert {"junit.xml", "metrics.prom"} <= set(run_files(folder))
        families = text_string_to_metric_families((folder / "metrics.prom").read_text())
        return next(s.value for f in families for s in f.samples if "last_success" in s.name)

    return seal


def run_files(folder: Path) -> list[str]:
    from labctl.archive.seal import read_seal

    seal = read_seal(folder)
    assert seal is not None
    return list(seal.files)
