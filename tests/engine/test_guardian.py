"""Kills of the supervisor, the worker, the guardian, or all: bench safe, run sealed, lock free, and no process left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from everyday import everyday
from processes import LIMIT_S, gone, wait_for

from labctl.archive import RunReader, find_run
from labctl.bench.lock import hold_bench
from labctl.bench.marks import look_at
from labctl.locks import BenchFiles, is_taken

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

Start = Callable[..., "subprocess.Popen[str]"]
DEAF = (
    "import os, signal, time\n"
    "if 'LABCTL_WORKER' in os.environ:\n"
    "    import labctl.engine.supervisor as s\n"
    "    s._stop_with = lambda line: None\n"
    "    import labctl.osal as o\n"
    "    o.Stops._handle = lambda *a: None\n"
    "    from labctl.archive import RunWriter as w\n"
    "    write = w.write_segment\n"
    "    w.write_segment = lambda *a, **k: (write(*a, **k), time.sleep(1))[0]\n"
)
"""A worker that neither notices that its supervisor is gone nor takes a signal, as one in a native call, and slow."""


@pytest.fixture
def unmarked() -> Iterator[None]:
    """No mark of the small bench is left for the next test, whatever the processes of this one were doing."""
    yield
    BenchFiles("small").mark.unlink(missing_ok=True)


@pytest.fixture
def start(larger_file: Path, tmp_path: Path, unmarked: None, launched: Start) -> Start:
    def run(*argv: str) -> subprocess.Popen[str]:
        words = argv or ("calibrate", "--runs", str(tmp_path))
        return launched(
            *words, "--bench", str(larger_file), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    return run


def children(pid: int) -> dict[str, int]:
    """``worker`` and ``guardian`` of a supervisor."""
    found = {}
    for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        line = Path(f"/proc/{word}/cmdline").read_bytes()
        found["guardian" if b"engine.guardian" in line else "worker"] = int(word)
    return found


def measuring(process: subprocess.Popen[str], runs: Path) -> dict[str, int]:
    wait_for(lambda: process.poll() is not None or len(list(runs.rglob("segments/*.h5"))) >= 3)
    assert BenchFiles("small").mark.exists()
    return children(process.pid)


def test_supervisor_that_is_killed_leaves_a_free_lock_and_the_guardian_ends_a_deaf_worker(
    start: Start, tmp_path: Path, at_start: Callable[[str], None]
) -> None:
    at_start(DEAF)
    process = start()
    others = measuring(process, tmp_path)
    process.kill()
    process.wait()
    wait_for(lambda: not is_taken(BenchFiles("small").lock))
    wait_for(lambda: gone(others["worker"]) and gone(others["guardian"]))
    assert not BenchFiles("small").mark.exists()
    run = RunReader(find_run(tmp_path, "latest"))
    assert run.status == "fault"
    assert "the supervisor was killed" in str(run.summary().first_error)
    assert run.verify().intact


def test_worker_closes_the_bench_when_supervisor_and_guardian_are_killed(start: Start, tmp_path: Path) -> None:
    process = start()
    others = measuring(process, tmp_path)
    os.kill(others["guardian"], signal.SIGKILL)
    process.kill()
    process.wait()
    wait_for(lambda: gone(others["worker"]))
    assert RunReader(find_run(tmp_path, "latest")).status == "aborted"
    assert not BenchFiles("small").mark.exists()


def test_guardian_that_is_killed_is_replaced(start: Start, tmp_path: Path) -> None:
    process = start()
    others = measuring(process, tmp_path)
    os.kill(others["guardian"], signal.SIGKILL)
    wait_for(lambda: children(process.pid).get("guardian", others["guardian"]) != others["guardian"])
    second = children(process.pid)["guardian"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 143
    assert gone(second)


def test_all_killed_at_once_and_the_next_command_makes_the_bench_safe_first(start: Start, tmp_path: Path) -> None:
    process = start()
    others = measuring(process, tmp_path)
    os.kill(others["guardian"], signal.SIGKILL)
    os.kill(others["worker"], signal.SIGSTOP)  # so that it cannot close the bench when the supervisor dies
    process.kill()
    os.kill(others["worker"], signal.SIGKILL)
    process.wait()
    wait_for(lambda: gone(others["worker"]))
    wait_for(lambda: look_at("small").unsafe)  # threads of the killed process may end a moment later
    assert not look_at("small").held
    second = start("calibrate", "dark", "--runs", str(tmp_path))
    _, err = second.communicate(timeout=LIMIT_S)
    assert second.returncode == 0, err
    assert f"process {others['worker']}, which opened it" in err
    assert not look_at("small").unsafe


def test_command_without_a_run_is_made_safe_when_it_is_killed(start: Start) -> None:
    process = start("devices", "live", "camera", "--light")
    wait_for(lambda: process.poll() is not None or BenchFiles("small").mark.exists())
    os.kill(children(process.pid)["worker"], signal.SIGKILL)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 20, err
    assert "opened again and made safe" in err
    assert not BenchFiles("small").mark.exists()


def test_lock_is_the_supervisors_until_the_worker_is_cleaned_up_after(start: Start, tmp_path: Path) -> None:
    process = start()
    others = measuring(process, tmp_path)
    assert look_at("small").holder is not None
    assert look_at("small").holder.process == process.pid
    os.kill(others["worker"], signal.SIGKILL)
    wait_for(lambda: gone(others["worker"]))
    assert process.wait(LIMIT_S) == 20
    assert RunReader(find_run(tmp_path, "latest")).status == "fault"
    with hold_bench("small"):
        pass


@pytest.mark.parametrize("after", everyday([0, 3], 0))
def test_twenty_ctrl_c_end_as_one(after: int, start: Start, tmp_path: Path) -> None:
    process = start()
    if after:
        measuring(process, tmp_path)
    else:
        wait_for(lambda: children(process.pid).get("worker"))
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not BenchFiles("small").mark.exists()
    runs = list(tmp_path.rglob("run.json"))
    assert all(RunReader(path.parent).status == "aborted" for path in runs)


def test_ctrl_z_stops_both_and_is_no_stall(start: Start, tmp_path: Path) -> None:
    process = start("calibrate", "--runs", str(tmp_path), "--set", "acquisition.stall_s=12.0")
    others = measuring(process, tmp_path)
    process.send_signal(signal.SIGTSTP)
    wait_for(lambda: all(") T " in Path(f"/proc/{p}/stat").read_text() for p in (process.pid, others["worker"])))
    time.sleep(14)
    process.send_signal(signal.SIGCONT)
    wait_for(lambda: ") T " not in Path(f"/proc/{others['worker']}/stat").read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 143
