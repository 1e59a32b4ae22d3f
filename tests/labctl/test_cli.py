"""The command line: exit codes, JSON purity, and nothing heavy before a command runs."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from processes import LIMIT_S
from typer.testing import CliRunner

from drivers.errors import DeviceTimeout
from labctl.__main__ import main
from labctl.archive import RunWriter
from labctl.cli import app
from labctl.cli.handler import Lab, command, run_app
from labctl.summary import Counts, Summary
from labctl.verdicts import Verdict

Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Logs go to a folder of the test, runs and stations are looked for in an empty one."""
    for name in ("LABCTL_BENCH", "LABCTL_RUNS", "LABCTL_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state" / "labctl"


@pytest.fixture
def labctl(capsys: pytest.CaptureFixture[str]) -> Invoke:
    """Runs a command in this process: exit code, stdout, stderr."""

    def invoke(*argv: str) -> tuple[int, str, str]:
        code = main(argv)
        return code, *capsys.readouterr()

    return invoke


def an_app(function: Callable[..., int | None]) -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.callback()(lambda: None)
    command(app, "go")(function)
    return app


def fails_with(error: BaseException) -> typer.Typer:
    def go(lab: Lab) -> None:
        raise error

    return an_app(go)


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    heavy = ["numpy", "torch", "pydantic", "h5py", "scipy", "cv2", "rich", "mock_hardware", "simulation"]
    script = f"import sys, labctl.cli; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "code"),
    [(["station", "check"], 0), (["calibrate", "dark", "--bench", "b.toml", "--set", "mock.source.power_mw=-1"], 2)],
)
def test_files_of_the_working_folder_hide_no_package(words: list[str], code: int, tmp_path: Path) -> None:
    """As the script ``labctl``, which never looks there; the second command has a supervisor."""
    for name in ("calibration", "drivers", "numpy", "pydantic", "typer", "mock_hardware"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the working folder')\n")
    (tmp_path / "b.toml").write_text('[bench]\nname = "hides"\n')
    done = subprocess.run([sys.executable, "-m", "labctl", *words], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "of the working folder" not in done.stderr


def test_summaries_of_commands_fit_into_80_columns() -> None:
    def pages(command: Any, *words: str) -> Iterator[tuple[str, str]]:
        if commands := getattr(command, "commands", {}):
            yield " ".join(words), CliRunner().invoke(app, [*words, "--help"], terminal_width=80).output
            for name, under in commands.items():
                yield from pages(under, *words, name)

    found = dict(pages(typer.main.get_command(app)))
    assert len(found) > 10
    lists = {words: page.partition("\nCommands:\n")[2].splitlines() for words, page in found.items()}
    assert all(lists.values())
    assert not [(words, line) for words, lines in lists.items() for line in lines if line.endswith("...")]
    assert max(len(line) for lines in lists.values() for line in lines) <= 80


def test_archive_can_be_listed_without_numpy() -> None:
    script = (
        "import sys; from pathlib import Path; from labctl.archive import list_runs; list_runs(Path('runs'))\n"
        "print([m for m in ('numpy', 'torch', 'h5py', 'drivers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_lists_the_commands(labctl: Invoke) -> None:
    code, out, _ = labctl("--help")
    assert code == 0
    assert "explain-exit" in out


def test_made_station_file_is_checked_and_shown(labctl: Invoke) -> None:
    assert labctl("station", "init", "bench.toml")[0] == 0
    code, out, _ = labctl("station", "check", "--bench", "bench.toml")
    assert code == 0
    assert out.count("PASS") == 5
    code, out, _ = labctl("station", "show", "--origin", "--bench", "bench.toml", "--set", "layout.rows=64")
    assert "bench.toml:" in out
    assert ["layout.rows", "--set", "64"] in [line.split() for line in out.splitlines()]


def test_existing_station_file_is_not_overwritten(labctl: Invoke, tmp_path: Path) -> None:
    (tmp_path / "station.toml").write_text("mine")
    code, _, err = labctl("station", "init")
    assert (code, (tmp_path / "station.toml").read_text()) == (2, "mine")
    assert "--force" in err
    assert labctl("station", "init", "--force")[0] == 0


def test_station_check_names_a_device_as_the_station_does_and_checks_it_for_its_role(labctl: Invoke) -> None:
    laser = ("--set", "devices.laser.role=source", "--set", "devices.laser.backend=mock.source")
    (Path("bench.toml")).write_text('[bench]\nname = "named"\n', encoding="utf-8")
    assert labctl("station", "check", "--bench", "bench.toml", *laser)[0] == 0
    code, out, _ = labctl("station", "check", "--bench", "bench.toml", *laser, "--set", "devices.laser.options.port=3")
    assert code == 2
    assert "unknown option devices.laser.port" in out


def test_station_with_an_uninstalled_backend_fails_the_check(labctl: Invoke) -> None:
    code, out, _ = labctl("station", "check", "--json", "--set", "devices.slm.backend=mock.slmm")
    assert code == 2
    assert json.loads(out)["failed"] == 1


@pytest.mark.parametrize(
    ("key", "detail", "fix"),
    [
        ("mock.camera.bit_dept=10", "E-DEV-009 unknown option mock.camera.bit_dept", "did you mean bit_depth?"),
        ("devices.camera.options.gain=3", "E-DEV-009 unknown option devices.camera.gain", ""),
        ("devices.camera.backend=mock.slm", "E-DEV-010 backend mock.slm is no camera", "edit [devices]"),
    ],
)
def test_station_check_reads_the_options_of_every_device(labctl: Invoke, key: str, detail: str, fix: str) -> None:
    code, out, _ = labctl("station", "check", "--json", "--set", key)
    assert code == 2
    row = next(row for row in json.loads(out)["checks"] if row["check"] == "devices.camera")
    assert row["state"] == "FAIL"
    assert row["detail"].startswith(detail)
    assert fix in row["fix"]


def test_bench_is_taken_from_the_environment(labctl: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_BENCH", "nowhere.toml")
    code, _, err = labctl("station", "show")
    assert code == 2
    assert err.startswith("E-USE-001  nowhere.toml: no such station")


def test_installed_backends_are_listed(labctl: Invoke) -> None:
    code, out, _ = labctl("devices", "list", "--json")
    assert code == 0
    assert {"mock.slm", "mock.camera"} <= {backend["name"] for backend in json.loads(out)["backends"]}


def test_run_is_listed_shown_and_verified(labctl: Invoke, new_run: Callable[[], RunWriter], runs: Path) -> None:
    run = new_run()
    run.finish(Verdict.OK, Summary(run_id=run.run_id, verdict=Verdict.OK, counts=Counts(planned=1, recorded=1)))
    run.close()
    suffix = run.run_id[-4:]
    assert run.run_id in labctl("run", "list")[1]
    assert f"{run.run_id}  ok" in labctl("run", "show", suffix, "--runs", str(runs))[1]
    assert labctl("run", "verify", suffix)[0] == 0
    (run.path / "summary.json").write_text("{}")
    code, out, err = labctl("run", "verify", suffix, "--json")
    assert code == 22
    assert json.loads(out)["problems"][0]["path"] == "summary.json"
    assert "E-RUN-002" in err


def test_no_runs_yet_says_how_to_make_one(labctl: Invoke) -> None:
    assert "labctl demo" in labctl("run", "list")[1]


def test_exit_codes_and_errors_are_explained(labctl: Invoke) -> None:
    assert labctl("explain-exit", "20")[1].startswith("20  fault")
    assert labctl("explain-exit", "99")[0] == 2
    assert "E-CFG-001" in labctl("errors")[1]


GOOD = (
    ("station", "show"),
    ("station", "show", "--origin"),
    ("station", "check"),
    ("station", "init"),
    ("devices", "list"),
    ("run", "list"),
    ("explain-exit", "0"),
    ("errors",),
)
WRONG = (
    ("station", "show", "--bench", "absent"),
    ("run", "show", "zzzz"),
    ("run", "verify", "zzzz"),
    ("explain-exit", "x"),
    ("explain-exit",),
    ("no-such-command",),
    ("run", "list", "--no-such-option"),
)


@pytest.mark.parametrize("argv", GOOD)
def test_json_mode_prints_exactly_one_document(labctl: Invoke, argv: tuple[str, ...]) -> None:
    code, out, _ = labctl(*argv, "--json")
    assert code == 0
    assert json.loads(out)


@pytest.mark.parametrize("argv", WRONG)
def test_json_mode_prints_exactly_one_document_of_a_failure(labctl: Invoke, argv: tuple[str, ...]) -> None:
    code, out, _ = labctl(*argv, "--json")
    document = json.loads(out)
    assert document["schema"] == "labctl.summary/1"
    assert document["exit_code"] == code == 2
    assert document["first_error"]["code"].startswith("E-")


def test_usage_errors_exit_with_2(labctl: Invoke) -> None:
    code, out, err = labctl("run", "shwo")
    assert (code, out) == (2, "")
    assert "shwo" in err


def test_coded_error_is_rendered_and_its_traceback_logged(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    app = fails_with(DeviceTimeout("no frame within 2.0 s", device="camera", hint="labctl devices list"))
    assert run_app(app, ["go"]) == 20
    out, err = capsys.readouterr()
    assert (out, err) == ("", "E-DEV-003  camera: no frame within 2.0 s\n  try:  labctl devices list\n")
    assert "DeviceTimeout" in json.loads((state / "log.jsonl").read_text())["traceback"]


def test_bug_exits_with_1_and_points_to_the_log(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    assert run_app(fails_with(ZeroDivisionError("division by zero")), ["go", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["verdict"] == "error"
    assert "Traceback" not in err
    assert str(state / "log.jsonl") in err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_DEBUG", "1")
    assert run_app(fails_with(ZeroDivisionError("division by zero")), ["go"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_bug_shows_its_traceback_when_no_log_can_be_written(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    state.parent.parent.joinpath("state").write_text("a file where the folder should be")
    assert run_app(fails_with(ZeroDivisionError("division by zero")), ["go"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_full_disk_anywhere_is_a_storage_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "products.h5")
    assert run_app(fails_with(error), ["go", "--json"]) == 22
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["first_error"]["code"]) == ("storage", "E-STO-002")


def test_failure_after_a_run_began_names_the_run_and_what_was_reached(
    capsys: pytest.CaptureFixture[str], new_run: Callable[[], RunWriter]
) -> None:
    run = new_run()

    def go(lab: Lab) -> None:
        lab.run = run
        lab.summary = Summary(run_id=run.run_id, verdict=Verdict.OK, counts=Counts(planned=9, recorded=4))
        raise DeviceTimeout("no frame")

    assert run_app(an_app(go), ["go", "--json"]) == 20
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["run_id"], document["counts"]["recorded"]) == (run.run_id, 4)
    assert f"labctl run show {run.run_id[-4:]}" in err
    assert "DeviceTimeout" in (run.path / "log.jsonl").read_text()


def test_result_given_before_a_failure_stays_the_only_document(capsys: pytest.CaptureFixture[str]) -> None:
    def go(lab: Lab) -> None:
        lab.console.result({"a": 1})
        raise ValueError("late")

    assert run_app(an_app(go), ["go", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_command_returns_its_exit_code_and_has_the_common_options(capsys: pytest.CaptureFixture[str]) -> None:
    def go(
        lab: Lab, n: Annotated[int, typer.Argument()], twice: Annotated[bool, typer.Option("--twice")] = False
    ) -> int:
        """Give back the number."""
        lab.console.say("hello")
        return n * (2 if twice else 1)

    assert run_app(an_app(go), ["go", "5", "--twice", "--quiet"]) == 10
    assert capsys.readouterr().out == ""
    assert run_app(an_app(go), ["go", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("Give back the number.", "--json", "--quiet", "--bench", "LABCTL_BENCH"))


def test_commands_of_an_application_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To make all of labctl's takes twenty times as long as many a command, and scripts run thousands."""
    app = an_app(lambda lab: 10)
    assert run_app(app, ["go"]) == 10
    monkeypatch.setattr("typer.main.get_command", lambda app: pytest.fail("made once more"))
    assert run_app(app, ["go"]) == 10


def test_ctrl_c_exits_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(fails_with(KeyboardInterrupt()), ["go", "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["verdict"] == "aborted"


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without asking it")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_exit_with_their_code_after_cleaning_up(tmp_path: Path, number: int, code: int) -> None:
    script = """
import sys, time, typer
from labctl.cli.handler import command, run_app
app = typer.Typer()
app.callback()(lambda: None)
def go(lab):
    try:
        print("ready", flush=True)
        time.sleep(2000)
    finally:
        print("cleaned", flush=True)
command(app, "go")(go)
sys.exit(run_app(app, ["go"]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out) == (code, "cleaned\n")
    assert err.startswith("E-ABT-00")


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_reader_that_has_seen_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "labctl", "errors"], stdout=closed, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_output_without_a_terminal_has_no_control_codes(labctl: Invoke) -> None:
    outputs: list[Any] = [labctl("--help"), labctl("station", "show"), labctl("errors"), labctl("run", "nope")]
    assert not any("\x1b" in out + err for _, out, err in outputs)
