"""Tests that talk to real libraries, servers and emulators: each is marked ``endpoint``, and none may take a minute."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent

os.environ.setdefault("PYLON_CAMEMU", "2")  # read once, when a process first calls pylon


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.endpoint)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(60))
