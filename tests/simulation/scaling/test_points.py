"""Points are found again by what was computed, and never when they are damaged."""

from __future__ import annotations

import importlib
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from simulation.scaling import fingerprint
from simulation.scaling.points import Point, PointStore, Windows

POINT = Point("a" * 64, "ideal", 100.0, 1, "b" * 64, 512, 32, "c" * 12)
FOUND = Windows(np.array([31.25, 40.0, 7.5]), np.array([16.0, 16.0, 3.0]))


@pytest.fixture
def store(tmp_path: Path) -> PointStore:
    return PointStore(tmp_path / "points")


def test_point_comes_back_exactly(store: PointStore) -> None:
    assert store.load(POINT) is None
    store.save(POINT, FOUND)
    seen = store.load(POINT)
    assert seen is not None
    assert np.array_equal(seen.nats, FOUND.nats)
    assert seen.nats_per_token == 78.75 / 35


def test_every_field_is_in_the_name(store: PointStore) -> None:
    other = {str: "z", int: 99, float: 2.5}
    keys = {POINT.key}
    for field in fields(Point):
        value = getattr(POINT, field.name)
        keys.add(replace(POINT, **{field.name: other[type(value)]}).key)
    assert len(keys) == 1 + len(fields(Point))


def test_files_are_those_of_earlier_versions(store: PointStore) -> None:
    store.save(POINT, FOUND)
    path = store.path(POINT)
    assert path.name == "5996a0d49dbd4b00bd3d0c6491a1ac6df7db2eb18f5f6bcfdfd0448e424d7d64.json"
    assert '"sha256": "e0f96e4483dc6261a560c7c5155a672c8e4e7ba73e09c9c3428ddd5a866eb061"' in path.read_text()


@pytest.mark.parametrize("damage", ["truncated", "a digit", "NaN", "another point's", "a folder"])
def test_damaged_point_counts_as_absent(store: PointStore, damage: str) -> None:
    store.save(POINT, FOUND)
    path = store.path(POINT)
    text = path.read_text()
    if damage == "truncated":
        path.write_text(text[:-20])
    elif damage == "a digit":
        path.write_text(text.replace("31.25", "31.26"))
    elif damage == "NaN":
        path.write_text(text.replace("31.25", "NaN"))
    elif damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_text(text.replace('"seed": 1', '"seed": 2'))
    assert store.load(POINT) is None


def test_full_disk_leaves_nothing_half_written(store: PointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.save(POINT, FOUND)
    assert not [path for path in store.folder.rglob("*") if path.is_file()]


def test_code_version_follows_imports_and_ignores_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "madeup"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("from madeup import b\n\ndef f():\n    return b.X\n")
    (package / "b.py").write_text("X = 1\n")
    (package / "unused.py").write_text("Y = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fingerprint, "ROOTS", ("madeup.a",))
    monkeypatch.setattr(fingerprint, "_OURS", ("madeup",))

    def version() -> str:
        importlib.invalidate_caches()
        fingerprint.code_version.cache_clear()
        return fingerprint.code_version()

    try:
        first = version()
        (package / "unused.py").write_text("Y = 2\n")
        (package / "a.py").write_text(
            '"""Words."""\nfrom madeup import b  # more\n\ndef f():\n    """W."""\n    return b.X\n'
        )
        assert version() == first
        (package / "b.py").write_text("X = 2\n")
        assert version() != first
    finally:
        fingerprint.code_version.cache_clear()
        sys.modules.pop("madeup", None)


def test_code_version_covers_what_a_perplexity_rests_on() -> None:
    seen = set()
    original = fingerprint._source
    fingerprint.code_version.cache_clear()
    try:
        fingerprint._source = lambda name: seen.add(name) or original(name)
        assert len(fingerprint.code_version()) == 12
    finally:
        fingerprint._source = original
    assert {
        "simulation.models.gpt",
        "simulation.conversion.quantise",
        "simulation.conversion.convert",
        "calibration.machine.artefact",
        "groundwork.random_numbers",
    } <= seen
    assert "simulation.training.train" not in seen
