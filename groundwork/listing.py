"""Numbers of outputs, inputs or rows in a sentence: few of them all, of many the first ones."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

MOST = 8


def listed(numbers: Iterable[object]) -> str:
    """``"0, 3, 5"``; of more than eight the first eight, and an ellipsis.

    Examples
    --------
    >>> listed([0, 3, 5]), listed(range(20))
    ('0, 3, 5', '0, 1, 2, 3, 4, 5, 6, 7 …')
    """
    first = list(islice(numbers, MOST + 1))
    return ", ".join(map(str, first[:MOST])) + (" …" if len(first) > MOST else "")
