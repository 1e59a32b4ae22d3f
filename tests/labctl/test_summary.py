"""summary.json: the schema that others read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from drivers.errors import DeviceLost
from labctl.engine.ledger import Ledger
from labctl.engine.node_line import line_of
from labctl.errors import RunDamaged
from labctl.resources import data_path
from labctl.summary import (
    CalibrationRef,
    Counts,
    FirstError,
    LightLevel,
    Metric,
    Node,
    Perplexity,
    Simulation,
    Summary,
    Validation,
    failure,
    read_summary,
)
from labctl.verdicts import VERDICTS, Verdict


def schema() -> Any:
    return json.loads(data_path("schemas/summary-1.schema.json").read_text(encoding="utf-8"))


def full_summary() -> Summary:
    at = datetime(2026, 11, 23, 2, 0, 3, tzinfo=UTC)
    return Summary(
        run_id="20261123T020003Z-demo-k7f2",
        bench="mock",
        mode="mock",
        verdict=Verdict.OK,
        started=at,
        finished=at,
        counts=Counts(planned=512, recorded=511, discarded=1),
        nodes=[Node(name="dark", state="done", check="in_spec", duration_s=0.3)],
        metrics=[Metric.judge("nrmse", 0.013, "1", stderr=0.001, maximum=0.05)],
        validation=Validation(
            products=512,
            nrmse=0.013,
            r2=0.99,
            effective_bits=6.2,
            chi2_per_dof=1.01,
            coverage95=0.95,
            bad_frames=[7],
        ),
        calibration=CalibrationRef(id="cal-8f31", path="a.calib.h5", valid_until=at),
        simulation=Simulation(
            model="stories260K",
            text="tinystories",
            tokens=1000,
            perplexity=Perplexity(digital=4.1, int8=4.2, optical=4.5),
            photons_per_mac=10.0,
            levels=[LightLevel(photons_per_mac=1.0, perplexity=9.0)],
        ),
    )


def test_fields_are_those_of_the_design() -> None:
    document = json.loads(full_summary().to_json())
    assert document["schema"] == "labctl.summary/1"
    assert list(document) == [
        *("schema", "run_id", "bench", "mode", "verdict", "exit_code", "started", "finished", "counts", "nodes"),
        *("metrics", "structure", "validation", "bad_frames", "calibration", "simulation", "drift", "budget"),
        *("device_events", "artifacts", "first_error"),
    ]
    assert set(document["metrics"][0]) == {"name", "value", "unit", "stderr", "limit", "verdict", "words"}
    assert set(document["calibration"]) == {"id", "path", "parent", "valid_until", "applied", "why", "compared"}
    assert document["started"] == "2026-11-23T02:00:03Z"


@pytest.mark.parametrize("row", [row for row in VERDICTS if row.exit_codes], ids=lambda row: str(row.verdict))
def test_every_verdict_validates_against_the_shipped_schema(row: Any) -> None:
    for code in row.exit_codes:
        for summary in (Summary(verdict=row.verdict, exit_code=code), full_summary().concluded(row.verdict, code)):
            jsonschema.validate(json.loads(summary.to_json()), schema())


def test_shipped_schema_refuses_unknown_keys() -> None:
    document = json.loads(full_summary().to_json()) | {"verdikt": "ok"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema())


def test_exit_code_follows_from_the_verdict_and_must_fit() -> None:
    assert Summary(verdict=Verdict.OUT_OF_SPEC).exit_code == 10
    assert Summary(verdict=Verdict.ABORTED, exit_code=143).exit_code == 143
    assert Summary(verdict=Verdict.CRASHED).exit_code is None
    with pytest.raises(ValidationError, match="not one of the verdict"):
        Summary(verdict=Verdict.OK, exit_code=10)


@pytest.mark.parametrize(
    ("value", "limits", "verdict"),
    [
        (0.04, {"maximum": 0.05}, "ok"),
        (0.05, {"maximum": 0.05}, "ok"),
        (0.06, {"maximum": 0.05}, "out_of_spec"),
        (0.8, {"minimum": 0.9, "maximum": 1.1}, "out_of_spec"),
        (float("nan"), {"maximum": 0.05}, "out_of_spec"),
        (float("-inf"), {"maximum": 0.05}, "out_of_spec"),
        (3.0, {}, "info"),
    ],
)
def test_metric_is_judged_by_its_limits(value: float, limits: dict[str, float], verdict: str) -> None:
    assert Metric.judge("m", value, **limits).verdict == verdict


def test_numbers_that_are_not_finite_become_null() -> None:
    document = json.loads(Metric.judge("m", float("nan"), stderr=float("inf"), maximum=1.0).model_dump_json())
    assert (document["value"], document["stderr"]) == (None, None)


def test_failure_keeps_what_was_reached_and_the_first_error() -> None:
    error = DeviceLost("the camera is gone", device="camera", hint="check the cable")
    summary = failure(error, 20, full_summary())
    assert (summary.verdict, summary.exit_code) == (Verdict.FAULT, 20)
    assert summary.counts.recorded == 511
    assert summary.first_error == FirstError(
        code="E-DEV-005", message="the camera is gone", device="camera", hint="check the cable"
    )
    assert failure(ValueError("later"), 1, summary).first_error == summary.first_error
    assert failure(ZeroDivisionError("x"), 1).first_error == FirstError(
        code="E-LAB-001", message="ZeroDivisionError: x"
    )


def test_summary_round_trips_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text(full_summary().to_json(), encoding="utf-8")
    assert read_summary(path) == full_summary()
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    with pytest.raises(RunDamaged):
        read_summary(path)


@pytest.mark.parametrize("verdict", [Verdict.OK, Verdict.DRIFT, Verdict.OUT_OF_SPEC])
def test_no_verdict_on_the_bench_stands_beside_a_node_that_failed(verdict: Verdict) -> None:
    failed = Node(name="gain", state="failed", reason="no frame within 2 s")
    with pytest.raises(ValidationError, match="gain failed"):
        Summary(verdict=verdict, nodes=[failed])
    with pytest.raises(ValidationError, match="gain failed"):
        Summary(verdict=Verdict.FAULT, nodes=[failed]).concluded(verdict)
    ledger = Ledger()
    with pytest.raises(OSError, match="gone"), ledger.node("gain"):
        raise OSError("gone")
    with pytest.raises(RuntimeError, match="gain failed"):
        ledger.verdict()


def test_a_node_without_limits_is_in_no_spec_and_says_so_on_a_terminal_by_its_mark_alone() -> None:
    ledger = Ledger()
    for name, maximum in (("dark", None), ("gain", 2.0), ("lut", 0.5)):
        with ledger.node(name) as metrics:
            metrics.append(Metric.judge(name, 1.0, maximum=maximum))
    ledger.check("noise", "as before", [Metric.judge("noise", 1.0)])
    assert [node.check for node in ledger.done] == [None, "in_spec", "out_of_spec", None]
    assert [line_of(node).split()[0] for node in ledger.done] == ["✓", "✓", "✗", "✓"]
    assert ledger.verdict() is Verdict.OUT_OF_SPEC


@pytest.mark.parametrize("verdict", [Verdict.OK, Verdict.DRIFT])
def test_in_spec_does_not_follow_an_error(verdict: Verdict) -> None:
    with pytest.raises(ValidationError, match="E-DEV-005"):
        Summary(verdict=verdict, first_error=FirstError(code="E-DEV-005", message="gone"))


def test_figure_has_its_error_and_unit_and_is_nought_far_below_its_error() -> None:
    assert Metric(name="hot_pixels", value=0.0, unit="1").figure == "0"
    assert Metric(name="system_gain", value=4.0541, unit="DN/e-", stderr=0.14).figure == "4.054 ± 0.14 DN/e-"
    assert Metric(name="slm_rise_latency", value=2.611e-22, unit="s", stderr=1e-5).figure == "0 ± 1e-05 s"
    assert Metric(name="nrmse", value=None).figure == "not a number"


@pytest.mark.parametrize(
    ("value", "stderr", "said"),
    [
        (15_010.4, 13.2, "15010 ± 13 DN"),
        (12_374.0, 171.0, "12370 ± 170 DN"),
        (4.0541, 0.141, "4.054 ± 0.14 DN"),
        (1.743e-5, 1.4e-5, "1.743e-05 ± 1.4e-05 DN"),
        (2.5e7, 3.2e5, "2.5e+07 ± 3.2e+05 DN"),
    ],
)
def test_a_figure_has_no_power_of_ten_where_it_can_be_written_out(value, stderr, said):
    assert Metric.judge("gain_mean", value, "DN", stderr=stderr).figure == said
