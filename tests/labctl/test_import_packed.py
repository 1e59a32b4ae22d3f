"""Numbers that a file keeps packed, and clocks whose unit stands beside them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from captures import measurement, weights_beside, write_table

from labctl.errors import CaptureValues
from labctl.foreign.files import Elsewhere, Request, open_capture

FACTOR, OFFSET, NONE = 0.05, 80.0, -9999


def packed(path: Path, *, scale: object = FACTOR, unit: str | None = None) -> dict[str, np.ndarray]:
    """A capture whose readings are int16 with a factor, an offset and a fill value, and what is meant by it."""
    arrays = measurement()
    stored = np.round((arrays["readings"] - OFFSET) / FACTOR).astype(np.int16)
    stored[7, 1] = NONE
    with h5py.File(path, "w") as file:
        for name, values in {**arrays, "readings": stored, "time": np.arange(len(stored)) * 250.0}.items():
            file.create_dataset(name, data=values)
        file["readings"].attrs.update({"scale_factor": scale, "add_offset": OFFSET, "_FillValue": np.int16(NONE)})
        file["readings"].attrs["units"] = np.bytes_("mV")
        if unit:
            file["time"].attrs["units"] = np.bytes_(unit)
    meant = stored * FACTOR + OFFSET
    meant[7, 1] = np.nan
    return arrays | {"readings": meant}


def test_packed_readings_of_hdf5_are_unpacked_and_said(tmp_path: Path) -> None:
    meant = packed(tmp_path / "x.h5")
    with open_capture(tmp_path / "x.h5") as capture:
        checked = capture.check()
        assert capture.readings is not None
        np.testing.assert_allclose(capture.readings[:], meant["readings"], rtol=1e-12)
        assert checked.missing is not None
        assert checked.missing.readings == 1
        assert capture.unit == "mV"
        assert any("read as 0.05 × number +80; -9999 stands for no value" in note for note in capture.notes)


@pytest.mark.parametrize("scale", [0.0, np.nan, [1.0, 2.0], "0.05"])
def test_a_factor_that_unpacks_nothing_is_refused(tmp_path: Path, scale: object) -> None:
    packed(tmp_path / "x.h5", scale=scale)
    with pytest.raises(CaptureValues, match="scale_factor of readings cannot be used"), open_capture(tmp_path / "x.h5"):
        pass


def test_numbers_without_a_sign_in_a_signed_type_and_those_outside_their_range_are_told(tmp_path: Path) -> None:
    arrays = measurement()
    levels = np.round(25 * arrays["inputs"]).astype(np.uint8)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["weights"], file["inputs"] = arrays["weights"], levels.view(np.int8)
        file["readings"] = np.where(np.arange(60)[:, None] == 9, 9e9, arrays["readings"])
        file["inputs"].attrs["_Unsigned"] = "true"
        file["readings"].attrs["valid_max"] = 1e6
    with open_capture(tmp_path / "x.h5") as capture:
        assert levels.max() > 127
        np.testing.assert_array_equal(capture.inputs[:], levels)
        assert capture.readings is not None
        assert np.isnan(capture.readings[:]).all(axis=1).nonzero()[0].tolist() == [9]
        assert any("no sign" in note for note in capture.notes)
        assert any("numbers outside -inf … 1e+06 are no values" in note for note in capture.notes)


@pytest.mark.parametrize("unit", ["ms", "milliseconds since 2026-11-29 12:00:00", "Milliseconds"])
def test_the_unit_beside_a_clock_of_hdf5_counts(tmp_path: Path, unit: str) -> None:
    packed(tmp_path / "x.h5", unit=unit)
    with open_capture(tmp_path / "x.h5") as capture:
        assert capture.time_s is not None
        np.testing.assert_allclose(capture.time_s[:], np.arange(60) * 0.25)


def test_the_unit_of_a_column_counts_also_where_the_clock_has_another_name(tmp_path: Path) -> None:
    path = write_table(tmp_path / "x.csv", {**measurement(), "time": np.arange(60) * 250.0})
    path.write_text(path.read_text().replace("time", "t [ms]", 1))
    request = Request(names={"time": "t"}, files={"weights": Elsewhere(weights_beside(path))})
    with open_capture(path, request) as capture:
        assert capture.time_s is not None
        np.testing.assert_allclose(capture.time_s[:], np.arange(60) * 0.25)
