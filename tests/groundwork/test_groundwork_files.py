"""A file is whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundwork.files import whole_file, write_whole


def test_the_file_appears_when_the_block_has_ended_well(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"
    with whole_file(path) as temporary:
        temporary.write_bytes(b"content")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


def test_an_older_file_outlives_a_write_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.bin"
    write_whole(path, b"old")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("groundwork.files.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
