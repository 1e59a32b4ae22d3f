"""The index makes a list of runs quick and never wrong."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.archive import RunWriter, index, list_runs, rows
from labctl.archive.reader import RunReader
from labctl.summary import Summary
from labctl.verdicts import Verdict

Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sealed(runs: Path, new_run: Callable[[], RunWriter], monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three runs that were sealed an hour ago, where so few are worth an index."""
    monkeypatch.setattr(index, "WORTH", 2)
    found = []
    for _ in range(3):
        run = new_run()
        run.finish(Verdict.OK, Summary(run_id=run.run_id, verdict=Verdict.OK))
        run.close()
        found.append(run.path)
        for name in ("SEAL", "run.json"):
            os.utime(run.path / name, ns=(1_700_000_000_000_000_000,) * 2)
    return found


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Fills with the folders that were read."""
    folders: list[Path] = []
    whole = RunReader.__init__

    def noticed(self: RunReader, path: Path) -> None:
        folders.append(path)
        whole(self, path)

    monkeypatch.setattr(RunReader, "__init__", noticed)
    return folders


def test_folders_are_read_once(runs: Path, sealed: list[Path], read: list[Path]) -> None:
    first = list_runs(runs)
    assert sorted(read) == sorted(sealed)
    read.clear()
    assert list_runs(runs) == first
    assert read == []


def test_folder_that_changed_is_read_again(runs: Path, sealed: list[Path], read: list[Path]) -> None:
    list_runs(runs)
    read.clear()
    (sealed[0] / "SEAL").write_text("no seal")
    assert {row.path: row.status for row in list_runs(runs)}[sealed[0]] == "damaged"
    assert read == [sealed[0]]


def test_run_that_goes_on_is_not_in_the_index(runs: Path, sealed: list[Path], new_run: Callable[[], RunWriter]) -> None:
    run = new_run()
    assert list_runs(runs)[0].status in ("running", "ok")
    run.close()
    assert {row.path: row.status for row in list_runs(runs)}[run.path] == "crashed"


def test_damaged_index_costs_no_answer_and_is_made_anew(runs: Path, sealed: list[Path], read: list[Path]) -> None:
    expected = list_runs(runs)
    (runs / rows.INDEX).write_bytes(b"no database" * 100)
    assert list_runs(runs) == expected
    read.clear()
    assert list_runs(runs) == expected
    assert read == []


def test_rows_that_make_no_sense_are_read_from_the_folder(runs: Path, sealed: list[Path]) -> None:
    expected = list_runs(runs)
    with sqlite3.connect(runs / rows.INDEX) as database:
        database.execute("UPDATE runs SET line = '[1]'")
    database.close()
    assert list_runs(runs) == expected


def test_locked_index_costs_no_answer(runs: Path, sealed: list[Path]) -> None:
    expected = list_runs(runs)
    other = sqlite3.connect(runs / rows.INDEX)
    other.execute("BEGIN EXCLUSIVE")
    assert list_runs(runs) == expected
    other.close()


def test_index_is_rebuilt_from_the_folders(runs: Path, sealed: list[Path], labctl: Invoke) -> None:
    (runs / rows.INDEX).mkdir(parents=True)
    assert len(list_runs(runs)) == 3
    (runs / rows.INDEX).rmdir()
    code, out, _ = labctl("index", "rebuild", "--runs", str(runs), "--json")
    assert (code, json.loads(out)["indexed"]) == (0, 3)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_one_folder_that_is_no_run_keeps_nobody_from_the_others(
    runs: Path, new_run: Callable[[], RunWriter], kind: str
) -> None:
    whole = new_run()
    broken = whole.path.with_name(whole.path.name[:-4] + "zzzz")
    broken.mkdir()
    make = {"folder": Path.mkdir, "pipe": os.mkfifo}[kind]
    make(broken / "run.json")
    assert {row.run_id: row.status for row in list_runs(runs)} == {whole.run_id: "running", broken.name: "damaged"}
