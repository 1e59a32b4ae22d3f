"""A bench opened anew and moved to a time and frame number goes on as one that was never closed, bit for bit."""

import numpy as np
import pytest

from drivers import CapabilityError, DeviceLost, DeviceProtocolError, OpenContext, Roi, Simulated, can, open_device

SHAPE = 60, 80
SMALL = {"rows": SHAPE[0], "cols": SHAPE[1]}
ROI = Roi(4, 4, 64, 48)
RNG = np.random.default_rng(5)
PATTERNS = RNG.integers(0, 256, (40, *SHAPE), dtype=np.uint8)
PANEL = {**SMALL, "tau_s": 0.02, "fall_ratio": 1.7, "flicker_depth": 0.03, "flicker_hz": 61.7, "uniformity_rms": 0.02}
BENCH = {
    "seed": 11,
    "slm": {**PANEL, "fringing": 0.1},
    "display": PANEL,
    "camera": {**SMALL, "row_noise_e": 1.0, "prnu": 0.01, "dsnu_e": 1.0, "row_time_s": 1e-5, "hot_fraction": 0.01},
    "source": {"rin_rms": 0.01},
    "drift": {
        "power_walk_per_sqrt_s": 0.01,
        "power_flicker_rms": 0.02,
        "pointing_walk_px_per_sqrt_s": 0.05,
        "knock_at_s": 0.4,
        "knock_x_px": 0.7,
    },
}


class Bench:
    """Devices of one bench, and what was shown when."""

    def __init__(self, faults=(), **mock):
        context = OpenContext({"mock": {**BENCH, **mock, "faults": list(faults)}})
        for name in ("slm", "display", "camera", "source"):
            setattr(self, name, open_device(f"mock.{name}", name, {}, context))
        self.monitor = open_device("mock.monitor", "monitor", {}, context)
        self.source.on()
        self.camera.roi = ROI
        self.shown = []

    def read(self, k):
        """Show pattern k, on the SLM too now and then, and read it before it has settled."""
        if k % 5 == 0:
            self.show("slm", k)
        self.show("display", k)
        self.camera.arm(1, skip=k % 3)
        return self.camera.fetch(10.0)

    def show(self, panel, k):
        self.shown.append((self.camera.now(), panel, k))
        getattr(self, panel).show(PATTERNS[k])

    def resumed(self, **kw):
        """A bench opened anew, with the last shows repeated at their device times."""
        moment = self.camera.now()
        again = Bench(**kw)
        for shown_at, panel, k in self.shown:
            again.camera.continue_at(shown_at.device_time_s, shown_at.sequence)
            getattr(again, panel).show(PATTERNS[k])
        again.camera.continue_at(moment.device_time_s, moment.sequence)
        return again


def assert_same(a, b):
    for field in ("frames", "sequence", "device_sequence", "device_time_s", "saturated_fraction"):
        assert np.array_equal(getattr(a, field), getattr(b, field)), field


@pytest.mark.parametrize("stop", [1, 6, 17, 33])
def test_frames_after_going_on_are_those_of_a_bench_that_never_stopped(stop):
    bench = Bench()
    for k in range(stop):
        bench.read(k)
    again = bench.resumed()
    for k in range(stop, len(PATTERNS)):
        assert_same(bench.read(k), again.read(k))
        assert bench.monitor.read() == again.monitor.read()
    assert bench.camera.now() == again.camera.now()


def test_shows_since_the_panel_was_last_at_rest_are_enough():
    bench = Bench()
    for k in range(20):
        bench.read(k)
    rest_s = bench.camera.now().device_time_s - 2.0 * bench.slm.settle_s
    recent = [i for i, (at, _, _) in enumerate(bench.shown) if at.device_time_s > rest_s]
    last_before = {panel: i for i, (_, panel, _) in enumerate(bench.shown) if i < recent[0]}
    bench.shown = [bench.shown[i] for i in sorted({*recent, *last_before.values()})]
    again = bench.resumed()
    for k in range(20, 30):
        assert_same(bench.read(k), again.read(k))


def test_camera_is_the_simulated_device_and_counts_on():
    bench = Bench()
    assert can(bench.camera, Simulated)
    bench.camera.continue_at(12.5, 750)
    block = bench.read(1)
    assert block.sequence.tolist() == block.device_sequence.tolist() == [751]
    assert block.device_time_s[0] == 12.5 + 1 / 60


def test_faults_of_earlier_frames_are_gone_and_later_ones_are_not():
    bench = Bench(["disconnect@10", "drop@25"])
    bench.camera.continue_at(1.0, 20)
    assert [bench.read(k).dropped for k in range(4)] == [0, 0, 1, 0]


def test_random_faults_strike_the_same_frames_after_going_on():
    script = ["drop%0.2"]
    bench = Bench(script)
    for k in range(10):
        bench.read(k)
    again = bench.resumed(faults=script)
    for k in range(10, 40):
        first, second = bench.read(k), again.read(k)
        assert first.dropped == second.dropped
        assert_same(first, second)


@pytest.mark.parametrize(("at_s", "sequence"), [(0.0, 10), (9.0, 0)])
def test_time_does_not_run_backwards(at_s, sequence):
    bench = Bench()
    bench.read(1)
    with pytest.raises(CapabilityError, match="backwards"):
        bench.camera.continue_at(at_s, sequence)


def test_armed_camera_is_not_moved():
    bench = Bench()
    bench.camera.arm(1)
    with pytest.raises(DeviceProtocolError):
        bench.camera.continue_at(9.0, 100)


def test_count_begins_when_the_camera_is_opened():
    context = OpenContext({"mock": {"camera": SMALL, "slm": SMALL, "display": SMALL}})
    with open_device("mock.source", "source", {}, context):
        for first in (0, 3):
            with open_device("mock.camera", "camera", {}, context) as camera:
                camera.arm(3)
                block = camera.fetch(5.0)
            assert block.sequence.tolist() == [0, 1, 2]
            assert block.device_sequence.tolist() == [first, first + 1, first + 2]
            with pytest.raises(DeviceLost):
                camera.now()
