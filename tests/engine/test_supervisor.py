"""A worker that hangs or dies on the bench: ended, bench made safe from a fresh process, run sealed as a fault."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from everyday import everyday
from processes import LIMIT_S, wait_for

from labctl.archive import RunReader, find_run
from labctl.bench.bench import open_bench
from labctl.console import Console
from labctl.engine import follow, supervisor
from labctl.engine.aftermath import lost
from labctl.engine.remains import CLOSED
from labctl.osal import can_supervise
from labctl.station.loading import load_station
from labctl.summary import read_summary

pytestmark = pytest.mark.skipif(not can_supervise(), reason="POSIX only; see labctl.osal.can_supervise")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def compiled(small_file: Path) -> None:
    """The mock's loops compiled and kept on the disk: at first use that takes longer than the stall below."""
    with open_bench(load_station(small_file).station) as bench:
        bench.source.on()
        for panel in (bench.slm, bench.display):
            panel.show(np.full(panel.shape, panel.levels - 1, np.uint8))
        bench.camera.arm(2)
        bench.camera.fetch(10.0)


@pytest.fixture
def start(larger_file: Path, tmp_path: Path, launched: Start) -> Start:
    def run(*options: str, start_new_session: bool = False) -> subprocess.Popen[str]:
        return launched(
            "calibrate", "--bench", str(larger_file), "--runs", str(tmp_path), *options,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=start_new_session,
        )  # fmt: skip

    return run


def worker_of(pid: int) -> int:
    """The child of the supervisor that is not its guardian."""
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    (worker,) = [one for one in children if b"guardian" not in Path(f"/proc/{one}/cmdline").read_bytes()]
    return worker


def segments_in(runs: Path) -> int:
    return len(list(runs.rglob("segments/*.h5")))


@pytest.mark.usefixtures("compiled")
def test_hang_in_a_native_call_ends_as_a_fault_with_one_document(start: Start, tmp_path: Path) -> None:
    process = start("--json", "--set", 'mock.faults=["hang@500"]', "--set", "acquisition.stall_s=12.0")
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 20, err
    document = json.loads(out)
    assert (document["verdict"], document["exit_code"]) == ("fault", 20)
    assert document["first_error"]["code"] == "E-STL-001"
    assert [node["name"] for node in document["nodes"]] == ["dark", "timing", "registration"]
    run = RunReader(find_run(tmp_path, "latest"))
    assert run.status == "fault"
    assert run.verify().intact
    assert json.loads(read_summary(run.path / "summary.json").to_json()) == document
    assert len(run.manifest) == 6  # dark, twice steps, twice fiducials, and the block of 64 before frame 500
    assert "hang" in (run.path / "threads.txt").read_text()
    (stalled,) = [line for line in run.journal() if line["event"] == "stalled"]
    assert stalled["safe"]
    assert "E-STL-001" in err
    assert "no progress for 12 s" in err


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_worker_that_dies_ends_as_a_fault(start: Start, tmp_path: Path) -> None:
    process = start("--set", 'mock.faults=["hang@500"]')
    wait_for(lambda: segments_in(tmp_path) == 6)
    worker = worker_of(process.pid)
    os.kill(worker, signal.SIGSEGV)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 20
    assert "died of SIGSEGV" in err
    assert RunReader(find_run(tmp_path, "latest")).status == "fault"


SLOW = pytest.mark.slow
KILLED = "os.kill(os.getpid(), 9)"
ENDED = "os._exit({})"
OPENED = "labctl.engine.supervisor.opened"


@pytest.mark.parametrize(
    ("where", "end", "code", "verdict", "devices"),
    [
        pytest.param("labctl.engine.supervisor.enlist", KILLED, 1, None, "no device was in use", marks=SLOW),
        ("labctl.engine.supervisor.enlist", ENDED.format(137), 1, None, "no device was in use"),
        pytest.param(OPENED, KILLED, 20, "fault", "no device was in use", marks=SLOW),
        pytest.param(OPENED, ENDED.format(137), 20, "fault", "no device was in use", marks=SLOW),
        ("labctl.archive.run.code_provenance", KILLED, 1, None, "no device was in use"),
        ("labctl.engine.supervisor.watch", KILLED, 20, "fault", "no device was in use"),
        pytest.param(
            "labctl.engine.supervisor.watch", ENDED.format(0), 20, "fault", "no device was in use", marks=SLOW
        ),
        pytest.param("labctl.engine.supervisor.unwatch", KILLED, 20, "fault", "no device was in use", marks=SLOW),
        ("labctl.archive.RunWriter.finish", KILLED, 0, "ok", "after it had sealed the run as ok"),
    ],
)
def test_worker_that_dies_at_any_time_ends_with_words_and_a_documented_code(
    where: str, end: str, code: int, verdict: str | None, devices: str,
    start: Start, tmp_path: Path, at_start: Callable[[str], None],
) -> None:  # fmt: skip
    """As the system ends it that is out of memory, or a vendor's library by an exit of its own."""
    owner, _, name = where.rpartition(".")
    at_start(
        "import os\n"
        "if 'LABCTL_WORKER' in os.environ:\n"
        "    from pkgutil import resolve_name\n"
        f"    owner = resolve_name({owner!r})\n"
        f"    before = owner.{name}\n"
        "    def then_end(*arguments):\n"
        "        before(*arguments)\n"
        f"        {end}\n"
        f"    owner.{name} = then_end\n"
    )
    out, err = (process := start("--json", "dark")).communicate(timeout=LIMIT_S)
    assert process.returncode == code, err
    assert ("died of SIGKILL" if end == KILLED else "ended with exit code") in err
    assert devices in err
    document = json.loads(out)
    assert document["exit_code"] == code
    if verdict is not None:
        run = RunReader(find_run(tmp_path, "latest"))
        assert (run.status, document["verdict"]) == (verdict, verdict)
        assert run.verify().intact


@pytest.mark.parametrize(("number", "code"), everyday([(signal.SIGTERM, 143), (signal.SIGINT, 130)], 0))
def test_stop_signals_reach_the_worker_once(number: int, code: int, start: Start, tmp_path: Path) -> None:
    process = start("--json")
    wait_for(lambda: segments_in(tmp_path) >= 3)
    process.send_signal(number)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code, err
    assert json.loads(out)["exit_code"] == code
    assert RunReader(find_run(tmp_path, "latest")).status == "aborted"


def test_ctrl_c_to_the_whole_group_stops_once(start: Start, tmp_path: Path) -> None:
    """As a terminal sends it, and a service manager its SIGTERM: to the supervisor and the worker."""
    process = start("--json", start_new_session=True)
    wait_for(lambda: segments_in(tmp_path) >= 3)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    assert json.loads(out)["exit_code"] == 130
    run = RunReader(find_run(tmp_path, "latest"))
    assert run.status == "aborted"
    assert run.verify().intact


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_worker_does_not_outlive_its_supervisor(start: Start, tmp_path: Path) -> None:
    process = start()
    wait_for(lambda: segments_in(tmp_path) >= 3)
    worker = worker_of(process.pid)
    process.kill()
    process.wait()
    run = RunReader(find_run(tmp_path, "latest"))
    wait_for(lambda: RunReader(run.path).status == "aborted")
    # it ends with the seal, or waits as a zombie for whoever adopted it
    wait_for(lambda: not Path(f"/proc/{worker}").exists() or ") Z " in Path(f"/proc/{worker}/stat").read_text())


def test_only_bench_commands_are_supervised_and_the_supervisor_stays_light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(supervisor.OFF, raising=False)
    assert supervisor.wanted(["measure", "products.h5"])
    assert not supervisor.wanted(["measure", "--help"])
    assert supervisor.wanted(["align"])
    assert supervisor.wanted(["devices", "live", "camera"])
    assert not supervisor.wanted(["devices", "list"])
    assert supervisor.wanted(["train", "m.safetensors", "--on-bench=blocks.0.ffn.up"])
    assert not supervisor.wanted(["train", "m.safetensors"])
    assert not supervisor.wanted(["run", "list"])
    assert not supervisor.wanted([])
    monkeypatch.setenv(supervisor.OFF, "1")
    assert not supervisor.wanted(["measure", "products.h5"])
    script = (
        "import sys, labctl.__main__, labctl.engine.supervisor;"
        "print([m for m in ('numpy', 'pydantic', 'typer', 'h5py', 'drivers', 'mock_hardware') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_supervisor_that_was_stopped_does_not_stop_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the light on, as it did: nobody takes the reports, and one more does not fit."""
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(supervisor, "_line", ours)

    def work() -> None:
        for _ in range(10_000):
            supervisor.beat()

    with ours, theirs:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
        assert set(theirs.recv(65536)) == set(b"\n")


@pytest.mark.parametrize(("has_run", "end"), [(False, follow.End.QUIET), (True, follow.End.GONE)])
def test_worker_that_gets_to_no_run_is_not_waited_for_without_end(has_run: bool, end: follow.End) -> None:
    """One that has a run may compute in silence: it is followed until it is gone."""
    ours, theirs = socket.socketpair()
    with ours, theirs, subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as worker:
        theirs.sendall(b'{"ready": true}\n')
        if has_run:
            theirs.sendall(b'{"run": "/runs/one", "in_use": false, "stall_s": null}\n')
        follower = follow.Follower(ours, worker.pid, lambda: None, quiet_s=0.2)
        ticks = []

        def tick(state: follow.State) -> None:
            ticks.append(state)
            if has_run and len(ticks) == 3:
                theirs.shutdown(socket.SHUT_WR)

        assert follower.follow(tick) is end
        worker.kill()


def test_worker_that_was_ended_before_its_run_counts_as_a_stall(capsys: pytest.CaptureFixture[str]) -> None:
    assert lost(Console(json_mode=True), 0, "it got to no run", CLOSED) == 20
    said = capsys.readouterr()
    assert json.loads(said.out)["first_error"]["code"] == "E-STL-001"
    assert "no device was in use" in said.err


@pytest.mark.parametrize("is_ready", [False, True])
def test_worker_that_hangs_before_it_has_devices_is_ended(is_ready: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never begins, and one that two Ctrl-C have not stopped: either was waited for without end."""
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(follow, "BEGIN_S", 1000.0 if is_ready else 0.2)
    monkeypatch.setattr(follow, "HEED_S", 0.2)
    with ours, theirs, subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as worker:
        if is_ready:
            theirs.sendall(b'{"ready": true}\n')
        insisted_s = time.monotonic() if is_ready else None
        follower = follow.Follower(ours, worker.pid, lambda: None, lambda: insisted_s)
        assert follower.follow(lambda state: None) is follow.End.DEAF
        worker.kill()
