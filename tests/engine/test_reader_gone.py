"""Whoever looks at the output of a bench run may go: the run does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from everyday import everyday

from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from labctl.cli.handler import run_app
from labctl.osal import can_supervise

pytestmark = pytest.mark.skipif(not can_supervise(), reason="POSIX pipes")


@pytest.fixture
def nobody_reads() -> Iterator[int]:
    """The writing end of a pipe whose reader has gone."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


BOTH = ("stdout", "stderr")
STREAMS = [(gone, options) for options in ((), ("--json",)) for gone in (("stdout",), ("stderr",), BOTH)]


@pytest.mark.parametrize(("gone", "options"), everyday(STREAMS, 5), ids=lambda words: " ".join(words) or "text")
def test_run_goes_on_to_its_verdict(
    gone: tuple[str, ...], options: tuple[str, ...], nobody_reads: int, small_file: Path, tmp_path: Path
) -> None:
    streams = {name: nobody_reads if name in gone else subprocess.DEVNULL for name in ("stdout", "stderr")}
    command = ["calibrate", "dark", "--bench", str(small_file), "--runs", str(tmp_path), *options]
    done = subprocess.run([sys.executable, "-m", "labctl", *command], **streams, check=False)
    run = RunReader(find_run(tmp_path, "latest"))
    assert run.status == "ok"
    assert run.summary().first_error is None
    assert done.returncode == 0


def test_failure_keeps_its_exit_code(nobody_reads: int, small_file: Path, tmp_path: Path) -> None:
    command = ["calibrate", "dark", "--bench", str(small_file), "--runs", str(tmp_path)]
    command += ["--set", 'mock.faults=["disconnect@3"]', "--set", "acquisition.reopen_attempts=0"]
    streams = {"stdout": nobody_reads, "stderr": nobody_reads}
    expected = main([*command, "--quiet"])
    assert expected not in (0, 1)
    done = subprocess.run([sys.executable, "-m", "labctl", *command], **streams, check=False)
    assert done.returncode == expected


def test_pipe_that_breaks_inside_the_lab_is_no_reader_that_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the socket of a device: that was exit code 0."""
    from labctl.cli import app

    def broken(*arguments: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("labctl.archive.list_runs", broken)
    assert run_app(app, ["run", "list"]) == 1


@pytest.mark.parametrize("closed", everyday([((0, 1, 2),), ((2,),), ((0, 1),)], 0), ids=str)
def test_closed_streams_give_their_numbers_to_nothing_else(
    closed: tuple[int, ...], small_file: Path, tmp_path: Path
) -> None:
    """The line between supervisor and worker took them, and what was printed went over it, or into the document."""
    command = ["calibrate", "dark", "--bench", str(small_file), "--runs", str(tmp_path), "--json"]
    words = " ".join(f"{number}>&-" for number in closed)
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {words}', "sh", sys.executable, "-m", "labctl", *command],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert RunReader(find_run(tmp_path, "latest")).status == "ok"
    if 1 not in closed:
        assert json.loads(done.stdout)["verdict"] == "ok"
