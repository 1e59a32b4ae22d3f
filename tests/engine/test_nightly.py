"""A night: what it does and keeps, how charts end it, and that somebody hears of it however it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import LIMIT_S, wait_for

from labctl.__main__ import main
from labctl.archive import RunReader, RunWriter, find_run, list_runs
from labctl.bench.lock import hold_bench
from labctl.console import Console
from labctl.engine.session import Session
from labctl.lab import Lab
from labctl.night.ending import Ended, end_of_night, summary_of
from labctl.night.history import night_status
from labctl.night.owed import NightBench
from labctl.osal import can_supervise
from labctl.station.loading import load_station
from labctl.studies.held_out import held_out_products
from labctl.summary import ChartState, Metric, Summary
from labctl.verdicts import VERDICTS, Verdict, verdict_of

pytestmark = pytest.mark.skipif(not can_supervise(), reason="POSIX only; see labctl.osal.can_supervise")


def night(small: Path, runs: Path, *words: str) -> int:
    return main(["nightly", "run", "--bench", str(small), "--runs", str(runs), "--quiet", *words])


@pytest.fixture(scope="module")
def nights(small_file: Path, products, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive after two nights."""
    runs = tmp_path_factory.mktemp("nights") / "runs"
    for _ in range(2):
        assert night(small_file, runs, "--workload", str(products[0])) == 0
    return runs


def test_second_night_checks_the_calibration_and_shows_canaries_and_products_anew(nights: Path) -> None:
    second, first = (RunReader(row.path) for row in list_runs(nights))
    assert {second.info["purpose"], first.info["purpose"]} == {"nightly"}
    ways = {node.name: node.state for node in second.summary().nodes}
    moments = [name for name in ways if name.startswith("canary")]
    assert moments == ["canary_start", "canary_middle", "canary_end"]
    assert {ways[name] for name in (*moments, "validation", "export")} == {"done"}
    assert {ways[name] for name in ("timing", "lut", "crosstalk")} == {"kept"}
    assert {ways[name] for name in ("dark", "registration", "noise", "gain")} == {"checked"}  # too old by tomorrow
    assert second.verify().intact


def test_night_says_where_the_charts_stand(nights: Path) -> None:
    second, first = (RunReader(row.path).summary() for row in list_runs(nights))
    stand = {chart.metric: (chart.state, chart.nights) for chart in second.drift}
    assert stand["canary_signal"] == ("learning", 2)
    assert stand["nrmse"] == ("learning", 2)
    assert {chart.metric: chart.nights for chart in first.drift}["canary_signal"] == 1


def test_damaged_decisions_cost_a_night_its_charts_alone_and_are_named_before_the_bench_opens(
    nights: Path, small_file: Path, products, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(nights, runs)
    (journal := runs / "drift" / f"{load_station(small_file).bench}.jsonl").parent.mkdir(exist_ok=True)
    journal.write_text("[1]\n")
    before = len(list_runs(runs))
    assert night(small_file, runs, "--workload", str(products[0]), "--strict") == 22
    assert "no device was opened" in capsys.readouterr().err
    assert len(list_runs(runs)) == before
    assert night(small_file, runs, "--workload", str(products[0])) == 0
    summary = RunReader(list_runs(runs)[0].path).summary()
    assert (str(summary.verdict), summary.drift) == ("ok", [])
    assert {node.name: node.state for node in summary.nodes}["drift"] == "skipped"
    assert summary.validation is not None
    err = capsys.readouterr().err
    assert err.index("this night has no control charts") < err.index("no control chart was computed")


def test_status_tells_the_last_nights_and_the_last_good_one(
    nights: Path, small_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["nightly", "status", "--bench", str(small_file), "--runs", str(nights)]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["run_id"] for row in document["nights"]] == [row.run_id for row in list_runs(nights)]
    assert document["last_good"] == list_runs(nights)[0].run_id
    assert 0 <= document["good_age_h"] < 1
    assert document["nights"][0]["worst"]
    assert main(words) == 0
    assert "last good night" in capsys.readouterr().out


def test_night_without_the_time_is_partial_and_goes_on_as_a_night(
    nights: Path, small_file: Path, products, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = shutil.copytree(nights, tmp_path / "runs")
    assert night(small_file, runs, "--workload", str(products[0]), "--budget", "5s", "--strict") == 30
    partial = RunReader(find_run(runs, "latest"))
    assert partial.status == "partial"
    assert not partial.summary().drift
    assert partial.summary().budget.given_s == 5
    state = runs / "nights" / "small.json"
    assert json.loads(state.read_text())["nights"] == 2
    assert main(["run", "resume", partial.run_id, "--runs", str(runs), "--quiet"]) == 0
    assert json.loads(state.read_text())["nights"] == 3  # it has its ending, too
    done = RunReader(partial.path)
    assert done.status == "ok"
    assert {chart.metric: chart.nights for chart in done.summary().drift}["canary_signal"] == 3


ALARM = ChartState(metric="nrmse", state="alarm", value=0.02, z=4.2, limit=3.5)


@pytest.mark.parametrize(
    ("strict", "chart", "error", "verdict"),
    [
        (True, ALARM, 0.01, Verdict.DRIFT),
        (False, ALARM, 0.01, Verdict.OK),
        (True, ALARM.model_copy(update={"state": "acknowledged"}), 0.01, Verdict.OK),
        (True, ALARM, 0.03, Verdict.OUT_OF_SPEC),
    ],
)
def test_chart_that_fires_is_drift_only_where_asked_for_and_nothing_worse_happened(
    strict: bool, chart: ChartState, error: float, verdict: Verdict, small_file: Path, tmp_path: Path
) -> None:
    loaded = load_station(small_file)
    with RunWriter.create(tmp_path, "nightly", loaded) as run:
        session = Session(Lab(Console(quiet=True)), loaded, run, tmp_path)
        with session.ledger.node("validation") as metrics:
            metrics.append(Metric.judge("nrmse", error, maximum=0.02))
        session.add(drift=[chart])
        summary = session.conclude(strict=strict)
    assert summary.verdict is verdict
    assert RunReader(run.path).status == verdict
    assert summary.exit_code == {Verdict.DRIFT: 11, Verdict.OK: 0, Verdict.OUT_OF_SPEC: 10}[verdict]


def test_busy_bench_ends_the_night_before_anything_is_sampled_or_run(
    small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with hold_bench("small", "labctl calibrate"):
        assert night(small_file, tmp_path / "runs", "--json") == 75
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["bench"]) == ("busy", "small")
    assert not [p for p in (tmp_path / "runs").rglob("*") if p.suffix == ".h5" or p.name == "run.json"]


def test_night_is_refused_where_nobody_can_watch_it(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("labctl.osal.can_supervise", lambda: False)
    assert night(small_file, tmp_path / "runs") == 2
    assert (
        f"labctl measure WORKLOAD --bench {small_file} --runs {tmp_path / 'runs'} --maintain" in capsys.readouterr().err
    )


def test_shipped_products_are_sampled_once_and_are_the_same_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.studies.held_out.PER_STRATUM", 2)
    here = held_out_products(tmp_path / "a", "small")
    written = here.stat().st_mtime_ns
    assert held_out_products(tmp_path / "a", "small").stat().st_mtime_ns == written
    assert held_out_products(tmp_path / "b", "small").read_bytes() == here.read_bytes()
    monkeypatch.setattr("labctl.studies.held_out.SEED", 1)
    assert held_out_products(tmp_path / "a", "small") != here


@pytest.mark.parametrize("code", [code for row in VERDICTS for code in row.exit_codes] + [99])
def test_every_end_has_a_summary_even_without_a_run(code: int) -> None:
    summary = summary_of(code, None, None, "small")
    assert summary.verdict is verdict_of(code)
    assert summary.bench == "small"


def test_night_that_nobody_could_seal_counts_as_crashed(small_file: Path, tmp_path: Path) -> None:
    loaded = load_station(small_file)
    with RunWriter.create(tmp_path, "nightly", loaded) as run:
        pass
    summary = summary_of(20, run.path, None, "small")
    assert (summary.verdict, summary.run_id) == (Verdict.CRASHED, run.run_id)


def test_step_that_fails_or_hangs_is_told_and_the_others_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.night.ending.STEP_S", 2.0)
    goes_on = threading.Event()
    done: list[str] = []
    warned: list[str] = []

    def fails(night: Ended) -> None:
        raise ValueError("no such thing")

    steps = {"hang": lambda night: goes_on.wait(LIMIT_S), "fail": fails, "last": lambda night: done.append("last")}
    ended = Ended(tmp_path / "runs", NightBench("small"), Summary(verdict=Verdict.OK))
    end_of_night(ended, warned.append, steps)
    goes_on.set()
    assert done == ["last"]
    assert len(warned) == 2
    lines = [json.loads(line) for line in (tmp_path / "runs" / "night.jsonl").read_text().splitlines()]
    assert [(line["step"], line["failed"]) for line in lines] == [
        ("hang", "took longer than 2 s"),
        ("fail", "ValueError: no such thing"),
    ]


def test_metrics_of_a_night_are_handed_over_and_stay_where_the_next_has_none(small_file: Path, tmp_path: Path) -> None:
    (collector := tmp_path / "collector").mkdir()
    loaded = load_station(small_file, [f'nightly.metrics_folder="{collector}"'])
    runs, warned = tmp_path / "runs", list[str]()
    with RunWriter.create(runs, "nightly", loaded) as run:
        (run.path / "metrics.prom").write_text("labctl_run_last_exit_code 0\n")
    good, bench = summary_of(0, run.path, None, "small"), NightBench.of(loaded)
    end_of_night(Ended(runs, bench, good), warned.append)
    handed = collector / "labctl-small.prom"
    assert handed.read_text() == "labctl_run_last_exit_code 0\n"
    end_of_night(Ended(runs, bench, summary_of(75, None, None, "small")), warned.append)
    assert handed.exists()
    assert warned == []
    handed.unlink()
    collector.rmdir()
    end_of_night(Ended(runs, bench, good), warned.append)
    assert "metrics" in warned[0]
    assert json.loads((runs / "night.jsonl").read_text())["run"] == run.run_id


@pytest.fixture
def started(small_file: Path, products, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A night in processes of its own, on a bench that hangs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "labctl", "nightly", "run", "--bench", str(small_file), "--runs", str(tmp_path),
         "--workload", str(products[0]), "--json", "--set", 'mock.faults=["hang@500"]',
         "--set", f'nightly.metrics_folder="{tmp_path}"'],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    yield process
    process.kill()
    process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_night_whose_worker_is_killed_has_its_ending(started: subprocess.Popen[str], tmp_path: Path) -> None:
    wait_for(lambda: started.poll() is not None or len(list(tmp_path.rglob("segments/*.h5"))) >= 4)
    (find_run(tmp_path, "latest") / "metrics.prom").write_text("labctl_run_last_exit_code 20\n")
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    (worker,) = [one for one in children if b"guardian" not in Path(f"/proc/{one}/cmdline").read_bytes()]
    os.kill(int(worker), signal.SIGKILL)
    out, err = started.communicate(timeout=LIMIT_S)
    assert started.returncode == 20, err
    assert json.loads(out)["verdict"] == "fault"
    assert RunReader(find_run(tmp_path, "latest")).status == "fault"
    assert (tmp_path / "labctl-small.prom").is_file(), err
    assert night_status(tmp_path, "small", 5).nights[0].error.startswith("E-STL-001")
