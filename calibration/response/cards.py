"""What a notebook shows of a response, and how errors of many outputs are said in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundwork.notebook import Card, joined


def card_of(header: Mapping[str, Any], outputs: int, inputs: int) -> Card:
    """Of a response, by the header of its file: its size, its form, its ranges."""
    (low, high), (dark, bright) = header["domain"]["inputs"], header["domain"]["readings"]
    return Card(
        f"response {header['id']}",
        f"{outputs} outputs, {inputs} inputs",
        {
            "bench": header["provenance"].get("bench"),
            "structure": joined({name: choice["chosen"] for name, choice in header["structure"].items()}),
            "noise": header["noise"]["formula"],
            "inputs": f"{low:.4g} … {high:.4g}",
            "readings": f"{dark:.4g} … {bright:.4g} {header['unit']}",
            "read by": "one detector, one output per row" if header["single"] else "",
            "acquired": header["acquired"],
            "run": header["provenance"].get("run_id"),
            "replaces": header["parent"],
        },
    )


def percent_of_range(of_outputs: NDArray[np.float64]) -> str:
    """Errors of the outputs that were read: their mean, and the worst of several."""
    read = of_outputs[np.isfinite(of_outputs)]
    if not len(read):
        return ""
    worst = f", {read.max():.3g} % at the worst output" if len(read) > 1 else ""
    return f"{read.mean():.3g} % of the range{worst}"
