"""Tests that talk to real libraries, servers and emulators: each is marked ``endpoint``.

``python -m pytest -m endpoint tests`` runs them, ``python -m pytest`` does not.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.libraries.xserver import INSTALL, DummyX
from drivers.testing import one_at_a_time, require_module, require_program

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


@pytest.fixture
def gige_port() -> Iterator[None]:
    """UDP port 3956 of 127.0.0.1, where a host finds a GigE Vision camera on loopback, for this test alone."""
    with one_at_a_time("udp-3956"):
        yield


@pytest.fixture
def viva() -> Any:
    """A GigE Vision client that others have written."""
    require_module("viva_genicam", "pip install labctl[genicam]")
    return importlib.import_module("viva_genicam")


@pytest.fixture
def client(viva: Any) -> Iterator[Callable[[], Any]]:
    """Opens the camera."""
    opened: list[Any] = []

    def connect() -> Any:
        opened.append(viva.connect_gige(viva.discover(iface="lo")[0]))
        return opened[-1]

    yield connect
    for camera in opened:
        camera.close()


@pytest.fixture
def three_monitors(monkeypatch: pytest.MonkeyPatch) -> Iterator[DummyX]:
    """An X server with a desktop, DUMMY0, and two monitors of the panels' size, DUMMY1 and DUMMY2."""
    for program in ("Xorg", "xrandr"):
        require_program(program, INSTALL)
    with DummyX([(640, 480), (320, 256), (320, 256)]) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave them out, unread, unless they are asked for, since they take minutes; None leaves it to others."""
    asked = "endpoint" in config.getoption("markexpr") or any(HERE.name in argument for argument in config.args)
    return None if asked or collection_path.suffix != ".py" else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; one that takes three minutes hangs.

    Waiting for the port that other tests have is no part of a test's time; it has an end of its own.
    """
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.endpoint)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(180, func_only="gige_port" in getattr(item, "fixturenames", ())))
