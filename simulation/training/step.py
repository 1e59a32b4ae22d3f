"""The optimiser and its step, the same in every training."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from calibration.errors import BadOperands
from simulation.training.state import Model, TrainingState


def adam(model: nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW with decay on matrices only; `descend` sets the learning rate."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
    )


def descend(
    now: TrainingState[Model], loss: Tensor, *, rate: float, clip: float, gather: Callable[[], None] = lambda: None
) -> float:
    """Move what is trained against the gradient of a loss, and count the step.

    Parameters
    ----------
    loss
        [nats/token]
    rate, clip
        Learning rate of this step, and largest norm of the gradient.
    gather
        Called between the backward pass and the step, with all gradients at hand.

    Returns
    -------
    The loss before the step.

    Raises
    ------
    BadOperands
        If it is no longer finite.
    """
    nats = loss.item()
    if not math.isfinite(nats):
        raise BadOperands(
            "the loss is no longer finite",
            action=f"training, step {now.step + 1}",
            expected="a finite loss",
            seen=str(nats),
            hint="train with a lower learning rate, or another seed",
        )
    now.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    gather()
    nn.utils.clip_grad_norm_(now.model.parameters(), clip)
    for group in now.optimiser.param_groups:
        group["lr"] = rate
    now.optimiser.step()
    now.step += 1
    now.since.append(nats)
    return nats
