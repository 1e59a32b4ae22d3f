"""A camera that runs freely: frames begin after arm, numbers never restart, pixels are right, and it can fail."""

import threading
import time

import numpy as np
import pytest

from drivers import (
    CapabilityError,
    DeviceLost,
    DeviceProtocolError,
    DeviceTimeout,
    DroppedFrames,
    HardwareEdge,
    MonoPixels,
    RawFrame,
    Roi,
    SoftwareTrigger,
    StreamingCamera,
    TriggeredCamera,
    TriggeredStreamingCamera,
    TriggerMode,
    can,
    stamped_on_arrival,
)
from drivers.counting import FrameCounter, Order
from drivers.testing import CameraContract, FreeRunningFake, TriggeredCameraContract


class Clock:
    """Device time that moves when somebody waits, or when the test says so."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


class Polled(FreeRunningFake):
    polled = True


class Scene:
    """What the camera looks at: a level that changes at once; an exposure sees its mean over time."""

    def __init__(self, clock):
        self.clock = clock
        self.changes = [(-np.inf, 0.0)]

    def show(self, level):
        self.changes.append((self.clock(), level))

    def __call__(self, begins_s, ends_s):
        ends = [at for at, _ in self.changes[1:]] + [np.inf]
        shares = [
            level * max(min(end, ends_s) - max(begin, begins_s), 0.0)
            for (begin, level), end in zip(self.changes, ends, strict=True)
        ]
        return round(sum(shares) / (ends_s - begins_s))


class TestFreeRunningCamera(CameraContract):
    """In real time, with a thread."""

    def open(self):
        return StreamingCamera("camera", FreeRunningFake(), MonoPixels(12))

    def now_s(self, camera):
        return time.monotonic()


class Triggered(FreeRunningFake):
    """A camera without a clock: it exposes when it is told to."""

    def __init__(self):
        super().__init__()
        self.pending = 0
        self.ready = threading.Semaphore(0)
        self.trigger = SoftwareTrigger(self.ready.release)
        self.count = 0

    def next_frame(self, timeout_s):
        if not self.ready.acquire(timeout=timeout_s):
            return None
        time.sleep(self.frame_period_s)
        begins_s = self.trigger.begins_s
        self.count += 1
        roi = self.roi
        return RawFrame(np.full(roi.shape, self.count, np.uint16), begins_s, self.count)


class TestSoftwareTriggeredCamera(TriggeredCameraContract):
    period_tolerance_rel = 20.0  # the host decides when the next exposure begins

    def open(self):
        acquire = Triggered()
        return TriggeredStreamingCamera("camera", acquire, MonoPixels(12, shift=0), acquire.trigger)

    def now_s(self, camera):
        return time.monotonic()


@pytest.mark.parametrize("share", np.linspace(0.0, 2.3, 24))
def test_frame_that_began_before_arm_is_not_delivered(share):
    """Whatever the phase at which a pattern is shown: the exposure under way sees both, and is never handed out."""
    clock = Clock()
    scene = Scene(clock)
    fake = Polled(scene, clock, clock.sleep)
    with StreamingCamera("camera", fake, MonoPixels(12, shift=0)) as camera:
        for level in (1000, 3000, 500):
            clock.sleep(share * fake.frame_period_s)
            scene.show(level)
            armed_s = clock()
            camera.arm(2)
            block = camera.fetch(5.0)
            assert block.device_time_s[0] >= armed_s
            assert np.all(block.frames == level)
            assert block.device_time_s[0] < armed_s + 1.001 * fake.frame_period_s  # and no frame is wasted
    assert fake.starts == 1


def test_without_that_rule_the_first_frame_would_be_a_mixture():
    clock = Clock()
    scene = Scene(clock)
    fake = FreeRunningFake(scene, clock, clock.sleep)
    fake.start()
    clock.sleep(0.4 * fake.exposure_s)
    scene.show(1000)
    assert 0 < fake.next_frame(1.0).pixels[0, 0] < 1000


def test_skip_counts_from_arm():
    clock = Clock()
    fake = Polled(clock=clock, sleep=clock.sleep)
    with StreamingCamera("camera", fake, MonoPixels(12)) as camera:
        clock.sleep(0.3 * fake.frame_period_s)
        camera.arm(1)
        first = camera.fetch(5.0)
        clock.sleep(7.3 * fake.frame_period_s)
        armed_s = clock()
        camera.arm(1, skip=4)
        block = camera.fetch(5.0)
    periods = (block.device_time_s[0] - armed_s) / fake.frame_period_s
    assert 4 <= periods < 5
    assert block.sequence[0] - first.sequence[0] == block.device_sequence[0] - first.device_sequence[0]
    assert block.dropped == 0  # what nobody asked for is not lost


def test_stream_is_not_started_for_each_frame():
    fake = FreeRunningFake()
    with StreamingCamera("camera", fake, MonoPixels(12)) as camera:
        for _ in range(20):
            camera.arm(1)
            camera.fetch(5.0)
        assert fake.starts == 1
        camera.exposure_s = camera.exposure_s
        camera.roi = camera.roi
        camera.arm(1)
        camera.fetch(5.0)
        assert fake.starts == 1


def test_numbers_go_on_where_the_cameras_own_begin_again():
    clock = Clock()
    fake = Polled(clock=clock, sleep=clock.sleep)
    with StreamingCamera("camera", fake, MonoPixels(12)) as camera:
        camera.arm(3)
        first = camera.fetch(5.0)
        camera.exposure_s = 0.004
        camera.arm(2)
        second = camera.fetch(5.0)
    assert second.device_sequence[0] < first.device_sequence[-1]
    assert second.sequence[0] > first.sequence[-1]
    assert np.all(np.diff([*first.sequence, *second.sequence]) >= 1)


def test_lost_frame_leaves_a_gap_and_is_counted():
    clock = Clock()

    class Losing(Polled):
        def next_frame(self, timeout_s):
            raw = super().next_frame(timeout_s)
            return self.next_frame(timeout_s) if raw is not None and raw.device_sequence == 6 else raw

    with StreamingCamera("camera", Losing(clock=clock, sleep=clock.sleep), MonoPixels(12)) as camera:
        camera.arm(4, skip=2)
        block = camera.fetch(5.0)
    arrived = [k for k in range(block.device_sequence[0], 20) if k != 6]
    assert block.device_sequence.tolist() == arrived[:4]
    assert block.dropped == 1
    assert 2 in np.diff(block.sequence)


@pytest.mark.parametrize(
    ("size", "device", "counted"),
    [
        (0, [7, 8, 9], [0, 1, 2]),
        (0, [7, 8, 11], [0, 1, 4]),  # two lost
        (0, [7, 8, 8, 9], [0, 1, 1, 2]),  # one comes twice
        (0, [7, 8, 0, 1], [0, 1, 2, 3]),  # the camera has begun again
        (256, [254, 255, 0, 2], [0, 1, 2, 4]),  # eight bits, and one lost
        (0, [-1, -1, -1], [0, 1, 2]),  # no numbers
    ],
)
def test_numbers_of_frames(size, device, counted):
    counter = FrameCounter(size)
    times = np.arange(len(device), dtype=float)
    assert [counter.number(number, at) for number, at in zip(device, times, strict=True)] == counted


def test_older_frame_out_of_order_is_numbered_back():
    counter = FrameCounter()
    assert [counter.number(n, at) for n, at in ((3, 0.0), (5, 2.0), (4, 1.0))] == [0, 2, 1]


def test_order_of_a_list_keeps_the_last_exposure_of_each_pattern():
    order = Order(3, skip=3, between=3)
    assert order.exposures == 12
    assert [k for k in range(12) if order.keeps(k)] == [3, 7, 11]


@pytest.mark.parametrize("left_by", [0, 4])
def test_left_justified_data_is_found_at_opening_and_shifted(left_by):
    clock = Clock()
    fake = Polled(clock=clock, sleep=clock.sleep, left_by=left_by)
    with StreamingCamera("camera", fake, MonoPixels(12)) as camera:
        camera.arm(1)
        frame = camera.fetch(5.0).frames[0]
    assert np.array_equal(frame, np.arange(64 * 128).reshape(64, 128) // 2)


def test_dark_frame_does_not_decide_how_data_is_justified():
    pixels = MonoPixels(12)
    assert np.array_equal(pixels.to_dn(np.zeros((4, 4), np.uint16)), np.zeros((4, 4)))
    assert pixels.shift is None
    light = np.arange(16, dtype=np.uint16).reshape(4, 4)
    assert np.array_equal(pixels.to_dn(light << 4), light)
    assert pixels.shift == 4


def test_data_that_contradicts_the_justification_is_refused():
    pixels = MonoPixels(12)
    pixels.to_dn(np.arange(16, dtype=np.uint16).reshape(4, 4) << 4)
    with pytest.raises(DeviceProtocolError):
        pixels.to_dn(np.full((4, 4), 17, np.uint16))


@pytest.mark.parametrize(
    "buffer",
    [
        np.full((4, 4), 65271, np.uint16),  # beyond 12 bits, and not shifted
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((4, 4)),
    ],
)
def test_buffer_that_is_no_gray_image_of_that_depth_is_refused(buffer):
    with pytest.raises(DeviceProtocolError):
        MonoPixels(12).to_dn(buffer)


def test_frames_do_not_change_under_the_reader():
    buffer = np.arange(64 * 128, dtype=np.uint16).reshape(64, 128) % 4096

    class Reused(Polled):
        def next_frame(self, timeout_s):
            raw = super().next_frame(timeout_s)
            buffer[:] = (buffer + 1) % 4096
            return RawFrame(buffer, raw.begins_s, raw.device_sequence)

    clock = Clock()
    with StreamingCamera("camera", Reused(clock=clock, sleep=clock.sleep), MonoPixels(12)) as camera:
        camera.arm(3)
        frames = camera.fetch(5.0).frames
    assert np.array_equal(frames[1].astype(int), (frames[0].astype(int) + 1) % 4096)


def test_block_is_the_readers_once_it_is_fetched():
    clock = Clock()
    with StreamingCamera("camera", Polled(clock=clock, sleep=clock.sleep), MonoPixels(12)) as camera:
        camera.arm(2)
        first = camera.fetch(5.0).frames
        before = first.copy()
        camera.arm(2)
        assert not np.shares_memory(first, camera.fetch(5.0).frames)
    assert np.array_equal(first, before)


def test_reader_sleeps_while_frames_of_a_stream_arrive(monkeypatch):
    """Frames may come faster than the reader is woken: it must neither be late nor look again and again."""
    with StreamingCamera("camera", FreeRunningFake(), MonoPixels(12)) as camera:
        advance, count = camera._advance, []
        monkeypatch.setattr(camera, "_advance", lambda *given: (count.append(1), advance(*given)))
        began_s = time.monotonic()
        camera.arm(20)
        camera.fetch(20.0)
        assert len(count) <= 2 + (time.monotonic() - began_s) / 0.05


def test_frame_of_another_size_is_refused():
    class Shrinking(Polled):
        def next_frame(self, timeout_s):
            raw = super().next_frame(timeout_s)
            rows = 64 - raw.device_sequence % 2
            return RawFrame(raw.pixels[:rows], raw.begins_s, raw.device_sequence)

    clock = Clock()
    with StreamingCamera("camera", Shrinking(clock=clock, sleep=clock.sleep), MonoPixels(12)) as camera:
        camera.arm(2)
        with pytest.raises(DeviceProtocolError, match="another size"):
            camera.fetch(5.0)


def test_more_frames_than_fit_into_memory_are_refused():
    clock = Clock()
    with StreamingCamera("camera", Polled(clock=clock, sleep=clock.sleep), MonoPixels(12)) as camera:
        camera.arm(10**12)
        with pytest.raises(CapabilityError, match="memory"):
            camera.fetch(5.0)
        camera.arm(1)
        assert len(camera.fetch(5.0).frames) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_saturated_pixels_are_counted(dtype):
    bits = 8 if dtype is np.uint8 else 12
    buffer = np.zeros((64, 128), dtype)
    buffer[:2] = 2**bits - 1

    class Bright(Polled):
        def next_frame(self, timeout_s):
            raw = super().next_frame(timeout_s)
            return RawFrame(buffer, raw.begins_s, raw.device_sequence)

    clock = Clock()
    fake = Bright(clock=clock, sleep=clock.sleep)
    fake.bit_depth = bits
    with StreamingCamera("camera", fake, MonoPixels(bits, shift=0)) as camera:
        camera.arm(2)
        assert camera.fetch(5.0).saturated_fraction.tolist() == [1 / 32, 1 / 32]


def test_camera_without_a_clock_wastes_frames_rather_than_deliver_an_old_one(monkeypatch):
    clock, latency_s = Clock(), 1.0  # longer than the camera's buffer keeps a frame
    monkeypatch.setattr("drivers.acquire.time.monotonic", clock)

    class Arriving(Polled):
        def next_frame(self, timeout_s):
            raw = super().next_frame(timeout_s)
            return None if raw is None else stamped_on_arrival(raw.pixels, self.exposure_s, latency_s)

    scene = Scene(clock)
    with StreamingCamera("camera", Arriving(scene, clock, clock.sleep), MonoPixels(12, shift=0)) as camera:
        for level in (1000, 2000):
            scene.show(level)
            camera.arm(1)
            block = camera.fetch(5.0)
            assert np.all(block.frames == level)
            assert block.device_sequence[0] == -1


@pytest.mark.parametrize("kind", [FreeRunningFake, Polled])
def test_library_that_fails_is_a_lost_device_and_can_be_used_again(kind):
    class Failing(kind):
        fails = False

        def next_frame(self, timeout_s):
            if self.fails:
                raise RuntimeError("USB transfer failed")
            return super().next_frame(timeout_s)

    fake = Failing()
    with StreamingCamera("camera", fake, MonoPixels(12)) as camera:
        fake.fails = True
        camera.arm(1)
        with pytest.raises(DeviceLost, match="USB transfer failed"):
            camera.fetch(5.0)
        fake.fails = False
        camera.arm(1)
        assert len(camera.fetch(5.0).frames) == 1


def test_camera_that_sends_nothing_does_not_open():
    class Silent(FreeRunningFake):
        closed = False

        def next_frame(self, timeout_s):
            time.sleep(timeout_s)

        def close(self):
            self.closed = True

    silent = Silent()
    with pytest.raises(DeviceTimeout):
        StreamingCamera("camera", silent, MonoPixels(12), opening_s=0.2)
    assert silent.closed


class Edges(Polled):
    """A camera that waits for the edges of a panel, and loses the exposures that it is told to."""

    def __init__(self, lost=()):
        super().__init__()
        self.waiting, self.listening, self.count, self.lost = 0, False, -1, lost
        self.trigger = HardwareEdge(self.listen)

    def listen(self, on):
        self.listening = on

    def edge(self):
        self.waiting += self.listening

    def next_frame(self, timeout_s):
        if not self.waiting:
            time.sleep(0.001)
            return None
        self.waiting -= 1
        self.count += 1
        if self.count in self.lost:
            return self.next_frame(timeout_s)
        return RawFrame(np.full(self.roi.shape, self.count, np.uint16), self.trigger.begins_s, self.count)


def edge_camera(**kw):
    acquire = Edges(**kw)
    return acquire, TriggeredStreamingCamera("camera", acquire, MonoPixels(12, shift=0), acquire.trigger)


def test_edge_triggered_camera_keeps_step_with_a_panel():
    acquire, camera = edge_camera()
    with camera:
        assert can(camera, TriggeredCamera)
        assert camera.trigger_modes == (TriggerMode.HARDWARE_EDGE,)
        acquire.edge()  # before arm: not listened to
        camera.arm_sequence(3, 4)
        for _ in range(12):
            acquire.edge()
        assert camera.fetch(1.0).frames[:, 0, 0].tolist() == [3, 7, 11]


def test_lost_frame_of_a_list_is_an_error_rather_than_another_pattern():
    acquire, camera = edge_camera(lost=(3,))
    with camera:
        camera.arm_sequence(3, 2)
        for _ in range(6):
            acquire.edge()
        with pytest.raises(DroppedFrames) as error:
            camera.fetch(1.0)
    assert error.value.retryable


def test_free_running_camera_cannot_keep_step():
    with StreamingCamera("camera", FreeRunningFake(), MonoPixels(12)) as camera:
        assert not can(camera, TriggeredCamera)


def test_settings_are_refused_while_armed():
    with StreamingCamera("camera", FreeRunningFake(), MonoPixels(12)) as camera:
        camera.arm(1)
        with pytest.raises(DeviceProtocolError):
            camera.exposure_s = 0.004
        with pytest.raises(DeviceProtocolError):
            camera.roi = Roi(0, 0, 64, 32)


def test_refused_exposure_says_what_is_possible():
    camera = StreamingCamera("camera", FreeRunningFake(), MonoPixels(12))
    with camera, pytest.raises(CapabilityError) as error:
        camera.exposure_s = 3.0
    assert error.value.expected == "1e-05 … 1 s"


class Adjustable(Polled):
    """With a gain, a temperature that nobody sets, and a note of what was set."""

    adjustable = ("gain_db",)

    def __init__(self, clock, step_db=0.5):
        super().__init__(clock=clock, sleep=clock.sleep)
        self.gain_db, self.step_db, self.log = 0.0, step_db, []

    def settings(self):
        return {"gain_db": self.gain_db, "temperature_degc": self.now_s()}

    def adjust(self, key, value):
        self.log.append((key, value))
        self.gain_db = round(value / self.step_db) * self.step_db

    def set_exposure_s(self, value):
        self.log.append(("exposure_s", value))
        super().set_exposure_s(value)

    def set_roi(self, value):
        self.log.append(("roi_px", value))
        super().set_roi(value)


def test_restore_sets_region_first_and_exposure_last_and_leaves_readings_alone():
    fake = Adjustable(Clock())
    with StreamingCamera("camera", fake, MonoPixels(12)) as camera:
        camera.exposure_s, camera.roi, fake.gain_db = 0.003, Roi(8, 8, 16, 16), 6.0
        before = camera.snapshot()
        camera.exposure_s, camera.roi, fake.gain_db = 0.005, Roi(0, 0, 32, 32), 0.0
        fake.log.clear()
        assert camera.restore(before) == ("roi_px", "gain_db", "exposure_s")
        assert [key for key, _ in fake.log] == ["roi_px", "gain_db", "exposure_s"]
        assert {**camera.snapshot(), "temperature_degc": 0} == {**before, "temperature_degc": 0}
        fake.log.clear()
        assert camera.restore(before) == ()
        assert fake.log == []
        fake.gain_db = 1.0
        assert camera.restore(before) == ("gain_db",)


def test_restored_setting_that_reads_back_otherwise_is_said():
    camera = StreamingCamera("camera", Adjustable(Clock(), step_db=4.0), MonoPixels(12))
    with camera, pytest.raises(DeviceProtocolError, match="gain_db"):
        camera.restore({**camera.snapshot(), "gain_db": 6.0})


@pytest.mark.parametrize("key", ["serial", "bit_depth", "trigger_mode", "shape_px"])
def test_snapshot_of_a_camera_opened_otherwise_is_refused_before_anything_is_set(key):
    fake = Adjustable(Clock())
    with StreamingCamera("camera", fake, MonoPixels(12)) as camera:
        with pytest.raises(CapabilityError, match=key):
            camera.restore({**camera.snapshot(), key: "another", "exposure_s": 0.007})
        assert fake.log == []


class Entangled(Adjustable):
    """No frame rate beyond what the exposure allows, and no exposure beyond what the frame rate allows."""

    adjustable = ("frame_rate_hz",)

    def __init__(self, clock):
        super().__init__(clock)
        self.rate_hz = 100.0
        self._learn()

    def _learn(self):
        self.exposure_range_s = 1e-5, 1 / self.rate_hz

    def settings(self):
        return {"frame_rate_hz": self.rate_hz}

    def adjust(self, key, value):
        if value * self.exposure_s > 1:
            raise CapabilityError("frame rate out of range")
        self.rate_hz = value
        self._learn()


@pytest.mark.parametrize("back", [False, True])
def test_settings_that_stand_in_each_others_way_are_restored(back):
    fake = Entangled(Clock())
    with StreamingCamera("camera", fake, MonoPixels(12)) as camera:
        fast = {**camera.snapshot(), "exposure_s": 0.009}
        slow = {**fast, "frame_rate_hz": 2.0, "exposure_s": 0.4}
        camera.restore(slow)
        assert (fake.rate_hz, camera.exposure_s) == (2.0, 0.4)
        if back:
            assert camera.restore(fast) == ("exposure_s", "frame_rate_hz")
            assert (fake.rate_hz, camera.exposure_s) == (100.0, 0.009)


def test_snapshot_that_cannot_be_reached_is_refused():
    with StreamingCamera("camera", Entangled(Clock()), MonoPixels(12)) as camera, pytest.raises(CapabilityError):
        camera.restore({**camera.snapshot(), "exposure_s": 0.4})


def test_first_triggered_frame_that_is_lost_is_triggered_again():
    class LosesTheFirst(Triggered):
        def next_frame(self, timeout_s):
            raw = super().next_frame(timeout_s)
            return None if raw is not None and raw.device_sequence == 1 else raw

    acquire = LosesTheFirst()
    pixels = MonoPixels(12, shift=0)
    with TriggeredStreamingCamera("camera", acquire, pixels, acquire.trigger, opening_s=6.0):
        assert acquire.count == 2


def test_first_triggered_frame_that_the_driver_says_is_lost_is_triggered_again():
    acquire = Triggered()
    take, seen = acquire.next_frame, []

    def next_frame(timeout_s):
        raw = take(timeout_s)
        if raw is not None:
            seen.append(raw)
            if len(seen) == 1:
                raise DroppedFrames("a triggered exposure was lost on the way", device="camera")
        return raw

    acquire.next_frame = next_frame
    with TriggeredStreamingCamera("camera", acquire, MonoPixels(12, shift=0), acquire.trigger, 60.0):
        assert len(seen) == 2


def test_waiting_for_frames_does_not_keep_a_processor_busy():
    """Also when frames have come before the waiting thread looks: a busy one would slow down the one that reads."""
    with StreamingCamera("camera", FreeRunningFake(), MonoPixels(12)) as camera:
        camera.exposure_s = 0.004
        camera.arm(150)
        time.sleep(0.1)
        busy_s, began_s = time.thread_time(), time.monotonic()
        camera.fetch(30.0)
        busy_s, took_s = time.thread_time() - busy_s, time.monotonic() - began_s
    assert busy_s < 0.2 * took_s


class Hanging(FreeRunningFake):
    """A camera whose library does not come back for a while; it notes who was in it when it was closed."""

    def __init__(self):
        super().__init__()
        self.hangs, self.inside, self.comes_back = False, threading.Event(), threading.Event()
        self.readers, self.log = set(), []

    def next_frame(self, timeout_s):
        if self.hangs:
            self.inside.set()
            self.comes_back.wait(60.0)
            self.log.append("came back")
        self.readers.add(threading.get_ident())
        return super().next_frame(timeout_s)

    def stop(self):
        self.log.append("stop")
        super().stop()

    def close(self):
        self.log.append("close")
        super().close()


def test_library_that_hangs_is_not_closed_under_its_thread_but_by_it():
    fake = Hanging()
    camera = StreamingCamera("camera", fake, MonoPixels(12))
    reader = camera._thread
    camera._halt = lambda timeout_s: StreamingCamera._halt(camera, 0.05)  # instead of the five seconds
    fake.hangs = True
    assert fake.inside.wait(60.0)
    with pytest.raises(DeviceTimeout, match="does not end"):
        camera.close()
    with pytest.raises(DeviceLost, match="closed"):
        camera.arm(1)
    assert fake.log == []
    fake.hangs = False
    fake.comes_back.set()
    reader.join(60.0)
    assert fake.log == ["came back", "stop", "close"]


def test_camera_whose_library_is_busy_is_stopped_and_waited_for_by_the_next_arm():
    class Busy(Triggered):
        asks, may_answer = threading.Event(), threading.Event()
        is_busy = False

        def next_frame(self, timeout_s):
            if self.is_busy:
                self.asks.set()
                self.may_answer.wait(60.0)
            return super().next_frame(timeout_s)

    acquire = Busy()
    with TriggeredStreamingCamera("camera", acquire, MonoPixels(12, shift=0), acquire.trigger, 60.0) as camera:
        camera.arm(1)
        acquire.is_busy = True
        assert acquire.asks.wait(60.0)
        camera.stop(0.05)
        assert camera._ending
        acquire.is_busy = False
        acquire.may_answer.set()
        camera.arm(1)
        assert len(camera.fetch(60.0).frames) == 1


def test_stream_that_did_not_end_is_ended_before_another_is_started():
    fake = Hanging()
    with StreamingCamera("camera", fake, MonoPixels(12)) as camera:
        fake.hangs = True
        assert fake.inside.wait(60.0)
        with pytest.raises(DeviceTimeout, match="does not end"):
            camera._halt(0.05)
        assert (fake.starts, fake.log) == (1, [])
        fake.hangs = False
        fake.readers.clear()
        fake.comes_back.set()
        camera.arm(3)
        assert len(camera.fetch(60.0).frames) == 3
        assert (fake.starts, fake.log) == (2, ["came back", "stop"])
        fake.readers.clear()
        camera.arm(3)
        camera.fetch(60.0)
        assert len(fake.readers) == 1
