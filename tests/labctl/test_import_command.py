"""``labctl import``: a sealed run, whatever the file; a coded error, whatever the bytes."""

from __future__ import annotations

import html
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from captures import measurement, one_reading_per_row, weights_beside, write_h5, write_npz, write_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.__main__ import main
from labctl.archive import RunReader, list_runs
from labctl.foreign.documents import BadRow
from labctl.foreign.files.archived import open_archived
from labctl.foreign.response_words import bad_row_lines

SCHEMAS = Path(__file__).parents[2] / "data" / "schemas"
Invoke = Callable[..., tuple[int, str, str]]


pytestmark = pytest.mark.usefixtures("here")


def test_import_makes_a_sealed_run_that_the_run_commands_know(labctl: Invoke, tmp_path: Path) -> None:
    path = write_h5(tmp_path / "their bench.h5", one_reading_per_row(measurement()), unit="mV")
    code, out, _ = labctl("import", path, "--rows", "10:50")
    assert code == 0
    assert "bench their-bench (imported)" in out
    assert "rows 10:50 of 60, 5 inputs, 3 outputs, readings in mV" in out
    assert "recorded over 19.5 s" in out
    run = list_runs(tmp_path / "runs")[0]
    assert f"labctl fit {run.run_id[-4:]}" in out
    assert (run.status, run.purpose, run.mode) == ("ok", "import", "replay")
    assert labctl("run", "verify", "latest")[0] == 0
    assert "rows 40" in labctl("run", "show", "latest")[1]


def test_document_follows_its_schema_and_names_the_file(labctl: Invoke, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "x.npz", measurement())
    code, out, _ = labctl("import", path, "--unit", "DN", "--name", "lab-b", "--json")
    document = json.loads(out)
    assert code == 0
    jsonschema.validate(document, json.loads((SCHEMAS / "import-1.schema.json").read_text()))
    assert (document["bench"], document["unit"], document["source"]["bytes"]) == ("lab-b", "DN", path.stat().st_size)
    info = RunReader(Path(document["path"])).info
    assert info["source"]["sha256"] == document["source"]["sha256"]


def test_archive_gives_back_what_the_file_held(labctl: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.foreign.files.capture._BLOCK_BYTES", 1000)  # several segments
    arrays = one_reading_per_row(measurement(rows=100))
    path = write_table(tmp_path / "x.csv", arrays)
    assert labctl("import", path, "--weights", weights_beside(path))[0] == 0
    run = RunReader(list_runs(tmp_path / "runs")[0].path)
    assert len(run.manifest) > 4
    archived = open_archived(run)
    for name in ("inputs", "readings", "output"):
        np.testing.assert_array_equal(getattr(archived, name)[:], arrays[name])
        np.testing.assert_array_equal(getattr(archived, name)[13:77], arrays[name][13:77])
    np.testing.assert_array_equal(np.asarray(archived.time_s), arrays["time"])
    np.testing.assert_array_equal(archived.weights, arrays["weights"])
    assert archived.readings[100:100].shape == (0,)


def test_altered_segment_is_found_when_it_is_read(labctl: Invoke, tmp_path: Path) -> None:
    labctl("import", write_npz(tmp_path / "x.npz", measurement()))
    run = list_runs(tmp_path / "runs")[0]
    segment = run.path / "segments" / "000001.h5"
    data = bytearray(segment.read_bytes())
    data[-8] ^= 1
    segment.write_bytes(data)
    assert labctl("run", "verify", "latest")[0] == 22
    code, _, err = labctl("fit", "latest")
    assert (code, "E-RUN-002" in err) == (22, True)


def test_refused_file_leaves_no_run(labctl: Invoke, tmp_path: Path) -> None:
    arrays = measurement()
    arrays["inputs"][4:14, 0] = np.nan
    code, out, err = labctl("import", write_npz(tmp_path / "x.npz", arrays), "--json")
    assert code == 2
    assert json.loads(out)["first_error"]["code"] == "E-IMP-004"
    assert "row 4" in err
    assert list_runs(tmp_path / "runs") == []


def test_rows_that_are_not_finite_are_listed_counted_and_kept_as_they_came(labctl: Invoke, tmp_path: Path) -> None:
    arrays = measurement()
    arrays["readings"][[14, 33], 0] = np.inf
    arrays["readings"][20, 1:] = np.nan
    path = write_npz(tmp_path / "x.npz", arrays)
    code, out, _ = labctl("import", path, "--rows", "10:", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["bad_rows"] == [{"index": i, "reason": "not finite", "z": None} for i in (14, 33)]
    assert document["missing"] == {"readings": 2, "rows": 1, "first_row": 20, "by_output": [0, 1, 1]}
    run = RunReader(list_runs(tmp_path / "runs")[0].path)
    counts = run.summary().counts
    assert (counts.planned, counts.recorded, counts.discarded) == (50, 48, 2)
    archived = open_archived(run)
    np.testing.assert_array_equal(archived.readings[:], arrays["readings"][10:])
    assert archived.unusable == {14: "not finite", 33: "not finite"}
    assert run.info["missing"] == document["missing"]
    out = labctl("import", path)[1]
    assert "bad rows: 2" in out
    assert "row 14: not finite\n" in out
    assert "2 readings are missing in 1 row, first in row 20: output 1: 1, output 2: 1\n" in out


def test_rows_that_an_older_import_called_not_finite_are_left_out_still(labctl: Invoke, tmp_path: Path) -> None:
    arrays = measurement()
    arrays["readings"][[14, 33], 0] = np.nan
    labctl("import", write_npz(tmp_path / "x.npz", arrays))
    run = RunReader(list_runs(tmp_path / "runs")[0].path)
    del run.info["missing"]
    run.info["not_finite"] = [14, 33]
    assert open_archived(run).unusable == {14: "not finite", 33: "not finite"}


def test_bad_rows_that_follow_each_other_for_one_reason_are_said_once() -> None:
    bad = [BadRow(index=i, reason="garbage", z=10.0 + i) for i in (0, 1, 2)]
    bad += [BadRow(index=3, reason="not finite", z=None), BadRow(index=5, reason="garbage", z=7.0)]
    lines = bad_row_lines(bad)
    assert lines == ["bad rows: 5", "  rows 0–2: garbage (z 10.0 … 12.0)", "  row 3: not finite",
                     "  row 5: garbage (z 7.0)"]  # fmt: skip


def test_file_without_readings_is_not_imported(labctl: Invoke, tmp_path: Path) -> None:
    arrays = measurement()
    del arrays["readings"]
    code, _, err = labctl("import", write_npz(tmp_path / "x.npz", arrays))
    assert code == 2
    assert "labctl predict" in err


@pytest.mark.parametrize("name", ["", " ", "a b", "../x", "-x"])
def test_name_that_cannot_be_a_bench_is_refused(labctl: Invoke, tmp_path: Path, name: str) -> None:
    path = write_npz(tmp_path / "x.npz", measurement())
    code, _, err = labctl("import", path, f"--name={name}")
    assert (code, "E-USE-001" in err) == ((2, True) if name else (0, False))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same measurement in every format."""
    folder, arrays = tmp_path_factory.mktemp("good"), one_reading_per_row(measurement(rows=12))
    write_npz(folder / "x.npz", arrays)
    write_h5(folder / "x.h5", arrays)
    write_table(folder / "x.csv", arrays)
    write_table(folder / "x.tsv", arrays, "\t")
    return folder


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ending=st.sampled_from(["npz", "h5", "csv", "tsv"]),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6)), max_size=6),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_whatever_the_bytes_the_command_ends_in_words(
    good: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    ending: str,
    edits: list[tuple[float, bytes]],
    kept: float,
) -> None:
    data = bytearray((good / f"x.{ending}").read_bytes())
    for where, value in edits:
        at = int(where * len(data))
        data[at : at + len(value)] = value
    path = tmp_path / f"x.{ending}"
    path.write_bytes(data[: round(kept * len(data))])
    weights = ["--weights", str(weights_beside(good / f"x.{ending}"))] if ending.endswith("sv") else []
    code = main(["import", str(path), "--runs", str(tmp_path / "runs"), *weights])
    err = capsys.readouterr().err
    assert code == 0 or (code == 2 and err.startswith(("E-IMP-00", "E-USE-001")))
    assert "Traceback" not in err


def test_fit_beside_an_archive_that_is_read_only_says_what_is_done(
    labctl: Invoke, tmp_path: Path, mount: Callable[[str], Path]
) -> None:
    archive = mount("size=20m")
    assert labctl("import", write_npz(tmp_path / "x.npz", measurement()), "--runs", archive)[0] == 0
    subprocess.run(["mount", "-o", "remount,ro", str(archive)], check=True)
    before = sorted(archive.rglob("*"))
    code, out, err = labctl("fit", "latest", "--runs", archive, "-o", tmp_path / "taken", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    written = {path.name for path in (tmp_path / "taken").iterdir()}
    assert {Path(document["calibration"]["path"]).name, Path(document["report"]).name} <= written
    assert sorted(archive.rglob("*")) == before
    code, out, err = labctl("fit", "latest", "--runs", archive)
    assert (code, "E-STO-003" in err) == (22, True)
    assert sorted(archive.rglob("*")) == before


def test_what_the_page_of_a_fit_tells_to_type_means_the_same_archive(labctl: Invoke, tmp_path: Path) -> None:
    archive = tmp_path / "other runs"
    labctl("import", write_npz(tmp_path / "x.npz", measurement()), "--runs", archive)
    code, out, err = labctl("fit", "--runs", archive, "--json")
    assert code == 0, err
    page = Path(json.loads(out)["report"]).read_text(encoding="utf-8")
    steps = [html.unescape(step) for step in re.findall("<code>(labctl [^<]*)</code>", page)]
    assert len(steps) == 3
    assert all(step.endswith(f"--runs '{archive}'") or f"--runs '{archive}' FILE" in step for step in steps), steps
    verify = next(step for step in steps if "verify" in step)
    assert labctl(*shlex.split(verify)[1:])[0] == 0
