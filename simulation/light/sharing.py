"""Loops over vectors on as many threads as torch computes with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from groundwork.threads import threads_of

_BAND = 1 << 14
"""Elements that one thread takes at a time: a tenth of a millisecond."""


def share_rows(function: Callable[..., object], rows: int, width: int, *args: Any) -> None:
    """Run ``function(first, stop, *args)`` over ``rows`` of ``width`` elements.

    What is computed does not depend on how many threads there are.
    """
    threads_of(torch.get_num_threads()).rows(function, rows, *args, band=_band(width))


def is_shared(rows: int, width: int) -> bool:
    """Whether more than one thread would have a part in ``rows`` of ``width`` elements."""
    return threads_of(torch.get_num_threads()).helping(rows, _band(width)) > 0


def _band(width: int) -> int:
    return max(1, _BAND // max(width, 1))
