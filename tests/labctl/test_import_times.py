"""Times as loggers write them: dates with a time of day, and counts from 1970."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from captures import Arrays, measurement, weights_beside, write_npz, write_table

from labctl.errors import CaptureValues, LabError, UsageError
from labctl.foreign.files import Elsewhere, Request, open_capture, requested
from labctl.foreign.files.npy import open_contents as open_npy

FIRST = datetime(2026, 11, 29, 12, 0, 0, 250_000, UTC)
SECONDS = np.arange(60) * 0.125


@pytest.fixture
def arrays() -> Arrays:
    return measurement()


def table(path: Path, arrays: Arrays, words: list[str], separator: str = ",") -> tuple[Path, Request]:
    write_table(path, arrays, separator)
    remark, header, *rows = path.read_text().splitlines()
    rows = [f"{word}{separator}{row}" for word, row in zip(words, rows, strict=True)]
    path.write_text("\n".join([remark, f"time{separator}{header}", *rows]))
    return path, Request(files={"weights": Elsewhere(weights_beside(path))})


def times(path: Path, request: Request | None = None) -> tuple[np.ndarray, str]:
    with open_capture(path, request) as capture:
        capture.check()
        assert capture.time_s is not None
        return capture.time_s[:], "; ".join(capture.notes)


def refused(path: Path, request: Request | None = None, kind: type[LabError] = CaptureValues) -> LabError:
    with pytest.raises(kind) as caught:
        times(path, request)
    assert caught.value.hint
    return caught.value


def instants() -> list[datetime]:
    return [FIRST + timedelta(seconds=float(s)) for s in SECONDS]


FORMS = {
    "Z": lambda t: t.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    "blank": lambda t: t.strftime("%Y-%m-%d %H:%M:%S.%f"),
    "offset": lambda t: t.isoformat(timespec="milliseconds"),
    "short offset": lambda t: t.strftime("%Y-%m-%dT%H:%M:%S.%f+01"),
    "nanoseconds": lambda t: t.strftime("%Y-%m-%d %H:%M:%S.%f") + "000",
    "decimal comma": lambda t: t.strftime('"%Y-%m-%d %H:%M:%S,%f"'),
    "quoted": lambda t: t.strftime('"%Y-%m-%dT%H:%M:%S.%fZ"'),
}


@pytest.mark.parametrize("form", FORMS)
def test_dates_with_times_are_seconds_from_the_first_row(arrays: Arrays, tmp_path: Path, form: str) -> None:
    words = [FORMS[form](t) for t in instants()]
    found, notes = times(*table(tmp_path / "x.csv", arrays, words))
    np.testing.assert_allclose(found, SECONDS, atol=1e-9)
    assert "time holds dates with times: read as seconds from the first row (2026-11-29" in notes


@pytest.mark.parametrize("header", ["time [s]", "time [ms]", "time (local)", "time [UTC]"])
@pytest.mark.parametrize("ending", ["csv", "json"])
def test_the_unit_behind_a_column_of_dates_does_not_count(
    arrays: Arrays, tmp_path: Path, header: str, ending: str
) -> None:
    path, request = table(tmp_path / "x.csv", arrays, [t.isoformat() for t in instants()])
    path.write_text(path.read_text().replace("time,", f"{header},", 1))
    if ending == "json":
        _, names, *rows = path.read_text().splitlines()
        cells = [dict(zip(names.split(","), row.split(","), strict=True)) for row in rows]
        numbers = [{k: v if k == header else float(v) for k, v in row.items()} for row in cells]
        path = tmp_path / "x.json"
        path.write_text(json.dumps(numbers))
    np.testing.assert_allclose(times(path, request)[0], SECONDS, atol=1e-9)


def test_a_clock_that_is_set_forward_by_its_offset_goes_on(arrays: Arrays, tmp_path: Path) -> None:
    words = [t.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00") for t in instants()]
    words[30:] = [(t + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S.%f+02:00") for t in instants()[30:]]
    np.testing.assert_allclose(times(*table(tmp_path / "x.csv", arrays, words))[0], SECONDS, atol=1e-9)


def test_a_local_clock_that_is_set_back_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    words = [t.strftime("%Y-%m-%d %H:%M:%S.%f") for t in instants()]
    words[30:] = [(t - timedelta(hours=1)).strftime("%Y-%m-%d %H:%M:%S.%f") for t in instants()[30:]]
    assert "goes backwards" in refused(*table(tmp_path / "x.csv", arrays, words)).what


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("2026-11-29T12:00:03Z", "line 22, column 1 says an offset from UTC, unlike the first row"),
        ("2026-13-29T12:00:03", "line 22, column 1 is no time: "),
        ("2026-11-29T25:00:03", "line 22, column 1 is no time: "),
        ("29.11.2026 12:00:03", "line 22, column 1 is no time that can be read in one way only"),
        ("3.5", "line 22, column 1 is no time that can be read in one way only"),
        ("", "line 22, column 1 is no time that can be read in one way only"),
    ],
)
def test_times_that_are_mixed_are_refused_with_what_was_tried(
    arrays: Arrays, tmp_path: Path, word: str, what: str
) -> None:
    words = [t.strftime("%Y-%m-%dT%H:%M:%S.%f") for t in instants()]
    words[19] = word
    error = refused(*table(tmp_path / "x.csv", arrays, words))
    assert what in error.what
    assert "a date, a time of day" in error.expected


@pytest.mark.parametrize(
    "form", ["%d/%m/%Y %H:%M:%S", "%m/%d/%y %H:%M", "%d.%m.%Y", "%Y-%m-%d", "%H:%M:%S", "%I:%M:%S %p"]
)
def test_times_that_can_be_read_in_two_ways_are_refused(arrays: Arrays, tmp_path: Path, form: str) -> None:
    words = [t.strftime(form) for t in instants()]
    error = refused(*table(tmp_path / "x.csv", arrays, words))
    assert error.what == "line 3, column 1 is no time that can be read in one way only"
    assert "2026-11-29T12:00:00Z" in error.hint


def test_a_column_of_dates_that_is_called_something_else_is_mapped(arrays: Arrays, tmp_path: Path) -> None:
    path, request = table(tmp_path / "x.csv", arrays, [t.isoformat() for t in instants()])
    path.write_text(path.read_text().replace("time,", "Time stamp,", 1))
    with open_capture(path, request) as capture:  # it does no harm where nobody asks for it
        assert capture.time_s is None
    found, _ = times(path, Request(names={"time": "Time stamp"}, files=request.files))
    np.testing.assert_allclose(found, SECONDS, atol=1e-9)


@pytest.mark.parametrize(("unit", "scale"), [("milliseconds", 1000), ("microseconds", 10**6), ("nanoseconds", 10**9)])
@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_a_count_from_1970_is_seconds_from_the_first_row(
    arrays: Arrays, tmp_path: Path, unit: str, scale: int, dtype: type
) -> None:
    first = int(FIRST.timestamp() * 1000) * (scale // 1000)
    arrays["time"] = (first + np.arange(60) * (scale // 8)).astype(dtype)
    found, notes = times(write_npz(tmp_path / "x.npz", arrays))
    np.testing.assert_array_equal(found, SECONDS)  # to the last digit, which float64 from 1970 does not hold
    assert f"time counts {unit} from 1970" in notes
    assert "2026-11-29T12:00:00.250+00:00" in notes


@pytest.mark.parametrize("first", [0.0, 1.7e9, 86_400.0, 1e8])
def test_seconds_stay_as_they_are(arrays: Arrays, tmp_path: Path, first: float) -> None:
    arrays["time"] = first + SECONDS
    found, notes = times(write_npz(tmp_path / "x.npz", arrays))
    np.testing.assert_array_equal(found, first + SECONDS)
    assert "1970" not in notes


def test_ticks_that_only_look_like_a_count_from_1970_are_refused(arrays: Arrays, tmp_path: Path) -> None:
    arrays["time"] = 1_700_000_000_000 + np.arange(60) * 125_000_000  # ns since a camera was switched on
    error = refused(write_npz(tmp_path / "x.npz", arrays))
    assert error.what == "time is in a unit that cannot be told"
    assert "tried as milliseconds from 1970" in error.seen
    with_unit, request = table(tmp_path / "x.csv", measurement(), [str(int(t)) for t in arrays["time"]])
    with_unit.write_text(with_unit.read_text().replace("time,", "time [ns],", 1))
    np.testing.assert_allclose(times(with_unit, request)[0], 1700 + SECONDS, atol=1e-6)


@pytest.mark.parametrize("shape", ["object", "rows"])
def test_dates_in_json_are_read(arrays: Arrays, tmp_path: Path, shape: str) -> None:
    words = [t.isoformat() for t in instants()]
    rows = [
        {"time": word, "inputs": x, "readings": y}
        for word, x, y in zip(words, arrays["inputs"].tolist(), arrays["readings"].tolist(), strict=True)
    ]
    document = {**{k: v.tolist() for k, v in arrays.items()}, "time": words} if shape == "object" else rows
    (tmp_path / "x.json").write_text(json.dumps(document))
    np.save(tmp_path / "w.npy", arrays["weights"])
    request = Request(files={"weights": Elsewhere(tmp_path / "w.npy")})
    np.testing.assert_allclose(times(tmp_path / "x.json", request)[0], SECONDS, atol=1e-9)


# --- files that are not there, and pictures that are no measurement


def test_a_file_that_is_not_there_is_answered_with_what_lies_beside_it(tmp_path: Path) -> None:
    for name in ("capture-1.npz", "capture-2.npz", "weights.csv", "notes.docx"):
        (tmp_path / name).write_text("x")

    def hint(name: str) -> str:
        return refused(tmp_path / name, kind=UsageError).hint

    assert hint("captrue-2.npz").startswith(f"in that folder: {tmp_path / 'capture-2.npz'}")
    assert str(tmp_path / "weights.csv") in hint("WEIGTHS.CSV")
    assert "notes" not in hint("zzz.npz")
    assert hint("nowhere/x.npz") == f"there is no folder {tmp_path / 'nowhere'}"
    assert hint(".").startswith("that is a folder; in it: ")
    with pytest.raises(UsageError) as caught:
        requested(tmp_path / "capture-1.npz", None, None, [], {"weights": str(tmp_path / "wieghts.csv")})
    assert str(tmp_path / "weights.csv") in caught.value.hint


@pytest.mark.parametrize(("name", "said"), [("x.jpg", "JPEG"), ("x.JPEG", "JPEG"), ("x.tif", "JPEG compression")])
def test_a_lossy_picture_is_no_measurement_and_told_why(tmp_path: Path, name: str, said: str) -> None:
    import cv2

    picture = np.random.default_rng(0).integers(0, 255, (6, 8)).astype(np.uint8)
    path = tmp_path / name
    if name == "x.tif":
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_TIFF_COMPRESSION, 7])
    else:
        path.write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())
    error = refused(path, kind=LabError)
    assert said in error.what
    assert "altered every pixel" in error.what


def test_times_of_parquet_are_read_and_dates_that_nobody_needs_do_no_harm(arrays: Arrays, tmp_path: Path) -> None:
    lib, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {f"input_{k}": arrays["inputs"][:, k] for k in range(5)}
    columns |= {f"reading_{m}": arrays["readings"][:, m] for m in range(3)}
    np.save(tmp_path / "w.npy", arrays["weights"])
    request = Request(files={"weights": Elsewhere(tmp_path / "w.npy")})
    for clock in (instants(), [t.isoformat() for t in instants()]):
        table = lib.table({"day": ["29/11/2026"] * 60, "time": clock, **columns})
        parquet.write_table(table, tmp_path / "x.parquet")
        np.testing.assert_allclose(times(tmp_path / "x.parquet", request)[0], SECONDS, atol=1e-9)
    parquet.write_table(lib.table({"time": ["29/11/2026"] * 60, **columns}), tmp_path / "x.parquet")
    assert "one way only" in refused(tmp_path / "x.parquet", request).what


def test_texts_of_json_rows_that_nobody_needs_do_no_harm(arrays: Arrays, tmp_path: Path) -> None:
    rows = [
        {"day": "29/11/2026", "time": t, "inputs": x, "readings": y}
        for t, x, y in zip(SECONDS.tolist(), arrays["inputs"].tolist(), arrays["readings"].tolist(), strict=True)
    ]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    np.save(tmp_path / "w.npy", arrays["weights"])
    request = Request(files={"weights": Elsewhere(tmp_path / "w.npy")})
    np.testing.assert_array_equal(times(tmp_path / "x.json", request)[0], SECONDS)


@pytest.mark.parametrize("ending", ["npz", "npy"])
@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
def test_times_of_numpy_itself_are_seconds_from_the_first_row(
    arrays: Arrays, tmp_path: Path, ending: str, unit: str
) -> None:
    stamps = np.array([t.replace(tzinfo=None) for t in instants()], f"datetime64[{unit}]")
    if ending == "npz":
        np.savez(tmp_path / "x.npz", time=stamps, **arrays)
        found, notes = times(tmp_path / "x.npz")
        assert "time holds dates with times: read as seconds from the first row (2026-11-29T12:00:00.25" in notes
    else:
        np.save(tmp_path / "time.npy", stamps)
        with open_npy(tmp_path / "time.npy") as contents:
            found = np.asarray(contents.arrays["time"][:])
    np.testing.assert_allclose(found, SECONDS, atol=1e-9)


def test_spans_of_time_of_numpy_are_seconds(arrays: Arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", time=(SECONDS * 1e6).astype("timedelta64[us]"), **arrays)
    found, notes = times(tmp_path / "x.npz")
    np.testing.assert_allclose(found, SECONDS, atol=1e-9)
    assert "time holds spans of time: read as seconds" in notes


def test_a_time_of_numpy_that_is_missing_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    stamps = np.array([t.replace(tzinfo=None) for t in instants()], "datetime64[ns]")
    stamps[7] = np.datetime64("NaT")
    np.savez(tmp_path / "x.npz", time=stamps, **arrays)
    assert "first in row 7" in (refused(tmp_path / "x.npz").seen or "")
