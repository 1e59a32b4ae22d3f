"""Pictures that are turned or mirrored, whatever turns them: the map follows, and says so in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from everyday import everyday

from labctl.archive import RunWriter
from labctl.bench.acquirer import Acquirer
from labctl.bench.bench import open_bench
from labctl.engine.ledger import Ledger
from labctl.engine.walk import Walk, walk_on
from labctl.nodes.registration import REGISTRATION_NODE
from labctl.nodes.registry import with_parents
from labctl.station.loading import load_station
from mock_hardware.config import parse
from mock_hardware.geometry import panel_to_camera

SMALL = (
    "layout.rows=12", "layout.columns=12", "mock.slm.rows=160", "mock.slm.cols=180", "mock.display.rows=160",
    "mock.display.cols=180", "mock.camera.rows=250", "mock.camera.cols=240", "acquisition.dark_frames=8",
)  # fmt: skip
Walked = tuple[Walk, Ledger]


@pytest.fixture
def registered(tmp_path: Path) -> Callable[..., Walked]:
    """Walks to the registration on a small bench with these settings of the mock."""

    def walk(*settings: str) -> Walked:
        loaded, ledger = load_station(None, SMALL + tuple(f"mock.{setting}" for setting in settings)), Ledger()
        with RunWriter.create(tmp_path, "test", loaded) as run, open_bench(loaded.station) as bench:
            acquirer = Acquirer(bench, run, loaded.station.acquisition)
            return walk_on(acquirer, loaded.station, with_parents([REGISTRATION_NODE]), ledger, ()), ledger

    return walk


@pytest.mark.parametrize(
    ("settings", "slm", "display"),
    everyday(
        [
            ((), "", ""),
            (("camera.mirrored=true",), "mirrored left to right", "mirrored left to right"),
            (("camera.upside_down=true",), "mirrored top to bottom", "mirrored top to bottom"),
            (("camera.turned_deg=90",), "turned by 90°", "turned by 90°"),
            (("camera.turned_deg=270",), "turned by -90°", "turned by -90°"),
            (("camera.turned_deg=180",), "upside down", "upside down"),
            (("camera.turned_deg=90", "camera.mirrored=true"), "mirrored and turned by -90°", "mirrored and turned by"),
            (("display.mirrored=true",), "", "mirrored left to right"),
            (("slm.mirrored=true", "slm.rotation_deg=180"), "mirrored top to bottom", ""),
            (("display.rotation_deg=-90",), "", "turned by -90°"),
            (("display.mirrored=true", "camera.mirrored=true"), "mirrored left to right", ""),
        ],
        0,
        1,
        4,
        6,
        8,
        9,
    ),
)
def test_picture_that_is_turned_or_mirrored_is_mapped_and_said_in_words(registered, settings, slm, display) -> None:
    """The map against the mock's own geometry, at the corners of the grid; the words against what was set."""
    found, ledger = registered(*settings)
    config = parse(found.setting.station.mock)
    words = {metric.name: metric.words for metric in ledger.metrics}
    for panel, said in (("slm", slm), ("display", display)):
        x, y = np.array([40.0, 140, 140, 40]), np.array([40.0, 40, 120, 120])
        u, v, w = panel_to_camera(getattr(config, panel), config.camera) @ np.stack([x, y, np.ones(4)])
        seen = found.results[REGISTRATION_NODE].registrations[panel].to_camera(x, y)
        assert np.abs(np.stack(seen) - np.stack([u / w, v / w])).max() < 0.1
        assert said in words[f"{panel}_turned"]
        assert bool(words[f"{panel}_turned"]) == bool(said)
    assert ledger.out_of_spec == []


def test_report_says_which_picture_is_mirrored(registered) -> None:
    found, _ = registered("display.mirrored=true")
    (part,) = REGISTRATION_NODE.figures(found.evidence, found.results, found.setting)
    assert "The camera sees the display mirrored left to right: the calibration follows." in part.words
    assert "the slm" not in part.words


@pytest.mark.parametrize(
    ("settings", "now"),
    everyday(
        [
            (("camera.mirrored=true",), "mirrored left to right, and upright"),
            (("camera.turned_deg=180",), "upside down, and upright"),
            (("camera.turned_deg=-90",), "turned by -90°, and upright"),
        ],
        0,
        2,
    ),
)
def test_picture_that_is_turned_over_since_it_was_registered_is_called_so(registered, settings, now) -> None:
    then, _ = registered()
    later, _ = registered(*settings)
    for metric in REGISTRATION_NODE.check(later.evidence, then.evidence, then.results, then.setting):
        assert metric.verdict == "out_of_spec"
        assert f"{now} when it was registered" in metric.words
        assert "calibrate again" in metric.words


def test_knock_is_not_called_a_turn(registered) -> None:
    then, _ = registered()
    later, _ = registered("slm.offset_x_px=9.0", "slm.rotation_deg=3.0")
    slm, display = REGISTRATION_NODE.check(later.evidence, then.evidence, then.results, then.setting)
    assert (slm.verdict, display.verdict) == ("out_of_spec", "ok")
    assert slm.words == ""
