"""Fit an imported measurement: the response of that bench, its gate, its place in the store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from calibration.errors import CalibrationError
from calibration.response.artefact import save_response
from calibration.response.fit import ResponseFit, fit_response
from calibration.response.lines import output_lines
from calibration.response.model import Response
from labctl.archive import RunReader
from labctl.archive.calibrations import CalibrationStore
from labctl.archive.index import order
from labctl.archive.seal import REPORT
from labctl.errors import UsageError, storage_error
from labctl.foreign.documents import Fitted, FittedCalibration, Gate, HeldOut, NoiseLaw, OutputFitted
from labctl.foreign.files.archived import Archived, open_archived
from labctl.foreign.files.operands import in_file, observations_of
from labctl.foreign.fitted_rows import FittedRows, fitted_rows
from labctl.foreign.predicting import bad_rows, open_response
from labctl.lab import Lab
from labctl.summary import Choice


@dataclass(frozen=True)
class FittedRun:
    """A fitted import run.

    Attributes
    ----------
    document
        What ``labctl fit --json`` prints; it says where the page belongs.
    measured, fit, response
        The measurement, its fit, and the response as it was written.
    """

    document: Fitted
    measured: Archived
    fit: ResponseFit
    response: Response

    def rows(self) -> FittedRows:
        """What the figures of the page show."""
        return fitted_rows(self.fit, self.response)


def fit_run(lab: Lab, runs: Path, folder: Path, output: Path | None) -> FittedRun:
    """Fit the response of an import run and judge it on rows held out.

    The same run gives the same calibration, id and all: its parent is what was applied to the bench by earlier runs.

    Parameters
    ----------
    runs
        The archive, whose store takes the calibration and decides which one the bench uses.
    folder
        The run.
    output
        Another folder for the calibration: then the store is left alone.

    Raises
    ------
    RunDamaged
        When its data are altered or incomplete.
    CalibrationError
        When they cannot be fitted.
    """
    run = RunReader(folder)
    measured = open_archived(run)
    store = CalibrationStore(runs)
    parent = _parent(store, runs, run, measured)
    with lab.console.progress("fitting", 1.0) as bar:
        done = 0.0

        def advance(phase: str, fraction: float) -> None:
            nonlocal done
            bar.advance(fraction - done, phase)
            done = fraction

        fit = fit_response(observations_of(measured), progress=advance, previous=parent)
    response = replace(fit.response, acquired=str(run.info["started"]), provenance=_provenance(run))
    identity = response.id
    path = _write(response, output or store.folder)
    if output is None:
        _decide(store, runs, run, identity, fit)
    page = folder / REPORT if output is None else output / f"{identity}.html"  # nothing goes into an archive left alone
    document = _document(run, measured, fit, identity, response.parent, path, page).model_copy(
        update={"outputs_fitted": [OutputFitted(**vars(line)) for line in output_lines(response)]}
    )
    return FittedRun(document, measured, fit, response)


def _parent(store: CalibrationStore, runs: Path, run: RunReader, measured: Archived) -> Response | None:
    """The newest response that an earlier run of the bench had applied, unless it cannot predict these rows.

    One that was fitted to the same file has seen the rows that are to judge it: it is no parent.
    """
    mine, history = order(runs, run.run_id), store.history(str(run.info["bench"]))
    earlier = [d for d in history if d.event == "applied" and order(runs, d.run_id) < mine]
    for decision in sorted(earlier, key=lambda d: order(runs, d.run_id), reverse=True):
        try:
            response = open_response(store.path(decision.id))
            response.check(observations_of(measured))
        except (CalibrationError, UsageError):
            continue
        if response.provenance.get("source", {}).get("sha256") != run.info["source"]["sha256"]:
            return response
    return None


def _provenance(run: RunReader) -> dict[str, object]:
    about = {name: run.info[name] for name in ("bench", "mode", "source", "rows", "unit")}
    return {"run_id": run.run_id, **about}


def _write(response: Response, folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return save_response(response, folder)[0]
    except OSError as error:
        raise storage_error(error, folder, "writing the calibration") from error


def _decide(store: CalibrationStore, runs: Path, run: RunReader, identity: str, fit: ResponseFit) -> None:
    """What the gate said takes effect, once; a fit of an older run does not displace that of a newer one."""
    bench = str(run.info["bench"])
    if any(decision.id == identity for decision in store.history(bench)):
        return
    now = store.applied(bench)
    newer = now is not None and order(runs, now.run_id) > order(runs, run.run_id)
    why = f"{fit.gate.reason}; {now.id} of a later run stays" if newer and now else fit.gate.reason
    store.decide(bench, identity, run.run_id, why, apply=fit.gate.applied and not newer)


def _document(
    run: RunReader, measured: Archived, fit: ResponseFit, identity: str, parent: str | None, path: Path, report: Path
) -> Fitted:
    place = in_file(measured)
    gate, noise = fit.gate, fit.noise
    before = gate.previous_percent_of_range
    return Fitted(
        run_id=run.run_id,
        bench=str(run.info["bench"]),
        rows=len(measured.inputs),
        inputs=measured.weights.shape[1],
        outputs=measured.weights.shape[0],
        unit=measured.unit,
        calibration=FittedCalibration(id=identity, path=str(path), parent=parent),
        structure={
            name: Choice.of(replace(choice, reason=place.words(choice.reason)))
            for name, choice in fit.structure.items()
        },
        noise=NoiseLaw(
            law=noise.formula,
            read=noise.read,
            shot=noise.shot,
            intensity=noise.intensity,
            scale=[float(s) for s in noise.scale],
            common_gain=noise.common_gain,
            common_offset=noise.common_offset,
            stderr=dict(noise.stderr),
            unit=noise.unit,
        ),
        bad_rows=bad_rows(fit.bad_rows, measured),
        heldout=HeldOut(
            rows=fit.rows,
            rms_percent_of_range=[float(v) for v in gate.rms_percent_of_range],
            line_rms_percent_of_range=[float(v) for v in gate.line_percent_of_range],
            parent_rms_percent_of_range=None if before is None else [float(v) for v in before],
            coverage95=[float(v) for v in gate.coverage95],
            chi2_per_dof=gate.chi2_per_dof,
        ),
        gate=Gate(applied=gate.applied, reason=gate.reason),
        determined=fit.ill_posed,
        notes=[place.words(note) for note in fit.notes],
        report=str(report),
    )
