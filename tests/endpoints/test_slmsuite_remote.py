"""Devices of another computer, through slmsuite's own server, on the loopback address."""

from __future__ import annotations

import socket
import threading
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pytest
from processes import LIMIT_S, wait_for

from drivers import OpenContext, open_device
from drivers.libraries import slmsuite
from drivers.libraries.loading import load
from drivers.testing import ModulatorContract, TriggeredCameraContract, require_module

INSTALL = "pip install labctl[endpoints]"


class Loopback(socket.socket):
    """slmsuite's server would be reached from everywhere, at a port that somebody else may have taken meanwhile."""

    ports: ClassVar[list[int]] = []

    def bind(self, address: Any) -> None:
        super().bind(("127.0.0.1", 0))
        self.ports.append(self.getsockname()[1])


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch, hardware: Any) -> Iterator[int]:
    """The port of a server of this hardware."""
    remote = load("slmsuite.hardware.remote")
    local = types.ModuleType("socket")
    local.__dict__.update(vars(socket), socket=Loopback)
    monkeypatch.setattr(remote, "socket", local)
    server = remote.Server([hardware], timeout=0.05)
    thread = threading.Thread(target=server.listen, daemon=True)
    thread.start()
    wait_for(lambda: server._listening)
    yield Loopback.ports[-1]
    server.stop()
    thread.join(LIMIT_S)


class TestSlm(ModulatorContract):
    @pytest.fixture(autouse=True)
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        require_module("slmsuite", INSTALL)
        slmsuite.quiet()
        made = load("slmsuite.hardware.slms.simulated:SimulatedSLM")
        self.panel = made((256, 128), gpu=False, name="far")
        with served(monkeypatch, self.panel) as self.port:
            yield

    def open(self) -> Any:
        arguments = {"name": "far", "host": "127.0.0.1", "port": self.port}
        options = {"target": "remote", "arguments": arguments, "settle_s": 0.05}
        return open_device("slmsuite.slm", "slm", options, OpenContext())


class TestCamera(TriggeredCameraContract):
    """The camera of the other computer is pylon's emulator."""

    period_tolerance_rel = 100.0  # paced by software, on whatever else the machine does

    @pytest.fixture(autouse=True)
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        require_module("slmsuite", INSTALL)
        require_module("pypylon", INSTALL)
        slmsuite.quiet()
        there = load("slmsuite.hardware.cameras.basler:Basler")("0815-0001")
        there.set_woi((0, 256, 0, 128))
        there.name, there._shape = "far", (128, 256)
        with served(monkeypatch, there) as self.port:
            yield
        slmsuite.let_go(there)

    def now_s(self, camera: Any) -> float:
        return time.monotonic()

    def open(self) -> Any:
        arguments = {"name": "far", "host": "127.0.0.1", "port": self.port}
        options = {"target": "remote", "arguments": arguments}
        return open_device("slmsuite.camera", "camera", options, OpenContext())

    def test_frames_are_gray(self, device: Any) -> None:
        device.arm(1)
        assert device.fetch(5.0).frames.dtype == np.uint16
