"""The products that every night shows where its station names none: real ones, the same each time, never fitted to."""

from __future__ import annotations

import hashlib
from pathlib import Path

from labctl.resources import shipped_model
from labctl.workload import SCHEMA

FOLDER = "nights"
PER_STRATUM = 132
SEED = 20260101


def held_out_products(runs: Path, bench: str) -> Path:
    """The workload file of a bench's nights, sampled once from the shipped model and kept beside the runs.

    Its name follows from the model, the size of the sample and the schema: where one of them changes, another file is
    written, and the control charts see that other products are shown.
    """
    path = held_out_file(runs, bench)
    if not path.is_file():
        from labctl.studies.demo import DemoModel

        path.parent.mkdir(parents=True, exist_ok=True)
        DemoModel.of({}).sample(path, PER_STRATUM, SEED)
    return path


def held_out_file(runs: Path, bench: str) -> Path:
    """Where that file lies, or will after the first night."""
    model = hashlib.sha256(shipped_model().read_bytes()).hexdigest()
    about = hashlib.sha256(f"{model} {PER_STRATUM} {SEED} {SCHEMA}".encode()).hexdigest()
    return runs / FOLDER / f"{bench}-{about[:8]}.h5"
