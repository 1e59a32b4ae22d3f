"""Arrays that are used again from frame to frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Scratch:
    """Arrays that are used again and again: new memory costs as much time as the loop that fills it."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[np.float32]] = {}

    def take(self, name: str, shape: tuple[int, int]) -> NDArray[np.float32]:
        """The array of that name, with anything in it; one of another shape has the same memory."""
        size, memory = shape[0] * shape[1], self._arrays.get(name)
        if memory is None or memory.size < size:
            memory = self._arrays[name] = np.empty(size, np.float32)
        return memory[:size].reshape(shape)
