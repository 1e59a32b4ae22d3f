"""A language model that is ready to be scored, and the errors of what is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from calibration.errors import ArtefactError
from groundwork.notebook import Card, Carded


@dataclass(frozen=True, repr=False)
class Language(Carded):
    """A language model, ready to be scored.

    Attributes
    ----------
    name
        What it goes by in results.
    model
        (B, T) tokens to (B, T, V) logits, or to an object that has them as ``logits``; float32, evaluation mode.
    encode
        Text to token ids.
    context
        Longest window [tokens].
    vocabulary
        V.
    unknown
        The token of what the tokenizer does not know; None where it knows all.
    """

    name: str
    model: nn.Module
    encode: Callable[[str], list[int]]
    context: int
    vocabulary: int
    unknown: int | None = None

    def card(self) -> Card:
        """What a notebook shows of it."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return Card(
            f"language model {self.name}",
            f"{parameters:,} parameters, {self.vocabulary} tokens, windows of {self.context}",
        )

    @property
    def width(self) -> int:
        """d, of the residual stream."""
        config: Any = getattr(self.model, "config", None)
        for name in ("width", "hidden_size", "d_model", "n_embd"):
            if isinstance(found := getattr(config, name, None), int):
                return found
        raise not_loaded(self.name, "the model does not state its width", "hidden_size in its configuration", "none")


def needed_package(name: str, where: Path | str) -> Any:
    """A package that reads models of other people.

    Raises
    ------
    ArtefactError
        When it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ArtefactError(
            f"the package {name} is needed for this model",
            device=str(where),
            action="load a model",
            expected=f"{name}",
            seen="not installed",
            hint='python -m pip install "labctl[hf]"',
        ) from error


def not_loaded(where: Path | str, what: str, expected: str, seen: str, hint: str = "") -> ArtefactError:
    """Why a model is refused."""
    return ArtefactError(
        what,
        device=str(where),
        action="load a model",
        expected=expected,
        seen=seen,
        hint=hint or "labctl simulate CALIB MODEL, with a checkpoint, a folder, a GGUF file or a hub name",
    )
