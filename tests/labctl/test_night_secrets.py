"""The file of a bench's secrets is read by labctl, and none of it is executed; checks see what a night lacks."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from labctl.station.secrets import read_secrets, secrets_path, take_secrets

posix = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
Labctl = Callable[..., tuple[int, str, str]]
STATION = """
[bench]
name = "a"
[nightly]
workload = "none.h5"
notify = ["{program}"]
webhook_env = "A_HOOK"
ping_env = "A_PING"
metrics_folder = "{folder}"
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of secrets of the bench ``a``, which is not there yet; the environment is put back afterwards."""
    with patch.dict(os.environ):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        path = secrets_path("a")
        path.parent.mkdir(parents=True)
        yield path


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_lines_are_read_as_they_stand_and_none_is_executed(environment: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    hook = f"https://x/$(touch {made})"
    write(environment, f'# a comment\n\nA_HOOK={hook}\nA_PING="https://y"\nexport B=1\nC d\nD=a b \n')
    found = read_secrets("a")
    assert dict(found.values) == {"A_HOOK": hook, "A_PING": "https://y", "D": "a b"}
    assert "line 5, 6" in found.problems[0]
    assert "https" not in " ".join(found.problems)
    assert not made.exists()


@posix
def test_pipe_in_the_place_of_the_file_is_not_waited_for(environment: Path) -> None:
    os.mkfifo(environment)
    found = read_secrets("a")
    assert not found.values
    assert "is not read" in found.problems[0]


def test_what_the_environment_says_wins(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(environment, "A_HOOK=https://file\nA_PING=https://file\n")
    monkeypatch.setenv("A_HOOK", "https://environment")
    monkeypatch.delenv("A_PING", raising=False)
    take_secrets("a", pytest.fail)
    assert (os.environ["A_HOOK"], os.environ["A_PING"]) == ("https://environment", "https://file")
    take_secrets("b", pytest.fail)


@posix
@pytest.mark.parametrize(
    ("mode", "is_read"), [(0o600, True), (0o640, True), (0o604, True), (0o620, False), (0o602, False)]
)
def test_file_that_others_may_change_is_not_read_and_one_that_they_may_read_is_named(
    environment: Path, mode: int, is_read: bool
) -> None:
    write(environment, "A_HOOK=https://x\n", mode)
    found = read_secrets("a")
    assert bool(found.values) == is_read
    assert bool(found.problems) == (mode != 0o600)
    assert all(f"chmod 600 {environment}" in problem for problem in found.problems)


def test_folder_or_endless_file_in_its_place_is_said_and_not_read(environment: Path) -> None:
    environment.mkdir()
    assert read_secrets("a").problems
    environment.rmdir()
    write(environment, "A=1\n" * 100_000)
    assert read_secrets("a").values == {}


@pytest.fixture
def station(tmp_path: Path, environment: Path) -> Path:
    path = tmp_path / "a.toml"
    path.write_text(STATION.format(program=tmp_path / "tell", folder=tmp_path / "absent"))
    return path


def checked(labctl: Labctl, station: Path) -> tuple[int, dict[str, str]]:
    code, out, _ = labctl("station", "check", "--bench", str(station), "--json")
    return code, {row["check"]: row["state"] for row in json.loads(out)["checks"] if row["check"].startswith("nightly")}


@posix
def test_check_of_a_station_sees_a_night_that_cannot_run_or_tell(
    labctl: Labctl, station: Path, environment: Path, tmp_path: Path
) -> None:
    code, found = checked(labctl, station)
    assert code == 2
    assert found == {
        "nightly.workload": "FAIL", "nightly.notify": "FAIL", "nightly.webhook_env": "WARN",
        "nightly.ping_env": "WARN", "nightly.metrics_folder": "WARN",
    }  # fmt: skip
    (tmp_path / "tell").write_text("#!/bin/sh\n")
    assert checked(labctl, station)[1]["nightly.notify"] == "FAIL"
    (tmp_path / "tell").chmod(0o755)
    write(environment, "A_HOOK=https://x\n")
    found = checked(labctl, station)[1]
    assert (found["nightly.notify"], found["nightly.webhook_env"], found["nightly.ping_env"]) == (
        "PASS",
        "PASS",
        "WARN",
    )


@posix
def test_doctor_says_the_same(labctl: Labctl, station: Path, tmp_path: Path) -> None:
    code, out, _ = labctl("doctor", "--bench", str(station), "--runs", str(tmp_path / "runs"), "--json")
    said = {row["detail"]: row["state"] for row in json.loads(out)["checks"]}
    assert code == 10
    assert any("none.h5" in detail and state == "FAIL" for detail, state in said.items())
    assert any("A_HOOK is set neither here" in detail and state == "WARN" for detail, state in said.items())


@posix
def test_test_message_says_for_each_way_whether_it_was_told_and_what_to_set(
    labctl: Labctl, station: Path, environment: Path, tmp_path: Path
) -> None:
    (tmp_path / "tell").write_text("#!/bin/sh\ncat > /dev/null\n")
    (tmp_path / "tell").chmod(0o755)
    code, out, err = labctl("nightly", "test-notify", "--bench", str(station))
    assert f"program {tmp_path / 'tell'}: told" in out
    assert "webhook A_HOOK: the environment variable A_HOOK is not set" in out
    assert "dead-man's switch A_PING: the environment" in out
    assert code == 2
    assert f"write A_HOOK=https://… and A_PING=https://… into {environment}" in err
    assert "labctl nightly test-notify" not in err
    (tmp_path / "tell").write_text("#!/bin/sh\nexit 3\n")
    code, _, err = labctl("nightly", "test-notify", "--bench", str(station))
    assert code == 20
    assert "3 of 3 ways" in err


@posix
def test_test_message_reads_the_file_of_secrets(labctl: Labctl, tmp_path: Path, environment: Path) -> None:
    write(environment, f"SAID={tmp_path / 'said'}\n")
    station = tmp_path / "b.toml"
    program = json.dumps([sys.executable, "-c", "import os; open(os.environ['SAID'], 'w')"])
    station.write_text(f'[bench]\nname = "a"\n[nightly]\nnotify = {program}\n')
    assert labctl("nightly", "test-notify", "--bench", str(station))[0] == 0
    assert (tmp_path / "said").exists()
