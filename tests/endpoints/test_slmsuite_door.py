"""A bench as slmsuite's objects: slmsuite's own tests pass, and what makes no sense on such a panel is refused."""

from __future__ import annotations

import doctest
import gc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from door_stations import tiny_station

import labctl
from drivers.errors import CapabilityError, DeviceLost, DeviceTimeout
from drivers.libraries.loading import load
from drivers.protocols import Trip
from drivers.testing import require_module
from labctl.bench.marks import look_at
from labctl.errors import BenchBusy, InterlockOpen, UsageError

DARK_DN = 100
"""Black level of the mock camera."""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_module("slmsuite", "pip install labctl[endpoints]")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def station(tmp_path: Path) -> Path:
    return tiny_station(tmp_path)


@pytest.fixture
def pair(station: Path) -> Iterator[Any]:
    with labctl.as_slmsuite(station) as found:
        yield found


def fourier(camera: Any, slm: Any) -> Any:
    return load("slmsuite.hardware.cameraslms:FourierSLM")(camera, slm)


def test_slmsuites_own_tests_pass(pair: Any, caplog: pytest.LogCaptureFixture) -> None:
    slm, camera = pair
    assert slm.test() is True
    assert camera.test() is True
    assert "treating HDR as unsupported" not in caplog.text


def test_the_pair_says_what_the_bench_is(pair: Any) -> None:
    slm, camera = pair
    assert (slm.name, slm.shape, slm.bitdepth, slm.dtype) == ("tiny-slm", (128, 160), 8, np.uint8)
    assert slm.wav_um == pytest.approx(0.633)
    assert slm.settle_time_s == slm.held.bench.slm.settle_s
    assert (camera.name, camera.shape, camera.bitdepth, camera.dtype) == ("tiny-camera", (150, 190), 12, np.uint16)
    assert camera.get_exposure() == 0.01
    assert slm.info(verbose=False) == camera.info(verbose=False) == ["tiny"]


def test_gray_levels_go_to_the_panel_as_they_are_and_the_next_image_has_settled(pair: Any) -> None:
    slm, camera = pair
    levels = np.zeros(slm.shape, slm.dtype)
    levels[:, 40:80] = 255
    assert np.array_equal(slm.set_phase(levels), levels)
    columns = camera.get_image().mean(axis=0) - DARK_DN
    middle = columns > columns.max() / 2
    assert 35 <= middle.sum() <= 60
    slm.set_phase(np.zeros_like(levels))
    first, later = camera.get_image().mean(), camera.get_images(6)[-1].mean()
    assert first - DARK_DN == pytest.approx(later - DARK_DN, rel=0.05)


def test_phases_are_all_levels_in_two_pi_and_zero_is_the_highest(pair: Any) -> None:
    slm, camera = pair
    assert slm.set_phase(None).min() == 255
    assert set(np.unique(slm.set_phase(np.full(slm.shape, np.pi)))) == {127}
    bright = camera.get_image().mean()
    assert slm.set_phase(np.full(slm.shape, 2 * np.pi - 2 * np.pi / 256)).max() == 0
    assert camera.get_image().mean() < bright


def test_levels_of_another_type_or_too_high_are_refused(pair: Any) -> None:
    slm, _ = pair
    with pytest.raises(TypeError, match="integer type"):
        slm.set_phase(np.zeros(slm.shape, np.int64))
    bad = np.zeros(slm.shape)
    bad[3, 4] = np.nan
    for wrong in (bad, np.full(slm.shape, np.inf), bad > 0, bad + 0j):
        with pytest.raises(CapabilityError, match="not its phase"):
            slm.set_phase(wrong)


def test_the_display_can_be_the_slm(station: Path) -> None:
    with labctl.as_slmsuite(station, "display", other_level=0) as (slm, camera):
        assert slm.name == "tiny-display"
        dim = camera.get_image().mean()
        slm.held.fill("slm")
        assert camera.get_image().mean() - DARK_DN > 3 * (dim - DARK_DN)
    with pytest.raises(UsageError, match="no such panel"):
        labctl.as_slmsuite(station, "mirror")
    assert not look_at("tiny").held


def test_averaging_and_hdr_keep_their_scale(pair: Any) -> None:
    _, camera = pair
    single = camera.get_image().astype(float)
    summed = camera.get_image(averaging=4)
    assert summed.mean() == pytest.approx(4 * single.mean(), rel=0.02)
    images, exposures = camera.get_image_hdr(exposures=3, return_raw=True)
    assert exposures == pytest.approx([0.01, 0.02, 0.04])
    assert camera.get_exposure() == 0.01
    light = images.mean(axis=(1, 2)) - DARK_DN
    assert light[1] == pytest.approx(2 * light[0], rel=0.1)


def test_autoexposure_finds_the_middle_of_the_range(pair: Any) -> None:
    _, camera = pair
    camera.autoexpose(set_fraction=0.5, tol=0.05)
    assert camera.get_image().max() / 2**camera.bitdepth == pytest.approx(0.5, abs=0.06)


def test_an_exposure_out_of_range_is_refused_and_bounds_keep_slmsuite_inside(station: Path) -> None:
    with labctl.as_slmsuite(station, camera_options={"exposure_bounds_s": (1e-4, 0.5)}) as (_, camera):
        assert camera.set_exposure(1e6) == 0.5
        camera.exposure_bounds_s = None
        with pytest.raises(CapabilityError, match="exposure out of range"):
            camera.set_exposure(1e6)
        assert camera.get_exposure() == 0.5


def test_window_binning_and_rotation_give_images_of_the_shape_that_they_say(station: Path) -> None:
    with labctl.as_slmsuite(station, camera_options={"rot": "90"}) as (slm, camera):
        assert camera.get_image().shape == camera.shape == (190, 150)
        camera.set_binning(2)
        assert camera.get_image().shape == camera.shape == (95, 75)
        camera.set_woi((11, 51, 20, 41))
        x, width, y, height = camera.get_woi()
        assert camera.get_image().shape == camera.shape == (height // 2, width // 2)
        assert camera.get_images(2).shape == (2, *camera.shape)
        camera.set_binning(1)
        camera.set_woi()
        slm.set_phase(np.kron(np.indices((8, 10)).sum(axis=0) % 2 * 255, np.ones((16, 16))).astype(slm.dtype))
        whole = camera.get_image(averaging=16)
        camera.set_woi((x, width, y, height))
        part = camera.get_image(averaging=16)
        assert np.corrcoef(part.ravel(), whole[y : y + height, x : x + width].ravel())[0, 1] > 0.9


def test_a_window_that_is_none_leaves_the_old_one(pair: Any) -> None:
    _, camera = pair
    with pytest.raises(CapabilityError, match="region"):
        camera.set_woi((0, 0, 0, 10))
    assert camera.woi == camera.get_woi() == (0, 190, 0, 150)
    assert camera.get_image().shape == camera.shape


def test_what_rests_on_phases_is_refused(pair: Any) -> None:
    slm, camera = pair
    both = fourier(camera, slm)
    blaze = load("slmsuite.holography.toolbox.phase:blaze")
    hologram = load("slmsuite.holography.algorithms:Hologram")(np.ones((128, 128)))
    before = slm.display.copy()
    for wrong in (
        lambda: blaze(slm, (0.01, 0.0)),
        lambda: slm.set_phase(hologram),
        lambda: slm.set_gamma(np.linspace(0, 1, 256)),
        lambda: camera.autofocus(slm),
        both.fourier_calibrate,
    ):
        with pytest.raises(CapabilityError, match="not its phase") as caught:
            wrong()
        assert "slm.set_phase(levels" in caught.value.hint
    slm.source["phase"] = np.ones(slm.shape, np.float32)
    with pytest.raises(CapabilityError, match="not its phase"):
        slm.set_phase(np.zeros(slm.shape))
    assert np.array_equal(slm.display, before)


def test_a_fourier_calibration_that_somebody_claims_leads_to_refusals(pair: Any) -> None:
    slm, camera = pair
    both = fourier(camera, slm)
    both.fourier_calibrate_analytic(1e3 * np.eye(2), np.array([[95.0], [75.0]]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for wrong in (
            lambda: both.settle_calibrate(vector=(0.005, 0.0)),
            lambda: both.wavefront_calibrate_superpixel((60.0, 60.0)),
            lambda: both.pixel_calibrate(levels=2, periods=2),
        ):
            with pytest.raises(CapabilityError, match="not its phase"):
                wrong()


def test_a_script_finds_where_each_part_of_the_panel_is_seen(pair: Any) -> None:
    """What replaces slmsuite's Fourier calibration where the panel is imaged: spots, and the affine map to them."""
    slm, camera = pair
    points, seen = [(y, x) for y in (30, 64, 98) for x in (40, 80, 120)], []
    slm.set_phase(np.zeros(slm.shape, slm.dtype))
    dark = camera.get_image(averaging=4).astype(float)
    for y, x in points:
        levels = np.zeros(slm.shape, slm.dtype)
        levels[y - 6 : y + 6, x - 6 : x + 6] = 255
        slm.set_phase(levels)
        light = np.clip(camera.get_image(averaging=4) - dark - 80, 0, None)
        rows, columns = np.indices(light.shape)
        seen.append([(rows * light).sum() / light.sum(), (columns * light).sum() / light.sum()])
    design = np.column_stack([np.array(points), np.ones(len(points))])
    matrix, *_ = np.linalg.lstsq(design, np.array(seen), rcond=None)
    assert np.abs(design @ matrix - seen).max() < 0.5
    assert np.linalg.det(matrix[:2]) == pytest.approx(1.0, abs=0.15)


def test_closing_one_closes_both_and_the_bench_is_free(station: Path) -> None:
    slm, camera = labctl.as_slmsuite(station)
    with pytest.raises(BenchBusy):
        labctl.as_slmsuite(station)
    camera.close()
    slm.close()
    assert not look_at("tiny").held
    with pytest.raises(DeviceLost, match="the bench is closed"):
        camera.get_image()
    with pytest.raises(DeviceLost, match="the bench is closed"):
        slm.set_phase(None)


def test_an_error_in_a_block_closes_the_bench(station: Path) -> None:
    def script() -> None:
        with labctl.as_slmsuite(station) as (slm, _):
            slm.set_phase(np.zeros((3, 3)))

    with pytest.raises(ValueError, match=r"shape|pad"):
        script()
    assert not look_at("tiny").held


def test_the_bench_stays_open_while_either_object_lives(station: Path) -> None:
    _, camera = labctl.as_slmsuite(station)
    _ = None
    gc.collect()
    assert camera.get_image().mean() > 2 * DARK_DN
    assert look_at("tiny").held
    del camera
    gc.collect()
    assert not look_at("tiny").held


def test_a_camera_that_fails_is_tried_again_and_then_said_with_the_light_off(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, camera = pair
    device, tries = camera.held.bench.camera, []

    def silent(timeout_s: float) -> None:
        tries.append(timeout_s)
        raise DeviceTimeout("no frame", device="camera", action="fetch")

    monkeypatch.setattr(device, "fetch", silent)
    with pytest.raises(DeviceTimeout):
        camera.get_image()
    assert len(tries) == camera.capture_attempts
    assert not camera.held.bench.source.is_on


def test_an_open_interlock_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door = '[devices.door]\nrole = "interlock"\nbackend = "mock.interlock"\n'
    monkeypatch.setattr("labctl.doors.held.ASK_EVERY_S", 0.0)
    with labctl.as_slmsuite(tiny_station(tmp_path, door), camera_options={"capture_attempts": 1}) as (_, camera):
        check = "mock_hardware.slow.MockInterlock.check"
        monkeypatch.setattr(check, lambda self, timeout_s=2.0: Trip("the door is open"))
        with pytest.raises(InterlockOpen, match="the door is open"):
            camera.get_image()
        assert not camera.held.bench.source.is_on


def test_options_that_slmsuite_does_not_know_are_refused(station: Path) -> None:
    with pytest.raises(UsageError, match="does not take these options"):
        labctl.as_slmsuite(station, camera_options={"averageing": 2})
    assert not look_at("tiny").held


def test_a_panel_of_levels_that_are_no_power_of_two_is_refused(tmp_path: Path) -> None:
    odd = tiny_station(tmp_path)
    odd.write_text(odd.read_text().replace("slm = { rows", "slm = { levels = 200, rows"))
    with pytest.raises(CapabilityError, match="in bits"):
        labctl.as_slmsuite(odd)
    assert not look_at("tiny").held


def test_the_example_of_the_docstring_works(station: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [t for t in doctest.DocTestFinder(recurse=False).find(labctl.as_slmsuite, "as") if t.examples]
    example.globs = {}
    failed, tried = doctest.DocTestRunner().run(example)
    assert tried
    assert not failed, capsys.readouterr().out


OTHERS = """
[bench]
name = "others"
mode = "hardware"
[devices.slm]
backend = "slmsuite.slm"
options = { target = "simulated", arguments = { resolution = [256, 128], bitdepth = 10 }, settle_s = 0.02 }
[devices.display]
backend = "slmsuite.slm"
options = { target = "simulated", arguments = { resolution = [256, 128] }, settle_s = 0.02 }
[devices.camera]
backend = "slmsuite.camera"
[devices.camera.options]
target = "simulated"
arguments.slm = { target = "slmsuite.hardware.slms.simulated:SimulatedSLM", arguments = { resolution = [256, 256] } }
[devices.source]
backend = "always-on"
options = { lamp = "halogen lamp", dark_by = "nothing" }
"""


def test_a_bench_of_other_devices_passes_slmsuites_tests_too(tmp_path: Path) -> None:
    path = tmp_path / "others.toml"
    path.write_text(OTHERS, encoding="utf-8")
    with labctl.as_slmsuite(path) as (slm, camera):
        assert (slm.bitdepth, slm.dtype, camera.bitdepth) == (10, np.uint16, 8)
        assert slm.test() is camera.test() is True
