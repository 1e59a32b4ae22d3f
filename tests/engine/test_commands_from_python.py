"""Commands that Python starts: their document or run, their error, and an interrupt that leaves the bench safe."""

from __future__ import annotations

import copy
import doctest
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import LIMIT_S, wait_for

import labctl
from labctl.archive import RunReader, find_run
from labctl.bench.lock import hold_bench
from labctl.errors import CommandFailed, UsageError


def test_the_example_of_calibrate_works(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(small_file, tmp_path / "small.toml")
    monkeypatch.chdir(tmp_path)
    [example] = doctest.DocTestFinder(recurse=False).find(labctl.calibrate, "calibrate")
    failed, tried = doctest.DocTestRunner().run(example)
    assert tried
    assert not failed, capsys.readouterr().out


def test_run_that_measures_is_given_back_and_says_what_it_does(
    small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = labctl.calibrate("dark", bench=small_file, overrides={"bench.name": "other"}, runs=tmp_path)
    assert run.status == "ok"
    assert run.info["bench"] == "other"
    out, err = capsys.readouterr()
    assert out == ""
    assert "dark_level" in err


def test_bench_out_of_spec_is_a_finding_and_no_error(small_file: Path, tmp_path: Path) -> None:
    limit = "limits.registration_residual_px_max=1e-6"
    run = labctl.calibrate("registration", bench=small_file, overrides=[limit], runs=tmp_path, echo=False)
    assert run.summary().verdict == "out_of_spec"


def test_command_that_fails_says_what_the_command_line_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandFailed, match="labctl run show: E-RUN-001 no run goes by the name 'nope'") as caught:
        labctl.command("run", "show", "nope", "--runs", tmp_path, echo=False)
    assert caught.value.document["first_error"]["code"] == "E-RUN-001"
    assert caught.value.hint == f"labctl run list --runs {tmp_path}"
    again = copy.copy(caught.value)  # as pickling for another process does
    assert (again.what, again.hint, again.document) == (caught.value.what, caught.value.hint, caught.value.document)
    with pytest.raises(CommandFailed, match="No such command"):
        labctl.command("mesure", echo=False)
    assert capsys.readouterr().err == ""


def test_busy_bench_is_worth_trying_again(small_file: Path, tmp_path: Path) -> None:
    with hold_bench("small"), pytest.raises(CommandFailed, match="E-BSY-001") as caught:
        labctl.calibrate("dark", bench=small_file, runs=tmp_path, wait="0.1s", echo=False)
    assert (caught.value.exit_code, caught.value.retryable) == (75, True)


@pytest.mark.parametrize("words", [(["run", "list"],), ("run", None)])
def test_word_that_is_none_is_refused_before_anything_begins(words: tuple[object, ...]) -> None:
    with pytest.raises(UsageError, match="a word of a command"):
        labctl.command(*words)


def test_archive_is_never_the_folder_none(small_file: Path) -> None:
    with pytest.raises(TypeError, match="not NoneType"):
        labctl.calibrate("dark", bench=small_file, runs=None)  # type: ignore[arg-type]


def test_program_that_prints_no_document_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    with pytest.raises(CommandFailed, match="labctl run list printed no document") as caught:
        labctl.command("run", "list")
    assert (caught.value.seen, caught.value.document) == ("exit code 0", {})


def test_interrupt_stops_the_command_and_comes_back_when_the_bench_is_safe(small_file: Path, tmp_path: Path) -> None:
    """Only this process gets it, as in a notebook: the command has to be told."""
    runs = tmp_path / "runs"
    program = f"import labctl; labctl.calibrate(bench={str(small_file)!r}, runs={str(runs)!r})"
    with subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_for(lambda: list(runs.rglob("segments/*.h5")))
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=LIMIT_S)
    run = RunReader(find_run(runs, "latest"))
    assert run.status == "aborted"
    last = told[told.rindex("KeyboardInterrupt") :]  # in a notebook nobody else says how it goes on
    assert f"labctl run resume {run.run_id[-4:]}" in last
