"""A display that plays lists while the camera keeps step reads the same, bit for bit, as frame by frame."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from mock_hardware.devices import MockDisplay

DRIFTING = ("--set", "mock.drift.power_walk_per_sqrt_s=0.002", "--set", "acquisition.gain_repeats=2")


def calibrate(small: Path, runs: Path, *more: str) -> RunReader:
    arguments = ["calibrate", "gain", "--bench", str(small), "--runs", str(runs), "--quiet"]
    assert main([*arguments, *DRIFTING, *more]) == 0
    return RunReader(find_run(runs, "latest"))


@pytest.fixture(scope="module")
def clean(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunReader:
    """A run by lists that nothing befalls."""
    return calibrate(small_file, tmp_path_factory.mktemp("clean"))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the lists that the display has played."""
    lengths: list[int] = []
    play = MockDisplay.show_sequence

    def counted(self: MockDisplay, levels, frames_each: int, timeout_s: float = 10.0):
        lengths.append(len(levels))
        return play(self, levels, frames_each, timeout_s)

    monkeypatch.setattr(MockDisplay, "show_sequence", counted)
    return lengths


def test_lists_and_single_frames_read_the_same(
    clean: RunReader, small_file: Path, tmp_path: Path, played: list[int]
) -> None:
    single = calibrate(small_file, tmp_path / "single", "--set", "acquisition.play_lists=false")
    assert played == []
    assert [row.sha256 for row in clean.manifest] == [row.sha256 for row in single.manifest]


def test_list_that_lost_a_frame_is_read_again_one_by_one(
    clean: RunReader, small_file: Path, tmp_path: Path, played: list[int]
) -> None:
    gain = next(s for s in clean.segments() if s.attrs.get("scan") == "gain")
    lost = int(gain.arrays["sequence"][20])
    faulty = calibrate(small_file, tmp_path / "faulty", "--set", f'mock.faults=["drop@{lost}"]')
    assert sum(played) > 150
    assert max(played) > 32
    (retry,) = [line for line in faulty.journal() if line["event"] == "retry"]
    assert retry["code"] == "E-CAM-001"
    again = next(s for s in faulty.segments() if s.attrs.get("scan") == "gain")
    assert len(again.arrays["readings_dn"]) == len(gain.arrays["readings_dn"])
    assert again.arrays["sequence"][20] > lost
    # the same patterns, read later: other noise, the same light to a few per cent of it
    light = gain.arrays["readings_dn"]
    assert again.arrays["readings_dn"] == pytest.approx(light, abs=0.05 * light.max())
