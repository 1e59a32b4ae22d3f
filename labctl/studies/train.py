"""Train one model or a family of widths, resumably: the checkpoint appears whole at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from groundwork.memory import memory_bytes
from labctl.archive.atomic import storage
from labctl.errors import UsageError
from labctl.studies.alone import alone
from simulation.models.checkpoint import Checkpoint, save_checkpoint
from simulation.models.text import Text
from simulation.training.forward import Forward
from simulation.training.recipe import TrainingConfig
from simulation.training.train import Progress, train

FAMILY = (32, 64, 128, 256)
FINE_TUNING_RATE = 2e-4
"""Peak learning rate when starting from a trained model: a tenth of that from scratch."""


def targets(output: Path, widths: Sequence[int]) -> dict[int, Path]:
    """Where each width goes: ``output`` itself for one checkpoint, or a file in that folder.

    Raises
    ------
    UsageError
        When several widths are to share one file, or one checkpoint does not end in ``.safetensors``.
    """
    if output.suffix == ".safetensors":
        if len(widths) == 1:
            return {widths[0]: output}
        raise UsageError(
            "several widths need a folder", seen=str(output), hint=f"labctl train {output.parent} --width 32,64"
        )
    if output.suffix:
        raise UsageError(
            "a checkpoint ends in .safetensors", seen=str(output), hint=f"labctl train {output.stem}.safetensors"
        )
    return {width: output / f"optical-gpt-d{width}.safetensors" for width in widths}


def state_path(output: Path) -> Path:
    """Where the unfinished training of a checkpoint is kept."""
    return output.with_suffix(".training")


def train_to(
    output: Path,
    config: TrainingConfig,
    texts: Sequence[Text],
    *,
    start: Checkpoint | None = None,
    forward: Forward | None = None,
    progress: Callable[[Progress], None],
) -> dict[str, Any]:
    """Train, or go on with what an earlier command left, and write the checkpoint; returns its record.

    Raises
    ------
    StorageError
        Disk full or not writable; what was there before is intact.
    RunInUse
        When another process trains the same.
    UsageError
        When the model does not fit into memory.
    """
    require_memory(config)
    state = state_path(output)
    with storage(output, "training"):
        output.parent.mkdir(parents=True, exist_ok=True)
        with alone(output, "training"):
            model, tokenizer, record = train(
                config, texts, start=start, forward=forward, state=state, progress=progress
            )
            save_checkpoint(output, model, tokenizer, record)
            state.unlink(missing_ok=True)
    return record


def require_memory(config: TrainingConfig) -> None:
    """Refuse a model that this computer cannot hold while it is trained.

    Weights, gradients and two moments of AdamW, and what the layers keep for the way back, all in float32.

    Raises
    ------
    UsageError
        With what it would take.
    """
    parameters = (config.vocabulary + config.context) * config.width + 12 * config.blocks * config.width**2
    kept = config.context * (14 * config.width + config.heads * config.context) * config.blocks
    needed, there = 16 * parameters + 4 * config.batch * (kept + config.context * config.vocabulary), memory_bytes()
    if there is not None and needed > there:
        raise UsageError(
            "the model does not fit into memory while it is trained",
            expected=f"at most {there / 1e9:.3g} GB, which this computer has",
            seen=f"about {needed / 1e9:.3g} GB for {parameters:.3g} parameters and {config.batch} windows a step",
            hint="a smaller --width, --blocks, --context, --vocabulary or --batch",
        )


def recipe_from(start: Checkpoint, **changed: Any) -> TrainingConfig:
    """The recipe of a trained model, at the fine-tuning rate and a tenth of its steps, except for what is ``changed``.

    Its shape comes from the model itself: a checkpoint need not have been trained here.
    """
    shape = start.model.config
    config = TrainingConfig(
        width=shape.width,
        blocks=shape.blocks,
        heads=shape.heads,
        context=shape.context,
        vocabulary=shape.vocabulary,
        learning_rate=FINE_TUNING_RATE,
        warmup=50,
        steps=560,
    )
    return replace(config, **{name: value for name, value in changed.items() if value is not None})
