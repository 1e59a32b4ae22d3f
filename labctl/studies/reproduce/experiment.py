"""The products of the article on a mock bench, and the same products simulated: how far each is from the model.

The mock shares no physics with what fits and simulates it, so that the comparison can fail. It is no experiment of the
article's: what its errors amount to was chosen by whoever wrote its station file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.frames.products import ProductGroup
from calibration.machine.artefact import Calibration, load
from labctl.archive import RunReader, list_runs
from labctl.archive.calibrations import CalibrationStore
from labctl.archive.reader import read_code_json
from labctl.console import Console
from labctl.engine.analyst import Here
from labctl.engine.ledger import Ledger
from labctl.engine.refit import refit
from labctl.engine.walk import Walk
from labctl.errors import PartFailed
from labctl.lab import Lab
from labctl.nodes.evidence import load_evidence
from labctl.nodes.node import Setting
from labctl.nodes.registration import REGISTRATION_NODE
from labctl.nodes.registry import with_parents
from labctl.nodes.validation import VALIDATION_NODE, Validated, validation_of
from labctl.osal import PART, is_attended, stops
from labctl.resources import shipped_model
from labctl.studies.reproduce.form import Form
from labctl.studies.sample import sample
from labctl.studies.simulate import evaluation_text
from labctl.verdicts import COMPLETE
from labctl.workload import WORKLOAD, read_workload
from simulation.conversion.optical import opticalize
from simulation.light.optics import Optics, optics, paper
from simulation.models.checkpoint import load_checkpoint
from simulation.models.gpt import Product
from simulation.models.loading import language_of

BINS = np.linspace(-0.06, 0.06, 61)
"""Of errors over the output range of a product."""
KINDS = {"linear": "feed-forward, second layer", "qk": "Q·Kᵀ"}
TEXT_TOKENS = 4096

Float = NDArray[np.float64]


def measured(lab: Lab, form: Form, folder: Path) -> dict[str, Any]:
    """Sample, measure, and simulate; a run that was stopped goes on where it was.

    Raises
    ------
    PartFailed
        When the bench command does not end well.
    """
    workload, runs = folder / "products.h5", folder / "runs"
    path = shipped_model()
    if not workload.exists():
        checkpoint = load_checkpoint(path)
        text = evaluation_text(language_of(path.stem, checkpoint).encode, None, TEXT_TOKENS)
        sample(checkpoint, path.stem, text, workload, layers=None, per_stratum=form.per_layer, seed=0)
    run = _run(lab, form, workload, runs)
    groups, calibration = read_workload(run / WORKLOAD).groups, _calibration_of(run, runs)
    found = _validated(run, groups, calibration)
    bench = None if calibration is None else optics(calibration)
    return {
        "run": run.name,
        "station": form.station,
        "in_spec": calibration is not None,
        "effective_bits": found.validation.effective_bits,
        "bins": BINS.tolist(),
        "products": [_compared(groups[r.group], r.measured, r.exact, bench) for r in found.results],
    }


def _run(lab: Lab, form: Form, workload: Path, runs: Path) -> Path:
    """The folder of a run that has measured everything."""
    found, code = _whole(runs), 0
    if found is None:
        begun = list_runs(runs)
        if begun:
            code = _labctl(lab, "run", "resume", begun[0].run_id, "--runs", str(runs))
        else:
            code = _labctl(lab, "measure", str(workload), "--bench", form.station, "--runs", str(runs))
        found = _whole(runs)
    if found is None:
        raise PartFailed(
            "the mock bench did not measure all products",
            device=f"station {form.station}",
            action="comparing products with the simulation",
            expected="a run that measured all that it planned",
            seen=f"exit code {code}",
            safe=f"what it has measured is kept in {runs}",
            hint=f"labctl explain-exit {code}   ·   the same command goes on",
        )
    return found


def _whole(runs: Path) -> Path | None:
    for row in list_runs(runs):
        seal = RunReader(row.path).seal
        if seal is not None and seal.verdict in COMPLETE:
            return row.path
    return None


def _labctl(lab: Lab, *arguments: str) -> int:
    """Exit code of a command of this program, which speaks on stderr."""
    command = [sys.executable, "-m", "labctl", *arguments, "--json", *(["--quiet"] if lab.console.quiet else [])]
    return ended(command)


def ended(command: Sequence[str]) -> int:
    """Exit code of a command that is a part of this one: a stop is let through to it, waited for, and told by us alone.

    Ctrl-C comes to both from a terminal; any other stop comes to this process alone, and is handed on.

    Raises
    ------
    KeyboardInterrupt, Terminated
        When a stop was asked for; the command has ended by then.
    """
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, PART: "1"}) as part:

        def hand_on() -> None:
            if stops.asked != signal.SIGINT or not is_attended():
                part.send_signal(stops.asked or signal.SIGTERM)

        with stops.graceful(hand_on):
            try:
                code = part.wait()
            except KeyboardInterrupt:  # the second stop, which it obeys at once
                hand_on()
                part.wait()
                raise
    stops.heed()
    return code


def _calibration_of(run: Path, runs: Path) -> Calibration | None:
    """That the run exported; None where its products were out of spec."""
    summary = RunReader(run).summary()
    reference = None if summary is None else summary.calibration
    return None if reference is None else load(CalibrationStore(runs).path(reference.id))


def _validated(folder: Path, groups: tuple[ProductGroup, ...], calibration: Calibration | None) -> Validated:
    """The products as the run's calibration decodes them; without one, everything is fitted again."""
    if calibration is None:
        return refit(Lab(Console(quiet=True)), folder).walk.results[VALIDATION_NODE]
    run = RunReader(folder)
    station, evidence = run.station().station, load_evidence(run)
    setting = Setting.on(station, groups=groups, run=run.info, code=read_code_json(folder))
    walk = Walk(setting, Ledger(lambda node: None), analyst=Here(setting, evidence))
    for node in with_parents([REGISTRATION_NODE]):
        walk.analyse(node)
    geometry, monitor = walk.results[REGISTRATION_NODE], station.acquisition.drift_monitor
    return validation_of(calibration.machine, geometry, groups, evidence, station.limits, [], monitor)


def _compared(group: ProductGroup, measured: Float, exact: Float, bench: Optics | None) -> dict[str, Any]:
    """Errors of one matrix's products: as measured, as the calibrated bench simulates them, and as the article does."""
    span = float(np.ptp(exact))
    scale = group.weight_scale * group.input_scales[:, None]
    errors = {"measured": (measured - exact) / span}
    for name, machine in (("simulated", bench), ("article", paper())):
        if machine is not None:
            errors[name] = (simulated(group, machine) / scale - exact) / span
    return {
        "name": group.name,
        "kind": group.operation,
        "block": group.block,
        "products": len(measured),
        "outputs": measured.shape[1],
        **{name: _summary(error) for name, error in errors.items()},
    }


def _summary(error: Float) -> dict[str, Any]:
    """rms over the output range, its 95 % interval over products, effective bits, and the histogram."""
    squares = np.square(error).mean(1)
    drawn = np.random.default_rng(0).integers(0, len(squares), (1000, len(squares)))
    low, high = np.quantile(np.sqrt(squares[drawn].mean(1)), (0.025, 0.975))
    rms = float(np.sqrt(squares.mean()))
    counts, _ = np.histogram(error.ravel(), BINS)
    return {
        "rms": rms,
        "low": float(low),
        "high": float(high),
        "effective_bits": float(-np.log2(rms)),
        "density": (counts / error.size / np.diff(BINS)).tolist(),
        "outside": float(np.mean(np.abs(error) > BINS[-1])),
    }


def simulated(group: ProductGroup, bench: Optics) -> Float:
    """(n, M) what a bench makes of a group's products, in the model's units, with its noise."""
    model = _Matrix(group) if group.operation == "linear" else _Second(group)
    whole = replace(bench, clip=(100.0, 100.0))
    lit = opticalize(model, whole, seed=0)
    with torch.inference_mode():
        found: Float = lit(torch.from_numpy(group.inputs)).double().numpy()
    return found


class _Matrix(nn.Module):
    """A linear layer of clipped weights."""

    def __init__(self, group: ProductGroup) -> None:
        super().__init__()
        self.layer = nn.Linear(group.weight.shape[1], group.weight.shape[0], bias=False)
        self.layer.weight = nn.Parameter(_clipped(group))

    def forward(self, x: Tensor) -> Tensor:
        """(n, K) to (n, M)."""
        out: Tensor = self.layer(x)
        return out


class _Second(nn.Module):
    """An attention product by clipped keys."""

    def __init__(self, group: ProductGroup) -> None:
        super().__init__()
        self.product, self.keys = Product(), nn.Parameter(_clipped(group))

    def forward(self, x: Tensor) -> Tensor:
        """(n, K) to (n, M)."""
        out: Tensor = self.product(x[None], self.keys.mT[None])
        return out[0]


def _clipped(group: ProductGroup) -> Tensor:
    return torch.from_numpy(group.weight).clamp(-group.weight_scale, group.weight_scale)
