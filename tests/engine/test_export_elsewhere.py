"""A measured run taken elsewhere, as another program reads it: documents, NeXus, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import h5py
import numpy as np
import pytest

from labctl.__main__ import main
from labctl.archive import RunReader, find_run

Documents = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def archive(measured_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: an export that refers to raw data pins its run."""
    return shutil.copytree(measured_once, tmp_path_factory.mktemp("archive") / "runs")


@pytest.fixture(scope="module")
def run(archive: Path) -> RunReader:
    return RunReader(find_run(archive, "latest"))


@pytest.fixture(scope="module")
def folder(run: RunReader, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as documents and as NeXus, and its calibration as NeXus."""
    found = tmp_path_factory.mktemp("elsewhere")
    for name, to in (("latest", "events"), ("latest", "nexus"), ("cal-", "nexus")):
        assert main(["export", name, "--to", to, "-o", str(found), "--runs", str(archive), "--quiet"]) == 0
    return found


@pytest.fixture(scope="module")
def documents(folder: Path) -> Documents:
    (path,) = folder.glob("*.events.jsonl")
    lines = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(line["name"], line["doc"]) for line in lines]


def of_stream(documents: Documents, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Descriptor and event pages of a stream."""
    (descriptor,) = [doc for kind, doc in documents if kind == "descriptor" and doc["name"] == name]
    uid = descriptor["uid"]
    return descriptor, [doc for kind, doc in documents if kind == "event_page" and doc["descriptor"] == uid]


def sealed(run: RunReader, scan: str, array: str) -> np.ndarray:
    """An array of a scan, read from the segments by h5py alone."""
    parts = []
    for path in sorted((run.path / "segments").glob("*.h5")):
        with h5py.File(path) as file:
            if file.attrs.get("scan") == scan:
                parts.append(file[array][()])
    return np.concatenate(parts)


def test_documents_begin_with_the_run_and_end_with_its_outcome(documents: Documents, run: RunReader) -> None:
    (first, start), (last, stop) = documents[0], documents[-1]
    assert (first, last) == ("start", "stop")
    assert (stop["exit_status"], stop["run_start"]) == ("success", start["uid"])
    assert (start["run_id"], start["bench"], start["mode"]) == (run.run_id, "small", "mock")
    assert start["calibration_id"] == run.summary().calibration.id
    assert start["software"]["name"] == "labctl"
    assert start["software"]["version"]
    assert start["seal_digest"] == run.seal.digest
    assert start["not_held"]


def filed(documents: Documents, stream: str, name: str) -> np.ndarray:
    """What a stream has of an array, read from the files that the documents name, each checked against its hash."""
    uid = of_stream(documents, stream)[0]["uid"]
    resources = {doc["uid"]: doc for kind, doc in documents if kind == "stream_resource" and doc["data_key"] == name}
    parts, stop = [], 0
    for kind, datum in documents:
        if kind == "stream_datum" and datum["descriptor"] == uid and datum["stream_resource"] in resources:
            resource = resources[datum["stream_resource"]]
            path = Path(unquote(urlparse(resource["uri"]).path))
            assert hashlib.sha256(path.read_bytes()).hexdigest() == resource["parameters"]["sha256"]
            with h5py.File(path) as file:
                parts.append(file[resource["parameters"]["dataset"]][()])
            assert datum["indices"] == {"start": stop, "stop": stop + len(parts[-1])}
            stop += len(parts[-1])
    return np.concatenate(parts)


def test_documents_lead_to_every_reading_with_unit_and_time(documents: Documents, run: RunReader) -> None:
    descriptor, pages = of_stream(documents, "gain")
    key = descriptor["data_keys"]["readings_dn"]
    assert (key["units"], key["shape"], key["dtype"]) == ("DN", [1, 16], "array")
    assert key["dims"] == ["frame", "output"]
    readings = sealed(run, "gain", "readings_dn")
    np.testing.assert_array_equal(filed(documents, "gain", "readings_dn"), readings)
    for name in ("sequence", "reference", "saturated_fraction"):
        found = np.concatenate([page["data"][name] for page in pages])
        np.testing.assert_array_equal(found, sealed(run, "gain", name))
    times = np.concatenate([page["time"] for page in pages])
    np.testing.assert_allclose(times - run.clock_epoch_s, sealed(run, "gain", "device_time_s"), atol=1e-6)
    assert [number for page in pages for number in page["seq_num"]] == list(range(1, len(readings) + 1))


def test_every_number_of_the_documents_has_a_unit_a_shape_and_a_source(documents: Documents) -> None:
    keys = [(doc["name"], n, k) for kind, doc in documents if kind == "descriptor" for n, k in doc["data_keys"].items()]
    assert len(keys) > 100
    assert [row for row in keys if row[2]["dtype"] in ("number", "integer", "array") and not row[2].get("units")] == []
    assert all(key["source"].startswith("labctl:") for _, _, key in keys)


def test_frames_stay_in_segments_that_the_documents_point_to(documents: Documents) -> None:
    descriptor, pages = of_stream(documents, "dark")
    frames = filed(documents, "dark", "frames")
    assert descriptor["data_keys"]["frames"]["shape"] == [1, *frames.shape[1:]]
    assert (pages, frames.dtype, len(frames)) == ([], np.uint16, 16)


def test_frame_names_the_pattern_that_was_on_the_slm(documents: Documents, run: RunReader) -> None:
    """Each segment numbers its patterns from 0; here they are numbered over the whole stream."""
    _, pages = of_stream(documents, "slm_ramp")
    found = np.concatenate([page["data"]["slm_index"] for page in pages])
    patterns = sealed(run, "slm_ramp", "slm_levels")
    shown, offset = [], 0
    for path in sorted((run.path / "segments").glob("*.h5")):
        with h5py.File(path) as file:
            if file.attrs.get("scan") == "slm_ramp":
                shown.append(file["slm_levels"][()][file["slm_index"][()]])
                offset += 1
    assert offset > 1
    np.testing.assert_array_equal(patterns[found], np.concatenate(shown))


def test_settings_before_and_after_are_a_baseline(documents: Documents) -> None:
    descriptor, (page,) = of_stream(documents, "baseline")
    assert descriptor["data_keys"]["camera_exposure_s"]["units"] == "s"
    assert page["data"]["camera_exposure_s"] == [0.01, 0.01]
    assert page["data"]["source_is_on"][0] is False
    assert page["time"][0] < page["time"][1]


def test_what_a_node_has_found_stands_with_error_limit_and_unit(documents: Documents, run: RunReader) -> None:
    node = next(node for node in run.summary().nodes if node.name == "noise")
    metric = next(metric for metric in node.metrics if metric.name == "system_gain")
    descriptor, (page,) = of_stream(documents, "result_noise")
    assert page["data"]["system_gain"] == [metric.value]
    assert page["data"]["system_gain_stderr"] == [metric.stderr]
    assert descriptor["data_keys"]["system_gain"]["units"] == "DN/e-"
    assert page["data"]["check"] == [""]  # it has no limits
    _, (judged,) = of_stream(documents, "result_registration")
    assert judged["data"]["check"] == ["in_spec"]


def default_of(file: h5py.File) -> h5py.Group:
    """What a viewer of HDF5 draws: it follows ``@default`` from group to group."""
    group: h5py.Group = file
    while "default" in group.attrs:
        group = group[group.attrs["default"]]
    return group


def plots(folder: Path) -> Iterator[tuple[h5py.Group, h5py.Dataset, list[h5py.Dataset]]]:
    for path in sorted(folder.glob("*.nxs")):
        with h5py.File(path) as file:
            data = default_of(file)
            yield data, data[data.attrs["signal"]], [data[axis] for axis in data.attrs["axes"]]


def test_nexus_says_what_is_drawn_first_and_against_what(folder: Path, run: RunReader) -> None:
    seen = []
    for data, signal, axes in plots(folder):
        assert data.attrs["NX_class"] == "NXdata"
        assert [len(axis) for axis in axes] == list(signal.shape)
        assert signal.attrs["units"] == "DN"
        seen.append((data.name, signal.name))
    assert seen == [
        ("/entry/products_group_0", "/entry/products_group_0/readings_dn"),
        ("/entry/calibration", "/entry/calibration/gain_dn"),
    ]


def test_nexus_has_the_instrument_and_every_reading(folder: Path, run: RunReader) -> None:
    with h5py.File(folder / f"{run.run_id}.nxs") as file:
        entry = file["entry"]
        parts = {name: group.attrs["NX_class"] for name, group in entry["instrument"].items() if name != "name"}
        assert parts == {"camera": "NXdetector", "source": "NXsource", "slm": "NXcollection", "display": "NXcollection"}
        assert entry["instrument/camera/exposure_s"][()] == 0.01
        assert entry["instrument/camera/exposure_s"].attrs["units"] == "s"
        for name in ("readings_dn", "display_levels", "slm_levels"):
            group = entry["gain_slm" if name == "slm_levels" else "gain"]
            np.testing.assert_array_equal(group[name][()], sealed(run, "gain", name))
        assert entry["program_name"].attrs["version"]
        assert "report" in entry["process/not_held"][()].decode()


def test_nexus_of_a_calibration_has_errors_beside_its_numbers(folder: Path, archive: Path) -> None:
    (full,) = (archive / "calibrations").glob("*.calib.h5")
    (path,) = folder.glob("cal-*.nxs")
    with h5py.File(path) as file, h5py.File(full) as ours:
        data = file["entry/calibration"]
        np.testing.assert_array_equal(data["gain_dn"][()], ours["gain_dn"][()])
        np.testing.assert_array_equal(data["gain_dn_errors"][()], ours["gain_stderr_dn"][()])
        assert data["system_gain"][()] == ours["noise"][1]
        assert data["system_gain"].attrs["units"] == "DN/e-"


def test_documents_of_one_run_have_the_same_ids_each_time(run: RunReader, documents: Documents) -> None:
    """A catalogue that has taken them once knows them again."""
    from labctl.doors.events import documents as made
    from labctl.doors.runs import record_of_run

    again = list(made(record_of_run(run)))
    assert [doc["uid"] for _, doc in again] == [doc["uid"] for _, doc in documents]


def test_raw_data_that_documents_point_to_are_kept(run: RunReader, folder: Path) -> None:
    assert (run.path / "pinned.json").exists()


def test_export_takes_no_file_from_its_place(
    folder: Path, archive: Path, run: RunReader, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / f"{run.run_id}.nxs").read_bytes()
    assert main(["export", "latest", "--to", "nexus", "-o", str(folder), "--runs", str(archive)]) == 2
    assert "the file exists already" in capsys.readouterr().err
    assert (folder / f"{run.run_id}.nxs").read_bytes() == before


@pytest.mark.parametrize("to", ["nexus", "xarray"])
def test_export_onto_a_full_disk_says_only_that(
    to: str, mount: Callable[[str], Path], archive: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """HDF5 that cannot write cannot close either: it filled the terminal, and took the process along at its end."""
    if to == "xarray":
        pytest.importorskip("h5netcdf", reason="netCDF is written by h5netcdf")
    folder = mount("size=300k")
    assert main(["export", "latest", "--to", to, "-o", str(folder), "--runs", str(archive)]) == 22
    said = capfd.readouterr().err
    assert "the disk is full" in said
    assert "Traceback" not in said
    assert list(folder.iterdir()) == []


def test_export_wants_a_folder(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").touch()
    words = ["export", "latest", "--to", "nexus", "-o", str(tmp_path / "taken"), "--runs", str(archive)]
    assert main(words) == 2
    assert "a file where a folder is wanted" in capsys.readouterr().err


def test_export_says_what_the_file_does_not_hold(
    tmp_path: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", "latest", "--to", "events", "-o", str(tmp_path), "--runs", str(archive), "--json"]
    assert main(command) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["outcome"] == "success"
    assert "sealed files" in said["not_held"]
    assert Path(said["path"]).is_file()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["latest", "--to", "nexsus"], 2, "events, nexus, xarray"),
        (["nobody", "--to", "nexus"], 2, "a calibration goes by"),
        (["cal-ffff", "--to", "nexus"], 2, "no calibrations go by"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    words: list[str], code: int, said: str, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *words, "-o", str(tmp_path), "--runs", str(archive)]) == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
