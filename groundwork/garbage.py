"""Python's collector of garbage leaves alone what a program is made of."""

from __future__ import annotations

import gc

FIRST = 400_000
"""Objects that are made before the collector looks for the first time: modules of a command, and little else."""
_USUAL = gc.get_threshold()


def collect_later() -> None:
    """Have the collector begin after `FIRST` objects, and never look at those again.

    They are modules, nearly all of them, which stay to the end. While they are imported it would go through all that
    there are again and again, which takes up to a fifth of the time until a command begins.
    """
    if _begin not in gc.callbacks:
        gc.callbacks.append(_begin)
        gc.set_threshold(FIRST, *_USUAL[1:])


def _begin(phase: str, info: dict[str, int]) -> None:
    if phase == "stop":
        gc.callbacks.remove(_begin)
        gc.freeze()
        gc.set_threshold(*_USUAL)
