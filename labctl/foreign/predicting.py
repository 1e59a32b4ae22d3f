"""What a calibration says about another file of the same bench, and how well it meets the readings there."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import OutOfDomain
from calibration.loading import load_calibration
from calibration.response.model import Response
from calibration.response.observations import Observations
from calibration.response.other_weights import with_weights
from calibration.response.outside import REASONS
from calibration.response.predict import DriftCourse, Prediction, predict
from calibration.statistics.bad_frame import BadFrame
from labctl.archive.outputs import PREDICTIONS, require_output
from labctl.engine.calibrations import calibration_file
from labctl.errors import UsageError
from labctl.foreign.documents import (
    BadRow,
    Drift,
    Jump,
    OutputPredicted,
    Outside,
    OutsideGroup,
    Predicted,
    RowsRead,
    Source,
)
from labctl.foreign.files import Capture, Request, open_capture
from labctl.foreign.files.archived import Archived
from labctl.foreign.files.operands import InFile, in_file, observations_of
from labctl.foreign.importing import bench_name
from labctl.foreign.predictions import check_ending, write_predictions

Floats = NDArray[np.float64]


def predict_file(
    runs: Path, name: str, path: Path, request: Request, output: Path | None, *, force: bool = False
) -> Predicted:
    """Predict the rows of a file and, where it has readings, judge the prediction.

    Parameters
    ----------
    runs
        The archive.
    name
        The calibration: a file, or what `labctl.engine.calibrations.calibration_file` understands.
    path, request
        The file, and what was said about it; weights may be missing, they are then those of the calibration, or others
        where its gains are in proportion to them.
    output
        Where predicted readings go, None for nowhere.
    force
        Whether they may replace a file that is none of predictions.

    Raises
    ------
    UsageError, ArtefactError, OutOfDomain
        No such calibration, one of another kind, or one of another bench.
    LabError
        `labctl.foreign.files.open_capture`.
    """
    if output is not None:
        check_ending(output)
    source = calibration_file(runs, name)
    if output is not None:
        read = (source, path, *(place.path for place in request.files.values()))
        require_output(output, PREDICTIONS, read, force=force)
    response = open_response(source)
    with open_capture(path, request, default_weights=response.bench_weights) as capture:
        _check_shapes(response, capture)
        capture = capture.check()
        observations = observations_of(capture)
        found = predict(_with_weights_of(response, capture), observations)
        if output is not None:
            write_predictions(output, _arrays(found, capture), _attrs(response, capture, found))
        return _document(response, capture, observations, found, output)


def open_response(path: Path) -> Response:
    """A response from its file, full or portable.

    Raises
    ------
    UsageError
        When it is a calibration of one of our own benches.
    ArtefactError
        When it is damaged, or none at all.
    """
    found = load_calibration(path)
    if not isinstance(found, Response):
        raise UsageError(
            "a calibration of a bench that labctl drives: it predicts frames, not somebody's readings",
            device=str(path),
            expected="a calibration that labctl fit made from an import",
            seen=found.id,
            hint=f"labctl simulate {path}   ·   labctl import FILE, labctl fit",
        )
    return found


def bad_rows(found: Iterable[BadFrame], measurement: Archived | Capture) -> list[BadRow]:
    """What a fit or a prediction left out, and the rows that it never saw, in the order of the file."""
    place = in_file(measurement)
    bad = [BadRow.of(one, place) for one in found]
    bad += [BadRow.unusable(row, reason) for row, reason in measurement.unusable.items()]
    return sorted(bad, key=lambda row: row.index)


def _check_shapes(response: Response, capture: Capture) -> None:
    outputs, inputs = capture.weights.shape
    known = response.bench_weights.shape
    if (outputs, inputs) != known:
        raise OutOfDomain(
            "the file is of another bench than the calibration",
            device=str(capture.path),
            expected=f"{known[1]} inputs and {known[0]} outputs",
            seen=f"{inputs} inputs and {outputs} outputs",
            hint=f"fit this bench of its own: {_import_line(capture)}, then labctl fit",
        )


def _of_the_fit(response: Response, capture: Capture) -> bool:
    known = response.bench_weights
    same = np.isclose(capture.weights, known, rtol=1e-6, atol=1e-9)
    return bool(same[response.live].all())


def _with_weights_of(response: Response, capture: Capture) -> Response:
    """The response, for the weights of a file where they are others and the fit tells what these do."""
    if _of_the_fit(response, capture):
        return response
    try:
        return with_weights(response, capture.weights)
    except OutOfDomain as error:
        error.device = str(capture.path)
        error.hint = f"fit this bench of its own: {_import_line(capture)}, then labctl fit"
        raise


def _import_line(capture: Capture) -> str:
    """How a file is imported under another name than that of the bench that was fitted."""
    return f"labctl import {shlex.quote(str(capture.path))} --name {bench_name(capture.path, None)}"


def _document(
    response: Response, capture: Capture, observations: Observations, found: Prediction, output: Path | None
) -> Predicted:
    outputs = _outputs(observations, found) if found.rms_percent_of_range is not None else []
    notes = [*capture.notes, *(in_file(capture).words(note) for note in found.notes)]
    if not _of_the_fit(response, capture):
        notes.append("weights other than those of the fit: its gains are in proportion to the weights")
    if capture.unit not in (response.unit, "a.u."):
        notes.append(f"the file says {capture.unit}; the calibration is in {response.unit}")
    return Predicted(
        calibration=response.id,
        bench=str(response.provenance.get("bench", "")),
        source=Source(name=capture.path.name, format=capture.format, sha256=capture.sha256, bytes=capture.bytes),
        rows=RowsRead(start=capture.start, stop=capture.stop, in_file=capture.file_rows),
        unit=response.unit,
        readings=capture.readings is not None,
        outputs=outputs,
        rms_percent_of_range=[o.rms_percent_of_range for o in outputs],
        rms_percent_of_range_frozen=[o.rms_percent_of_range_frozen for o in outputs],
        coverage95=[o.coverage95 for o in outputs],
        chi2_per_dof=found.chi2_per_dof,
        bad_rows=bad_rows(found.bad_rows, capture),
        drift=_drift(found.drift, observations, response.unit, in_file(capture)) if found.drift else None,
        outside=_outside(response, capture, found),
        predictions=str(output) if output else None,
        notes=notes,
    )


def _outside(response: Response, capture: Capture, found: Prediction) -> Outside:
    """Rows beyond what the fit was shown, by reason, and in one sentence."""
    place = in_file(capture)
    groups = [
        OutsideGroup(
            reason=g.reason, rows=g.rows, first=place.row(g.first), inputs=list(g.inputs), outputs=list(g.outputs),
            words=g.words,
        )
        for g in found.outside_groups
    ]  # fmt: skip
    low, high = response.input_range
    if found.outside is None:
        words = (
            "this calibration does not say which rows the fit determines: it was made before that was kept, and its "
            "intervals do not hold in directions that the fit never saw; fit the import again: labctl fit RUN"
        )
        return Outside(rows=None, words=words, reasons=groups)
    inside = f"inputs within {low:.6g} … {high:.6g}, in directions that the fit determines"
    verb = "lies" if found.outside == 1 else "lie"
    words = f"{found.outside} of {len(found.outside_reason)} rows {verb} beyond what the fit was shown"
    return Outside(rows=found.outside, words=words if found.outside else inside, reasons=groups)


def _outputs(observations: Observations, found: Prediction) -> list[OutputPredicted]:
    assert observations.readings is not None
    assert found.rms_percent_of_range is not None
    assert found.rms_percent_of_range_frozen is not None
    assert found.coverage95 is not None
    good = np.ones(observations.count, bool)
    good[[b.index for b in found.bad_rows]] = False
    readings = np.asarray(observations.readings[:], np.float64).reshape(observations.count, -1)[good]
    outputs = len(found.coverage95)
    spans = np.broadcast_to([_span(column) for column in readings.T], outputs)
    return [
        OutputPredicted(
            output=m,
            rms_percent_of_range=float(found.rms_percent_of_range[m]),
            rms_percent_of_range_frozen=float(found.rms_percent_of_range_frozen[m]),
            coverage95=float(found.coverage95[m]),
            range=float(spans[m]),
        )
        for m in range(outputs)
    ]


def _span(readings: Floats) -> float:
    """From the smallest to the largest reading that there is."""
    read = readings[~np.isnan(readings)]
    return float(np.ptp(read)) if len(read) else 0.0


def _drift(course: DriftCourse, observations: Observations, unit: str, place: InFile) -> Drift:
    clock = observations.clock
    at = place.at(course.at) if clock == "rows" else course.at
    jumps = [
        Jump(
            row=place.row(j.index),
            gain_percent=100 * float(j.size[0]),
            gain_percent_stderr=100 * float(j.stderr[0]),
            offset=float(j.size[1]),
            offset_stderr=float(j.stderr[1]),
        )
        for j in course.jumps
    ]
    return Drift(
        model=course.model,
        words=place.words(course.in_words),
        clock="s" if clock == "s" else "rows",
        unit=unit,
        at=_list(at),
        gain_percent=_list(100 * course.gain),
        gain_percent_stderr=_list(100 * course.gain_stderr),
        offset=_list(course.offset),
        offset_stderr=_list(course.offset_stderr),
        jumps=jumps,
    )


def _list(values: Floats) -> list[float | None]:
    return [float(v) for v in values]


def _arrays(found: Prediction, capture: Capture) -> dict[str, NDArray[Any]]:
    return {
        "row": in_file(capture).rows,
        "mean": found.mean,
        "sd": found.sd,
        "low95": found.low95,
        "high95": found.high95,
        "outside": found.outside_reason,
    }


def _attrs(response: Response, capture: Capture, found: Prediction) -> Mapping[str, str]:
    return {
        "calibration": response.id,
        "unit": response.unit,
        "source": capture.path.name,
        "source_sha256": capture.sha256,
        "outside_rows": "unknown" if found.outside is None else str(found.outside),
        "outside_reasons": ", ".join(f"{i} {name}" for i, name in enumerate(REASONS)),
    }
