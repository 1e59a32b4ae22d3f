"""Factors by which a GGUF file divides the angles of rotary positions, which are those of Llama 3.

The library passes them over. They follow from four numbers, which are found again here and checked number by number.
"""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.models.language import not_loaded

TENSOR = "rope_freqs.weight"
LOW, HIGH = 1.0, 4.0
"""Wavelengths in the context that it was first trained with, below and above which angles are divided, and are not."""
CONTEXTS = tuple(2**power for power in range(9, 19))
CLOSE = 1e-4
"""Relative; the file holds single precision."""

Float = NDArray[np.float64]


def scale_positions(path: Path, config: Any) -> None:
    """Have a configuration say what the factors in a file do.

    Raises
    ------
    ArtefactError
        When they are none of Llama 3.
    """
    gguf: Any = import_module("gguf")
    found = [tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == TENSOR]
    factors = np.asarray(found[0].data, np.float64).reshape(-1)
    rope: dict[str, Any] = dict(getattr(config, "rope_parameters", None) or {})
    theta = float(rope.get("rope_theta", 10000.0))
    width = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    if len(factors) != width // 2 or not np.isfinite(factors).all() or factors.min() < 1 - CLOSE:
        raise _unknown(path, f"{len(factors)} numbers from {factors.min():.4g} to {factors.max():.4g}")
    wavelengths = 2 * math.pi * theta ** (2 * np.arange(len(factors)) / width)
    factor = float(factors.max())
    for context in CONTEXTS:
        if np.allclose(factors, _factors(wavelengths, factor, context), rtol=CLOSE):
            config.rope_parameters = {
                "rope_type": "llama3",
                "rope_theta": theta,
                "factor": factor,
                "low_freq_factor": LOW,
                "high_freq_factor": HIGH,
                "original_max_position_embeddings": context,
            }
            return
    raise _unknown(path, f"numbers up to {factor:.4g} that follow another law")


def _factors(wavelengths: Float, factor: float, context: int) -> Float:
    """Llama 3.1: none for short waves, ``factor`` for long ones, between them by the place of the frequency."""
    place = np.clip((context / wavelengths - LOW) / (HIGH - LOW), 0.0, 1.0)
    return np.asarray(1 / ((1 - place) / factor + place))


def _unknown(path: Path, seen: str) -> Exception:
    return not_loaded(
        path,
        f"the file scales its positions in a way that is not known here ({TENSOR})",
        "the factors of Llama 3.1",
        seen,
        "take the model as a Hugging Face folder",
    )
