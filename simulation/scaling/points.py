"""Sweep points: one model reading one text at one light level, kept in a file whose name says what was computed.

The name is a hash of everything that the result depends on, so a sweep that was stopped goes on where it was, and
sweeps with points in common share them. A file that is damaged counts as absent and is computed again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundwork.files import write_whole
from groundwork.opening.json_text import read_json

SCHEMA = "labctl.scaling-point/1"
DIGITAL, INT8 = "digital", "int8"
"""Machines that are no optical bench: float arithmetic, and 8-bit operands."""

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """What is computed.

    Attributes
    ----------
    model, text
        SHA-256 of the checkpoint file, and of the text as it was read.
    machine
        ``"digital"``, ``"int8"``, a preset, or the id of a calibration.
    photons_per_mac
        At the weight plane, per MAC and pass; None where there is no light.
    seed
        Of the noise.
    tokens, context
        How much is scored, and the window [tokens].
    code
        `simulation.scaling.fingerprint.code_version`.
    """

    model: str
    machine: str
    photons_per_mac: float | None
    seed: int
    text: str
    tokens: int
    context: int
    code: str

    @property
    def key(self) -> str:
        """64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Windows:
    """What a point found: (n,) summed nats and (n,) scored tokens of each window of the text."""

    nats: Float
    tokens: Float

    @property
    def nats_per_token(self) -> float:
        """Of all windows together."""
        return float(self.nats.sum() / self.tokens.sum())


class PointStore:
    """A folder of points; several sweeps may use it at once.

    Parameters
    ----------
    folder
        Made when the first point is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, point: Point) -> Path:
        """Where the point lies, or will."""
        return self.folder / point.key[:2] / f"{point.key}.json"

    def load(self, point: Point) -> Windows | None:
        """The result, or None if it is not there or cannot be trusted."""
        try:
            document = read_json(self.path(point))
            windows = Windows(np.array(document["nats"], np.float64), np.array(document["tokens"], np.float64))
            is_whole = (
                document["schema"] == SCHEMA
                and document["point"] == asdict(point)
                and document["sha256"] == _digest(document["nats"], document["tokens"])
                and windows.nats.ndim == 1
                and windows.nats.shape == windows.tokens.shape
                and bool(np.isfinite(windows.nats).all() and (windows.tokens > 0).all())
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return windows if is_whole else None

    def save(self, point: Point, windows: Windows) -> None:
        """Write the result whole or not at all.

        Raises
        ------
        OSError
            Disk full, not writable.
        """
        nats, tokens = windows.nats.tolist(), windows.tokens.tolist()
        document: dict[str, Any] = {"schema": SCHEMA, "point": asdict(point), "nats": nats, "tokens": tokens}
        document["sha256"] = _digest(nats, tokens)
        write_whole(self.path(point), (json.dumps(document) + "\n").encode())


def _digest(nats: list[float], tokens: list[float]) -> str:
    return hashlib.sha256(json.dumps([nats, tokens]).encode()).hexdigest()
