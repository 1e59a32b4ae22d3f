"""A terminal that is closed, a deadline that passes, and what a service manager is told."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import LIMIT_S, wait_for

from labctl.archive import RunReader, find_run
from labctl.locks import BenchFiles

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="POSIX only; see labctl.osal.can_supervise")

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(larger_file: Path, tmp_path: Path, launched: Start) -> Start:
    def run(*words: str, terminal: int = subprocess.DEVNULL, **environment: str) -> subprocess.Popen[bytes]:
        return launched(
            "calibrate", "--bench", str(larger_file), "--runs", str(tmp_path), *words,
            stdin=terminal, stdout=terminal, stderr=terminal, env={**os.environ, **environment},
        )  # fmt: skip

    return run


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    for descriptor in (ours, theirs):
        try:
            os.close(descriptor)
        except OSError:
            continue


def wait_for_segments(runs: Path) -> None:
    wait_for(lambda: len(list(runs.rglob("segments/*.h5"))) >= 3)


def test_terminal_that_is_closed_ends_a_command_that_somebody_watches(
    start: Start, tmp_path: Path, terminal: tuple[int, int]
) -> None:
    process = start("--quiet", terminal=terminal[1])
    wait_for_segments(tmp_path)
    os.close(terminal[0])
    process.send_signal(signal.SIGHUP)
    assert process.wait(LIMIT_S) == 143
    assert RunReader(find_run(tmp_path, "latest")).status == "aborted"
    assert not BenchFiles("small").mark.exists()


def test_terminal_that_is_closed_is_no_matter_of_a_command_that_nobody_watches(start: Start, tmp_path: Path) -> None:
    process = start("registration")
    wait_for_segments(tmp_path)
    process.send_signal(signal.SIGHUP)
    assert process.wait(LIMIT_S) == 0
    assert RunReader(find_run(tmp_path, "latest")).status == "ok"


def test_command_that_was_told_to_outlive_its_terminal_goes_on_without_it(
    start: Start, tmp_path: Path, terminal: tuple[int, int]
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does it
    try:
        process = start("dark", "timing", terminal=terminal[1])
    finally:
        signal.signal(signal.SIGHUP, before)
    os.close(terminal[1])
    os.close(terminal[0])
    assert process.wait(LIMIT_S) == 0
    assert RunReader(find_run(tmp_path, "latest")).status == "ok"


def test_deadline_that_passes_ends_a_worker_as_a_fault(
    start: Start, tmp_path: Path, at_start: Callable[[str], None]
) -> None:
    at_start(
        "import os, time\n"
        "if 'LABCTL_WORKER' in os.environ:\n"
        "    import labctl.engine.supervisor as s\n"
        "    before = s.watch\n"
        "    def watch(run, stall_s):\n"
        "        before(run, stall_s)\n"
        "        s.deadline(-59.0)\n"
        "        time.sleep(40)\n"  # else the command may be done before
        "    s.watch = watch\n"
    )
    process = start()
    assert process.wait(LIMIT_S) == 20
    run = RunReader(find_run(tmp_path, "latest"))
    assert run.status == "fault"
    assert "the deadline passed" in str(run.summary().first_error)
    assert not BenchFiles("small").mark.exists()


def test_service_manager_hears_of_start_progress_and_end(start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.settimeout(LIMIT_S)
        process = start("dark", NOTIFY_SOCKET=str(tmp_path / "notify"))
        heard = []
        while "STOPPING=1" not in heard:
            heard.append(line.recv(1000).decode())
        assert process.wait(LIMIT_S) == 0
    assert heard[0] == "READY=1"
    assert "WATCHDOG=1" in heard
    assert any(words.startswith("STATUS=run 2") for words in heard)


def test_hung_worker_is_not_reported_alive(start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        hang = 'mock.faults=["hang@500"]'
        process = start(
            "--set", hang, "--set", f"acquisition.stall_s={LIMIT_S}", NOTIFY_SOCKET=str(tmp_path / "notify")
        )
        wait_for_segments(tmp_path)
        deadline = time.monotonic() + LIMIT_S
        while select.select([line], [], [], 2.5)[0]:
            line.recv(1000)
            assert time.monotonic() < deadline
        assert process.poll() is None
