"""Every kind of fault happens where the script says, and can be seen: by an error, by metadata, or by the pixels."""

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import LIMIT_S, wait_for

from drivers.errors import CapabilityError, DeviceLost, DeviceTimeout
from drivers.protocols import OpenContext, Roi
from drivers.registry import open_device
from mock_hardware import parse
from mock_hardware.faults import KINDS, Fault
from mock_hardware.truth import expected_dn, expected_electrons, variance_dn2

SHAPE = 60, 80
ROI = Roi(4, 4, 64, 48)
SMALL = {"rows": SHAPE[0], "cols": SHAPE[1]}
RNG = np.random.default_rng(0)
SLM = RNG.integers(128, 256, SHAPE, dtype=np.uint8)


def open_bench(*faults):
    table = {"slm": SMALL, "display": SMALL, "camera": SMALL, "source": {"rin_rms": 0.0}, "faults": list(faults)}
    context = OpenContext({"mock": table})
    devices = {n: open_device(f"mock.{n}", n, {}, context) for n in ("slm", "display", "camera", "source")}
    devices["source"].on()
    devices["slm"].show(SLM)
    devices["camera"].roi = ROI
    devices["camera"].arm(1, skip=9)
    devices["camera"].fetch(10.0)
    return devices, devices["camera"].bench


def chi2_per_pixel(bench, dn, display, slm=SLM):
    electrons = expected_electrons(bench, display, slm, ROI)
    return float(np.mean((dn - expected_dn(bench, electrons, ROI)) ** 2 / variance_dn2(bench, electrons)))


def scan(*faults, n=12):
    """A frame for each display pattern, as an acquisition takes them; which of them the pixels give away as wrong."""
    devices, bench = open_bench(*faults)
    patterns = RNG.integers(0, 256, (n, *SHAPE), dtype=np.uint8)
    blocks, wrong = [], []
    for k, pattern in enumerate(patterns):
        devices["display"].show(pattern)
        devices["camera"].arm(1, skip=2)
        blocks.append(devices["camera"].fetch(10.0))
        if chi2_per_pixel(bench, blocks[-1].frames[0], pattern) > 1.3:
            wrong.append(k)
    return blocks, wrong


def frame_of(k):
    """Number of the frame that reads pattern k: ten before the scan, three for each pattern."""
    return 10 + 3 * k + 2


def test_scan_without_faults_shows_none():
    blocks, wrong = scan()
    assert not wrong
    assert [int(block.sequence[0]) for block in blocks] == [frame_of(k) for k in range(12)]


@pytest.mark.parametrize(
    ("kind", "expected"), [("stale", [5]), ("garbage", [5]), ("saturation", [5]), ("swap", [5, 6])]
)
def test_pixels_give_away_the_frame_whose_metadata_are_fresh(kind, expected):
    blocks, wrong = scan(f"{kind}@{frame_of(5)}")
    assert wrong == expected
    assert [int(block.sequence[0]) for block in blocks] == [frame_of(k) for k in range(12)]
    assert not any(block.dropped for block in blocks)
    if kind == "saturation":
        assert blocks[5].saturated_fraction[0] > 0.5


def test_swapped_frames_of_one_sequence_change_places():
    swapped, plain = (open_bench(*faults)[0]["camera"] for faults in (["swap@12"], []))
    for camera in (swapped, plain):
        camera.arm(6)
    seen, wanted = swapped.fetch(10.0), plain.fetch(10.0)
    assert np.array_equal(seen.frames, wanted.frames[[0, 1, 3, 2, 4, 5]])
    assert np.array_equal(seen.sequence, wanted.sequence)


def test_dropped_frames_leave_a_gap_and_a_count():
    camera = open_bench("drop@12:2")[0]["camera"]
    camera.arm(4)
    block = camera.fetch(10.0)
    assert block.dropped == 2
    assert list(block.sequence) == [10, 11, 14, 15]


def test_duplicated_frame_repeats_its_number():
    camera = open_bench("duplicate@11")[0]["camera"]
    camera.arm(4)
    block = camera.fetch(10.0)
    assert list(block.sequence) == [10, 11, 11, 12]
    assert np.array_equal(block.frames[1], block.frames[2])


def test_delay_times_out_once_and_can_be_tried_again():
    camera = open_bench("delay@10:3.0")[0]["camera"]
    camera.arm(2)
    with pytest.raises(DeviceTimeout) as error:
        camera.fetch(1.0)
    assert error.value.retryable
    camera.stop()
    camera.arm(2)
    assert len(camera.fetch(1.0).frames) == 2


def test_disconnected_camera_is_gone_until_it_is_opened_again():
    devices, _ = open_bench("disconnect@10")
    camera = devices["camera"]
    camera.arm(1)
    with pytest.raises(DeviceLost) as error:
        camera.fetch(1.0)
    assert not error.value.retryable
    with pytest.raises(DeviceLost):
        camera.identify()


def test_stuck_slm_confirms_what_it_does_not_show():
    devices, bench = open_bench("stuck-slm@10:20")
    other = 255 - SLM
    pattern = np.full(SHAPE, 255, np.uint8)
    devices["display"].show(pattern)
    receipt = devices["slm"].show(other)
    assert receipt.frame_id == 2
    devices["camera"].arm(1, skip=9)
    dn = devices["camera"].fetch(1.0).frames[0]
    assert chi2_per_pixel(bench, dn, pattern, SLM) < 1.3
    assert chi2_per_pixel(bench, dn, pattern, other) > 10
    devices["camera"].arm(1, skip=19)
    devices["camera"].fetch(1.0)
    devices["slm"].show(other)
    devices["camera"].arm(1, skip=9)
    assert chi2_per_pixel(bench, devices["camera"].fetch(1.0).frames[0], pattern, other) < 1.3


def test_full_disk_is_the_error_of_the_operating_system():
    camera = open_bench("disk-full@10")[0]["camera"]
    camera.arm(1)
    with pytest.raises(OSError, match="space") as error:
        camera.fetch(1.0)
    assert error.value.errno == errno.ENOSPC


@pytest.mark.skipif(sys.platform != "linux", reason="the mutex with a deadline is Linux's")
def test_hang_inside_a_native_call_ignores_ctrl_c_and_dies_by_kill():
    code = "from mock_hardware.native import hang\nprint('in', flush=True)\nhang(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        child.stdout.readline()
        wait_for(lambda: ") S " in Path(f"/proc/{child.pid}/stat").read_text())  # it has nothing else to sleep for
        child.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.7)
        child.kill()
        assert child.wait(LIMIT_S) == -signal.SIGKILL


def test_hang_lasts_as_long_as_the_script_says():
    camera = open_bench("hang@10:0.2")[0]["camera"]
    camera.arm(1)
    start = time.monotonic()
    camera.fetch(1.0)
    assert 0.15 < time.monotonic() - start < LIMIT_S


def test_random_faults_happen_at_their_rate_and_at_the_same_frames_again():
    wrong = [scan({"kind": "stale", "rate": 0.3, "seed": seed}, n=40)[1] for seed in (1, 1, 2)]
    assert wrong[0] == wrong[1] != wrong[2]
    assert 4 <= len(wrong[0]) <= 22  # 12 ± 3.5 standard deviations, without runs


def test_script_reads_words_and_tables_alike():
    words = parse({"faults": ["drop@41", "delay@60:3.5", "stale%0.01"]}).faults
    tables = parse(
        {
            "faults": [
                {"kind": "drop", "at": 41},
                {"kind": "delay", "at": 60, "value": 3.5},
                {"kind": "stale", "rate": 0.01},
            ]
        }
    ).faults
    assert words == tables == (Fault("drop", 41), Fault("delay", 60, value=3.5), Fault("stale", rate=0.01))
    assert json.dumps([vars(fault) for fault in words])


@pytest.mark.parametrize(
    "script",
    [
        "drop@41",
        ["drop"],
        ["dorp@3"],
        ["drop@3%0.1"],
        ["drop@3:x"],
        [{"at": 3}],
        [{"kind": "drop"}],
        [3],
        [{"kind": "drop", "at": 1, "rate": 0.1}],
    ],
)
def test_scripts_that_make_no_sense_are_refused(script):
    with pytest.raises(CapabilityError):
        parse({"faults": script})


def test_blackout_takes_the_light_of_so_many_frames():
    devices, _ = open_bench("blackout@12:4")
    devices["display"].show(np.full(SHAPE, 255, np.uint8))
    devices["camera"].arm(9)
    light = devices["camera"].fetch(10.0).frames.mean(axis=(1, 2))
    dark = light < 0.5 * light.max()
    assert dark.tolist() == [False] * 2 + [True] * 4 + [False] * 3


def test_every_kind_is_tested_here_or_with_its_device():
    here = Path(__file__)
    text = "".join(here.with_name(name).read_text(encoding="utf-8") for name in (here.name, "test_mock_slow.py"))
    assert all(f'"{kind}' in text for kind in KINDS)
