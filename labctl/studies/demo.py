"""The whole way: sample, calibrate, measure, validate, export, simulate, report."""

from __future__ import annotations

from pathlib import Path

from labctl.engine.session import Measured, Session, open_session
from labctl.lab import Lab
from labctl.report import write_report
from labctl.resources import data_path
from labctl.station.loading import LoadedStation
from labctl.studies.sample import sample
from labctl.studies.simulate import TextTokens, bench_photons_per_mac, evaluation_text, simulate
from labctl.summary import Summary
from labctl.workload import WORKLOAD, Workload
from simulation.models.checkpoint import load_checkpoint
from simulation.models.loading import Language, language_of

MODEL = "optical-gpt-d128"
TOKENS = 4096
LEVELS = (100.0, 1000.0, 10000.0)
REPORT = "report.html"


def shipped_model() -> Path:
    """The checkpoint that comes with the suite."""
    return data_path(f"models/{MODEL}.safetensors")


def demo(
    lab: Lab,
    loaded: LoadedStation,
    runs: Path,
    *,
    model: Path | None = None,
    text: Path | None = None,
    per_stratum: int,
    seed: int = 0,
) -> tuple[Summary, Path]:
    """The summary and the report of a whole run.

    Parameters
    ----------
    model
        A checkpoint; the shipped one if None.
    text
        What the model reads; the held-out part of Python's language reference if None.
    per_stratum
        Products from each layer.
    seed
        Of the sample of products and of the simulated noise.
    """
    path = model or shipped_model()
    checkpoint = load_checkpoint(path)
    language = language_of(path.stem, checkpoint)
    tokens = evaluation_text(language.encode, text, TOKENS)
    with open_session(lab, loaded, runs, "demo") as session:
        with session.nodes.node("sample"):
            workload = sample(
                checkpoint,
                path.stem,
                tokens,
                session.run.path / WORKLOAD,
                layers=None,
                per_stratum=per_stratum,
                seed=seed,
            )
        measured = session.on_bench(workload)
        session.validate_and_export(measured, workload)
        if measured.calibration is not None:
            simulate_in(session, measured, language, tokens, seed)
        report = report_in(session, measured, workload)
        return session.conclude(), report


def simulate_in(
    session: Session,
    measured: Measured,
    language: Language,
    tokens: TextTokens,
    seed: int,
) -> None:
    """Perplexity with the calibration just exported, into the summary."""
    calibration = measured.calibration
    assert calibration is not None
    tiles = [tile for tile, _ in measured.evidence.tiles]
    photons = bench_photons_per_mac(calibration.machine, tiles, session.station.camera.quantum_efficiency)
    models = 3 + len(LEVELS)
    with session.nodes.node("simulation"), session.lab.console.progress("simulating", models) as bar:
        found = simulate(language, calibration, tokens, photons, LEVELS, seed=seed, advance=bar.advance)
    session.add(simulation=found)


def report_in(session: Session, measured: Measured, workload: Workload | None) -> Path:
    """Write the report of the run."""
    with session.nodes.node("report"):
        path = write_report(session.run.path / REPORT, session.run.path, session.summary, measured, workload)
    session.add_artifact(path)
    return path
