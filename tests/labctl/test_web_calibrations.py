"""Calibrations and their differences on the live page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("starlette", reason="the live page needs labctl[web]")
from starlette.testclient import TestClient

from calibration.statistics.difference import FamilyDifference
from labctl.archive.calibrations import CalibrationStore
from labctl.errors import UsageError
from labctl.web.app import make_app
from labctl.web.serving import Serving

FAMILIES = [
    FamilyDifference("gain", "DN", 1024, 16049.0, 16050.0, 1.0, 8.0, 0.1, 2.1, 1.0, 0.5, None, None, False),
    FamilyDifference("dark level", "DN", 1, 101.2, 105.2, 4.0, 0.01, 400.0, 400.0, 1e5, 0.0, None, None, True),
]


@pytest.fixture
def page(tmp_path: Path) -> TestClient:
    """Two calibrations of which only the header can be read; the second is applied."""
    store = CalibrationStore(tmp_path)
    store.folder.mkdir()
    for name, parent in (("cal-aa00", None), ("cal-bb11", "cal-aa00")):
        header = {
            "id": name,
            "schema": "labctl.calibration/1",
            "parent": parent,
            "acquired": "2026-11-23T02:00:03Z",
            "valid_until": "2026-11-24T02:00:03Z",
            "provenance": {"bench": "R&D", "run_id": "x-y-k7f2"},
        }
        with h5py.File(store.path(name), "w") as file:
            file.attrs["schema"] = header["schema"]
            file.attrs["header"] = np.bytes_(json.dumps(header).encode())
    store.path("cal-cc22").write_bytes(b"not HDF5")
    store.decide("R&D", "cal-bb11", "x-y-k7f2", "better", apply=True)
    return TestClient(make_app(Serving(tmp_path)), base_url="http://localhost:8642")


def test_calibrations_are_listed_with_what_is_in_use_and_what_they_replaced(page: TestClient) -> None:
    text = page.get("/calibrations").text
    rows = {row[: row.index("</code>")]: row for row in text.split("<tr><td><code>")[1:]}
    assert "applied</span>" in rows["cal-bb11"]
    assert "<code>cal-aa00</code>" in rows["cal-bb11"]
    assert "applied</span>" not in rows["cal-aa00"]
    assert "cal-cc22" in rows
    assert "<td>R&amp;D</td>" in rows["cal-bb11"]


def test_differences_have_their_errors_and_say_what_has_changed(
    page: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("labctl.engine.calibrations.open_calibration", lambda runs, name: asked.append(Path(name).name))
    monkeypatch.setattr("labctl.engine.calibrations.difference", lambda a, b: (FAMILIES, ["lens: not in both"]))
    text = page.get("/calibrations?a=cal-aa00&b=cal-bb11").text
    assert asked == ["cal-aa00.calib.h5", "cal-bb11.calib.h5"]
    cells = {row[0]: row for row in (re.findall(r"<td[^>]*>(.*?)</td>", line) for line in text.splitlines()) if row}
    assert cells["gain"][2:] == ["16049", "16050", "+1", "8", "+2.1", "DN"]
    assert "no</span>" in cells["gain"][1]
    assert "yes</span>" in cells["dark level"][1]
    assert "lens: not in both" in text


@pytest.mark.parametrize("asked", ["a=cal-aa00&b=cal-aa00", "a=cal-aa00", "a=../../x&b=cal-aa00", "a=/etc/passwd&b=x"])
def test_only_two_calibrations_of_the_list_are_compared(
    page: TestClient, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr("labctl.engine.calibrations.open_calibration", lambda runs, name: pytest.fail("it was opened"))
    assert "Choose two different calibrations" in page.get(f"/calibrations?{asked}").text


def test_calibrations_that_cannot_be_compared_are_said_to_be_so(
    page: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(runs: Path, name: str) -> None:
        raise UsageError("calibrations of two kinds have nothing to compare")

    monkeypatch.setattr("labctl.engine.calibrations.open_calibration", refused)
    text = page.get("/calibrations?a=cal-aa00&b=cal-bb11").text
    assert "E-USE-001  calibrations of two kinds have nothing to compare" in text
