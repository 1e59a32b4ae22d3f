"""A workload from a checkpoint: real products on real text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labctl.studies.simulate import TextTokens
from labctl.workload import Workload, read_workload, write_workload
from simulation.evaluation.sampling import sample_products
from simulation.models.checkpoint import Checkpoint

SEQUENCES = 16


def sample(
    checkpoint: Checkpoint,
    model_name: str,
    text: TextTokens,
    path: Path,
    *,
    layers: Sequence[str] | None,
    per_stratum: int,
    seed: int,
) -> Workload:
    """Run the model over the first windows of the text, draw products, write them, and read the file back.

    Parameters
    ----------
    layers
        Names of linear layers and attention products; the paper's choice if None.
    per_stratum
        Products per layer.
    """
    context = checkpoint.model.config.context
    windows = [text.ids[i : i + context] for i in range(0, len(text.ids), context)]
    sequences = [window for window in windows if len(window) == context][:SEQUENCES] or windows[:1]
    groups = sample_products(checkpoint.model, sequences, layers=layers, per_stratum=per_stratum, seed=seed)
    write_workload(path, groups, {"model": model_name, "text": text.name, "seed": seed, "context": context})
    return read_workload(path)
