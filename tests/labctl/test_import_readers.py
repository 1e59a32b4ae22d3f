"""Reading somebody else's measurement: every format gives the same numbers, and every doubt is answered in words."""

from __future__ import annotations

import errno
import os
import socket
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from captures import Arrays, measurement, one_reading_per_row, weights_beside, write_h5, write_npz, write_table

from labctl.errors import (
    CaptureIncomplete,
    CaptureMismatch,
    CaptureUnreadable,
    CaptureValues,
    LabError,
    NotWritable,
    UsageError,
)
from labctl.foreign.files import Elsewhere, Request, formats, open_capture, parse_map
from labctl.foreign.files import contents as limits
from labctl.foreign.files.operands import in_file, observations_of


@pytest.fixture
def arrays() -> Arrays:
    return measurement()


def read(path: Path, request: Request | None = None) -> Arrays:
    with open_capture(path, request) as capture:
        capture.check()
        rows = {name: values[:] for name, values in capture.per_row().items()}
        return {**rows, "weights": capture.weights}


def refusal(path: Path, kind: type[LabError], request: Request | None = None) -> LabError:
    with pytest.raises(kind) as caught:
        read(path, request)
    assert str(path) in caught.value.device or caught.value.device == ""
    return caught.value


@pytest.mark.parametrize("several", [True, False], ids=["all-outputs", "one-output-a-row"])
@pytest.mark.parametrize("ending", ["npz", "h5", "csv", "tsv", "semicolons"])
def test_every_format_gives_the_same_numbers(arrays: Arrays, tmp_path: Path, ending: str, several: bool) -> None:
    arrays = arrays if several else one_reading_per_row(arrays)
    path = tmp_path / f"x.{ending.replace('semicolons', 'csv')}"
    request = None
    if ending == "npz":
        write_npz(path, arrays)
    elif ending == "h5":
        write_h5(path, arrays)
    else:
        write_table(path, arrays, {"csv": ",", "tsv": "\t", "semicolons": ";"}[ending])
        request = Request(files={"weights": Elsewhere(weights_beside(path))})
    found = read(path, request)
    for name, values in arrays.items():
        np.testing.assert_array_equal(found["time_s" if name == "time" else name], values)


def test_rows_are_a_half_open_slice_of_the_file(arrays: Arrays, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "x.npz", arrays)
    np.testing.assert_array_equal(read(path, Request(rows="10:25"))["readings"], arrays["readings"][10:25])
    np.testing.assert_array_equal(read(path, Request(rows="-5:"))["inputs"], arrays["inputs"][-5:])
    for wrong in ("10", "20:10", "0:61", "1:2:3", "a:b", "61:", "9" * 30 + ":"):
        assert wrong in refusal(path, UsageError, Request(rows=wrong)).seen


@pytest.mark.parametrize("turned", ["inputs", "weights", "readings"])
def test_transposed_array_is_recognised_and_said(arrays: Arrays, tmp_path: Path, turned: str) -> None:
    path = write_h5(tmp_path / "x.h5", {**arrays, turned: arrays[turned].T})
    with open_capture(path, Request(rows="7:50")) as capture:
        assert any(f"{turned} were {arrays[turned].T.shape}: read as" in note for note in capture.notes)
        np.testing.assert_array_equal(capture.inputs[2:9], arrays["inputs"][9:16])
        np.testing.assert_array_equal(capture.readings[:], arrays["readings"][7:50])
        np.testing.assert_array_equal(capture.weights, arrays["weights"])


def test_square_weights_are_read_as_documented_unless_the_operator_says_otherwise(tmp_path: Path) -> None:
    arrays = measurement(inputs=3, outputs=3)
    path = write_npz(tmp_path / "x.npz", arrays)
    np.testing.assert_array_equal(read(path)["weights"], arrays["weights"])
    turned = Request(names={"weights": "weights.T"})
    np.testing.assert_array_equal(read(path, turned)["weights"], arrays["weights"].T)


def test_shapes_that_fit_in_two_ways_are_refused_with_what_to_type(tmp_path: Path) -> None:
    arrays = measurement(rows=40, inputs=3, outputs=3)
    arrays["readings"] = np.random.default_rng(1).random((40, 3))  # which follow neither way round
    path = write_npz(tmp_path / "x.npz", {**arrays, "inputs": arrays["inputs"].T})
    error = refusal(path, CaptureMismatch)
    assert "2 ways" in error.what
    assert "--map weights=weights.T" in error.hint
    assert read(path, Request(names=parse_map(["weights=weights"])))["inputs"].shape == (40, 3)
    np.testing.assert_array_equal(
        read(path, Request(names=parse_map(["weights=weights.T"])))["weights"], arrays["weights"].T
    )


def test_other_names_are_read_when_the_operator_gives_them(arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["entry/X"], file["entry/W"], file["y"] = arrays["inputs"], arrays["weights"], arrays["readings"]
    assert "entry/W" in refusal(path, CaptureIncomplete).seen
    request = Request(names=parse_map(["inputs=entry/X,weights=/entry/W", "readings=y"]))
    np.testing.assert_array_equal(read(path, request)["readings"], arrays["readings"])
    assert "did" not in refusal(path, CaptureIncomplete, Request(names={"inputs": "nothing"})).what
    for wrong in ("inputs", "pixels=X", "inputs=", "inputs=.T"):
        with pytest.raises(UsageError):
            parse_map([wrong])


def test_capital_letters_are_another_name_and_the_message_proposes_it(arrays: Arrays, tmp_path: Path) -> None:
    renamed = {"Inputs": arrays["inputs"], "weights": arrays["weights"], "readings": arrays["readings"]}
    assert "--map inputs=Inputs" in refusal(write_npz(tmp_path / "x.npz", renamed), CaptureIncomplete).hint


def test_unit_of_the_file_wins(arrays: Arrays, tmp_path: Path) -> None:
    path = write_h5(tmp_path / "x.h5", arrays, unit="mV")
    with open_capture(path, Request(unit="DN")) as capture:
        assert capture.unit == "mV"
        assert any("DN" in note for note in capture.notes)
    with open_capture(write_npz(tmp_path / "x.npz", arrays), Request(unit="DN")) as capture:
        assert capture.unit == "DN"
    with open_capture(write_npz(tmp_path / "x.npz", arrays)) as capture:
        assert capture.unit == "a.u."


def test_hdf5_is_read_in_pieces(arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_h5(tmp_path / "x.h5", measurement(rows=5000))
    longest = 0
    original = h5py.Dataset.__getitem__

    def watched(self: h5py.Dataset, key: object) -> object:
        nonlocal longest
        values = original(self, key)
        longest = max(longest, len(values))
        return values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", watched)
    monkeypatch.setattr("labctl.foreign.files.capture._BLOCK_BYTES", 8000)
    with open_capture(path) as capture:
        capture.check()
        assert sum(len(block["inputs"]) for block in capture.blocks()) == 5000
    assert longest <= 1000 // 5


def test_integers_of_any_byte_order_are_read(arrays: Arrays, tmp_path: Path) -> None:
    counts = {**arrays, "readings": arrays["readings"].astype(">u2")}
    np.testing.assert_array_equal(read(write_npz(tmp_path / "x.npz", counts))["readings"], counts["readings"])


# --- what is refused


@pytest.mark.parametrize("ending", ["npz", "h5"])
@pytest.mark.parametrize("name", ["weights", "time"])
def test_nan_is_counted_and_its_first_row_named(arrays: Arrays, tmp_path: Path, name: str, ending: str) -> None:
    arrays["time"] = np.arange(60.0)
    arrays[name].reshape(len(arrays[name]), -1)[1:3, 0] = np.nan
    path = (write_npz if ending == "npz" else write_h5)(tmp_path / f"x.{ending}", arrays)
    error = refusal(path, CaptureValues)
    assert "lacks 2 values" in error.what
    assert "row 1: empty, NA or NaN" in error.seen


@pytest.mark.parametrize(("name", "value"), [("inputs", np.nan), ("readings", np.inf), ("readings", -np.inf)])
def test_rows_that_are_not_finite_are_listed_as_they_are_counted_in_the_file(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    monkeypatch.setattr("labctl.foreign.files.capture._BLOCK_BYTES", 400)  # several blocks
    arrays[name][[30, 37], 1] = value
    path = write_npz(tmp_path / "x.npz", arrays)
    with open_capture(path, Request(rows="20:40")) as capture:
        checked = capture.check()
        assert sorted(checked.unusable) == [30, 37]
        observations = observations_of(checked)
        kept = [row for row in range(20, 40) if row not in (30, 37)]
        np.testing.assert_array_equal(observations.rows(0, 18).readings, arrays["readings"][kept])
        np.testing.assert_array_equal(observations.rows(9, 13).inputs, arrays["inputs"][kept[9:13]])
        place = in_file(checked)
        assert place.rows.tolist() == kept
        assert place.words("stale: it repeats row 10; see row 16") == "stale: it repeats row 31; see row 38"
    with open_capture(path, Request(rows="0:30")) as capture:
        assert not capture.check().unusable


def test_file_of_which_too_much_is_not_finite_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    arrays["readings"][10:17] = np.inf  # 7 of 60; a tenth may be
    error = refusal(write_npz(tmp_path / "x.npz", arrays), CaptureValues)
    assert "7 of 60 rows" in error.what
    assert error.seen == "first in row 10: not finite"
    arrays["readings"][10:17] = 1e31  # finite, and no instrument's
    assert "21 values" in refusal(write_npz(tmp_path / "x.npz", arrays), CaptureValues).what


def test_missing_array_is_named(arrays: Arrays, tmp_path: Path) -> None:
    del arrays["weights"]
    error = refusal(write_npz(tmp_path / "x.npz", arrays), CaptureIncomplete)
    assert "weights" in error.what
    assert "inputs (60, 5)" in error.seen
    assert "--weights" in refusal(write_table(tmp_path / "x.csv", arrays), CaptureIncomplete).hint


def test_disagreeing_numbers_are_told_apart(arrays: Arrays, tmp_path: Path) -> None:
    def what(**changed: object) -> str:
        path = write_npz(tmp_path / "x.npz", {**arrays, **changed})  # type: ignore[dict-item]
        return refusal(path, CaptureMismatch).what

    assert "numbers of inputs" in what(weights=np.ones((3, 6)))
    assert "numbers of rows" in what(readings=np.ones((59, 3)))
    assert "weights for 3 outputs, readings of 2" in what(readings=np.ones((60, 2)))
    assert "which output" in what(readings=np.ones(60))
    assert "every row has several" in what(output=np.zeros(60))
    assert "time has another number of rows" in what(time=np.arange(59.0))
    assert "wrong shape" in what(inputs=np.ones((60, 5, 1, 1, 1)))
    assert "wrong shape" in what(inputs=np.ones(60))
    assert "is empty" in what(inputs=np.ones((0, 5)), readings=np.ones((0, 3)))


def test_output_that_does_not_exist_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    single = one_reading_per_row(arrays)
    for wrong in (3.0, -1.0, 0.5):
        single["output"][7] = wrong
        error = refusal(write_npz(tmp_path / "x.npz", single), CaptureValues)
        assert "row 7" in error.seen
        assert "0 … 2" in error.expected


def test_pickles_and_text_are_never_opened(arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **{**arrays, "inputs": np.array([{"a": 1}, None], dtype=object)})
    assert "pickled" in refusal(path, CaptureValues).what
    np.savez(path, **{**arrays, "readings": np.array([["a", "b"]])})
    assert "real numbers" in refusal(path, CaptureValues).what
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["inputs"], file["weights"], file["readings"] = ["a", "b"], arrays["weights"], arrays["readings"]
    assert refusal(tmp_path / "x.h5", CaptureValues).code == "E-IMP-004"


@pytest.mark.parametrize("ending", ["npz", "h5"])
def test_truncated_file_is_refused(arrays: Arrays, tmp_path: Path, ending: str) -> None:
    path = (write_npz if ending == "npz" else write_h5)(tmp_path / f"x.{ending}", arrays)
    whole = path.read_bytes()
    for kept in (len(whole) - 10, len(whole) // 2, 20):
        path.write_bytes(whole[:kept])
        assert "only part of one" in refusal(path, CaptureUnreadable).what


@pytest.mark.parametrize("ending", ["npz", "h5", "csv", "tsv"])
def test_empty_file_and_random_bytes_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    path.write_bytes(b"")
    assert "empty" in refusal(path, CaptureUnreadable).what
    path.write_bytes(np.random.default_rng(0).bytes(3000))
    assert refusal(path, CaptureUnreadable).exit_code == 2


def test_file_that_is_not_there_or_of_an_unknown_kind(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "x.npz", UsageError).what
    assert "labctl import FILE" in refusal(tmp_path / "x.npz", UsageError).hint
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04")
    assert ".pkl" in refusal(tmp_path / "x.pkl", UsageError).seen


@pytest.mark.parametrize(
    ("name", "what", "words"),
    [
        ("/dev/null", "not a regular file", "a device"),
        ("pipe.npz", "not a regular file", "a pipe (FIFO)"),
        ("socket.npz", "not a regular file", "a socket"),
        ("folder.npz", "a folder is no measurement", "a folder"),
        ("link.npz", "no such file", "leads nowhere, to nothing"),
        ("empty.npz/x.npz", "no such file", "empty.npz is no folder"),
        ("-", "no such file", "a pipe is not read"),
    ],
)
def test_what_is_no_regular_file_is_called_what_it_is(
    name: str, what: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "link.npz").symlink_to("nothing")
    (tmp_path / "empty.npz").touch()
    with socket.socket(socket.AF_UNIX) as there:
        there.bind("socket.npz")
        error = refusal(Path(name), UsageError)
    assert (error.what, words in f"{error.seen} {error.hint}") == (what, True)


def test_file_that_may_not_be_read_is_not_called_unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may be root, who may read everything: the system's answer is made up."""
    path = write_npz(tmp_path / "x.npz", measurement())

    def forbidden(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("labctl.foreign.files.npz.open_contents", forbidden)
    error = refusal(path, NotWritable)
    assert (error.what, "ls -l" in error.hint) == ("cannot read this", True)


def test_zip_bomb_is_refused_from_its_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.foreign.files.npz.MEMORY_LIMIT_BYTES", 10_000_000)
    path = tmp_path / "x.npz"
    np.savez_compressed(path, inputs=np.zeros((2_000_000, 1)), weights=np.ones((1, 1)), readings=np.ones((3, 1)))
    assert path.stat().st_size < 50_000
    assert "unfolds to" in refusal(path, CaptureUnreadable).what


def test_header_that_promises_more_than_the_member_holds_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "x.npz", arrays)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["inputs.npy"] = members["inputs.npy"].replace(b"(60, 5)", b"(61, 5)")
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert "not as long as its header says" in refusal(path, CaptureUnreadable).what


def test_hdf5_that_declares_far_more_than_it_stores_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["weights"] = arrays["weights"]
        file.create_dataset("inputs", (10**12, 5), "f8", chunks=(1000, 5))
        file.create_dataset("readings", (10**12, 3), "f8", chunks=(1000, 3))
    assert "declares more numbers" in refusal(path, CaptureUnreadable).what


def test_hdf5_that_points_to_other_files_is_not_followed(arrays: Arrays, tmp_path: Path) -> None:
    other = write_h5(tmp_path / "other.h5", arrays)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["inputs"] = h5py.ExternalLink(other.name, "inputs")
        file["weights"], file["readings"] = arrays["weights"], arrays["readings"]
    assert "no inputs" in refusal(tmp_path / "x.h5", CaptureIncomplete).what
    with h5py.File(tmp_path / "y.h5", "w") as file:
        layout = h5py.VirtualLayout((60, 5), "f8")
        layout[:] = h5py.VirtualSource(str(other), "inputs", (60, 5))
        file.create_virtual_dataset("inputs", layout)
        file["weights"], file["readings"] = arrays["weights"], arrays["readings"]
    assert "another file" in refusal(tmp_path / "y.h5", CaptureUnreadable).what


def test_ragged_line_is_named(arrays: Arrays, tmp_path: Path) -> None:
    path = write_table(tmp_path / "x.csv", arrays)
    lines = path.read_text().splitlines()
    request = Request(files={"weights": Elsewhere(weights_beside(path))})
    lines[41] = lines[41].rpartition(",")[0]
    path.write_text("\n".join(lines))
    error = refusal(path, CaptureUnreadable, request)
    assert "line 42" in error.what
    assert (error.expected, error.seen) == ("8 columns", "7")


@pytest.mark.parametrize("word", ["abc", "1,5", "#REF!"])
def test_entry_that_is_no_number_is_named(arrays: Arrays, tmp_path: Path, word: str) -> None:
    path = write_table(tmp_path / "x.csv", arrays, ";")
    lines = path.read_text().splitlines()
    lines[10] = word + lines[10][lines[10].index(";") :]
    path.write_text("\n".join(lines))
    error = refusal(path, CaptureValues, Request(files={"weights": Elsewhere(weights_beside(path))}))
    assert "line 11, column 1" in error.what


def test_table_headers_that_cannot_be_understood(arrays: Arrays, tmp_path: Path) -> None:
    path = write_table(tmp_path / "x.csv", arrays)
    request, text = Request(files={"weights": Elsewhere(weights_beside(path))}), path.read_text()
    path.write_text(text.replace("input_3", "input_7"))
    assert "input_3 is missing" in refusal(path, CaptureIncomplete, request).what
    path.write_text(text.replace("input_3", "input_2"))
    assert "twice" in refusal(path, CaptureUnreadable, request).what
    path.write_text("\n".join(text.splitlines()[2:]))
    assert "no names" in refusal(path, CaptureUnreadable, request).what
    path.write_text("# only a remark\n")
    assert "no lines" in refusal(path, CaptureUnreadable, request).what


def test_table_larger_than_memory_is_refused(arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.foreign.files.delimited.MEMORY_LIMIT_BYTES", 1000)
    error = refusal(write_table(tmp_path / "x.csv", arrays), CaptureUnreadable)
    assert "HDF5" in error.hint
    assert limits.MEMORY_LIMIT_BYTES >= 2**30


TOY = """
from contextlib import contextmanager

import numpy as np

from labctl.foreign.files.contents import Contents


@contextmanager
def open_contents(path):
    blocks = path.read_text(encoding="utf-8").split("---")
    arrays = {}
    for block in blocks:
        name, _, lines = block.strip().partition(":")
        arrays[name] = np.array([[float(word) for word in line.split()] for line in lines.strip().splitlines()])
    yield Contents(arrays, lambda name: "mV")
"""


def test_a_file_format_is_one_new_file_and_one_line(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "toy_format.py").write_text(TOY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, formats.FileFormat("toy", (".toy",), "toy_format")))
    arrays = measurement()
    text = "---".join(
        f"{name}:\n" + "\n".join(" ".join(map(repr, row)) for row in values.tolist()) for name, values in arrays.items()
    )
    path = tmp_path / "bench.toy"
    path.write_text(text, encoding="utf-8")
    with open_capture(path) as capture:
        assert (capture.format, capture.unit) == ("toy", "mV")
        assert np.array_equal(capture.inputs[:], arrays["inputs"])
        assert np.array_equal(capture.readings[:], arrays["readings"])
    (tmp_path / "bench.xyz").write_text("?", encoding="utf-8")
    with pytest.raises(UsageError) as caught, open_capture(tmp_path / "bench.xyz"):
        pass
    assert ".toy" in caught.value.expected
