"""``labctl import``, ``fit`` and ``predict`` of a recording with faults: each is said, by the rows of the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import faulty_recordings as recordings
import jsonschema
import numpy as np
import pytest

from labctl.archive.calibrations import CalibrationStore
from labctl.foreign.arrays import fit as fit_arrays

SCHEMAS = Path(__file__).parents[2] / "data" / "schemas"
Invoke = Callable[..., tuple[int, str, str]]


pytestmark = pytest.mark.usefixtures("here")


def test_rows_slips_and_dead_outputs_are_said_by_the_rows_of_the_file(labctl: Invoke, tmp_path: Path) -> None:
    recording = recordings.slipped(3, at=300, by=1, rows=520)
    readings = recording.readings.copy()
    readings[-8:] = 0
    readings[:, 2] = 7
    readings[-8:, 2] = 0
    readings[150, 0] = np.inf
    readings[[160, 170], [0, 1]] = np.nan
    inputs = recording.inputs.copy()
    inputs[180, 0] = np.nan
    arrays = {"weights": recording.weights, "readings": readings}
    np.savez("x.npz", inputs=inputs, **arrays)
    assert labctl("import", "x.npz", "--rows", "100:", "--name", "b", "--unit", "DN")[0] == 0
    code, out, _ = labctl("fit", "--json")
    fitted = json.loads(out)
    assert code == 0
    jsonschema.validate(fitted, json.loads((SCHEMAS / "fit-1.schema.json").read_text()))
    reasons = {row["index"]: row["reason"] for row in fitted["bad_rows"]}
    assert {row for row, reason in reasons.items() if reason.startswith("dropped")} >= set(range(512, 519))
    assert (reasons[150], reasons[180]) == ("not finite", "missing input")
    assert any("2 readings are missing (output 0 1, output 1 1), first in row 160" in n for n in fitted["notes"])
    assert any("from row 300 on the readings are 1 row late" in note for note in fitted["notes"])
    assert any("output 2 reads 7 DN" in note for note in fitted["notes"])
    assert fitted["heldout"]["rms_percent_of_range"][2] is None
    code, out, _ = labctl("predict", fitted["calibration"]["id"], "x.npz", "-o", "p.npz")
    assert code == 0
    assert "from row 300 on" in out
    predicted = np.load("p.npz")
    assert predicted["mean"].shape == (518, 4)
    assert np.isfinite(predicted["mean"]).all()


def test_who_stops_the_drawing_is_told_that_the_calibration_is_applied(
    labctl: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = recordings.sound(0, 200)
    np.savez("x.npz", inputs=recording.inputs, weights=recording.weights, readings=recording.readings)
    labctl("import", "x.npz")
    with monkeypatch.context() as patched:

        def stopped(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr("labctl.report.response_page.write_response_report", stopped)
        code, out, err = labctl("fit")
    assert code == 130
    applied = CalibrationStore(tmp_path / "runs").applied("x")
    assert applied is not None
    assert f"the calibration {applied.id} is applied to the bench; only the report was not drawn" in err
    assert out.index("applied:") < out.index(f"calibration {applied.id}")
    code, out, _ = labctl("fit", err.partition("labctl fit ")[2].split()[0])
    assert code == 0
    assert applied.id in out
    assert "report:" in out


def test_figures_of_many_outputs_and_bad_rows_are_drawn_with_a_bounded_number_of_points(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from matplotlib.figure import Figure

    from labctl.foreign.fitted_rows import FittedRows
    from labctl.report import response_figures

    monkeypatch.setattr(response_figures, "Figure", Figure)
    rows, outputs = 4000, 1296
    values = np.random.default_rng(0).random((rows, outputs))
    fit = FittedRows(
        np.arange(float(rows)), "rows", values, values, values, np.arange(rows) % 2 == 0, np.ones(outputs), None,
        np.ones((outputs, 4)), "DN",
    )  # fmt: skip
    figure = response_figures.course(fit)
    points = sum(len(line.get_xdata()) for line in figure.axes[0].lines)
    assert points < 2 * response_figures.MOST_POINTS
    assert len(figure.axes[0].lines) < outputs + 10  # bad rows are one collection


def test_figures_show_rows_as_the_fit_took_them() -> None:
    """Rows that were put in step, missing readings and numbers that stand for none, as the fit had them."""
    from labctl.foreign.fitted_rows import fitted_rows

    recording = recordings.sound(3, 400)
    readings = recording.readings.copy()
    readings[150:] = readings[149:-1].copy()
    readings[77, 0] = np.nan
    readings[[30, 90, 200], 1] = 65535.0
    fit = fit_arrays(recording.inputs, recording.weights, readings)
    assert any("1 row late" in note for note in fit.notes)
    drawn = fitted_rows(fit, fit.response)
    missed = drawn.percent_of_range()[~drawn.bad]
    stated = drawn.heldout_percent
    assert np.all(np.sqrt(np.nanmean(missed**2, axis=0)) < 1.2 * stated)
    assert np.isnan(drawn.readings[77, 0])
    assert np.nanmax(drawn.readings) < 65535


def test_several_files_are_one_measurement(labctl: Invoke, tmp_path: Path) -> None:
    recording = recordings.sound(0, 120)
    np.save("x.npy", recording.inputs)
    np.savez("r.npz", a=recording.readings, b=recording.weights)
    apart = ["--inputs", "x.npy", "--readings", "r.npz:a", "--weights", "r.npz:b"]
    code, out, _ = labctl("import", *apart, "--name", "pieces", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["names"] == {"inputs": "x.npy:x", "weights": "r.npz:b", "readings": "r.npz:a"}
    assert document["source"]["format"] == "npy + npz"
    assert labctl("fit")[0] == 0
    code, out, _ = labctl("predict", json.loads(labctl("fit", "--json")[1])["calibration"]["id"], *apart)
    assert code == 0
    assert "inside 95 %" in out
    code, _, err = labctl("import")
    assert (code, "--inputs F:NAME" in err) == (2, True)
