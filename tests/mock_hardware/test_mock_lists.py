"""A list played by the panels gives the readings of the same patterns shown one by one, bit for bit."""

import numpy as np
import pytest

from drivers import CapabilityError, Moment, OpenContext, Roi, open_device

SHAPE = 60, 80
SMALL = {"rows": SHAPE[0], "cols": SHAPE[1]}
ROI = Roi(4, 4, 64, 48)
RNG = np.random.default_rng(3)
DISPLAY, SLM = RNG.integers(0, 256, (2, 7, *SHAPE), dtype=np.uint8)
DRIFT = {"power_walk_per_sqrt_s": 0.01, "power_flicker_rms": 0.01, "pointing_walk_px_per_sqrt_s": 0.05}


def bench(faults=(), **mock):
    table = {
        "slm": {**SMALL, "flicker_depth": 0.02},
        "display": {**SMALL, "tau_s": 0.006},
        "camera": {**SMALL, "row_noise_e": 0.5},
        "drift": DRIFT,
        "faults": list(faults),
        **mock,
    }
    context = OpenContext({"mock": table})
    devices = {n: open_device(f"mock.{n}", n, {}, context) for n in ("slm", "display", "camera", "source")}
    devices["source"].on()
    devices["camera"].roi = ROI
    return devices


def one_by_one(devices, panels, frames_each):
    blocks = []
    for patterns in zip(*panels.values(), strict=True):
        for name, pattern in zip(panels, patterns, strict=True):
            devices[name].show(pattern)
        devices["camera"].arm(1, skip=frames_each - 1)
        blocks.append(devices["camera"].fetch(10.0))
    return blocks


@pytest.mark.parametrize("frames_each", [1, 2, 5])
@pytest.mark.parametrize("panels", [{"display": DISPLAY}, {"slm": SLM}, {"display": DISPLAY, "slm": SLM}])
def test_list_reads_as_the_patterns_shown_one_by_one(panels, frames_each):
    blocks = one_by_one(bench(), panels, frames_each)
    devices = bench()
    devices["camera"].arm_sequence(len(DISPLAY), frames_each)
    for name, patterns in panels.items():
        devices[name].show_sequence(list(patterns), frames_each)
    block = devices["camera"].fetch(10.0)
    for field in ("frames", "sequence", "device_sequence", "device_time_s", "saturated_fraction"):
        assert np.array_equal(getattr(block, field), np.concatenate([getattr(b, field) for b in blocks])), field
    assert devices["camera"].now() == bench_moment(blocks)


def bench_moment(blocks):
    last = blocks[-1]
    return Moment(last.device_time_s[-1] + 1 / 60, int(last.sequence[-1]) + 1)


def test_a_show_ends_the_list():
    devices = bench()
    devices["display"].show_sequence(list(DISPLAY), 2)
    devices["camera"].arm(3)
    devices["camera"].fetch(10.0)
    devices["display"].show(DISPLAY[0])
    devices["camera"].arm(1, skip=30)
    settled = devices["camera"].fetch(10.0).frames[0]
    other = bench()
    other["camera"].arm(3)
    other["camera"].fetch(10.0)
    other["display"].show(DISPLAY[0])
    other["camera"].arm(1, skip=30)
    assert np.array_equal(settled, other["camera"].fetch(10.0).frames[0])


def test_list_plays_through_frames_that_nobody_keeps():
    devices = bench()
    devices["display"].show_sequence(list(DISPLAY), 1)
    devices["camera"].arm(1, skip=29)
    frame = devices["camera"].fetch(10.0).frames[0]
    other = bench()
    for pattern in DISPLAY:
        other["display"].show(pattern)
        other["camera"].arm(1)
        other["camera"].fetch(10.0)
    other["camera"].arm(1, skip=22)
    assert np.array_equal(frame, other["camera"].fetch(10.0).frames[0])


def test_lost_frame_shows_in_the_numbers_of_a_list():
    devices = bench(["drop@5"])
    devices["camera"].arm_sequence(5, 3)
    devices["display"].show_sequence(list(DISPLAY[:5]), 3)
    block = devices["camera"].fetch(10.0)
    assert block.dropped == 1
    assert np.diff(block.sequence).tolist() == [4, 3, 3, 3]


def test_patterns_of_a_list_are_copied():
    patterns = [pattern.copy() for pattern in DISPLAY]
    devices = bench()
    devices["display"].show_sequence(patterns, 2)
    for pattern in patterns:
        pattern[:] = 0
    devices["camera"].arm_sequence(7, 2)
    blocks = one_by_one(bench(), {"display": DISPLAY}, 2)
    assert np.array_equal(devices["camera"].fetch(10.0).frames, np.concatenate([b.frames for b in blocks]))


def test_stuck_slm_confirms_a_list_and_shows_one_pattern():
    devices = bench(["stuck-slm@0"])
    devices["camera"].arm_sequence(2, 8)
    devices["slm"].show_sequence([SLM[0], 255 - SLM[0]], 8)
    first, second = devices["camera"].fetch(10.0).frames.astype(float)
    assert abs(first.mean() - second.mean()) < 1.0
    with pytest.raises(CapabilityError):
        devices["slm"].show_sequence([], 8)
