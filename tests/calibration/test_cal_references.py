"""Reference frames between the frames of a scan, and readings less their drift."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.frames.references import DARK_EVERY, References
from calibration.frames.scan import PanelLevels, Readings, Scan

M, K = 3, 4
BRIGHT = PanelLevels().display_bright


def scan(patterns: list[int], levels: int = 2) -> Scan:
    """Frames with the given SLM patterns, none of them bright."""
    slm = np.arange(levels, dtype=np.uint8)[:, None, None] * np.ones((1, M, K), np.uint8)
    return Scan(slm, np.array(patterns, np.int64), np.full((len(patterns), K), 7, np.uint8))


def changes(shown: Scan) -> int:
    return int((np.diff(shown.slm_index) != 0).sum())


def test_scan_is_unchanged_but_for_its_references() -> None:
    asked = scan([0] * 100 + [1] * 100)
    shown, reference = References(20).into(asked, around=False)
    kept = Readings(shown, np.zeros((len(shown), M)), np.zeros(len(shown))).where(~reference).scan
    assert np.array_equal(kept.slm[kept.slm_index], asked.slm[asked.slm_index])
    assert np.array_equal(kept.display, asked.display)
    assert set(shown.display[reference].ravel()) <= {0, BRIGHT}


def test_reference_needs_the_slm_only_where_it_changes_anyway() -> None:
    asked = scan([0] * 50 + [1] * 50)
    shown, reference = References(20).into(asked, around=False)
    bright = np.nonzero((shown.slm == BRIGHT).all(axis=(1, 2)))[0]
    assert changes(shown) == changes(asked) + 1  # one on the way from 0 to 1, over a bright SLM
    assert np.isin(shown.slm_index[reference], bright).sum() == 1
    spaces = np.diff(np.nonzero(reference)[0]) - 1
    assert spaces.min() >= 20
    assert spaces.max() <= 30


def test_references_go_around_a_scan_and_no_two_stand_together() -> None:
    references = References(1000)
    first, mask = references.into(scan([0] * 10), around=True)
    assert mask.tolist() == [True] + 10 * [False] + [True]
    assert (first.slm[first.slm_index[mask]] == BRIGHT).all()
    assert references.into(scan([0] * 10), around=True)[1].tolist() == 10 * [False] + [True]


def test_cost_counts_frames_over_all_scans_and_every_sixth_is_dark() -> None:
    references, dark, frames = References(40), 0, 0
    masks = []
    for _ in range(200):
        shown, mask = references.into(scan([0] * 15 + [1] * 15), around=False)
        masks.append(mask)
        dark += int((shown.display[mask] == 0).all(axis=1).sum())
        frames += len(mask)
    shown_references = int(np.concatenate(masks).sum())
    assert 0.015 < shown_references / frames < 1 / 40
    assert dark == shown_references // DARK_EVERY


def test_no_spacing_means_no_references() -> None:
    asked = scan([0, 1])
    shown, mask = References(0).into(asked, around=True)
    assert shown is asked
    assert not mask.any()


def test_steadied_readings_are_those_without_drift() -> None:
    rng = np.random.default_rng(1)
    light = rng.uniform(10, 100, (5, M))
    course = np.stack([rng.normal(0, 0.05, 5), rng.normal(0, 3, 5)], axis=1)
    readings = Readings(scan([0] * 5), light * (1 + course[:, :1]) + course[:, 1:], np.zeros(5), np.arange(5.0))
    covariance = np.tile(np.array([[1e-4, 1e-3], [1e-3, 4.0]]), (5, 1, 1))
    steady = readings.steadied(course, covariance)
    np.testing.assert_allclose(steady.dn, light)
    np.testing.assert_allclose(steady.drift_variance_dn2(light), 1e-4 * light**2 + 2e-3 * light + 4.0)
    assert steady.where(np.arange(5) < 2).drift_covariance.shape == (2, 2, 2)
    assert readings.drift_variance_dn2(light).max() == 0.0


@pytest.mark.parametrize("spacing", [1, 7])
def test_every_frame_of_the_scan_is_there_for_any_spacing(spacing: int) -> None:
    shown, mask = References(spacing).into(scan(list(range(50)), 50), around=True)
    assert (~mask).sum() == 50
    assert np.array_equal(shown.slm[shown.slm_index[~mask]][:, 0, 0], np.arange(50))
