"""Who has a bench: two at once, waiting, words, and what a killed process has left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import LIMIT_S

from labctl import locks
from labctl.__main__ import main
from labctl.archive import RunWriter
from labctl.bench.lock import hold_bench
from labctl.bench.marks import look_at
from labctl.durations import wait_s_of
from labctl.engine.policy import as_json
from labctl.engine.walk import Leg
from labctl.errors import BenchBusy, LockUntrusted, UsageError
from labctl.locks import BenchFiles, take
from labctl.nodes.registry import BY_DAY
from labctl.station.loading import LoadedStation

Small = Callable[..., LoadedStation]
HOLDS = "import sys, time; from labctl.bench.lock import hold_bench\nwith hold_bench('waits', 'gamma sweep'):\n"


@contextmanager
def held_elsewhere(seconds: float) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", f"{HOLDS}    print('held', flush=True)\n    time.sleep({seconds})"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_busy_bench_names_its_holder_and_does_not_wait_for_it() -> None:
    with held_elsewhere(10 * LIMIT_S) as other:
        began_s = time.monotonic()
        with pytest.raises(BenchBusy) as busy, hold_bench("waits"):
            pass
        assert time.monotonic() - began_s < LIMIT_S
        assert "gamma sweep" in busy.value.seen
        assert f"process {other.pid}" in busy.value.seen
        assert "since 2" in busy.value.seen
        assert look_at("waits").held
    look = look_at("waits")
    assert not look.held
    assert "was killed" in look.words
    with hold_bench("waits"):
        assert look_at("waits").held
    assert look_at("waits").words == "free"


def test_waiting_says_again_and_again_for_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.bench.lock.SAY_EVERY_S", 0.0)
    said: list[str] = []
    with held_elsewhere(60) as other:
        with pytest.raises(BenchBusy), hold_bench("waits", wait_s=2, say=said.append):
            pass
        other.kill()
    assert len(said) > 1
    assert all("held by gamma sweep" in words for words in said)
    assert said[0].startswith("waiting for the bench waits, 2 s at most")


def test_waiting_gets_the_bench_when_it_is_free_and_says_so() -> None:
    said: list[str] = []
    with held_elsewhere(1.5) as other, hold_bench("waits", wait_s=30, say=said.append):
        other.wait()
    assert len(said) == 1
    assert "gamma sweep" in said[0]


def test_state_folder_on_another_computer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.bench.lock.file_system_without_locks", lambda folder: "nfs4")
    with pytest.raises(LockUntrusted, match="nfs4"), hold_bench("waits"):
        pass


def test_local_file_system_is_trusted_and_one_in_the_list_is_not(
    tmp_path: Path, mount: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mount("size=1m")
    assert locks.file_system_without_locks(folder) is None
    monkeypatch.setattr(locks, "_OF_OTHER_COMPUTERS", frozenset({"tmpfs"}))
    assert locks.file_system_without_locks(folder) == "tmpfs"


def test_bench_who_says_what_it_sees(small_station: Small, capsys: pytest.CaptureFixture[str]) -> None:
    with hold_bench("small", "labctl measure") as held_by:
        held_by("20260101T000000Z-measure-k7f2")
        assert main(["bench", "who", "small", "--json"]) == 0
    (bench,) = json.loads(capsys.readouterr().out)["benches"]
    assert bench["held"]
    assert bench["holder"]["purpose"] == "labctl measure"
    assert bench["holder"]["who"].endswith("k7f2")
    BenchFiles("small").mark.write_text("{")
    assert main(["bench", "who"]) == 0
    assert "LEFT UNSAFE" in capsys.readouterr().out
    BenchFiles("small").mark.unlink()


def test_bench_that_cannot_be_made_safe_is_refused_until_somebody_has_looked(
    small_station: Small, small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = BenchFiles("small")
    files.mark.parent.mkdir(parents=True, exist_ok=True)
    files.mark.write_text("{")
    command = ["calibrate", "dark", "--bench", str(small_file), "--runs", str(tmp_path / "runs")]
    assert main(command) == 20
    error = capsys.readouterr().err
    assert "E-SAF-001" in error
    assert "labctl bench safe small" in error
    assert main(["bench", "safe", "small"]) == 20
    assert main(["bench", "safe", "small", "--checked"]) == 0
    assert main(command) == 0


def test_bench_safe_makes_a_station_safe(small_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "safe", "--bench", str(small_file)]) == 0
    assert "every device is safe" in capsys.readouterr().out
    assert not BenchFiles("small").mark.exists()
    assert main(["bench", "safe", "nobody-knows", "--bench", str(small_file)]) == 2


def test_devices_that_somebody_has_open_are_left_alone(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("labctl.bench.marks.TOUCH_WAIT_S", 0.2)
    files = BenchFiles("small")
    files.touch.parent.mkdir(parents=True, exist_ok=True)
    lock = take(files.touch)
    assert lock is not None
    assert main(["calibrate", "dark", "--bench", str(small_file), "--runs", str(tmp_path / "runs")]) == 75
    assert "has devices of the bench open" in capsys.readouterr().err
    lock.release()


def test_wait_that_is_no_time_is_refused(small_file: Path, tmp_path: Path) -> None:
    command = ["calibrate", "dark", "--bench", str(small_file), "--runs", str(tmp_path), "--wait"]
    assert main([*command, "soon"]) == 2


@pytest.mark.skipif(os.name != "posix", reason="numbers of users")
def test_lock_of_another_user_is_seen(tmp_path: Path) -> None:
    """His file may be read and not be written: that is no reason to take it for free, or to fail."""
    path = tmp_path / "theirs.lock"
    lock = take(path)
    assert lock is not None
    path.chmod(0o444)
    opened = os.open

    def of_another_user(name: Path, flags: int, *mode: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied", str(name))
        return opened(name, flags, *mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", of_another_user)
        assert locks.is_taken(path)
        assert take(path) is None
        lock.release()
        assert not locks.is_taken(path)


@pytest.mark.skipif(os.name != "posix", reason="named pipes")
def test_pipe_in_the_place_of_a_lock_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.lock")
    assert not locks.is_taken(tmp_path / "pipe.lock")


@pytest.mark.parametrize("text", ["169h", "9" * 400 + "s"])
def test_nobody_waits_for_a_bench_without_end(text: str) -> None:
    assert wait_s_of("168h") == 7 * 86400
    with pytest.raises(UsageError, match="longer than a week") as refused:
        wait_s_of(text)
    assert refused.value.expected == "at most 168h"


def test_whoever_waits_for_a_bench_tells_its_supervisor() -> None:
    class Watching:
        process, waited = os.getpid(), 0

        def has(self, bench: str) -> bool:
            return False

        def entrust(self, bench: str, lock: locks.KernelLock) -> None:
            raise AssertionError("the bench is held elsewhere")

        def waits(self) -> None:
            self.waited += 1

        def give_back(self, bench: str) -> None:
            pass

    keeper = Watching()
    with held_elsewhere(30), pytest.raises(BenchBusy), hold_bench("waits", wait_s=0.5, keeper=keeper):
        pass
    assert keeper.waited == 1


def test_run_that_goes_on_waits_for_its_bench(
    small_station: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunWriter.create(
        tmp_path / "runs", "calibrate", small_station(), {"job": {"legs": as_json([Leg(BY_DAY[0])])}}
    ) as run:
        path, bench = run.path, small_station().bench
    with hold_bench(bench):
        words = ("run", "resume", str(path), "--runs", str(tmp_path / "runs"))
        assert main([*words, "--wait", "1s"]) == BenchBusy.exit_code
    assert f"waiting for the bench {bench}" in capsys.readouterr().out
