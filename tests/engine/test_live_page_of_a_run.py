"""The live page of an archive that a real run has left: its picture, its figures, its calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the live page needs labctl[web]")
from starlette.testclient import TestClient

from labctl.archive import RunReader, find_run
from labctl.archive.preview import read_preview
from labctl.archive.seal import PREVIEW
from labctl.web.app import make_app
from labctl.web.serving import Serving


@pytest.fixture
def page(measured_once: Path) -> TestClient:
    return TestClient(make_app(Serving(measured_once)), base_url="http://localhost:8642")


def test_run_leaves_a_picture_with_its_regions_that_no_seal_covers(measured_once: Path) -> None:
    folder = find_run(measured_once, "latest")
    found, reader = read_preview(folder), RunReader(folder)
    assert found is not None
    assert reader.seal is not None
    assert PREVIEW not in reader.seal.files
    rows = reader.station().station.layout.rows
    assert found.regions_px.shape == (rows, 4, 2)
    across = found.regions_px.mean(axis=1)
    assert np.all(np.diff(across[:, 1]) > 0)  # row after row, as on this bench, which is hardly turned
    about = found.about
    inside = (across > (about["x"], about["y"])) & (
        across < (about["x"] + about["width"], about["y"] + about["height"])
    )
    assert inside.all()


def test_pages_tell_what_the_run_has_found(page: TestClient, measured_once: Path) -> None:
    folder = find_run(measured_once, "latest")
    summary = RunReader(folder).summary()
    assert summary is not None
    assert summary.validation is not None
    assert summary.calibration is not None
    text = page.get(f"/runs/{folder.name}").text
    assert f"<b>{summary.validation.effective_bits:.1f}</b>effective bits" in text
    assert '<div class="regions">' in text
    assert page.get(f"/runs/{folder.name}/report").content == (folder / "report.html").read_bytes()
    calibrations = page.get("/calibrations").text
    assert summary.calibration.id in calibrations
    assert "applied</span>" in calibrations
    assert "two different calibrations" in page.get(f"/calibrations?a={summary.calibration.id}&b=x").text
