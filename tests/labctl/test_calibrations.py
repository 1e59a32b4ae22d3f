"""The store of calibrations: one place, one pointer for each bench, and what a kill in between leaves."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from labctl.archive import list_runs
from labctl.archive.calibrations import CalibrationStore
from labctl.errors import RunDamaged, UsageError


def put(
    store: CalibrationStore,
    calibration_id: str,
    parent: str | None = None,
    schema: str = "labctl.calibration/1",
    acquired: str = "2026-11-23T02:00:03Z",
):
    """A file of which only the header can be read: the store looks at nothing else."""
    store.folder.mkdir(parents=True, exist_ok=True)
    header = {
        "id": calibration_id,
        "schema": schema,
        "parent": parent,
        "acquired": acquired,
        "valid_until": "2026-11-24T02:00:03Z",
        "provenance": {"bench": "bench-a", "run_id": f"run-of-{calibration_id}"},
    }
    with h5py.File(store.path(calibration_id), "w") as file:
        file.attrs["schema"] = schema
        file.attrs["header"] = np.bytes_(json.dumps(header).encode())


@pytest.fixture
def store(tmp_path: Path) -> CalibrationStore:
    store = CalibrationStore(tmp_path)
    put(store, "cal-aa00")
    put(store, "cal-ab11", "cal-aa00")
    put(store, "res-77", schema="labctl.response/1")
    return store


def test_every_kind_is_listed_by_its_header_and_runs_are_not_confused(store: CalibrationStore, tmp_path: Path) -> None:
    assert {(row.id, row.schema, row.bench) for row in store.rows()} == {
        ("cal-aa00", "labctl.calibration/1", "bench-a"),
        ("cal-ab11", "labctl.calibration/1", "bench-a"),
        ("res-77", "labctl.response/1", "bench-a"),
    }
    assert list_runs(tmp_path) == []


def test_a_damaged_file_is_listed_as_damaged(store: CalibrationStore) -> None:
    store.path("cal-aa00").write_bytes(b"not HDF5")
    assert {row.id: row.schema for row in store.rows()}["cal-aa00"] == "damaged"


def test_names_are_beginnings_of_ids_files_and_runs(store: CalibrationStore) -> None:
    assert store.find("cal-ab") == store.find("ab") == store.find(str(store.path("cal-ab11"))) == store.path("cal-ab11")
    assert store.find("k7f2", {"k7f2": "cal-aa00"}.get) == store.path("cal-aa00")
    with pytest.raises(UsageError, match="2 calibrations"):
        store.find("cal-a")
    with pytest.raises(UsageError, match="no calibrations"):
        store.find("zz")


def test_the_name_of_a_bench_means_what_is_applied_to_it_and_latest_what_was_measured_last(
    store: CalibrationStore,
) -> None:
    store.decide("bench-a", "cal-ab11", "run-2", "better", apply=True)
    put(store, "cal-00ff", acquired="2026-11-23T02:00:04Z")
    store.path("cal-aa00").write_bytes(b"not HDF5")
    assert store.find("bench-a") == store.path("cal-ab11")
    assert store.find("latest") == store.path("cal-00ff")
    (store.folder.parent / "secret.json").write_text('{"id": "cal-ab11"}')
    with pytest.raises(UsageError):
        store.find("../../secret")


def test_a_bench_that_is_called_like_the_beginning_of_an_id_is_not_guessed(store: CalibrationStore) -> None:
    store.decide("aa", "cal-ab11", "run-2", "better", apply=True)
    with pytest.raises(UsageError, match="2 calibrations"):
        store.find("aa")
    assert store.find("cal-aa") == store.path("cal-aa00")


def test_what_is_applied_is_the_last_decision_for_it(store: CalibrationStore) -> None:
    assert store.applied("bench-a") is None
    store.decide("bench-a", "cal-aa00", "run-1", "the first", apply=True)
    second = store.decide("bench-a", "cal-ab11", "run-2", "better", apply=True)
    store.decide("bench-a", "res-77", "run-3", "predicts worse", apply=False)
    assert store.applied("bench-a") == second
    assert second.before == "cal-aa00"
    assert [(d.event, d.id) for d in store.history("bench-a")] == [
        ("applied", "cal-aa00"), ("applied", "cal-ab11"), ("not_applied", "res-77"),
    ]  # fmt: skip
    assert list(store.parents("cal-ab11")) == ["cal-aa00"]
    assert store.benches() == ["bench-a"]
    assert store.applied("bench-b") is None


def test_kill_between_pointer_and_journal_loses_no_decision(store: CalibrationStore, monkeypatch) -> None:
    first = store.decide("bench-a", "cal-aa00", "run-1", "the first", apply=True)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("labctl.archive.calibrations.append_line", killed)
        with pytest.raises(KeyboardInterrupt):
            store.decide("bench-a", "cal-ab11", "run-2", "better", apply=True)
    torn = store.folder / "applied" / "bench-a.jsonl"
    torn.write_bytes(torn.read_bytes() + b'{"at":"2026-11')
    applied = store.applied("bench-a")
    assert applied.id == "cal-ab11"
    assert store.history("bench-a") == [first, applied]
    third = store.decide("bench-a", "cal-aa00", "run-3", "worse", apply=False)
    assert store.history("bench-a") == [first, applied, third]
    assert len(torn.read_text(encoding="utf-8").splitlines()) == 3


def test_unreadable_pointer_says_what_to_do(store: CalibrationStore) -> None:
    store.decide("bench-a", "cal-aa00", "run-1", "the first", apply=True)
    (store.folder / "applied" / "bench-a.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunDamaged) as caught:
        store.applied("bench-a")
    assert "delete it" in caught.value.hint
