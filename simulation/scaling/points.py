"""Sweep points: one model reading one text at one light level, kept in a file whose name says what was computed.

The name is a hash of everything that the result depends on, so a sweep that was stopped goes on where it was, and
sweeps with points in common share them. A file that is damaged counts as absent and is computed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.scaling.store import Format, Store, key_of

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
        return key_of(asdict(self))


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
        self._kept = Store(folder, _FORMAT)

    def path(self, point: Point) -> Path:
        """Where the point lies, or will."""
        return self._kept.path(asdict(point))

    def load(self, point: Point) -> Windows | None:
        """The result, or None if it is not there or cannot be trusted."""
        return self._kept.load(asdict(point))

    def save(self, point: Point, windows: Windows) -> None:
        """Write the result whole or not at all.

        Raises
        ------
        OSError
            Disk full, not writable.
        """
        self._kept.save(asdict(point), windows)


def _unpack(document: Mapping[str, Any]) -> Windows:
    windows = Windows(np.array(document["nats"], np.float64), np.array(document["tokens"], np.float64))
    if (
        windows.nats.ndim != 1
        or windows.nats.shape != windows.tokens.shape
        or not np.isfinite(windows.nats).all()
        or not (windows.tokens > 0).all()
    ):
        raise ValueError(SCHEMA)
    return windows


_FORMAT = Format[Windows](
    schema=SCHEMA,
    suffix=".json",
    about="point",
    pack=lambda windows: {"nats": windows.nats.tolist(), "tokens": windows.tokens.tolist()},
    unpack=_unpack,
    signed=lambda document: [document["nats"], document["tokens"]],
)
