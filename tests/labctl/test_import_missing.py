"""Cells that hold nothing: a reading that is missing leaves only itself out, an input its row, a weight is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from captures import Arrays, measurement, one_reading_per_row, weights_beside, write_h5, write_npz, write_table
from scipy.io import savemat

from labctl.errors import CaptureUnreadable, CaptureValues, LabError
from labctl.foreign.files import Capture, Elsewhere, Request, open_capture
from labctl.foreign.files.operands import observations_of

GONE = [(4, 0), (9, 2), (9, 1), (30, 2)]
"""Row and output of each reading that is missing."""


@pytest.fixture
def arrays() -> Arrays:
    arrays = measurement()
    for row, output in GONE:
        arrays["readings"][row, output] = np.nan
    return arrays


def checked(path: Path, request: Request | None = None) -> Capture:
    with open_capture(path, request) as capture:
        found = capture.check()
        assert found.readings is not None
        assert len(observations_of(found).rows(0, found.rows).inputs) == found.rows - len(found.unusable)
        return found


def refusal(path: Path, kind: type[LabError], request: Request | None = None) -> LabError:
    with pytest.raises(kind) as caught:
        checked(path, request)
    return caught.value


def table(path: Path, arrays: Arrays, word: str, separator: str = ",") -> tuple[Path, Request]:
    write_table(path, arrays, separator)
    path.write_text(path.read_text().replace("nan", word), encoding="utf-8")
    return path, Request(files={"weights": Elsewhere(weights_beside(path))})


WORDS = ["", "NA", "NaN", "nan", "null", "-", "#N/A", "n/a", "–", "-nan(ind)", "None", '""', " "]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("word", WORDS)
def test_a_cell_that_holds_nothing_is_a_missing_reading(
    arrays: Arrays, tmp_path: Path, word: str, separator: str
) -> None:
    found = checked(*table(tmp_path / "x.csv", arrays, word, separator))
    assert found.missing is not None
    assert (found.missing.readings, found.missing.rows, found.missing.first_row) == (4, 3, 4)
    assert found.missing.by_output.tolist() == [1, 1, 2]
    assert not found.unusable


@pytest.mark.parametrize("word", ["#N/A", "#NA"])
def test_a_line_that_starts_with_a_missing_cell_is_no_remark(arrays: Arrays, tmp_path: Path, word: str) -> None:
    arrays["inputs"][7, 0] = np.nan
    found = checked(*table(tmp_path / "x.csv", arrays, word))
    assert (found.rows, found.unusable) == (60, {7: "missing input"})


@pytest.mark.parametrize("word", ["#DIV/0!", "x", "1.2.3", "1e"])
def test_a_cell_that_holds_something_else_is_refused_by_its_place(arrays: Arrays, tmp_path: Path, word: str) -> None:
    path, request = table(tmp_path / "x.csv", arrays, word)
    error = refusal(path, CaptureValues, request)
    assert "line 7, column 6" in error.what
    assert word in error.seen


@pytest.mark.parametrize("ending", ["npz", "h5", "mat", "json", "parquet"])
def test_nan_and_null_are_missing_readings_in_every_format(arrays: Arrays, tmp_path: Path, ending: str) -> None:
    path, request = tmp_path / f"x.{ending}", None
    if ending == "npz":
        write_npz(path, arrays)
    elif ending == "h5":
        write_h5(path, arrays)
    elif ending == "mat":
        savemat(path, arrays)
    elif ending == "json":
        path.write_text(json.dumps({k: v.tolist() for k, v in arrays.items()}).replace("NaN", "null"))
    else:
        lib, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = {f"input_{k}": arrays["inputs"][:, k] for k in range(5)}
        columns |= {f"reading_{m}": lib.array(arrays["readings"][:, m], from_pandas=True) for m in range(3)}
        parquet.write_table(lib.table(columns), path)
        np.save(tmp_path / "w.npy", arrays["weights"])
        request = Request(files={"weights": Elsewhere(tmp_path / "w.npy")})
    found = checked(path, request)
    assert found.missing is not None
    assert found.missing.by_output.tolist() == [1, 1, 2]


def test_a_key_that_some_rows_of_json_lack_is_a_missing_reading(arrays: Arrays, tmp_path: Path) -> None:
    rows = [
        {f"input_{k}": v for k, v in enumerate(x)} | {f"reading_{m}": v for m, v in enumerate(y) if np.isfinite(v)}
        for x, y in zip(arrays["inputs"].tolist(), arrays["readings"].tolist(), strict=True)
    ]
    del rows[0]["reading_2"]  # the first row does not say which columns there are
    path = tmp_path / "x.json"
    path.write_text(json.dumps(rows))
    np.save(tmp_path / "w.npy", arrays["weights"])
    found = checked(path, Request(files={"weights": Elsewhere(tmp_path / "w.npy")}))
    assert found.missing is not None
    assert found.missing.by_output.tolist() == [1, 1, 3]


def test_a_missing_input_leaves_its_row_out(arrays: Arrays, tmp_path: Path) -> None:
    arrays["inputs"][[12, 30], 3] = np.nan
    arrays["readings"][40, 0] = np.inf
    found = checked(write_npz(tmp_path / "x.npz", arrays))
    assert found.unusable == {12: "missing input", 30: "missing input", 40: "not finite"}
    assert found.missing is not None
    assert found.missing.by_output.tolist() == [1, 1, 1]  # that of row 30 is left out with its row


@pytest.mark.parametrize(("name", "words"), [("weights", "weights lacks 2 values"), ("time", "time lacks 1 value")])
def test_a_missing_weight_or_time_is_refused(arrays: Arrays, tmp_path: Path, name: str, words: str) -> None:
    arrays["time"] = np.arange(60.0)
    arrays[name].reshape(len(arrays[name]), -1)[1] = np.nan if name == "time" else arrays[name][1]
    if name == "weights":
        arrays[name][1, :2] = np.nan
    error = refusal(write_npz(tmp_path / "x.npz", arrays), CaptureValues)
    assert error.what == words
    assert "row 1" in error.seen


def test_a_weight_that_is_missing_in_a_table_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    path, request = table(tmp_path / "x.csv", arrays, "")
    beside = weights_beside(path)
    first, *rest = beside.read_text().splitlines()
    beside.write_text("\n".join([",".join(["", *first.split(",")[1:]]), *rest]))
    assert refusal(path, CaptureValues, request).what == "weights lacks 1 value"


def test_too_many_missing_readings_are_refused_with_their_number(arrays: Arrays, tmp_path: Path) -> None:
    arrays["readings"][10:23, 1] = np.nan
    error = refusal(write_npz(tmp_path / "x.npz", arrays), CaptureValues)
    assert error.what == "output 1 lacks 14 of 60 readings"
    assert "20%" in error.expected
    arrays["readings"][:, 1] = np.nan  # an output that was never read is another thing
    found = checked(write_npz(tmp_path / "x.npz", arrays))
    assert found.missing is not None
    assert found.missing.by_output.tolist() == [1, 60, 2]
    arrays["readings"][:] = np.nan
    assert refusal(write_npz(tmp_path / "x.npz", arrays), CaptureValues).what == "every reading is missing"


def test_one_reading_a_row_among_missing_ones_is_told_how_to_be_written(tmp_path: Path) -> None:
    arrays = measurement()
    read = np.arange(3)[None, :] == np.arange(60)[:, None] % 3
    arrays["readings"][~read] = np.nan
    assert "`output`" in refusal(write_npz(tmp_path / "x.npz", arrays), CaptureValues).hint


def test_a_single_detector_lacks_readings_too(tmp_path: Path) -> None:
    arrays = one_reading_per_row(measurement())
    arrays["readings"][[3, 7]] = np.nan
    found = checked(write_npz(tmp_path / "x.npz", arrays))
    assert found.missing is not None
    assert found.missing.by_output.tolist() == [1, 1, 0]
    assert found.missing.unread.tolist() == [3, 7]
    arrays["readings"][:13] = np.nan
    error = refusal(write_npz(tmp_path / "x.npz", arrays), CaptureValues)
    assert error.what == "the detector lacks 13 of 60 readings"


def test_empty_lines_below_a_table_are_not_read_and_said(arrays: Arrays, tmp_path: Path) -> None:
    path, request = table(tmp_path / "x.csv", arrays, "")
    path.write_text(path.read_text() + "," * 7 + "\n" + "," * 7 + "\n")
    found = checked(path, request)
    assert found.rows == 60
    assert "the last 2 lines hold no value: not read" in found.notes
    remark, header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([remark, header, *["," * 7] * 8, *rows]))  # anywhere else they are rows
    assert refusal(path, CaptureValues, request).what.endswith("rows lack an input, or hold infinity")


def test_a_comma_at_the_end_of_every_line_is_no_column(arrays: Arrays, tmp_path: Path) -> None:
    path, request = table(tmp_path / "x.csv", arrays, "NA")
    path.write_text("\n".join(line if line.startswith("#") else f"{line}," for line in path.read_text().splitlines()))
    assert checked(path, request).rows == 60


def test_weights_that_are_square_are_still_told_by_the_readings_that_there_are(tmp_path: Path) -> None:
    arrays = measurement(rows=200, inputs=6, outputs=6)
    arrays["readings"][np.random.default_rng(1).random((200, 6)) < 0.18] = np.nan  # hardly a row is whole
    right = arrays["weights"]
    arrays["weights"] = right.T
    np.testing.assert_array_equal(checked(write_npz(tmp_path / "x.npz", arrays)).weights, right)


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("separator", ["\t", ";"])
def test_unicode_text_of_a_spreadsheet_is_read(arrays: Arrays, tmp_path: Path, codec: str, separator: str) -> None:
    path, request = table(tmp_path / "x.txt", arrays, "", separator)
    text = path.read_text().replace("reading_0", "reading_0 (µV)")
    mark = "\ufeff" if codec == "utf-16-be" else ""  # the others write it themselves
    path.write_bytes((mark + text).encode(codec))
    found = checked(path, request)
    assert (found.rows, found.unit) == (60, "µV")
    path.write_bytes((mark + text).encode(codec)[:-3])
    assert refusal(path, CaptureUnreadable, request).exit_code == 2
