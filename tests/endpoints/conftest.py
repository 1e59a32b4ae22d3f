"""Tests that talk to real libraries, servers and emulators: each is marked ``endpoint``, and none may take a minute.

``python -m pytest -m endpoint tests`` runs them, ``python -m pytest`` does not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.libraries.xserver import INSTALL, DummyX
from drivers.testing import require_program

HERE = Path(__file__).parent

os.environ.setdefault("PYLON_CAMEMU", "2")  # pylon looks at it once, when it is first used


@pytest.fixture(scope="session")
def x_server() -> Iterator[DummyX]:
    """An X server with two monitors, DUMMY0 and DUMMY1, for all tests of this process; see `second_monitor`."""
    require_program("Xorg", INSTALL)
    require_program("xrandr", INSTALL)
    with DummyX([(1280, 1024), (1920, 1080)]) as server:
        yield server


@pytest.fixture
def second_monitor(x_server: DummyX, monkeypatch: pytest.MonkeyPatch) -> Iterator[DummyX]:
    """The X server with its monitors as they were at first; this process and those that it starts use it."""
    for name, value in x_server.environment.items():
        monkeypatch.setenv(name, value)
    x_server.arrange()
    yield x_server
    x_server.arrange()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; leave them out unless they are asked for, since they take minutes."""
    endpoints = [item for item in items if item.path.is_relative_to(HERE)]
    for item in endpoints:
        item.add_marker(pytest.mark.endpoint)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(60))
    asked = config.getoption("markexpr") or any(HERE.name in argument for argument in config.args)
    if endpoints and not asked:
        items[:] = [item for item in items if item not in set(endpoints)]
        config.hook.pytest_deselected(items=endpoints)
