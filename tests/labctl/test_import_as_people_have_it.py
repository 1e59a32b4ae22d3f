"""Files as people have them: of other programs, in several pieces, counted from 1, with headers that are none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from captures import Arrays, measurement, write_h5, write_npz, write_table

from labctl.__main__ import main
from labctl.errors import CaptureIncomplete, CaptureMismatch, CaptureUnreadable, CaptureValues, LabError, UsageError
from labctl.foreign.files import Elsewhere, Request, open_capture, parse_map, requested


@pytest.fixture
def arrays() -> Arrays:
    return measurement()


def read(path: Path, request: Request | None = None) -> tuple[Arrays, tuple[str, ...]]:
    with open_capture(path, request) as capture:
        capture.check()
        rows = {name: values[:] for name, values in capture.per_row().items()}
        return {**rows, "weights": capture.weights}, capture.notes


def same(found: Arrays, arrays: Arrays) -> None:
    for name in ("inputs", "weights", "readings"):
        np.testing.assert_allclose(found[name], arrays[name], rtol=1e-12)


def refused(path: Path, kind: type[LabError], request: Request | None = None) -> LabError:
    with pytest.raises(kind) as caught:
        read(path, request)
    assert caught.value.hint
    return caught.value


def apart(**paths: Path | str) -> Request:
    return requested(Path("-"), None, None, [], {name: str(path) for name, path in paths.items()})[1]


def lines(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def numbers(values: np.ndarray, separator: str = ",", comma: bool = False) -> list[str]:
    text = [separator.join(repr(float(v)) for v in row) for row in values]
    return [line.replace(".", ",") for line in text] if comma else text


# --- other programs' files


def test_matlab_files_of_both_kinds_are_read_as_matlab_shows_them(arrays: Arrays, tmp_path: Path) -> None:
    from scipy.io import savemat

    older = tmp_path / "older.mat"
    savemat(older, {**arrays, "comment": "a text", "settings": {"a": 1}})
    same(read(older)[0], arrays)
    newer = tmp_path / "newer.mat"
    with h5py.File(newer, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            file[name] = values.T  # MATLAB's first axis is HDF5's last
    with newer.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(512))
    found, notes = read(newer)
    same(found, arrays)
    assert not any("read as" in note for note in notes)
    with open_capture(newer, Request(rows="5:9")) as capture:
        np.testing.assert_array_equal(capture.inputs[1:3], arrays["inputs"][6:8])
    for damaged in (older, newer):
        data = damaged.read_bytes()
        damaged.write_bytes(data[: len(data) // 2])
        assert refused(damaged, CaptureUnreadable).code == "E-IMP-001"


def test_npy_files_are_read_together(arrays: Arrays, tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}_of_monday.npy" for name in arrays}
    for name, path in paths.items():
        np.save(path, arrays[name])
    path, request = requested(None, None, "10:", [], {name: str(p) for name, p in paths.items()})
    found, _ = read(path, request)
    np.testing.assert_array_equal(found["readings"], arrays["readings"][10:])
    with open_capture(path, request) as capture:
        assert capture.bytes == sum(p.stat().st_size for p in paths.values())
        assert capture.names["readings"] == "readings_of_monday.npy:readings_of_monday"
    np.save(paths["readings"], np.array([{}], dtype=object))
    assert "pickled" in refused(path, CaptureValues, request).what


@pytest.mark.parametrize("shape", ["object", "records", "lists"])
def test_json_is_read(arrays: Arrays, tmp_path: Path, shape: str) -> None:
    path, request = tmp_path / "x.json", None
    if shape == "object":
        document: object = {**{name: values.tolist() for name, values in arrays.items()}, "unit": "mV", "who": "us"}
    else:
        each = zip(arrays["inputs"].tolist(), arrays["readings"].tolist(), strict=True)
        if shape == "lists":
            document = [{"inputs": x, "readings": y} for x, y in each]
        else:
            document = [
                {f"input_{k}": v for k, v in enumerate(x)} | {f"reading_{k}": v for k, v in enumerate(y)}
                for x, y in each
            ]
        request = apart(weights=lines(tmp_path / "w.csv", numbers(arrays["weights"])))
    path.write_text("\ufeff" + json.dumps(document), encoding="utf-8")
    same(read(path, request)[0], arrays)
    for wrong in ("[1, 2", "3", '{"inputs": [[1], [2, 3]]}', '{"inputs": [["a"]]}', "[" * 5000):
        path.write_text(wrong)
        assert refused(path, LabError).code.startswith("E-IMP")


def test_tiff_stack_with_a_table_is_read(tmp_path: Path) -> None:
    import cv2

    rng = np.random.default_rng(0)
    frames = rng.integers(0, 65535, (30, 6, 8)).astype(np.uint16)
    weights = rng.random((3, 6, 8))
    readings = frames.reshape(30, -1) @ weights.reshape(3, -1).T
    cv2.imwritemulti(str(tmp_path / "stack.tif"), list(frames))
    table = lines(tmp_path / "read.csv", ["a,b,c", *numbers(readings)])
    np.save(tmp_path / "w.npy", weights)
    path, request = requested(
        None, None, None, [], {"inputs": str(tmp_path / "stack.tif"), "readings": str(table),
                               "weights": str(tmp_path / "w.npy")},
    )  # fmt: skip
    found, notes = read(path, request)
    np.testing.assert_array_equal(found["inputs"], frames.reshape(30, -1))
    np.testing.assert_allclose(found["readings"], readings)
    np.testing.assert_array_equal(found["weights"], weights.reshape(3, -1))
    assert any("inputs were (30, 6, 8): read as 30 rows of 48" in note for note in notes)
    (tmp_path / "stack.tif").write_bytes(b"II*\0" + bytes(40))
    assert refused(path, CaptureUnreadable, request).code == "E-IMP-001"


def test_parquet_is_read_where_pyarrow_is_at_hand(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1")
    with monkeypatch.context() as patched:
        patched.setitem(__import__("sys").modules, "pyarrow.parquet", None)
        error = refused(path, CaptureUnreadable)
        assert "pip install pyarrow" in error.hint
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {f"input_{k}": arrays["inputs"][:, k] for k in range(5)}
    columns |= {f"reading_{k}": arrays["readings"][:, k] for k in range(3)}
    parquet.write_table(arrow.table(columns), path)
    request = apart(weights=lines(tmp_path / "w.csv", numbers(arrays["weights"])))
    same(read(path, request)[0], arrays)
    lists = {"inputs": arrays["inputs"].tolist(), "readings": arrays["readings"].tolist(), "who": ["us"] * 60}
    parquet.write_table(arrow.table(lists), path)
    same(read(path, request)[0], arrays)
    path.write_bytes(path.read_bytes()[:-30])
    assert "only part" in refused(path, CaptureUnreadable, request).what


def test_a_filter_that_hdf5_lacks_is_called_missing(arrays: Arrays, tmp_path: Path) -> None:
    path = write_h5(tmp_path / "x.h5", arrays)
    with h5py.File(path, "r+") as file:
        del file["inputs"]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((60, 5))
        properties.set_filter(32999, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((60, 5))
        h5py.h5d.create(file.id, b"inputs", h5py.h5t.IEEE_F64LE, space, properties)
    error = refused(path, CaptureUnreadable)
    assert "not installed" in error.what
    assert "32999" in error.seen


def test_a_workbook_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "x.xlsx").write_bytes(b"PK\x03\x04")
    assert "CSV" in refused(tmp_path / "x.xlsx", UsageError).hint


# --- tables of spreadsheets


def spreadsheet(arrays: Arrays, path: Path) -> Path:
    """As a German Excel writes it: BOM, ``sep=;``, decimal commas, units in the header."""
    names = [f"input_{k} (V)" for k in range(1, 6)] + [f"reading_{k} [mV]" for k in range(1, 4)] + ["time (ms)"]
    table = np.column_stack([arrays["inputs"], arrays["readings"], 500.0 * np.arange(60)])
    text = "\r\n".join(["sep=;", ";".join(names), *numbers(table, ";", comma=True)])
    path.write_bytes(b"\xef\xbb\xbf" + text.encode("utf-8"))
    return path


def test_a_spreadsheets_table_is_read_with_its_commas_units_and_mark(arrays: Arrays, tmp_path: Path) -> None:
    path = spreadsheet(arrays, tmp_path / "x.csv")
    weights = lines(tmp_path / "w.csv", numbers(arrays["weights"], ";", comma=True))
    found, notes = read(path, apart(weights=weights))
    same(found, arrays)
    np.testing.assert_allclose(found["time_s"], 0.5 * np.arange(60))
    with open_capture(path, apart(weights=weights)) as capture:
        assert capture.unit == "mV"
    for word in ("decimal commas", "counted from 1", "time is in ms"):
        assert any(word in note for note in notes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,5;1,25\n2,0;3,5", [[0.5, 1.25], [2, 3.5]]),  # decimal commas are no header
        ("0,5\t1,25\n2\t3,5", [[0.5, 1.25], [2, 3.5]]),
        ('"0,5","1,25"\n"2,0","3,5"', [[0.5, 1.25], [2, 3.5]]),
        ("1.234,5;2\n0,5;3", [[1234.5, 2], [0.5, 3]]),
        ("0.5 1.25\n2  3.5", [[0.5, 1.25], [2, 3.5]]),  # numpy.savetxt
        ("a;b\n0,5;1,25\n2;3,5", [[0.5, 1.25], [2, 3.5]]),
        (",0,1\n0,0.5,1.25\n1,2,3.5", [[0.5, 1.25], [2, 3.5]]),  # pandas with its index
        ("1;2\n3;4", [[1, 2], [3, 4]]),
    ],
)
def test_weights_in_a_text_file_are_read_as_they_are_meant(
    tmp_path: Path, text: str, expected: list[list[float]]
) -> None:
    weights = lines(tmp_path / "w.csv", text.split("\n"))
    inputs = np.random.default_rng(0).random((30, 2))
    path = write_npz(tmp_path / "x.npz", {"inputs": inputs, "readings": inputs @ np.array(expected).T})
    found, _ = read(path, apart(weights=weights))
    np.testing.assert_array_equal(found["weights"], expected)


def test_a_first_line_that_counts_is_a_header_unless_the_shapes_say_otherwise(tmp_path: Path) -> None:
    arrays = measurement(inputs=8, outputs=4)
    path = tmp_path / "x.npz"
    counted = lines(tmp_path / "w.csv", [",".join(map(str, range(8))), *numbers(arrays["weights"])])
    write_npz(path, {name: values for name, values in arrays.items() if name != "weights"})
    found, notes = read(path, apart(weights=counted))
    np.testing.assert_array_equal(found["weights"], arrays["weights"])
    assert any("first line taken for a header" in note for note in notes)
    ramp = np.vstack([np.arange(8.0), arrays["weights"][1:]])
    whole = lines(tmp_path / "w.csv", [",".join(map(str, range(8))), *numbers(ramp[1:])])
    found, notes = read(path, apart(weights=whole))
    np.testing.assert_array_equal(found["weights"], ramp)
    assert any("first line taken for numbers" in note for note in notes)
    neither = lines(tmp_path / "w.csv", [",".join(map(str, range(8))), *numbers(ramp[2:])])
    error = refused(path, CaptureMismatch, apart(weights=neither))
    assert "tried" in error.seen
    assert "first line" in error.seen


def test_readings_and_inputs_as_tables_of_their_own(arrays: Arrays, tmp_path: Path) -> None:
    index = np.arange(60.0)[:, None]
    request = apart(
        inputs=lines(tmp_path / "x.csv", ["index,a,b,c,d,e", *numbers(np.hstack([index, arrays["inputs"]]))]),
        readings=lines(tmp_path / "y.txt", numbers(arrays["readings"], " ")),
        weights=write_npz(tmp_path / "w.npz", {"W": arrays["weights"].T, "other": index}),
    )
    error = refused(tmp_path / "x.csv", CaptureIncomplete, request)
    assert f"--weights {tmp_path / 'w.npz'}:" in error.hint
    request = apart(
        inputs=tmp_path / "x.csv", readings=tmp_path / "y.txt", weights=f"{tmp_path / 'w.npz'}:W.T"
    )  # fmt: skip
    same(read(tmp_path / "x.csv", request)[0], arrays)


def test_columns_keep_names_with_numbers_that_are_no_series(arrays: Arrays, tmp_path: Path) -> None:
    path = write_table(tmp_path / "x.csv", arrays)
    text = path.read_text().splitlines()
    path.write_text("\n".join([f"{text[1]},temp 2,lamp7", *(f"{line},20.5,3" for line in text[2:])]))
    found, notes = read(path, apart(weights=tmp_path / "x-weights.csv"))
    same(found, arrays)
    assert any("not read: lamp7, temp 2" in note for note in notes)


# --- names


def test_names_with_spaces_commas_and_brackets_are_mapped(arrays: Arrays, tmp_path: Path) -> None:
    renamed = {"Input (V)": arrays["inputs"], "W[0, all]": arrays["weights"], "cam 1, counts": arrays["readings"]}
    path = write_h5(tmp_path / "x.h5", renamed)
    names = parse_map(["inputs=Input (V),weights=W[0, all]", "readings=cam 1, counts"])
    same(read(path, Request(names=names))[0], arrays)
    for wrong in ("inputs=X,weight=W", "X", "inputs=X,,", "=X"):
        with pytest.raises(UsageError):
            parse_map([wrong] if wrong != "inputs=X,," else ["inputs=,"])


def test_hints_work_when_they_are_typed(arrays: Arrays, tmp_path: Path) -> None:
    renamed = {"inputs": arrays["inputs"], "Weights": arrays["weights"], "readings": arrays["readings"]}
    path = write_npz(tmp_path / "x.npz", renamed)
    hint = refused(path, CaptureIncomplete).hint
    typed = hint.partition("--map ")[2].partition("   ·")[0].strip('"')
    same(read(path, Request(names=parse_map([typed])))[0], arrays)
    del renamed["Weights"]
    write_npz(path, renamed)
    hint = refused(path, CaptureIncomplete).hint
    assert "weights=readings" not in hint
    assert "weights=inputs" not in hint
    other = write_npz(tmp_path / "w.npz", {"matrix": arrays["weights"], "notes": np.zeros(3)})
    hint = refused(path, CaptureIncomplete, apart(weights=other)).hint
    assert str(other) in hint


def test_an_array_is_named_once(arrays: Arrays, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "x.npz", arrays)
    with pytest.raises(UsageError, match="named twice") as caught:
        requested(path, None, None, ["weights=W"], {"weights": str(path)})
    assert f"--weights {path}:W" in caught.value.hint
    with pytest.raises(UsageError, match="no such file"):
        requested(path, None, None, [], {"weights": f"{path}x:W"})
    with pytest.raises(UsageError, match="no file"):
        requested(None, None, None, [], {})
    assert requested(None, None, None, [], {"inputs": f"{path}:inputs"})[0] == path
    odd = write_npz(tmp_path / "a:b.npz", arrays)
    assert requested(path, None, None, [], {"inputs": str(odd)})[1].files["inputs"] == Elsewhere(odd)


# --- which way round, and from which number


def test_square_weights_that_lie_the_other_way_round_are_found_by_the_readings(tmp_path: Path) -> None:
    arrays = measurement(inputs=4, outputs=4)
    path = write_npz(tmp_path / "x.npz", {**arrays, "weights": arrays["weights"].T})
    found, notes = read(path)
    np.testing.assert_array_equal(found["weights"], arrays["weights"])
    assert any("read so that the readings follow" in note for note in notes)
    renamed = write_npz(
        tmp_path / "y.npz", {"W": arrays["weights"].T, **{k: arrays[k] for k in ("inputs", "readings")}}
    )
    found, _ = read(renamed, Request(names={"weights": "W"}))  # a name says nothing of the way round
    np.testing.assert_array_equal(found["weights"], arrays["weights"])
    found, _ = read(path, Request(names={"weights": "weights"}))  # this does
    np.testing.assert_array_equal(found["weights"], arrays["weights"].T)


def test_as_many_rows_as_inputs_are_told_apart_by_the_readings(tmp_path: Path) -> None:
    arrays = measurement(rows=40, inputs=40, outputs=3)
    path = write_npz(tmp_path / "x.npz", {**arrays, "inputs": arrays["inputs"].T})
    same(read(path)[0], arrays)


def test_a_doubt_that_the_readings_do_not_settle_is_said(tmp_path: Path) -> None:
    arrays = measurement(inputs=4, outputs=4)
    arrays["readings"] = np.random.default_rng(0).random((60, 4))
    _, notes = read(write_npz(tmp_path / "x.npz", arrays))
    assert any("the readings do not tell" in note for note in notes)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("last_used", [True, False])
def test_outputs_counted_from_1_are_read_as_such_and_said(tmp_path: Path, last_used: bool, dtype: type) -> None:
    arrays = measurement(rows=300, outputs=4)
    rng = np.random.default_rng(3)
    output = rng.integers(0, 4 if last_used else 3, 300)
    single = {**arrays, "readings": arrays["readings"][np.arange(300), output], "output": (output + 1).astype(dtype)}
    found, notes = read(write_npz(tmp_path / "x.npz", single))
    np.testing.assert_array_equal(found["output"], output)
    assert any("counts from 1" in note for note in notes)
    single["output"] = output.astype(dtype)
    found, notes = read(write_npz(tmp_path / "x.npz", single))
    np.testing.assert_array_equal(found["output"], output)
    assert any("output 3 has no reading" in note for note in notes) != last_used


def test_outputs_from_0_whose_first_is_never_used_stay_so(tmp_path: Path) -> None:
    arrays = measurement(rows=300, outputs=4)
    output = np.random.default_rng(3).integers(1, 3, 300)
    single = {**arrays, "readings": arrays["readings"][np.arange(300), output], "output": output}
    found, notes = read(write_npz(tmp_path / "x.npz", single))
    np.testing.assert_array_equal(found["output"], output)
    assert any("output 0 has no reading" in note for note in notes)


# --- weights of each row, images, clocks


def test_weights_of_each_row_are_brought_by_the_line_that_is_told(arrays: Arrays, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = rng.random((60, 3, 5))
    readings = np.einsum("rmk,rk->rm", weights, arrays["inputs"])
    path = write_npz(tmp_path / "x.npz", {"inputs": arrays["inputs"], "weights": weights, "readings": readings})
    error = refused(path, CaptureMismatch)
    assert "differ from row to row" in error.what
    code = error.hint.partition(": ")[2].replace("one.npz", str(tmp_path / "one.npz"))
    exec(code, {})
    found, _ = read(tmp_path / "one.npz")
    w, output = found["weights"], found["output"].astype(int)
    np.testing.assert_allclose((found["inputs"] * w[output]).sum(axis=1), found["readings"])
    assert found["readings"].shape == (180,)


def test_images_are_rows_of_their_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    inputs, weights = rng.random((50, 3, 4)), rng.random((2, 3, 4))
    readings = inputs.reshape(50, -1) @ weights.reshape(2, -1).T
    path = write_h5(tmp_path / "x.h5", {"inputs": inputs, "weights": weights, "readings": readings})
    found, notes = read(path, Request(rows="10:20"))
    np.testing.assert_array_equal(found["inputs"], inputs[10:20].reshape(10, -1))
    np.testing.assert_array_equal(found["weights"], weights.reshape(2, -1))
    assert any("weights were (2, 3, 4)" in note for note in notes)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int16])
def test_a_clock_that_wraps_or_restarts_is_refused_in_any_type(arrays: Arrays, tmp_path: Path, dtype: type) -> None:
    restarts = np.concatenate([np.arange(40), np.arange(20)]).astype(dtype)
    assert (
        "row 40: 0 after 39" in refused(write_npz(tmp_path / "x.npz", {**arrays, "time": restarts}), CaptureValues).seen
    )
    top = int(np.iinfo(dtype).max)
    wraps = np.concatenate([top - np.arange(40)[::-1].astype(object), np.arange(20)]).astype(dtype)
    error = refused(write_npz(tmp_path / "x.npz", {**arrays, "time": wraps}), CaptureValues)
    assert "np.unwrap" in error.hint


def test_columns_called_x_and_y_are_answered_with_a_map_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(31)
    weights, inputs = rng.random((2, 3)), rng.random((40, 3))
    names = ",".join(["x0", "x1", "x2", "y0", "y1"])
    table = np.hstack([inputs, 5 + inputs @ weights.T])
    np.savetxt(tmp_path / "xy.csv", table, delimiter=",", header=names, comments="")
    np.savetxt(tmp_path / "w.csv", weights, delimiter=",")
    weighted = ["--weights", str(tmp_path / "w.csv"), "--runs", str(tmp_path / "runs")]
    command = ["import", str(tmp_path / "xy.csv"), *weighted]
    assert main(command) == 2
    (hint,) = re.findall(r"--map (\S+)", capsys.readouterr().err)
    assert hint == "inputs=x,readings=y"
    assert main([*command, "--map", hint]) == 0


def test_columns_in_different_units_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "units.csv"
    lines = ["input_0,reading_0 (mV),reading_1 (V)", *(f"0.{row},{row},{row}" for row in range(1, 9))]
    path.write_text("\n".join(lines))
    (tmp_path / "weights.csv").write_text("0.1\n0.2\n")
    error = refused(path, CaptureMismatch, Request(files={"weights": Elsewhere(tmp_path / "weights.csv")}))
    assert error.seen == "mV, V"


def test_names_that_say_nothing_are_told_apart_by_their_shapes_and_the_hint_works(arrays: Arrays, tmp_path: Path):
    names = {"drive": "inputs", "slm_state": "weights", "frames": "readings"}
    path = write_npz(tmp_path / "theirs.npz", {there: arrays[name] for there, name in names.items()})
    hint = refused(path, CaptureIncomplete).hint
    mapped = re.search(r"--map (\S+)", hint)
    assert mapped is not None
    found, _ = read(path, requested(path, None, None, [mapped[1]], {})[1])
    same(found, arrays)


def test_where_shapes_leave_it_open_the_hint_names_no_order(tmp_path: Path):
    square = np.random.default_rng(0).random((5, 5))
    path = write_npz(tmp_path / "theirs.npz", {"alpha": square, "beta": square + 1, "gamma": square + 2})
    assert "--map inputs=alpha or --map inputs=beta" in refused(path, CaptureIncomplete).hint


@pytest.mark.parametrize("head", [str.upper, str.title])
def test_a_table_with_capital_names_and_fortran_numbers_is_read(arrays: Arrays, tmp_path: Path, head) -> None:
    rows = np.concatenate([arrays["inputs"], arrays["readings"]], axis=1)
    names = [f"{name}_{i}" for name in ("input", "reading") for i in range(arrays[f"{name}s"].shape[1])]
    cells = [",".join(f"{value:.17E}".replace("E", "D") for value in row) for row in rows]
    path = lines(tmp_path / "run.csv", [",".join(map(head, names)), *cells])
    weights = lines(tmp_path / "w.csv", numbers(arrays["weights"]))
    for more in ({}, {"inputs": head("input"), "readings": head("reading")}):  # as it was told before
        found, notes = read(path, Request(files={"weights": Elsewhere(weights)}, names=more))
        same(found, arrays)
        assert f"{head('input')} is read as input" in notes
        assert not any("not read" in note for note in notes)


def test_texts_and_ragged_rows_of_hdf5_are_called_so(arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    for kind, words in ((h5py.string_dtype(), "holds texts"), (h5py.vlen_dtype(float), "rows of different lengths")):
        with h5py.File(path, "w") as file:
            for name in ("inputs", "weights"):
                file[name] = arrays[name]
            file.create_dataset("readings", (len(arrays["inputs"]),), kind)
        assert words in refused(path, CaptureValues).what
