"""Stands in for matplotlib's figures where nobody looks at a report: what is drawn is computed, and nothing drawn."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


class Undrawn:
    """A figure, or any part of one: it takes every call, and is saved as one pixel."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.dpi = 100.0

    def __getattr__(self, name: str) -> Undrawn:
        if name.startswith("__"):  # numpy asks for some
            raise AttributeError(name)
        return Undrawn()

    def __call__(self, *arguments: Any, **options: Any) -> Undrawn:
        return self

    def __getitem__(self, key: Any) -> Undrawn:
        return self

    def __iter__(self) -> Iterator[Undrawn]:
        return iter(())

    def subplots(self, rows: int = 1, columns: int = 1, *, squeeze: bool = True, **options: Any) -> Any:
        """As many as are asked for, in the shape that matplotlib gives them."""
        axes = np.array([Undrawn() for _ in range(rows * columns)], dtype=object).reshape(rows, columns)
        return axes if not squeeze else axes.squeeze() if axes.size > 1 else axes[0, 0]

    def savefig(self, file: BinaryIO, **options: Any) -> None:
        file.write(PIXEL)
