"""However a process ends: the bench is safe first, then free, then the run is sealed, and one document says how."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from everyday import everyday
from processes import LIMIT_S, wait_for

from groundwork import compiled
from labctl import locks
from labctl.__main__ import main
from labctl.archive import RunReader, RunWriter, find_run
from labctl.archive.calibrations import CalibrationStore
from labctl.archive.recovery import settle_crashed
from labctl.bench.lock import hold_bench
from labctl.engine import early
from labctl.engine.gate import settle_decisions
from labctl.locks import BenchFiles, is_taken, take
from labctl.station.loading import LoadedStation
from labctl.summary import CalibrationRef, Summary
from labctl.verdicts import Verdict

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

Start = Callable[..., "subprocess.Popen[str]"]
SLOW_SEAL = (
    "import os, sys, time\n"
    "if 'labctl.engine.aftermath' in sys.orig_argv:\n"
    "    from labctl.archive import RunWriter\n"
    "    finish = RunWriter.finish\n"
    "    def slowly(*arguments):\n"
    "        while not os.path.exists({file!r}):\n"
    "            time.sleep(0.05)\n"
    "        finish(*arguments)\n"
    "    RunWriter.finish = slowly\n"
)
"""Nothing is sealed until there is the file."""
SPEECHLESS = "import os, sys\nif 'labctl.engine.aftermath' in sys.orig_argv:\n    os._exit(0)\n"


@pytest.fixture
def start(larger_file: Path, tmp_path: Path, launched: Start) -> Start:
    def run(*options: str) -> subprocess.Popen[str]:
        return launched(
            "calibrate", "--json", "--bench", str(larger_file), "--runs", str(tmp_path / "runs"), *options,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    return run


def children(pid: int, *names: bytes) -> list[int]:
    """Its children whose command line has one of the names."""
    found = []
    for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            line = Path(f"/proc/{word}/cmdline").read_bytes()
        except OSError:
            continue
        found += [int(word)] if any(name in line for name in names) else []
    return found


def measuring(process: subprocess.Popen[str], runs: Path) -> int:
    """The worker of a command that has sealed some blocks."""
    wait_for(lambda: process.poll() is not None or len(list(runs.rglob("segments/*.h5"))) >= 3)
    (worker,) = children(process.pid, b"labctl\0calibrate")
    return worker


@pytest.mark.parametrize("number", everyday([signal.SIGQUIT, signal.SIGTERM], 0))
def test_signal_to_the_group_stops_with_one_document_and_a_seal(number: int, start: Start, tmp_path: Path) -> None:
    process = start()
    measuring(process, tmp_path / "runs")
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 143, err
    assert json.loads(out)["verdict"] == "aborted"
    run = RunReader(find_run(tmp_path / "runs", "latest"))
    assert (run.status, run.verify().intact) == ("aborted", True)
    assert not BenchFiles("small").mark.exists()


@pytest.mark.parametrize(
    ("number", "code"), everyday([(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGQUIT, 143)], 0)
)
def test_worker_that_is_stopped_while_it_starts_says_so(number: int, code: int, start: Start) -> None:
    process = start()
    wait_for(lambda: children(process.pid, b"labctl\0calibrate"))
    os.kill(children(process.pid, b"labctl\0calibrate")[0], number)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code, err
    assert json.loads(out)["verdict"] == "aborted"
    assert "Traceback" not in err


def test_worker_that_ends_without_a_word_has_its_document(start: Start, at_start: Callable[[str], None]) -> None:
    at_start("import os\nif 'LABCTL_WORKER' in os.environ:\n    os._exit(1)\n")
    process = start()
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, err
    assert json.loads(out)["exit_code"] == 1


@pytest.mark.parametrize("number", everyday([signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT], 1))
def test_signals_during_the_clean_up_change_nothing(number: int, start: Start, tmp_path: Path) -> None:
    process = start()
    os.kill(measuring(process, tmp_path / "runs"), signal.SIGKILL)
    wait_for(lambda: children(process.pid, b"safe_state", b"aftermath"))
    while process.poll() is None:
        os.killpg(process.pid, number)
        time.sleep(0.05)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 20, err
    assert json.loads(out)["verdict"] == "fault"
    assert RunReader(find_run(tmp_path / "runs", "latest")).status == "fault"
    assert not BenchFiles("small").mark.exists()


@pytest.mark.parametrize("gone", everyday([False, True], 1), ids=["renamed", "removed"])
def test_bench_is_made_safe_without_the_folder_of_the_run(gone: bool, start: Start, tmp_path: Path) -> None:
    process = start()
    worker = measuring(process, tmp_path / "runs")
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    if gone:
        subprocess.run(["rm", "-rf", str(tmp_path / "elsewhere")], check=True)
    os.kill(worker, signal.SIGKILL)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode in (20, 22), err
    assert json.loads(out)["exit_code"] == process.returncode
    assert not BenchFiles("small").mark.exists()


def test_runs_that_vanish_end_a_run_as_a_matter_of_storage(start: Start, tmp_path: Path) -> None:
    process = start()
    measuring(process, tmp_path / "runs")
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 22, err
    assert json.loads(out)["verdict"] == "storage"
    assert "Traceback" not in err
    assert not BenchFiles("small").mark.exists()


def test_bench_is_free_as_soon_as_it_is_safe_and_nobody_takes_the_run_for_crashed(
    start: Start, tmp_path: Path, at_start: Callable[[str], None]
) -> None:
    at_start(SLOW_SEAL.format(file=str(tmp_path / "seal")))
    process = start()
    os.kill(measuring(process, tmp_path / "runs"), signal.SIGKILL)
    wait_for(lambda: children(process.pid, b"aftermath"))
    with hold_bench("small"):
        assert not BenchFiles("small").mark.exists()
        run = find_run(tmp_path / "runs", "latest")
        assert RunReader(run).status == "running"
        assert settle_crashed(tmp_path / "runs", "small") == []
        assert process.poll() is None
    (tmp_path / "seal").touch()
    assert process.wait(LIMIT_S) == 20
    assert RunReader(run).status == "fault"


def test_document_is_there_even_where_nothing_can_seal_the_run(
    start: Start, tmp_path: Path, at_start: Callable[[str], None]
) -> None:
    at_start(SPEECHLESS)
    process = start()
    os.kill(measuring(process, tmp_path / "runs"), signal.SIGKILL)
    out, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 20
    document = json.loads(out)
    assert (document["verdict"], document["exit_code"]) == ("fault", 20)
    assert "SIGKILL" in document["first_error"]["message"]


@pytest.mark.parametrize("words", [("calibrate",), ("nightly", "run")], ids=" ".join)
def test_busy_bench_refuses_before_a_worker_is_started(
    words: tuple[str, ...], small_file: Path, tmp_path: Path, launched: Start, at_start: Callable[[str], None]
) -> None:
    at_start(f"import os\nif 'LABCTL_WORKER' in os.environ:\n    open({str(tmp_path / 'worker')!r}, 'w')\n")
    with hold_bench("small", "gamma sweep"):
        process = launched(
            *words, "--json", "--bench", str(small_file), "--runs", str(tmp_path / "runs"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 75, err
    document = json.loads(out)
    assert (document["verdict"], document["bench"]) == ("busy", "small")
    assert f"process {os.getpid()}" in document["first_error"]["seen"]
    assert not (tmp_path / "worker").exists()
    assert not (tmp_path / "runs").exists() or words[0] == "nightly"


def test_bench_of_a_command_line_is_known_only_where_it_is_certain(
    small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LABCTL_BENCH", raising=False)

    def bench(*words: str) -> str | None:
        wish = early.wish_of(words)
        return wish.bench if wish else None

    assert bench("measure", "products.h5") == "mock"
    assert bench("measure", "products.h5", "--bench", str(small_file)) == "small"
    assert bench("measure", "products.h5", f"--bench={small_file}") == "small"
    assert bench("measure", "products.h5", f"-b{small_file}") == "small"
    assert bench("nightly", "run", "-b", str(small_file), "--set", "layout.rows=16") == "small"
    assert bench("measure", "products.h5", "--set", "bench.name='other'") is None
    assert bench("measure", "products.h5", "--bench", "no-such-station") is None
    assert bench("measure", "products.h5", "--wait", "10m") is None
    assert bench("run", "resume") is None
    monkeypatch.setenv("LABCTL_BENCH", str(small_file))
    assert bench("demo") == "small"


def test_lock_is_let_go_where_it_cannot_be_said_who_has_it(small_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: locks.Holder) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locks.Holder, "write_down", full)
    wish = early.wish_of(["measure", "products.h5", "--bench", str(small_file)])
    assert wish is not None
    assert early.hold(wish) is None
    assert not is_taken(BenchFiles("small").lock)


def test_of_those_who_look_at_a_lock_none_sees_another(tmp_path: Path) -> None:
    import fcntl

    path = tmp_path / "lock"
    with path.open("w") as another:
        fcntl.flock(another, fcntl.LOCK_SH)  # as somebody has it who looks
        assert not is_taken(path)
    held = take(path)
    assert held is not None
    assert is_taken(path)
    held.release()


def test_full_disk_at_the_report_is_a_warning_and_the_verdict_that_of_the_data(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("labctl.report.write_report", full)
        assert main(["calibrate", "dark", "--json", "--bench", str(small_file), "--runs", str(tmp_path)]) == 0
    said = capsys.readouterr()
    document, run = json.loads(said.out), RunReader(find_run(tmp_path, "latest"))
    assert (document["verdict"], run.status, run.verify().intact) == ("ok", "ok", True)
    assert "no report was written" in said.err
    assert [node["state"] for node in document["nodes"] if node["name"] == "report"] == ["skipped"]
    again = said.err.partition("again: labctl ")[2].split()
    assert main([*again, "--runs", str(tmp_path)]) == 0


CALLS = ("replace", "fsync", "open")


def _die_at(number: int) -> list[int]:
    """From now on the process kills itself at this call of the operating system; the list counts them."""
    count = [0]

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def then_die(*arguments: object, **more: object) -> object:
            count[0] += 1
            if count[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **more)

        return then_die

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    return count


def _seal_and_apply(run: RunWriter, store: CalibrationStore, summary: Summary) -> None:
    run.finish(summary.verdict, summary)
    assert summary.calibration is not None
    store.decide("small", summary.calibration.id, run.run_id, "in spec", apply=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a fork of a process with threads
def test_seal_and_calibration_agree_whatever_call_between_them_is_the_last(
    small_station: Callable[..., LoadedStation], tmp_path: Path
) -> None:
    loaded, number, ended = small_station(), 0, signal.SIGKILL
    seen = set()
    while ended == signal.SIGKILL:
        number += 1
        runs = tmp_path / f"runs{number}"
        store = CalibrationStore(runs)
        run = RunWriter.create(runs, "measure", loaded)
        store.folder.mkdir(parents=True, exist_ok=True)
        store.path("cal-x").write_bytes(b"")
        summary = Summary(
            run_id=run.run_id, bench="small", verdict=Verdict.OK, exit_code=0,
            calibration=CalibrationRef(id="cal-x", path=str(store.path("cal-x")), applied=True, why="in spec"),
        )  # fmt: skip
        child = os.fork()
        if child == 0:
            _die_at(number)
            _seal_and_apply(run, store, summary)
            os._exit(0)
        ended = os.waitpid(child, 0)[1]
        run.close()
        sealed, applied = RunReader(run.path).seal is not None, store.applied("small")
        assert sealed or applied is None  # nothing is in use whose run is crashed
        settle_decisions(store, runs, "small")
        settle_crashed(runs, "small")
        after = store.applied("small")
        assert (after is not None and after.id == "cal-x") == sealed
        assert RunReader(run.path).status == ("ok" if sealed else "crashed")
        assert len([d for d in store.history("small") if d.event == "applied"]) == sealed
        seen.add((sealed, applied is not None))
    assert number > 10
    assert seen == {(False, False), (True, False), (True, True)}


@pytest.mark.parametrize(
    "key",
    [
        "calibration.valid_hours=1e12", "acquisition.stall_s=1e10", "acquisition.dark_frames=2000000",
        "acquisition.fetch_timeout_s=1e9", "acquisition.interlock_wait_s=1e9", "acquisition.holdout_frames=10000000",
        "acquisition.reopen_attempts=1000000", "layout.rows=100000000", "source.wavelength_nm=1e9",
        "nightly.budget_h=1e6", "nightly.keep_nights=1000000", f"bench.name='{'x' * 250}'",
    ],
)  # fmt: skip
def test_number_that_no_bench_has_is_found_by_station_check(key: str, small_file: Path) -> None:
    assert main(["station", "check", "--bench", str(small_file), "--set", key]) == 2


@pytest.mark.parametrize("seed", ["-1", str(2**70)])
def test_seed_out_of_range_is_no_bug(seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--seed", seed]) == 2
    assert "a bug" not in capsys.readouterr().err


def test_later_of_two_runs_of_one_second_is_the_latest(
    small_station: Callable[..., LoadedStation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = small_station()
    while time.time() % 1 > 0.5:
        time.sleep(0.05)
    for suffix in "zzzz", "aaaa":
        monkeypatch.setattr("labctl.archive.ids.secrets.choice", lambda alphabet, s=suffix: s[0])
        with RunWriter.create(tmp_path, "import", loaded):
            pass
    assert find_run(tmp_path, "latest").name.endswith("aaaa")


def test_kernel_is_compiled_without_a_cache_where_none_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    njit = compiled.numba.njit

    def nowhere(**options: object) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(compiled.numba, "njit", nowhere)
    assert compiled.kernel(lambda x: x + 1)(1) == 2


def labctl(*words: str | bytes, **options: object) -> subprocess.CompletedProcess[str]:
    command: list[str | bytes] = [sys.executable, "-m", "labctl", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S, **options)  # type: ignore[call-overload,no-any-return]


def test_own_packages_in_the_working_folder_do_not_stand_in_for_ours(small_file: Path, tmp_path: Path) -> None:
    program = Path(sysconfig.get_path("scripts")) / "labctl"
    if not program.exists():
        pytest.skip("labctl is not installed as a program")
    for name in ("drivers", "calibration", "simulation", "mock_hardware", "groundwork"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not ours')\n")
    (tmp_path / "json.py").write_text("raise SystemExit('not ours')\n")
    words = [program, "calibrate", "dark", "--bench", small_file]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("encoding", everyday([{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}], 1))
def test_name_that_is_no_text_is_reported_as_any_other(encoding: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    done = labctl("run", "show", os.fsencode(folder / "x"), "--json", env={**os.environ, **encoding})
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["exit_code"] == 2


@pytest.mark.parametrize("descriptor", everyday([0, 1, 2], 1))
def test_closed_stream_changes_no_exit_code(descriptor: int, tmp_path: Path) -> None:
    words = f"exec {sys.executable} -m labctl run show nothing --json {descriptor}>&-"
    done = subprocess.run(["sh", "-c", words], cwd=tmp_path, capture_output=True, check=False, timeout=LIMIT_S)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_user_without_home_or_name_gets_an_answer(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(*arguments: object) -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr("getpass.getuser", unknown)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert main(["calibrate", "dark", "--bench", str(small_file), "--runs", str(tmp_path / "runs")]) == 0
    assert main(["bench", "who"]) == 0
    assert "small: free" in capsys.readouterr().out
    assert main(["run", "show", "nothing", "--runs", str(tmp_path / "runs")]) == 2


def test_working_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    words = f"mkdir gone && cd gone && rmdir ../gone && exec {sys.executable} -m labctl calibrate dark --json"
    done = subprocess.run(
        ["sh", "-c", words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    assert done.returncode == 22, done.stderr
    assert json.loads(done.stdout)["verdict"] == "storage"


def test_station_outside_utf8_is_no_bench_that_is_known_early(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b"[bench]\nname = 'caf\xe9'\n")
    assert early.wish_of(["demo", "--bench", str(path)]) is None
