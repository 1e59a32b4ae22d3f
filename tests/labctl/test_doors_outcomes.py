"""How a run ended, as other systems are told: what was stopped, failed or crashed is never a success."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import h5py
import numpy as np
import pytest
from cal_bench import bench
from captures import measurement, write_npz

from calibration.machine.artefact import Calibration, Domain, save
from calibration.machine.findings import Findings
from labctl.archive import RunReader, RunWriter
from labctl.doors.events import documents, json_rows
from labctl.doors.record import column
from labctl.doors.runs import record_of_run
from labctl.errors import RunDamaged, RunInUse
from labctl.verdicts import Verdict

READINGS = {"readings_dn": np.arange(12.0).reshape(4, 3), "device_time_s": np.arange(4.0)}


def outcome(run: Path) -> tuple[str, str, dict[str, int]]:
    """Exit status, reason, and events by stream, as the documents tell them."""
    stop = list(documents(record_of_run(RunReader(run))))[-1][1]
    return stop["exit_status"], stop["reason"], stop["num_events"]


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        (Verdict.OK, "success"),
        (Verdict.OUT_OF_SPEC, "success"),
        (Verdict.ABORTED, "abort"),
        (Verdict.PARTIAL, "abort"),
        (Verdict.FAULT, "fail"),
        (Verdict.INTERLOCK, "fail"),
        (Verdict.STORAGE, "fail"),
        (Verdict.ERROR, "fail"),
    ],
)
def test_only_what_was_measured_whole_is_a_success(
    verdict: Verdict, told: str, new_run: Callable[[], RunWriter]
) -> None:
    run = new_run()
    run.write_segment("probe", READINGS, {"scan": "gain"})
    run.finish(verdict)
    status, reason, events = outcome(run.path)
    assert status == told
    assert reason.startswith(str(verdict))
    assert events["gain"] == 4


def test_crashed_run_is_a_failure_with_what_it_had_sealed(new_run: Callable[[], RunWriter]) -> None:
    run = new_run()
    run.write_segment("probe", READINGS, {"scan": "gain", "next_device_time_s": 4.5})
    run.close()
    status, reason, events = outcome(run.path)
    assert (status, events["gain"]) == ("fail", 4)
    assert reason.startswith("crashed")
    record = record_of_run(RunReader(run.path))
    assert record.ended_s == pytest.approx(record.started_s + 4.5)


def test_crashed_run_without_a_segment_has_a_start_and_a_stop(new_run: Callable[[], RunWriter]) -> None:
    run = new_run()
    run.close()
    names = [name for name, _ in documents(record_of_run(RunReader(run.path)))]
    assert names == ["start", "stop"]


def test_run_without_a_segment_is_a_nexus_file_that_draws_nothing(
    new_run: Callable[[], RunWriter], labctl: Callable[..., tuple[int, str, str]], runs: Path, tmp_path: Path
) -> None:
    run = new_run()
    run.close()
    code, _, said = labctl("export", "latest", "--to", "nexus", "-o", tmp_path / "out", "--runs", runs)
    assert code == 0, said
    with h5py.File(tmp_path / "out" / f"{run.run_id}.nxs") as file:
        assert "default" not in file["entry"].attrs
        assert file["entry/process/outcome"][()] == b"fail"


def test_journal_that_a_power_cut_ended_in_zeros_is_taken_along(
    new_run: Callable[[], RunWriter], labctl: Callable[..., tuple[int, str, str]], runs: Path, tmp_path: Path
) -> None:
    run = new_run()
    run.close()
    with (run.path / "journal.jsonl").open("ab") as stream:
        stream.write(bytes(8))
    code, _, said = labctl("export", "latest", "--to", "nexus", "-o", tmp_path / "out", "--runs", runs)
    assert code == 0, said
    with h5py.File(tmp_path / "out" / f"{run.run_id}.nxs") as file:
        assert file["entry/journal_jsonl/data"].asstr()[()].endswith(8 * "\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize("name", ["journal.jsonl", "config.toml", "code.json"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes() + b"\n")])
def test_run_that_is_not_what_was_sealed_is_refused(
    name: str, damage: Callable[[Path], object], new_run: Callable[[], RunWriter]
) -> None:
    run = new_run()
    run.write_segment("probe", READINGS, {"scan": "gain"})
    run.finish(Verdict.OK)
    (run.path / name).chmod(0o644)
    damage(run.path / name)
    with pytest.raises(RunDamaged, match=f"{name} is not the one that was sealed"):
        record_of_run(RunReader(run.path))


def test_run_that_goes_on_is_refused(new_run: Callable[[], RunWriter]) -> None:
    with pytest.raises(RunInUse):
        record_of_run(RunReader(new_run().path))


def test_altered_segment_is_refused(
    new_run: Callable[[], RunWriter], labctl: Callable[..., tuple[int, str, str]], runs: Path, tmp_path: Path
) -> None:
    run = new_run()
    segment = run.write_segment("probe", READINGS, {"scan": "gain"})
    run.finish(Verdict.OK)
    path = run.path / "segments" / segment.row.file
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    code, _, said = labctl("export", "latest", "--to", "events", "-o", tmp_path / "out", "--runs", runs)
    assert (code, "not what its manifest says" in said) == (22, True)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_monitors_and_changes_of_panels_are_streams_of_their_own(new_run: Callable[[], RunWriter]) -> None:
    run = new_run()
    beside = {
        "monitor_power-meter_value": np.array([1.0, np.nan]),
        "monitor_power-meter_at_s": np.array([0.5, 2.5]),
        "changes": np.array([[0, 0, 0], [1, 2, 3]]),
        "changes_device_time_s": np.array([0.0, 3.0]),
    }
    attrs = {"scan": "gain", "monitor_power-meter_unit": "mW"}
    run.write_segment("probe", READINGS | beside, attrs)
    run.finish(Verdict.OK)
    record = record_of_run(RunReader(run.path))
    found = {stream.name: stream for stream in record.streams}
    assert found["monitor_power_meter"].fields["power_meter"].unit == "mW"
    (part,) = found["monitor_power_meter"].parts()
    np.testing.assert_allclose(part.time_s - record.started_s, [0.5, 2.5], atol=1)
    pages = [doc for name, doc in documents(record) if name == "event_page"]
    assert [page["data"]["power_meter"] for page in pages if "power_meter" in page["data"]] == [[1.0, None]]
    (changes,) = found["changes"].parts()
    assert list(changes.arrays["panel"]) == ["slm", "display"]
    assert "power_meter" not in found["gain"].fields


def test_readings_taken_over_from_an_earlier_run_are_on_the_clock_of_this_one(new_run: Callable[[], RunWriter]) -> None:
    earlier, run = new_run(), new_run()
    segment = earlier.write_segment("probe", READINGS, {"scan": "gain"})
    earlier.finish(Verdict.OK)
    run.segments.adopt(segment.row, earlier.path / "segments", earlier.run_id, -50.0)
    run.finish(Verdict.OK)
    reader = RunReader(run.path)
    streams = {stream.name: stream for stream in record_of_run(reader).streams}
    (part,) = streams["gain"].parts()
    np.testing.assert_allclose(part.time_s, reader.clock_epoch_s - 50 + np.arange(4.0), atol=1e-6)
    (listed,) = streams["segments"].parts()
    assert list(listed.arrays["origin"]) == [earlier.run_id]


def test_scans_of_two_shapes_are_two_streams(new_run: Callable[[], RunWriter]) -> None:
    run = new_run()
    for outputs in (3, 5):
        run.write_segment("probe", {"readings_dn": np.ones((2, outputs))}, {"scan": "gain"})
    run.finish(Verdict.OK)
    streams = [s for s in record_of_run(RunReader(run.path)).streams if s.signal]
    assert [(s.name, s.fields["readings_dn"].shape) for s in streams] == [("gain", (3,)), ("gain_2", (5,))]


def test_imported_readings_keep_their_unit_and_missing_ones_stay_missing(
    labctl: Callable[..., tuple[int, str, str]], here: Path
) -> None:
    arrays = measurement()
    arrays["readings"][7, 1] = np.nan
    write_npz(here / "capture.npz", arrays)
    code, _, said = labctl("import", "capture.npz", "--unit", "counts")
    assert code == 0, said
    code, _, said = labctl("export", "latest", "--to", "events", "-o", "out")
    assert code == 0, said
    (path,) = (here / "out").iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    keys = {n: k for line in lines if line["name"] == "descriptor" for n, k in line["doc"]["data_keys"].items()}
    assert keys["readings"]["units"] == "counts"
    (uri,) = [line["doc"]["uri"] for line in lines if line["doc"].get("data_key") == "readings"]
    with h5py.File(urlparse(uri).path) as file:
        np.testing.assert_array_equal(file["readings"], arrays["readings"])
    nexus = labctl("export", "latest", "--to", "nexus", "-o", "out")
    assert nexus[0] == 0, nexus
    (path,) = (here / "out").glob("*.nxs")
    with h5py.File(path) as file:
        data = file["entry"][file["entry"].attrs["default"]]
        np.testing.assert_array_equal(data[data.attrs["signal"]], arrays["readings"])
        assert data["readings"].attrs["units"] == "counts"


def test_calibration_of_an_import_lacks_no_registrations(
    labctl: Callable[..., tuple[int, str, str]], here: Path
) -> None:
    write_npz(here / "capture.npz", measurement())
    assert labctl("import", "capture.npz", "--unit", "counts")[0] == 0
    code, _, said = labctl("fit", "latest")
    assert code == 0, said
    code, out, said = labctl("export", "res-", "--to", "nexus", "--json")
    assert code == 0, said
    assert json.loads(out)["not_held"] == ""


@pytest.mark.parametrize(
    ("values", "kind", "rows"),
    [
        ([True, False], "b", [True, False]),
        ([1, 2], "i", [1, 2]),
        ([1, None], "f", [1.0, None]),
        ([0.5, 2], "f", [0.5, 2.0]),
        ([[1, 2], [3, 4]], "i", [[1, 2], [3, 4]]),
        ([[1], [1, 2]], "O", ["[1]", "[1, 2]"]),
        (["a", None], "O", ["a", "null"]),
        ([{"x": 1}, {}], "O", ['{"x": 1}', "{}"]),
        ([2**70, 1], "O", [str(2**70), "1"]),
        ([[], []], "O", ["[]", "[]"]),
    ],
)
def test_settings_of_any_type_become_a_column(values: list[Any], kind: str, rows: list[Any]) -> None:
    array = column(values)
    assert array.dtype.kind == kind
    assert json_rows(array) == rows


@pytest.mark.parametrize(
    ("arrays", "attrs"),
    [
        ({"device_time_s": np.full(4, np.inf)}, {}),
        ({"device_time_s": np.zeros((4, 1))}, {}),
        ({}, {"next_device_time_s": 1e300}),
        ({"readings_dn": np.ones((4, 3), complex)}, {}),
        ({"slm_index": np.zeros(4, np.int64), "changes": np.zeros((2, 2), np.int64)}, {}),
        ({"changes": np.full((2, 3), 9), "changes_device_time_s": np.zeros(2)}, {}),
    ],
    ids=["endless", "misshapen", "later than any clock", "complex", "changes without times", "a panel that is none"],
)
def test_segment_that_makes_no_sense_is_refused(
    arrays: dict[str, Any], attrs: dict[str, Any], new_run: Callable[[], RunWriter]
) -> None:
    run = new_run()
    run.write_segment("probe", READINGS | arrays, {"scan": "gain"} | attrs)
    run.finish(Verdict.OK)
    with pytest.raises(RunDamaged):
        list(documents(record_of_run(RunReader(run.path))))


def test_texts_that_a_format_cannot_write_are_written_as_far_as_they_go(
    new_run: Callable[[], RunWriter], labctl: Callable[..., tuple[int, str, str]], runs: Path, tmp_path: Path
) -> None:
    run = new_run()
    run.write_segment("probe", READINGS, {"scan": "gain"})
    run.finish(Verdict.OK)
    info = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**info, "purpose": "a\0b\ud800"}))
    for to in ("events", "nexus"):
        code, _, said = labctl("export", "latest", "--to", to, "-o", tmp_path / "out", "--runs", runs)
        assert code == 0, said
    with h5py.File(tmp_path / "out" / f"{run.run_id}.nxs") as file:
        assert file["entry/about/purpose"].asstr()[()] == "a\N{REPLACEMENT CHARACTER}b?"


def test_indices_of_many_segments_do_not_run_over(new_run: Callable[[], RunWriter]) -> None:
    """A segment numbers its own patterns, in as few bits as it likes; the stream numbers all of them."""
    run = new_run()
    for _ in range(3):
        more = {"slm_index": np.array([0, 99, 99, 0], np.uint8), "slm_levels": np.zeros((100, 3, 2), np.uint8)}
        run.write_segment("probe", READINGS | more, {"scan": "gain"})
    run.finish(Verdict.OK)
    (gain,) = [stream for stream in record_of_run(RunReader(run.path)).streams if stream.name == "gain"]
    found = np.concatenate([part.arrays["slm_index"] for part in gain.parts()])
    assert found.tolist() == [0, 99, 99, 0, 100, 199, 199, 100, 200, 299, 299, 200]


@pytest.mark.parametrize(("acquired", "code"), [("2026-01-01T00:00:00Z", 0), ("", 0), ("yesterday", 2)])
def test_calibration_without_a_date_goes_and_one_with_a_senseless_date_does_not(
    acquired: str, code: int, labctl: Callable[..., tuple[int, str, str]], here: Path
) -> None:
    made = Calibration(bench((6, 4)).machine(), Domain(0.01, 6, 4, 0.5, 525.0), acquired, "", Findings(), {})
    full, twin = save(made, here)
    for path, to in ((full, "nexus"), (twin, "events")):
        found, _, said = labctl("export", path, "--to", to, "-o", "out")
        assert found == code, said
    if not code:
        with h5py.File(here / "out" / f"{made.id}.nxs") as file:
            np.testing.assert_array_equal(file["entry/calibration/gain_dn"], made.machine.channel.gain_dn)
        lines = [json.loads(line) for line in (here / "out" / f"{made.id}.events.jsonl").read_text().splitlines()]
        (page,) = [line["doc"] for line in lines if line["name"] == "event_page"]  # the twin is no HDF5: all is inside
        assert page["data"]["gain_dn"] == [made.machine.channel.gain_dn.tolist()]
