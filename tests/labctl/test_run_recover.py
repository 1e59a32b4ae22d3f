"""Runs that died are sealed as crashed, whole as far as they got; one that lives is left alone."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labctl.archive import RunReader, RunWriter, list_runs, read_seal, recovery, verify_run
from labctl.archive.calibrations import CalibrationStore
from labctl.archive.recovery import recover, settle_crashed
from labctl.clock import played_at, utc_now
from labctl.engine.gate import settle_decisions
from labctl.errors import LabError, RunDamaged
from labctl.station.loading import load_station
from labctl.summary import Summary
from labctl.verdicts import Verdict

NewRun = Callable[[], RunWriter]
Invoke = Callable[..., tuple[int, str, str]]
READINGS = {"signal_dn": np.arange(24, dtype=np.uint16).reshape(6, 4)}


@pytest.fixture(autouse=True)
def _archive(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_RUNS", str(runs))


def dead(run: RunWriter, blocks: int = 2) -> Path:
    """A run whose process went while it wrote."""
    for _ in range(blocks):
        run.write_segment("dark", READINGS)
    run.journal("node", name="dark", state="done", check="in_spec", duration_s=1.0)
    run.update(job={"purpose": "demo"})
    run.close()
    with (run.path / "journal.jsonl").open("a") as file:
        file.write('{"at": "2026-')
    with (run.path / "segments" / "manifest.jsonl").open("a") as file:
        file.write('{"file": "00')
    (run.path / "segments" / f"{blocks:06d}.h5").write_bytes(b"renamed and not listed")
    return run.path


def test_dead_run_is_sealed_with_all_that_it_had_journalled(new_run: NewRun, labctl: Invoke) -> None:
    folder = dead(new_run())
    code, out, _ = labctl("run", "recover", folder.name[-4:])
    assert code == 0
    assert "2 blocks journalled, 2 recovered" in out
    assert f"labctl run resume {folder.name[-4:]}" in out
    reader = RunReader(folder)
    assert reader.seal is not None
    assert (reader.seal.verdict, reader.seal.exit_code) == (Verdict.CRASHED, None)
    summary = reader.summary()
    assert summary is not None
    assert (summary.verdict, summary.exit_code) == ("crashed", None)
    assert [(node.name, node.state) for node in summary.nodes] == [("dark", "done")]
    assert reader.info["status"] == "crashed"
    assert reader.verify().intact
    assert not (folder / "segments" / "000002.h5").exists()


def begin(runs: Path, workload: Path, begun: Callable[[Path], None]) -> RunWriter:
    return RunWriter.create(runs, "demo", load_station(), brought={"workload.h5": workload}, begun=begun)


def test_run_that_is_one_has_all_that_it_needs_to_go_on(runs: Path, tmp_path: Path) -> None:
    workload, seen = tmp_path / "products.h5", []
    workload.write_bytes(b"products")
    with begin(runs, workload, lambda folder: seen.extend(path.name for path in folder.iterdir())):
        assert {"run.json", "workload.h5", "config.toml", "config.origin.json", "code.json"} <= set(seen)


def test_run_whose_workload_cannot_be_copied_is_none(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="No such file"):
        begin(runs, tmp_path / "missing.h5", lambda folder: pytest.fail("there is no run"))
    assert not list(runs.glob("*/*/*/*"))


def test_folder_of_a_run_that_never_began_is_removed(runs: Path, new_run: NewRun) -> None:
    living, dead_ = new_run(), new_run()
    dead_.close()
    for run in (living, dead_):
        for name in ("run.json", "journal.jsonl"):
            (run.path / name).unlink()
        shutil.rmtree(run.path / "segments")
    young = dead_.path
    settle_crashed(runs, "demo")
    assert young.exists()  # it may just begin
    with played_at(utc_now() + dt.timedelta(seconds=120)):
        settle_crashed(runs, "demo")
    assert not young.exists()
    assert living.path.exists()


def test_measured_data_whose_run_json_is_lost_stay(runs: Path, new_run: NewRun) -> None:
    folder = dead(new_run())
    (folder / "run.json").unlink()
    with played_at(utc_now() + dt.timedelta(days=1)):
        settle_crashed(runs, "demo")
    assert len(list((folder / "segments").glob("*.h5"))) == 3


@pytest.mark.parametrize("lines", [0, 1])
def test_segment_that_was_journalled_and_is_listed_no_more_is_not_removed(new_run: NewRun, lines: int) -> None:
    folder = dead(new_run())
    manifest = folder / "segments" / "manifest.jsonl"
    manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:lines]))
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(RunDamaged, match="lacks some that the journal calls sealed"):
        recover(folder)
    with pytest.raises(RunDamaged, match="lacks some that the journal calls sealed"):
        RunWriter.resume(folder)
    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_run_that_names_no_bench_is_refused_in_words(new_run: NewRun, labctl: Invoke) -> None:
    folder = dead(new_run())
    (folder / "run.json").write_text("{}")
    code, _, err = labctl("run", "recover", str(folder))
    assert code == 22
    assert "E-RUN-002" in err


def test_recovering_again_changes_nothing(new_run: NewRun, labctl: Invoke) -> None:
    folder = dead(new_run())
    recover(folder)
    before = read_seal(folder)
    code, out, _ = labctl("run", "recover", "latest")
    assert code == 0
    assert "sealed already, as crashed" in out
    assert read_seal(folder) == before


def test_recovered_run_can_go_on(new_run: NewRun) -> None:
    folder = dead(new_run())
    recover(folder)
    with RunWriter.resume(folder) as run:
        assert len(run.segments.rows) == 2
        run.write_segment("dark", READINGS)
        run.finish(Verdict.OK)
    assert RunReader(folder).verify().intact


def test_run_that_is_being_written_is_left_alone(new_run: NewRun, labctl: Invoke) -> None:
    run = new_run()
    run.write_segment("dark", READINGS)
    code, _, err = labctl("run", "recover", "latest")
    assert code == 75
    assert "E-RUN-003" in err
    assert settle_crashed(run.path.parents[3], list_runs(run.path.parents[3])[0].bench) == []
    assert RunReader(run.path).status == "running"


def test_damaged_run_is_not_sealed(new_run: NewRun, runs: Path) -> None:
    folder = dead(new_run())
    (folder / "segments" / "000001.h5").write_bytes(b"other bytes")
    with pytest.raises(RunDamaged):
        recover(folder)
    assert read_seal(folder) is None
    bench = RunReader(folder).info["bench"]
    assert settle_crashed(runs, bench) == []


def test_damaged_run_is_hashed_once_and_again_when_a_file_has_changed(
    new_run: NewRun, runs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = dead(new_run())
    segment = folder / "segments" / "000001.h5"
    whole = segment.read_bytes()
    segment.write_bytes(b"other bytes")
    bench, hashed = RunReader(folder).info["bench"], []
    monkeypatch.setattr(recovery, "verify_run", lambda path: hashed.append(path) or verify_run(path))
    for looks in range(1, 4):
        assert settle_crashed(runs, bench) == []
        assert (len(hashed), caplog.text.count("cannot be sealed")) == (1, looks)
    segment.write_bytes(whole)
    assert [one.run_id for one in settle_crashed(runs, bench)] == [folder.name]
    assert json.loads((runs / recovery.DAMAGED).read_text()) == {}


def test_old_run_with_a_damaged_summary_is_named_and_stops_no_new_one(
    new_run: NewRun, runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = new_run()
    run.finish(Verdict.OK, Summary(run_id=run.run_id, verdict=Verdict.OK))
    (run.path / "summary.json").write_text("{")
    settle_decisions(CalibrationStore(runs), runs, RunReader(run.path).info["bench"])
    assert f"{run.run_id} is damaged" in caplog.text


def test_run_whose_journal_makes_no_sense_is_left_as_it_is(new_run: NewRun, runs: Path) -> None:
    run = new_run()
    run.journal("node", state="done")
    run.close()
    before = (run.path / "journal.jsonl").read_bytes()
    with pytest.raises(RunDamaged, match="no summary"):
        recover(run.path)
    assert settle_crashed(runs, RunReader(run.path).info["bench"]) == []
    assert (run.path / "journal.jsonl").read_bytes() == before


def test_next_command_on_the_bench_seals_its_dead_runs_and_no_others(new_run: NewRun, runs: Path) -> None:
    here, there = dead(new_run()), new_run()
    there.update(bench="another")
    there.close()
    bench = RunReader(here).info["bench"]
    assert [one.run_id for one in settle_crashed(runs, bench)] == [here.name]
    assert read_seal(there.path) is None
    assert settle_crashed(runs, bench) == []


def test_all_dead_runs_are_recovered_and_verified(new_run: NewRun, labctl: Invoke) -> None:
    folders = [dead(new_run()) for _ in range(2)]
    code, out, _ = labctl("run", "recover", "--all", "--json")
    assert code == 0
    assert {row["run_id"] for row in json.loads(out)["runs"]} == {folder.name for folder in folders}
    assert labctl("run", "verify", "--all")[0] == 0
    (folders[0] / "summary.json").write_text("{}")
    code, out, err = labctl("run", "verify", "--all")
    assert code == 22
    assert f"{folders[0].name}: summary.json is altered" in err
    assert f"{folders[1].name}: sealed and intact" in out + err


def test_list_shows_how_runs_ended_and_filters_them(new_run: NewRun, labctl: Invoke) -> None:
    crashed, ok = dead(new_run()), new_run()
    ok.finish(Verdict.OK)
    ok.close()

    def listed(*options: str) -> set[str]:
        return {row["run_id"] for row in json.loads(labctl("run", "list", "--json", *options)[1])["runs"]}

    assert listed() == {crashed.name, ok.run_id}
    assert listed("--verdict", "crashed") == {crashed.name}
    assert listed("--purpose", "demo", "--since", "2026-01-01") == {crashed.name, ok.run_id}
    assert listed("--purpose", "nightly") == listed("--bench", "absent") == listed("--since", "2999-01-01") == set()
    assert "duration" in labctl("run", "list")[1]
    assert labctl("run", "list", "--since", "yesterday")[0] == 2
    assert labctl("run", "verify")[0] == 0, "the newest, which is whole"
    assert labctl("run", "recover")[0] == 2


def sealed_ok(run: RunWriter) -> Path:
    run.write_segment("dark", READINGS)
    started = dt.datetime.fromisoformat(RunReader(run.path).info["started"])
    run.finish(Verdict.OK, Summary(run_id=run.run_id, bench="mock", mode="mock", verdict=Verdict.OK, started=started))
    run.close()
    return run.path


@pytest.mark.parametrize(
    ("key", "value"), [("mode", "hardware"), ("bench", "other"), ("started", "2020-01-01T00:00:00.000000Z")]
)
def test_run_json_that_says_another_thing_than_the_seal_is_found(new_run: NewRun, key: str, value: str) -> None:
    folder = sealed_ok(new_run())
    assert verify_run(folder).intact
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(info | {key: value}))
    (problem,) = verify_run(folder).problems
    assert (problem.path, problem.what) == ("run.json", f"not as sealed ({key})")


def test_complete_run_that_lost_its_seal_is_damaged_and_not_called_ok(new_run: NewRun, labctl: Invoke) -> None:
    folder = sealed_ok(new_run())
    (folder / "SEAL").unlink()
    summary = (folder / "summary.json").read_bytes()
    code, _, err = labctl("run", "verify", "latest")
    assert code == 22
    assert "SEAL is missing" in err
    assert labctl("run", "recover", "latest")[0] == 22
    assert (folder / "summary.json").read_bytes() == summary
    shown = json.loads(labctl("run", "show", "latest", "--json")[1])
    assert (shown["status"], shown["verdict"], shown["exit_code"]) == ("crashed", None, None)
