"""Cases of one test that are for every day, and those that are left to the slow tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def everyday(cases: Iterable[Any], *kept: int) -> list[Any]:
    """The cases, all but those at the places ``kept`` marked ``slow``: they go the same way through the program."""
    listed = list(cases)
    assert set(kept) <= set(range(len(listed)))
    return [case if i in kept else _slow(case) for i, case in enumerate(listed)]


def _slow(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
