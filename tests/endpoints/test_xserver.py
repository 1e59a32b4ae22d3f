"""The X server that other tests use: any number side by side, and none is left behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from processes import LIMIT_S, gone, wait_for

from drivers.libraries.monitors import monitors
from drivers.libraries.xserver import INSTALL, DummyX, _end_with_parent
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
        assert [(m.name, m.x, m.width, m.height) for m in monitors(LIMIT_S)] == [
            ("DUMMY0", 0, 1024, 768),
            ("DUMMY1", 1024, 800, 600),
            ("DUMMY2", 1824, 640, 480),
        ]
        monkeypatch.setenv("DISPLAY", one.display)
        assert [m.primary for m in monitors(LIMIT_S)] == [True]


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
        server = int(process.stdout.readline())
        assert b"Xorg" in Path(f"/proc/{server}/cmdline").read_bytes()
        process.kill()
    wait_for(lambda: gone(server))


def test_mode_that_cannot_be_is_an_error_with_the_servers_words():
    with DummyX([(800, 600)]) as server, pytest.raises(RuntimeError, match="cannot find mode"):
        server.xrandr("--output", "DUMMY0", "--mode", "99x99")


def test_server_whose_parent_has_ended_before_it_could_ask_for_that_ends_too():
    late = subprocess.Popen(["sleep", "1000"], preexec_fn=_end_with_parent(parent=-1))
    assert late.wait(LIMIT_S) == 1
