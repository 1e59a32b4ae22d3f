"""A bench as devices of Micro-Manager's core: what its scripts call works, and what a bench cannot do is refused."""

from __future__ import annotations

import doctest
import gc
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from door_stations import tiny_station
from processes import wait_for

import labctl
from drivers.errors import CapabilityError, DeviceLost
from drivers.libraries.loading import load
from drivers.testing import require_module
from labctl.bench.marks import look_at
from labctl.errors import BenchBusy, UsageError

DARK_DN = 100
"""Black level of the mock camera."""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_module("pymmcore_plus", "pip install labctl[endpoints]")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def station(tmp_path: Path) -> Path:
    return tiny_station(tmp_path)


@pytest.fixture
def core(station: Path) -> Iterator[Any]:
    found = labctl.as_micromanager(station)
    yield found
    found.unloadAllDevices()


def level(core: Any, gray: int) -> None:
    core.setSLMPixelsTo(gray)
    core.displaySLMImage()


def wait(core: Any) -> None:
    wait_for(lambda: not core.isSequenceRunning())


def test_the_core_has_a_camera_two_panels_and_a_light(core: Any) -> None:
    assert set(core.getLoadedDevices()) == {"camera", "slm", "display", "light", "Core"}
    assert (core.getCameraDevice(), core.getSLMDevice(), core.getShutterDevice()) == ("camera", "slm", "light")
    assert (core.getImageHeight(), core.getImageWidth()) == (150, 190)
    assert (core.getSLMHeight(), core.getSLMWidth()) == (128, 160)
    assert core.getProperty("camera", "BitDepth") == 12
    assert core.getExposure() == 10.0


def test_a_snap_shows_what_the_panel_shows_settled(core: Any) -> None:
    image = np.zeros((128, 160), np.uint8)
    image[:, 40:80] = 255
    core.setSLMImage(image)
    bright = core.snap().mean()
    core.displaySLMImage()
    assert np.array_equal(core.getSLMImage(), image)
    core.snapImage()
    columns = core.getImage().mean(axis=0) - DARK_DN
    assert 35 <= (columns > columns.max() / 2).sum() <= 60
    level(core, 255)
    assert core.snap().mean() == pytest.approx(bright, rel=0.02)


def test_the_display_is_a_second_panel(core: Any) -> None:
    bright = core.snap().mean()
    core.setSLMImage("display", np.zeros((128, 160), np.uint16))
    core.displaySLMImage("display")
    assert core.snap().mean() - DARK_DN < 0.1 * (bright - DARK_DN)


def test_exposure_and_region_are_those_of_the_camera(core: Any) -> None:
    level(core, 128)
    short = core.snap().mean() - DARK_DN
    core.setExposure(20)
    assert core.getExposure() == 20.0
    assert core.snap().mean() - DARK_DN == pytest.approx(2 * short, rel=0.1)
    core.setROI(10, 20, 30, 40)
    assert core.snap().shape == (40, 30)
    assert list(core.getROI()) == [10, 20, 30, 40]
    core.clearROI()
    assert core.snap().shape == (150, 190)


def test_what_a_bench_cannot_do_is_refused(core: Any) -> None:
    with pytest.raises(CapabilityError, match="gray level out of range"):
        core.setSLMImage(np.full((128, 160), 300))
    with pytest.raises(CapabilityError, match="gray level out of range"):
        core.setSLMPixelsTo(256)
    with pytest.raises(CapabilityError, match="does not blank itself"):
        core.setSLMExposure(5.0)
    with pytest.raises(CapabilityError, match="exposure out of range"):
        core.setExposure(1e9)
    with pytest.raises(CapabilityError, match="region of interest"):
        core.setROI(0, 0, 1000, 10)
    assert (core.getSLMExposure(), core.getExposure(), list(core.getROI())) == (0.0, 10.0, [0, 0, 190, 150])


def test_a_sequence_has_as_many_frames_as_were_asked_for_in_order(core: Any) -> None:
    core.startSequenceAcquisition(20, 0, True)
    wait(core)
    assert core.getRemainingImageCount() == 20
    numbers = [int(core.popNextImageAndMD()[1]["sequence"]) for _ in range(20)]
    assert numbers == list(range(numbers[0], numbers[0] + 20))


def test_a_continuous_sequence_goes_on_while_the_panel_changes(core: Any) -> None:
    core.startContinuousSequenceAcquisition(0)
    bright = _next(core)
    level(core, 0)
    dim = _next(core)
    core.stopSequenceAcquisition()
    assert not core.isSequenceRunning()
    assert dim - DARK_DN < 0.1 * (bright - DARK_DN)
    level(core, 255)
    assert core.snap().mean() == pytest.approx(bright, rel=0.02)


def _next(core: Any) -> float:
    """The mean of an image that was begun after this call."""
    enough = core.getRemainingImageCount() + 40  # two blocks and more
    wait_for(lambda: core.getRemainingImageCount() >= enough)
    return float(core.getLastImage().mean())


def test_the_auto_shutter_gives_light_to_images_and_sequences_alone(core: Any) -> None:
    assert core.getAutoShutter()
    assert not core.getShutterOpen()
    bright = core.snap().mean()
    assert bright > 2 * DARK_DN
    assert not core.getShutterOpen()
    core.startSequenceAcquisition(5, 0, True)
    wait(core)
    core.stopSequenceAcquisition()
    assert core.popNextImage().mean() == pytest.approx(bright, rel=0.02)
    gc.collect()
    assert not core.getShutterOpen()


def test_an_acquisition_of_events_shows_each_pattern_and_reads_it_lit(core: Any) -> None:
    useq = load("useq")
    read: list[float] = []
    core.mda.events.frameReady.connect(lambda image, event, meta: read.append(image.mean()))
    grays = (0, 128, 255, 128)
    pictures = [useq.SLMImage(data=np.full((128, 160), gray, np.uint8), device="slm") for gray in grays]
    core.mda.run([useq.MDAEvent(exposure=10, slm_image=one, index={"t": t}) for t, one in enumerate(pictures)])
    dark, middle, bright, again = (level - DARK_DN for level in read)
    assert dark < middle < bright
    assert again == pytest.approx(middle, rel=0.05)
    assert bright > 5 * dark > 0


def test_the_light_can_be_left_on(core: Any) -> None:
    core.setAutoShutter(False)
    assert core.snap().mean() == pytest.approx(DARK_DN, rel=0.05)
    core.setShutterOpen(True)
    assert core.getShutterOpen()
    bright = core.snap().mean()
    assert core.getShutterOpen()
    core.setShutterOpen(False)
    assert core.snap().mean() == pytest.approx(DARK_DN, rel=0.05)
    core.setShutterOpen(True)
    assert core.snap().mean() == pytest.approx(bright, rel=0.02)


def test_a_light_that_no_program_can_switch_is_a_shutter_that_stays_open(tmp_path: Path) -> None:
    lamp = '[devices.source]\nbackend = "always-on"\noptions = {lamp = "halogen lamp", dark_by = "nothing"}\n'
    core = labctl.as_micromanager(tiny_station(tmp_path, lamp))
    core.snap()
    assert core.getShutterOpen()
    with pytest.raises(CapabilityError):
        core.setShutterOpen(False)
    assert core.getShutterOpen()
    core.unloadAllDevices()


def test_unloading_frees_the_bench_also_in_the_middle_of_a_sequence(station: Path) -> None:
    core = labctl.as_micromanager(station)
    with pytest.raises(BenchBusy):
        labctl.as_micromanager(station)
    core.startContinuousSequenceAcquisition(0)
    _next(core)
    core.unloadAllDevices()
    assert not look_at("tiny").held
    again = labctl.as_micromanager(station, core=core)
    assert again is core
    with pytest.raises(UsageError, match="a device of this name already"):
        labctl.as_micromanager(station, core=core)
    core.unloadDevice("light")
    with pytest.raises(DeviceLost, match="the bench is closed"):
        core.snapImage()
    core.unloadAllDevices()


def test_a_core_that_nobody_refers_to_frees_the_bench(station: Path) -> None:
    logging.getLogger("pymmcore-plus").setLevel(logging.WARNING)  # what is logged names the core, and is kept by pytest
    core = labctl.as_micromanager(station)
    assert look_at("tiny").held
    del core
    gc.collect()
    assert not look_at("tiny").held


def test_the_example_of_the_docstring_works(station: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [t for t in doctest.DocTestFinder(recurse=False).find(labctl.as_micromanager, "as") if t.examples]
    example.globs = {}
    failed, tried = doctest.DocTestRunner().run(example)
    assert tried
    assert not failed, capsys.readouterr().out
