"""The X server that other tests use: any number side by side, and none is left behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from processes import LIMIT_S

from drivers.libraries.monitors import monitors
from drivers.libraries.xserver import INSTALL, DummyX
from drivers.testing import require_program


@pytest.fixture(autouse=True)
def _programs():
    require_program("Xorg", INSTALL)
    require_program("xrandr", INSTALL)


def test_servers_run_side_by_side(monkeypatch):
    with DummyX([(800, 600)]) as one, DummyX([(1024, 768), (800, 600), (640, 480)]) as other:
        assert one.display != other.display
        for name, value in other.environment.items():
            monkeypatch.setenv(name, value)
        assert [(m.name, m.x, m.width, m.height) for m in monitors()] == [
            ("DUMMY0", 0, 1024, 768),
            ("DUMMY1", 1024, 800, 600),
            ("DUMMY2", 1824, 640, 480),
        ]
        monkeypatch.setenv("DISPLAY", one.display)
        assert [m.primary for m in monitors()] == [True]


def test_server_ends_with_the_program_that_started_it():
    program = textwrap.dedent(
        """
        import time
        from drivers.libraries.xserver import DummyX
        server = DummyX()
        print(server.pid, flush=True)
        time.sleep(2000)
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server = Path("/proc") / process.stdout.readline().strip() / "cmdline"
        assert b"Xorg" in server.read_bytes()
        process.kill()
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s and server.exists() and server.read_bytes():
        time.sleep(0.05)
    assert not server.exists() or not server.read_bytes()


def test_mode_that_cannot_be_is_an_error_with_the_servers_words():
    with DummyX([(800, 600)]) as server, pytest.raises(RuntimeError, match="cannot find mode"):
        server.xrandr("--output", "DUMMY0", "--mode", "99x99")
