"""The law of light that ships: what noise costs the four models of the shipped family, by their width alone.

    python benchmarks/energy_law.py data/energy/law.json

All four have four blocks, so that the exponent of depth is assumed: each block adds what it costs. They have four heads
each, so that what is laid to the width is in part the width of heads. ``labctl scaling ideal --arms FOLDER`` writes the
law of models that tell these apart.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from labctl.resources import shipped_family
from labctl.studies.family_law import Reading, documents_for, provenance_of, shape_of
from simulation.light.optics import optics
from simulation.models.checkpoint import load_checkpoint
from simulation.models.loading import language_of
from simulation.scaling.by_document import DocumentCostStore
from simulation.scaling.evaluate import file_digest
from simulation.scaling.law import save_law
from simulation.scaling.lawfit import fit_law

TOKENS = 8000


def main() -> None:
    """Measure, fit and write."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("output", type=Path, help="law.json")
    path = options.parse_args().output
    digests: dict[str, str] = {}
    models = []
    with TemporaryDirectory() as folder:
        reading = Reading(optics("ideal"), documents_for([]), TOKENS, DocumentCostStore(Path(folder)))
        for checkpoint_path in shipped_family():
            name, checkpoint = checkpoint_path.stem, load_checkpoint(checkpoint_path)
            digests[name] = file_digest(checkpoint_path)
            shape = shape_of(checkpoint.model, None)
            models.append(reading.measure(name, language_of(name, checkpoint), digests[name], shape))
            costs = models[-1].costs
            print(json.dumps({name: {kind: float(f"{costs.cost(kind):.3g}") for kind in costs.kinds}}), flush=True)
        save_law(path, fit_law(models, ["width"], provenance_of(reading, (), digests)))


if __name__ == "__main__":
    main()
