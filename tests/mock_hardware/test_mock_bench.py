"""The bench as a whole: reproducible, dark when dark, and what its truth says on average."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from drivers.errors import CapabilityError, DeviceLost
from drivers.protocols import OpenContext, Roi
from drivers.registry import open_device
from mock_hardware import BenchConfig, MockBench, parse
from mock_hardware.truth import expected_dn, expected_electrons, truth, variance_dn2

ROI = Roi(500, 400, 257, 131)
RNG = np.random.default_rng(0)
DISPLAY, SLM = RNG.integers(0, 256, (2, 1024, 1280), dtype=np.uint8)


@pytest.fixture
def station():
    """All four devices on one bench, as a station opens them."""

    def open_all(**table):
        context = OpenContext({"mock": table})
        devices = {
            name: open_device(f"mock.{name}", name, {}, context) for name in ("slm", "display", "camera", "source")
        }
        devices["camera"].roi = ROI
        return devices, devices["camera"].bench

    return open_all


def capture(devices, n=2, skip=4):
    devices["source"].on()
    devices["display"].show(DISPLAY)
    devices["slm"].show(SLM)
    devices["camera"].arm(n, skip)
    return devices["camera"].fetch(10.0)


def test_devices_of_one_station_share_one_bench(station):
    devices, bench = station()
    block = capture(devices)
    assert block.frames.mean() > 110
    assert bench.sequence == 6
    assert list(block.sequence) == [4, 5]
    assert block.device_time_s == pytest.approx([4 / 60, 5 / 60])


def test_same_seed_gives_the_same_frames_whatever_the_threads(station):
    reference = capture(station(seed=5, threads=1)[0]).frames
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        again = capture(station(seed=5, threads=3)[0]).frames
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(reference, again)


def test_another_seed_gives_other_frames(station):
    assert not np.array_equal(capture(station(seed=5)[0]).frames, capture(station(seed=6)[0]).frames)


def test_frames_of_one_sequence_differ(station):
    first, second = capture(station()[0]).frames
    assert not np.array_equal(first, second)


def test_skipped_frames_change_nothing_in_the_kept_ones(station):
    kept = capture(station()[0], n=1, skip=3).frames[0]
    assert np.array_equal(kept, capture(station()[0], n=4, skip=0).frames[3])


def test_dark_is_dark(station):
    devices, bench = station()
    devices["display"].show(DISPLAY)
    devices["camera"].arm(20)
    frames = devices["camera"].fetch(10.0).frames.astype(float)
    electrons = (20 + 10) * 0.010  # ambient light and dark current
    variance = variance_dn2(bench, np.array(electrons))
    assert frames.mean() == pytest.approx(100 + 4 * electrons, abs=4.5 * np.sqrt(variance / frames.size))
    assert frames.var() == pytest.approx(variance, rel=0.01)


def test_laser_without_power_is_dark(station):
    devices, _ = station(source={"power_mw": 0.0})
    assert capture(devices, n=1).frames.mean() == pytest.approx(100 + 4 * 0.3, abs=0.3)


def test_frames_agree_with_the_truth(station):
    devices, bench = station(source={"rin_rms": 0.0})
    n = 40
    frames = capture(devices, n).frames.astype(float)
    electrons = expected_electrons(bench, DISPLAY, SLM, ROI)
    z2 = (frames.mean(axis=0) - expected_dn(bench, electrons)) ** 2 / (variance_dn2(bench, electrons) / n)
    assert z2.mean() == pytest.approx(1.0, abs=4.5 * np.sqrt(2 / z2.size) + 0.005)
    ratio = frames.var(axis=0, ddof=1) / variance_dn2(bench, electrons)
    assert ratio.mean() == pytest.approx(1.0, abs=5e-3)


def test_relative_intensity_noise_is_common_to_a_frame(station):
    devices, _ = station(source={"rin_rms": 0.02})
    sums = capture(devices, 200).frames.mean(axis=(1, 2)) - 100
    assert sums.std(ddof=1) / sums.mean() == pytest.approx(0.02, rel=0.2)


def test_exposure_doubles_the_signal(station):
    devices, _ = station()
    short = capture(devices, 10).frames.mean() - 100
    devices["camera"].exposure_s = 0.020
    assert devices["camera"].frame_period_s == pytest.approx(0.020)
    assert (capture(devices, 10).frames.mean() - 100) / short == pytest.approx(2.0, abs=0.005)


def test_truth_disturbs_nothing(station):
    devices, bench = station()
    first = capture(devices, 1).frames
    other, peeked = station()
    capture_before = capture(other, 1, skip=4).frames
    expected_electrons(peeked, SLM, DISPLAY, ROI)
    assert np.array_equal(first, capture_before)
    assert (bench.sequence, bench.clock_s) == (peeked.sequence, peeked.clock_s)
    assert np.array_equal(capture(devices, 1).frames, capture(other, 1).frames)


def test_truth_is_plain_json():
    assert json.loads(json.dumps(truth(MockBench())))["slm"]["gamma"] == 1.8


def test_closed_device_is_lost_and_the_light_is_off(station):
    devices, bench = station()
    devices["source"].on()
    devices["source"].close()
    assert not bench.is_lit
    with pytest.raises(DeviceLost, match="source"):
        devices["source"].on()


def test_parameters_come_from_a_plain_table():
    config = parse({"seed": 3, "slm": {"gamma": 2, "rows": 800}, "camera": {"read_noise_e": 1.5}})
    default = BenchConfig()
    assert config == replace(
        default,
        seed=3,
        slm=replace(default.slm, gamma=2.0, rows=800),
        camera=replace(default.camera, read_noise_e=1.5),
    )
    assert parse({}) == default


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"slm": {"gama": 2.0}}, r"mock\.slm\.gama"),
        ({"laser": {}}, r"mock\.laser"),
        ({"slm": {"gamma": "steep"}}, r"mock\.slm\.gamma"),
        ({"slm": {"rows": 10.5}}, r"mock\.slm\.rows"),
        ({"seed": True}, r"mock\.seed"),
        ({"slm": 3}, r"mock\.slm"),
        ({"camera": {"bit_depth": 40}}, "bit_depth"),
        ({"source": {"power_mw": float("nan")}}, "power_mw"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(table, words):
    with pytest.raises(CapabilityError, match=words):
        parse(table)


def test_misspelt_parameter_gets_a_suggestion():
    with pytest.raises(CapabilityError) as error:
        parse({"slm": {"gama": 2.0}})
    assert "gamma" in error.value.hint


def test_source_writes_for_other_processes_whether_it_is_on(tmp_path):
    state = tmp_path / "light.txt"
    context = OpenContext({"mock": {}})
    with open_device("mock.source", "source", {"state_file": str(state)}, context) as source:
        assert state.read_text() == "off\n"
        source.on()
        assert state.read_text().endswith("on\n")
    assert state.read_text() == "off\non\noff\n"
