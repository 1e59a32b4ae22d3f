"""Nights that start by themselves: what is written for systemd, cron and Windows, and what is never overwritten."""

from __future__ import annotations

import configparser
import datetime as dt
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from processes import LIMIT_S

from labctl import units
from labctl.archive import RunWriter
from labctl.night import installed
from labctl.night.service import NO_NIGHTS_ON_WINDOWS, NightJob, job_of
from labctl.station.loading import load_station
from labctl.verdicts import Verdict

posix = pytest.mark.skipif(os.name != "posix", reason="units of systemd and lines of cron")
Labctl = Callable[..., tuple[int, str, str]]
STRANGE = 'a b%n $HOME "q" \\x [x]{y}'
"""A folder whose name means something to systemd, cron and a shell, in many ways."""


@pytest.fixture
def lab_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a station and runs lie, with settings of its own, and no systemd that answers."""
    folder = tmp_path / (STRANGE if os.name == "posix" else "a b")
    folder.mkdir()
    (folder / "bench-a.toml").write_text('[bench]\nname = "bench-a"\n[nightly]\nbudget_h = 1.5\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LABCTL_BENCH", raising=False)
    monkeypatch.setattr(units, "ask", lambda *words: None)
    return folder


def written(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "config/systemd/user").glob("*")}


def parsed(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


def said_by_systemd(line: str) -> list[str]:
    """The words of ``ExecStart``, as its manual says that they are read."""
    program, *arguments = shlex.split(line)
    assert "%" not in line.replace("%%", "")  # where a specifier would begin
    assert "$" not in " ".join(arguments).replace("$$", "")  # and here a variable
    return [program.replace("%%", "%"), *(word.replace("%%", "%").replace("$$", "$") for word in arguments)]


def install(labctl: Labctl, *options: str) -> tuple[int, str, str]:
    return labctl("service", "install", "--as", "systemd", "--bench", "bench-a.toml", *options)


@posix
def test_service_starts_the_night_of_the_bench_from_absolute_paths(labctl: Labctl, lab_folder: Path) -> None:
    assert install(labctl)[0] == 0
    assert sorted(written(lab_folder)) == [
        "labctl-night-bench-a.service", "labctl-night-bench-a.timer", "labctl-notify@.service",
    ]  # fmt: skip
    service = parsed(written(lab_folder)["labctl-night-bench-a.service"])
    python, *arguments = said_by_systemd(service["Service"]["ExecStart"])
    assert python == sys.executable
    assert arguments == [
        "-P", "-m", "labctl", "nightly", "run",
        "--bench", str(lab_folder / "bench-a.toml"), "--runs", str(lab_folder / "runs"), "--budget", "1.5h",
    ]  # fmt: skip
    assert service["Service"]["WorkingDirectory"] == str(lab_folder).replace("%", "%%")
    assert job_of(written(lab_folder)["labctl-night-bench-a.service"]) == (
        lab_folder / "bench-a.toml", lab_folder / "runs",
    )  # fmt: skip


@posix
def test_service_is_watched_ended_and_never_started_again(labctl: Labctl, lab_folder: Path) -> None:
    install(labctl, "--budget", "1h30m")
    service = parsed(written(lab_folder)["labctl-night-bench-a.service"])
    keys = service["Service"]
    assert service["Unit"]["OnFailure"] == "labctl-notify@bench-a.service"
    assert (keys["Type"], keys["NotifyAccess"], keys["KillMode"], keys["Restart"]) == ("notify", "main", "mixed", "no")
    assert keys["SuccessExitStatus"] == "11 30"
    station = load_station("bench-a.toml").station
    assert int(keys["WatchdogSec"]) > station.acquisition.stall_s
    assert int(keys["TimeoutStopSec"]) > 20
    assert int(keys["RuntimeMaxSec"]) > 5400 + station.acquisition.stall_s
    assert "XDG_STATE_HOME=" in keys["Environment"]


@posix
def test_timer_goes_by_utc_and_makes_up_for_a_night_that_was_missed(labctl: Labctl, lab_folder: Path) -> None:
    install(labctl, "--at", "23:05")
    timer = parsed(written(lab_folder)["labctl-night-bench-a.timer"])
    assert timer["Timer"]["OnCalendar"] == "*-*-* 23:05:00 UTC"
    assert timer["Timer"]["Persistent"] == "true"
    assert timer["Install"]["WantedBy"] == "timers.target"


@posix
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_itself_finds_nothing_wrong_with_the_units(labctl: Labctl, lab_folder: Path, tmp_path: Path) -> None:
    install(labctl)
    files = [str(lab_folder / "config/systemd/user" / name) for name in written(lab_folder) if "@" not in name]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", *files],
        capture_output=True, text=True, check=False, timeout=LIMIT_S,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "SYSTEMD_LOG_LEVEL": "warning"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@posix
def test_secrets_are_named_and_stand_in_no_unit(labctl: Labctl, lab_folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("LAB_WEBHOOK", "https://example.org/open-sesame")
    _, out, _ = install(labctl)
    assert "night-bench-a.env" in out
    assert not (lab_folder / "config/labctl/night-bench-a.env").exists()
    text = "".join(written(lab_folder).values())
    assert "night-bench-a.env" in text
    assert "open-sesame" not in text


@posix
def test_what_labctl_did_not_write_is_neither_replaced_nor_removed(labctl: Labctl, lab_folder: Path) -> None:
    install(labctl)
    timer = lab_folder / "config/systemd/user/labctl-night-bench-a.timer"
    timer.write_text(timer.read_text().replace("02:00:00", "03:00:00"))
    before = written(lab_folder)
    for words in (("install", "--as", "systemd", "--at", "04:00"), ("uninstall",)):
        code, _, err = labctl("service", *words, "--bench", "bench-a.toml")
        assert code == 2
        assert "not as labctl wrote it" in err
    assert written(lab_folder) == before


@posix
def test_installed_again_is_replaced_and_uninstalled_is_gone(labctl: Labctl, lab_folder: Path) -> None:
    install(labctl)
    assert install(labctl, "--at", "04:00")[0] == 0
    assert "04:00:00 UTC" in written(lab_folder)["labctl-night-bench-a.timer"]
    assert labctl("service", "uninstall", "--bench", "bench-a.toml")[0] == 0
    assert written(lab_folder) == {}
    assert labctl("service", "uninstall", "--bench", "bench-a.toml")[0] == 0


@posix
def test_last_bench_takes_the_common_unit_along(labctl: Labctl, lab_folder: Path) -> None:
    (lab_folder / "bench-b.toml").write_text('[bench]\nname = "bench-b"\n')
    install(labctl)
    labctl("service", "install", "--as", "systemd", "--bench", "bench-b.toml")
    labctl("service", "uninstall", "--bench", "bench-a.toml")
    assert "labctl-notify@.service" in written(lab_folder)
    labctl("service", "uninstall", "--bench", "bench-b.toml")
    assert written(lab_folder) == {}


@posix
def test_dry_run_and_show_write_nothing(labctl: Labctl, lab_folder: Path) -> None:
    _, out, _ = install(labctl, "--dry-run", "--json")
    assert "[Timer]" in json.loads(out)["labctl-night-bench-a.timer"]
    assert "not installed" in labctl("service", "show", "--bench", "bench-a.toml")[1]
    assert not (lab_folder / "config").exists()
    install(labctl, "--at", "05:00")
    assert "05:00:00 UTC" in labctl("service", "show", "--bench", "bench-a.toml")[1]


@posix
def test_line_of_cron_is_what_a_shell_reads_back(labctl: Labctl, lab_folder: Path) -> None:
    _, out, _ = labctl("service", "install", "--as", "cron", "--bench", "bench-a.toml", "--json")
    about, mail, line, rest = json.loads(out)["text"].split("\n")
    assert about.startswith("# ")
    assert "this computer's clock, for 02:00 UTC" in about
    assert "night-bench-a.env" in about
    assert mail.startswith("MAILTO=")
    assert rest == ""
    minute, hour, *stars, command = line.split(" ", 5)
    local = dt.datetime.now(dt.UTC).replace(hour=2, minute=0).astimezone()
    assert (int(minute), int(hour), stars) == (local.minute, local.hour, ["*", "*", "*"])
    assert "%" not in command.replace("\\%", "")  # where it would end the command
    words = shlex.split(command.replace("\\%", "%"))
    assert words[words.index("cd") + 1] == str(lab_folder)
    assert words[words.index("--runs") + 1] == str(lab_folder / "runs")
    assert words[-3:-1] == ["--json", ">>"]


def test_task_of_windows_is_switched_off_and_says_why(labctl: Labctl, lab_folder: Path) -> None:
    code, _, err = labctl("service", "install", "--as", "windows", "--bench", "bench-a.toml")
    assert code == 0
    assert NO_NIGHTS_ON_WINDOWS in err
    task = Xml.parse(lab_folder / "labctl-night-bench-a.xml").getroot()
    found = {element.tag.rpartition("}")[2]: element.text or "" for element in task.iter()}
    assert found["Enabled"] == "false"
    assert "refuses unattended runs" in found["Description"]
    assert found["StartBoundary"].endswith("T02:00:00Z")
    assert f"--runs {subprocess.list2cmdline([str(lab_folder / 'runs')])}" in found["Arguments"]
    assert labctl("service", "install", "--as", "windows", "--bench", "bench-a.toml")[0] == 2


@pytest.mark.parametrize(
    "options", [("--at", "25:00"), ("--at", "2"), ("--budget", "3"), ("--budget", "0h"), ("--budget", "tonight"),
                ("--as", "cron", "--enable"), ("--as", "cron", "-o", "x")],
)  # fmt: skip
def test_what_makes_no_night_is_refused_before_anything_is_written(
    labctl: Labctl, lab_folder: Path, options: tuple[str, ...]
) -> None:
    assert install(labctl, *options)[0] == 2
    assert not (lab_folder / "config").exists()


@posix
def test_path_that_no_unit_can_hold_is_refused(labctl: Labctl, lab_folder: Path) -> None:
    code, _, err = install(labctl, "--runs", "runs\nExecStartPost=/bin/true")
    assert code == 2
    assert "cannot name this path" in err
    assert not (lab_folder / "config").exists()


def test_only_what_the_night_could_not_say_is_said_again() -> None:
    said = {"Result": "exit-code", "ExecMainStatus": "20"}
    assert installed.unsaid(said) is None
    assert installed.unsaid({**said, "ExecMainStatus": "75"}) is None
    assert "exit code 1)" in str(installed.unsaid({**said, "ExecMainStatus": "1"}))
    assert "exit code 203)" in str(installed.unsaid({**said, "ExecMainStatus": "203"}))
    for result, word in (("watchdog", "nothing moved"), ("oom-kill", "memory"), ("timeout", "limit"), ("", "unknown")):
        assert word in str(installed.unsaid({"Result": result, "ExecMainStatus": "20"}))


@posix
def test_unit_that_failed_is_said_to_have_failed(
    labctl: Labctl, lab_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(labctl)
    monkeypatch.setattr(units, "ask", lambda *words: "Result=watchdog\nExecMainStatus=6\n")
    _, out, _ = labctl("service", "failed", "labctl-night-bench-a.service")
    assert "nothing moved for too long" in out
    assert str(lab_folder / "runs") in out


@posix
def test_status_says_when_the_next_night_is_and_how_the_last_one_ended(
    labctl: Labctl, lab_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no night is installed" in labctl("service", "status", "--bench", "bench-a.toml")[1]
    install(labctl)

    def systemd(verb: str, unit: str = "", *properties: str) -> str:
        if verb == "is-enabled":
            return "enabled\n"
        if unit.endswith("timer"):
            return "NextElapseUSecRealtime=Mon 2026-11-30 02:00:00 UTC\n"
        return "Result=exit-code\nExecMainStatus=20\nExecMainStartTimestamp=Sun 2026-11-29 02:00:01 UTC\n"

    monkeypatch.setattr(units, "ask", systemd)
    _, out, _ = labctl("service", "status", "--bench", "bench-a.toml")
    assert "timer on" in out
    assert "2026-11-30 02:00:00" in out
    assert "exit-code, exit code 20" in out


@posix
def test_timer_is_not_switched_on_where_no_systemd_answers(labctl: Labctl, lab_folder: Path) -> None:
    for way in (("--as", "systemd"), ()):
        code, _, err = labctl("service", "install", "--bench", "bench-a.toml", "--enable", *way)
        assert code == 2
        assert "E-SVC-001" in err
        assert "labctl service install --bench bench-a.toml --as cron" in err
    assert not (lab_folder / "config").exists()


@posix
def test_step_that_fails_is_an_error_and_the_rest_is_to_be_typed(
    labctl: Labctl, lab_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "ask", lambda *words: "HOME=/home/maria\n")
    monkeypatch.setattr(installed, "command", lambda words: "no such unit" if "enable" in words else "")
    code, out, err = install(labctl, "--enable")
    assert code == 2
    assert "done: systemctl --user daemon-reload" in out
    assert "no such unit" in err
    assert "then: systemctl --user enable --now labctl-night-bench-a.timer && loginctl enable-linger" in err
    assert (lab_folder / "config/labctl").stat().st_mode & 0o777 == 0o700


@posix
def test_way_that_is_not_named_goes_by_whether_systemd_answers(
    labctl: Labctl, lab_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "crontab -e" in labctl("service", "install", "--bench", "bench-a.toml")[1]
    monkeypatch.setattr(units, "ask", lambda *words: "HOME=/home/maria\n")
    assert "systemctl --user daemon-reload" in labctl("service", "install", "--bench", "bench-a.toml")[1]


@posix
def test_status_without_systemd_says_so_and_names_the_last_night_of_all(labctl: Labctl, lab_folder: Path) -> None:
    install(labctl)
    with RunWriter.create(lab_folder / "runs", "nightly", load_station(lab_folder / "bench-a.toml")) as run:
        run.finish(Verdict.OK, None, 0)
    _, out, _ = labctl("service", "status", "--bench", "bench-a.toml")
    assert "no systemd of this user answers" in out
    assert f"last night of all: {run.run_id}, ok" in out
    assert "linger" not in out


@posix
def test_message_about_a_night_that_the_system_ended_is_no_bug_and_names_the_journal(
    labctl: Labctl, lab_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into = f"import sys; open({str(lab_folder / 'said')!r}, 'w').write(sys.stdin.read())"
    with (lab_folder / "bench-a.toml").open("a") as file:
        file.write(f"notify = {json.dumps([sys.executable, '-c', into])}\n")
    install(labctl)
    monkeypatch.setattr(units, "ask", lambda *words: "Result=oom-kill\nExecMainStatus=9\nInvocationID=one\n")
    assert labctl("service", "failed", "labctl-night-bench-a.service")[0] == 0
    text = (lab_folder / "said").read_text()
    assert "out of memory: killed" in text
    assert "the night did not end as it should" in text
    assert "journalctl --user -u labctl-night-bench-a.service" in text
    assert "bug" not in text
    assert "E-LAB-001" not in text


def test_variables_of_the_terminal_go_into_the_service() -> None:
    job = NightJob(
        "b", Path("/s.toml"), Path("/r"), dt.time(2), "3h", 10800, 180, Path("/py"), {"XDG_STATE_HOME": '/x "y"'}
    )
    service = job.systemd()["labctl-night-b.service"]
    assert 'Environment="XDG_STATE_HOME=/x \\"y\\""' in service
