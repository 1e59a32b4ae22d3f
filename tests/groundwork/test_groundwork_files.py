"""Files that are replaced while somebody reads them: no matter on POSIX, waited for on Windows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from groundwork import files
from groundwork.files import write_whole

REPLACE = os.replace


def read_for_a_while(monkeypatch: pytest.MonkeyPatch, refusals: int) -> list[int]:
    """The rename is refused so often, as Windows does while the older file is open."""
    refused: list[int] = []

    def replace(*names: Any) -> None:
        if len(refused) < refusals:
            refused.append(1)
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")
        REPLACE(*names)

    monkeypatch.setattr(files.os, "replace", replace)
    return refused


def test_file_that_is_read_meanwhile_is_replaced_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_whole(path, b"before")
    with path.open("rb") as reader:
        write_whole(path, b"after")
        assert reader.read() in (b"before", b"after")
    assert path.read_bytes() == b"after"


def test_windows_waits_until_a_reader_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = read_for_a_while(monkeypatch, 3)
    monkeypatch.setattr(files, "_is_windows", lambda: True)
    write_whole(tmp_path / "run.json", b"after")
    assert len(refused) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_windows_gives_up_on_a_reader_who_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_for_a_while(monkeypatch, 10**9)
    monkeypatch.setattr(files, "_is_windows", lambda: True)
    monkeypatch.setattr(files, "PATIENCE_S", 0.1)
    with pytest.raises(PermissionError):
        write_whole(tmp_path / "run.json", b"after")
    assert list(tmp_path.iterdir()) == []


def test_a_right_that_is_missing_elsewhere_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = read_for_a_while(monkeypatch, 10**9)
    monkeypatch.setattr(files, "_is_windows", lambda: False)
    with pytest.raises(PermissionError):
        write_whole(tmp_path / "run.json", b"after")
    assert len(refused) == 1
