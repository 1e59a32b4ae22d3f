"""What a training is: the shape of the model, its schedule and its seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from calibration.errors import OutOfDomain
from simulation.models.gpt import GPTConfig

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TrainingConfig:
    """The shape of the model and how it is trained.

    Attributes
    ----------
    width, blocks, heads, context, vocabulary
        As in `GPTConfig`; the tokenizer may stay below `vocabulary` on a small text.
    seed
        Of the one generator behind initial weights and batches.
    steps, batch
        Optimiser steps, and windows of `context` tokens in each.
    learning_rate, weight_decay, warmup, clip
        AdamW; decay on matrices only; linear warm-up [steps], then a cosine to zero; largest gradient norm.
    pydoc_share
        Part of the windows drawn from the language reference; the rest comes from the texts, by their length.
    evaluate_every
        Steps between held-out evaluations.
    precision
        Of the products in training: ``"float32"``, or ``"bfloat16"`` with weights, sums of gradients and everything
        but matrix products in float32 (about twice as fast on a processor that has it).
    """

    width: int = 128
    blocks: int = 4
    heads: int = 4
    context: int = 128
    vocabulary: int = 1024
    seed: int = 0
    steps: int = 5600
    batch: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup: int = 200
    clip: float = 1.0
    pydoc_share: float = 0.3
    evaluate_every: int = 500
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        self.shape(self.vocabulary)
        known = self.precision in get_args(Precision)
        counts = (self.steps, self.batch, self.evaluate_every, self.seed + 1, self.warmup + 1)
        whole = all(isinstance(count, int) and not isinstance(count, bool) and count >= 1 for count in counts)
        rates = 0 < self.learning_rate < math.inf and 0 <= self.weight_decay < math.inf and 0 < self.clip < math.inf
        if not whole or not rates or not 0 <= self.pydoc_share <= 1 or not known:
            raise OutOfDomain(
                "no training has this schedule",
                expected="steps, batch and evaluate_every from 1 on, seed and warmup from 0 on, a share in 0..1, "
                f"positive rate and clip, a decay from 0 on, {' or '.join(get_args(Precision))}",
                seen=str(self),
                hint="leave the schedule at its defaults",
            )

    def shape(self, vocabulary: int) -> GPTConfig:
        """The model's configuration, once the tokenizer has its `vocabulary`."""
        return GPTConfig(vocabulary, self.context, self.width, self.blocks, self.heads)

    def rate_at(self, step: int) -> float:
        """Learning rate of the optimiser step number ``step``, counted from 0."""
        return cosine(step, self.steps, self.warmup, self.learning_rate)


def cosine(step: int, steps: int, warmup: int, peak: float) -> float:
    """A rate that rises linearly to its peak in ``warmup`` steps and falls to zero at the end along a cosine."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * done))
