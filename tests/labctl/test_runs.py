"""The run folder: no seal means not finished, and one flipped byte is found."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from labctl.archive import (
    RunReader,
    RunWriter,
    find_run,
    list_runs,
    new_run_id,
    read_seal,
)
from labctl.archive.atomic import read_lines
from labctl.errors import (
    DiskFull,
    RunComplete,
    RunDamaged,
    RunInUse,
    RunNotFound,
    UsageError,
)
from labctl.station.loading import load_station
from labctl.summary import Counts, Summary
from labctl.verdicts import Verdict

NewRun = Callable[[], RunWriter]


FRAMES = {"signal_dn": np.arange(24, dtype=np.uint16).reshape(6, 4), "at_s": np.linspace(0, 1, 6)}


ATTRS = {"exposure_s": 0.01, "tile": [0, 1], "pass": "++", "domain": {"b": 1, "a": 2}}


def finished(run: RunWriter, verdict: Verdict = Verdict.OK) -> Path:
    run.write_segment("products", FRAMES, ATTRS)
    run.finish(verdict, Summary(run_id=run.run_id, verdict=verdict, counts=Counts(planned=6, recorded=6)))
    run.close()
    return run.path


def test_run_id_is_time_purpose_and_four_characters() -> None:
    run_id = new_run_id("night-ly", datetime(2026, 11, 23, 2, 0, 3, tzinfo=UTC))
    assert run_id.startswith("20261123T020003Z-night-ly-")
    assert len(run_id.rpartition("-")[2]) == 4
    with pytest.raises(UsageError):
        new_run_id("Not a purpose")


def test_new_run_says_running_and_has_its_provenance(new_run: NewRun) -> None:
    run = new_run()
    reader = RunReader(run.path)
    assert run.path.parent.parent.parent.parent.name == "runs"
    assert (reader.info["status"], reader.status) == ("running", "running")
    assert reader.station().station == load_station().station
    assert json.loads((run.path / "config.origin.json").read_text())["layout.rows"].endswith(":31")
    code = json.loads((run.path / "code.json").read_text())
    assert code["python"] == sys.version.split()[0]
    assert code["packages"]["numpy"] == np.__version__


def test_segments_come_back_as_written_by_kind(new_run: NewRun) -> None:
    run = new_run()
    run.write_segment("dark", {"signal_dn": np.zeros((2, 4), np.uint16)})
    run.write_segment("products", FRAMES, ATTRS)
    reader = RunReader(run.path)
    assert [(row.file, row.kind, row.rows) for row in reader.manifest] == [
        ("000000.h5", "dark", 2),
        ("000001.h5", "products", 6),
    ]
    (segment,) = reader.segments("products")
    for name, array in FRAMES.items():
        np.testing.assert_array_equal(segment.arrays[name], array)
        assert segment.arrays[name].dtype == array.dtype
    assert segment.attrs == {
        "schema": "labctl.segment/1",
        "kind": "products",
        "exposure_s": 0.01,
        "tile": [0, 1],
        "pass": "++",
        "domain": '{"a": 2, "b": 1}',
    }
    assert [event["event"] for event in reader.journal()] == ["started", "segment", "segment"]


def test_run_without_seal_has_crashed_once_its_writer_is_gone(new_run: NewRun) -> None:
    run = new_run()
    run.update(status="ok")  # whatever run.json says
    assert RunReader(run.path).status == "running"
    run.close()
    assert RunReader(run.path).status == "crashed"
    assert RunReader(run.path).verify().intact


def test_status_becomes_ok_only_with_the_seal(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run()

    def full(*arguments: object) -> None:
        raise DiskFull("the disk is full")

    monkeypatch.setattr("labctl.archive.run.write_seal", full)
    with pytest.raises(DiskFull):
        run.finish(Verdict.OK)
    run.close()
    assert (RunReader(run.path).info["status"], RunReader(run.path).status) == ("running", "crashed")


def test_sealed_run_verifies_and_keeps_its_summary(new_run: NewRun) -> None:
    path = finished(new_run())
    reader = RunReader(path)
    assert reader.status == "ok"
    assert reader.info["counts"]["recorded"] == 6
    found = reader.verify()
    assert found.sealed
    assert found.intact
    summary = reader.summary()
    assert summary is not None
    assert summary.verdict is Verdict.OK
    seal = read_seal(path)
    assert seal is not None
    assert {"summary.json", "segments/manifest.jsonl", "journal.jsonl", "config.toml", "code.json"} <= set(seal.files)


def test_remade_reports_and_later_logs_do_not_break_the_seal(new_run: NewRun) -> None:
    path = finished(new_run())
    for name in ("report.html", "log.jsonl"):
        (path / name).write_text("made again")
    assert RunReader(path).verify().intact


def test_seal_covers_every_file_that_is_there_but_status_lock_log_and_report(new_run: NewRun) -> None:
    run = new_run()
    for name in ("report.html", "log.jsonl", "metrics.prom", "note.txt"):
        (run.path / name).write_text("there")
    seal = read_seal(finished(run))
    assert seal is not None
    assert {"metrics.prom", "note.txt"} <= set(seal.files)
    assert not {"report.html", "log.jsonl", "run.json", ".lock", "SEAL"} & set(seal.files)


@pytest.mark.parametrize(
    "name", ["segments/000000.h5", "segments/manifest.jsonl", "summary.json", "config.toml", "SEAL"]
)
def test_one_flipped_byte_is_found(new_run: NewRun, name: str) -> None:
    path = finished(new_run())
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(bytes(data))
    found = RunReader(path).verify()
    assert not found.intact
    assert name in {problem.path for problem in found.problems}
    with pytest.raises(RunDamaged):
        found.raise_if_damaged()


def test_flipped_byte_is_found_in_an_unsealed_run_and_on_reading(new_run: NewRun) -> None:
    run = new_run()
    file = run.segments.folder / run.write_segment("dark", FRAMES).row.file
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    assert [problem.what for problem in RunReader(run.path).verify().problems] == ["altered"]
    with pytest.raises(RunDamaged, match="not what its manifest says"):
        list(RunReader(run.path).segments())


def test_missing_and_unlisted_segments_are_found(new_run: NewRun) -> None:
    path = finished(new_run())
    (path / "segments/000000.h5").rename(path / "segments/000009.h5")
    problems = {(problem.path, problem.what) for problem in RunReader(path).verify().problems}
    assert problems == {("segments/000000.h5", "missing"), ("segments/000009.h5", "not in the manifest")}
    with pytest.raises(RunDamaged, match="missing"):
        list(RunReader(path).segments())


def test_stop_between_a_segment_and_its_manifest_line_leaves_a_seal_that_holds(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with new_run() as run:
        run.write_segment("dark", {"signal_dn": np.zeros(3)})
        with monkeypatch.context() as patch:
            patch.setattr("labctl.archive.segments.append_line", stopped)
            with pytest.raises(KeyboardInterrupt):
                run.write_segment("dark", {"signal_dn": np.ones(3)})
        path = finished(run, Verdict.ABORTED)
    assert RunReader(path).verify().intact
    assert [row.rows for row in RunReader(path).manifest] == [3, 6]  # the zeros, and what `finished` writes


def test_resume_goes_on_after_the_last_sealed_segment(new_run: NewRun) -> None:
    run = new_run()
    run.write_segment("dark", FRAMES)
    run.close()
    with RunWriter.resume(run.path) as again:
        again.write_segment("products", FRAMES, ATTRS)
        again.finish(Verdict.OK)
    reader = RunReader(run.path)
    assert [row.file for row in reader.manifest] == ["000000.h5", "000001.h5"]
    assert (reader.status, reader.verify().intact) == ("ok", True)
    assert [event["event"] for event in reader.journal()] == ["started", "segment", "resumed", "segment", "sealing"]


def test_partial_run_can_be_resumed_and_a_complete_one_cannot(new_run: NewRun) -> None:
    path = finished(new_run(), Verdict.PARTIAL)
    with RunWriter.resume(path):
        assert RunReader(path).seal is None
    complete = finished(new_run())
    with pytest.raises(RunComplete):
        RunWriter.resume(complete)
    assert RunReader(complete).verify().intact


def test_what_is_logged_while_a_run_is_open_goes_to_its_log(new_run: NewRun) -> None:
    run = new_run()
    log = logging.getLogger("labctl.bench")
    log.info("opened %s", "camera")
    try:
        raise ValueError("odd")
    except ValueError:
        log.exception("failed")
    run.close()
    log.info("afterwards")
    records = read_lines(run.path / "log.jsonl")
    assert [(r["level"], r["message"]) for r in records] == [("INFO", "opened camera"), ("ERROR", "failed")]
    assert records[1]["traceback"].endswith("ValueError: odd")


def test_run_has_one_writer(new_run: NewRun) -> None:
    run = new_run()
    with pytest.raises(RunInUse):
        RunWriter.resume(run.path)


def test_sealed_run_takes_no_more(new_run: NewRun) -> None:
    run = new_run()
    run.finish(Verdict.OK)
    with pytest.raises(RuntimeError, match="sealed"):
        run.journal("late")


def test_summary_and_run_must_agree(new_run: NewRun) -> None:
    run = new_run()
    with pytest.raises(ValueError, match="the summary says"):
        run.finish(Verdict.OK, Summary(verdict=Verdict.FAULT))


def test_runs_are_listed_newest_first_and_found_by_suffix(new_run: NewRun, runs: Path) -> None:
    assert list_runs(runs) == []
    paths = [finished(new_run()), new_run().path, new_run().path][::-1]
    assert [row.path for row in list_runs(runs)] == paths
    assert sorted(row.status for row in list_runs(runs)) == ["ok", "running", "running"]
    assert find_run(runs, paths[1].name[-4:]) == paths[1]
    assert find_run(runs, paths[1].name) == paths[1]
    assert find_run(runs, "latest") == paths[0]
    assert find_run(runs, str(paths[2])) == paths[2]


def test_unknown_and_ambiguous_runs_are_told_apart(new_run: NewRun, runs: Path) -> None:
    name = new_run().run_id
    typo = name[:-1] + ("2" if name[-1] != "2" else "3")
    with pytest.raises(RunNotFound) as caught:
        find_run(runs, typo)
    assert f"did you mean {name[-4:]}?" in caught.value.hint
    twin = runs / "2026/11/23" / f"20261123T020003Z-demo-{name[-4:]}"
    twin.mkdir(parents=True)
    (twin / "run.json").write_text("{}")
    with pytest.raises(RunNotFound, match="2 runs go by the name"):
        find_run(runs, name[-4:])


def test_damaged_run_json_is_listed_as_damaged(new_run: NewRun, runs: Path) -> None:
    run = new_run()
    (run.path / "run.json").write_text('{"status": "o')
    assert [row.status for row in list_runs(runs)] == ["damaged"]
    with pytest.raises(RunDamaged):
        RunReader(run.path)
