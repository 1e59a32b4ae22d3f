"""Cases of one test that are for every day, and those that are left to the slow tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def everyday(cases: Iterable[Any], *kept: int) -> list[Any]:
    """The cases, a tuple of values each or one value, all but those at the places ``kept`` marked ``slow``.

    Those go through the program as the ones that are kept do.
    """
    listed = list(cases)
    assert set(kept) <= set(range(len(listed)))
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=() if i in kept else pytest.mark.slow)
        for i, case in enumerate(listed)
    ]
