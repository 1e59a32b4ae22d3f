"""Micro-Manager's cameras, SLMs and shutters: the contract and faults.

The camera and the shutter are those of Micro-Manager's own demonstration adapter, in C++. No adapter that can be
installed without hardware has an SLM: the one here is written in Python, and loaded by the core of pymmcore-plus that
takes such devices. It proves what this suite asks of the core, not what an adapter of a real panel makes of it.
"""

import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from typing import ClassVar

import numpy as np
import pytest
from processes import LIMIT_S

from drivers import (
    CapabilityError,
    DeviceLost,
    DeviceProtocolError,
    DeviceTimeout,
    DroppedFrames,
    NotConnected,
    OpenContext,
    OptionError,
    Roi,
    find_backend,
    open_device,
)
from drivers.libraries.loading import load
from drivers.testing import (
    CameraContract,
    LightSourceContract,
    ModulatorContract,
    SequencePanelContract,
    require_module,
)

INSTALL = "pip install labctl[micromanager] mm-test-adapters"
SMALL = Roi(16, 8, 64, 32)
DEMO = {"library": "DemoCamera", "device": "DCam"}


@pytest.fixture(autouse=True)
def micromanager():
    require_module("pymmcore_plus", INSTALL)
    require_module("mm_test_adapters", INSTALL)


def opened(backend="micromanager.camera", context=None, **options):
    return open_device(backend, backend.partition(".")[2], options, context or OpenContext())


def demo(**options):
    return opened(**{**DEMO, "timeout_s": 120.0, **options})


class TestDemoCamera(CameraContract):
    period_tolerance_rel = 100.0  # the demo camera sleeps on the host's clock, in a process that is busy

    def open(self):
        return demo()

    def now_s(self, camera):
        return time.monotonic()


class TestTwelveBits(TestDemoCamera):
    def open(self):
        return demo(properties={"PixelType": "16bit", "BitDepth": 12})

    def test_bit_depth_is_that_of_the_property(self, device):
        assert device.bit_depth == 12
        assert device.snapshot()["properties"]["BitDepth"] == "12"


CONFIGURATION = """
Device,Cam,DemoCamera,DCam
Device,Other,DemoCamera,DCam
Device,Shutter,DemoCamera,DShutter
Property,Core,Initialize,1
Property,Core,Camera,Cam
Property,Core,Shutter,Shutter
Property,Core,AutoShutter,1
"""


@pytest.fixture
def configuration(tmp_path):
    path = tmp_path / "bench.cfg"
    path.write_text(CONFIGURATION)
    return str(path)


class TestDemoShutter(LightSourceContract):
    def open(self):
        return opened("micromanager.shutter", library="DemoCamera", device="DShutter")


class TestShutterOfAConfiguration(LightSourceContract):
    @pytest.fixture(autouse=True)
    def path(self, configuration):
        self.path = configuration

    def open(self):
        return opened("micromanager.shutter", config=self.path)


def python_panel():
    """Names a class of SLM for a configuration; the class is made when the library that it extends is there."""
    base = load("pymmcore_plus.experimental.unicore:SLMDevice")

    class Panel(base):
        """An SLM of 24 × 32 pixels that remembers what the core asked of it."""

        longest = 0
        hangs = False
        latest: ClassVar[list] = []

        def __init__(self):
            super().__init__()
            self.loaded, self.shown, self.lists = None, [], []
            self.latest[:] = [self]

        def shape(self):
            return 24, 32

        def dtype(self):
            return np.uint8

        def set_image(self, pixels):
            while type(self).hangs:
                time.sleep(0.01)
            assert pixels.dtype == np.uint8
            assert pixels.shape == self.shape()
            self.loaded = pixels.copy()

        def display_image(self):
            self.shown.append(self.loaded)

        def set_exposure(self, interval_ms):
            pass

        def get_exposure(self):
            return 0.0

    class ListPanel(Panel):
        longest = 12
        playing = False

        def get_sequence_max_length(self):
            return self.longest

        def send_sequence(self, sequence):
            assert not self.playing
            self.lists.append([image.copy() for image in sequence])

        def start_sequence(self):
            self.playing = True

        def stop_sequence(self):
            self.playing = False

        def display_image(self):
            assert not self.playing
            super().display_image()

    class ColourPanel(Panel):
        def shape(self):
            return 24, 32, 3

    return {kind.__name__: kind for kind in (Panel, ListPanel, ColourPanel)}


@pytest.fixture
def panels(monkeypatch):
    kinds = python_panel()
    for name, kind in kinds.items():
        monkeypatch.setitem(globals(), name, kind)
    return kinds


@pytest.fixture
def panel(panels, tmp_path):
    """Opens an SLM of one of the classes above."""

    def open_panel(kind, **options):
        path = tmp_path / f"{kind}.cfg"
        path.write_text(f"#py pyDevice,SLM,{__name__},{kind}\nProperty,Core,Initialize,1\n")
        return opened("micromanager.slm", config=str(path), **options)

    return open_panel


class TestSlm(ModulatorContract):
    @pytest.fixture(autouse=True)
    def opener(self, panel):
        self.panel = panel

    def open(self):
        return self.panel("Panel")


class TestSlmWithLists(SequencePanelContract):
    @pytest.fixture(autouse=True)
    def opener(self, panel):
        self.panel = panel

    def open(self):
        return self.panel("ListPanel")


def test_image_is_loaded_and_displayed(panel, panels):
    levels = np.random.default_rng(0).integers(0, 256, (24, 32))
    with panel("Panel", refresh_hz=180.0, settle_s=0.002) as slm:
        slm.show(levels)
        assert (slm.refresh_hz, slm.settle_s) == (180.0, 0.002)
        assert np.array_equal(panels["Panel"].latest[0].shown[-1], levels)
    assert not panels["Panel"].latest[0].shown[-1].any()


def test_each_pattern_of_a_list_is_there_once_for_each_exposure(panel, panels):
    patterns = [np.full((24, 32), level) for level in (7, 200, 9)]
    with panel("ListPanel") as slm:
        slm.show_sequence(patterns, 4)
        device = panels["ListPanel"].latest[0]
        assert [image[0, 0] for image in device.lists[-1]] == [7] * 4 + [200] * 4 + [9] * 4
        assert device.playing
        slm.show(patterns[0])
        assert not device.playing
        with pytest.raises(CapabilityError):
            slm.show_sequence(patterns, 5)


def test_panel_that_wants_colour_is_refused(panel):
    with pytest.raises(CapabilityError) as refused:
        panel("ColourPanel")
    assert "3 components" in refused.value.seen


def test_panel_that_hangs_times_out_and_opens_again(panel, panels):
    slm = panel("Panel")
    panels["Panel"].hangs = True
    started_s = time.monotonic()
    with pytest.raises(DeviceTimeout):
        slm.blank(timeout_s=0.2)
    with pytest.raises(DeviceLost):
        slm.blank(timeout_s=0.2)
    with pytest.raises(DeviceLost):
        slm.safe_state(timeout_s=0.2)
    slm.close()
    assert time.monotonic() - started_s < LIMIT_S
    panels["Panel"].hangs = False
    with panel("Panel") as again:
        assert again.blank().frame_id == 1


def test_devices_of_one_configuration_share_a_core(configuration):
    context = OpenContext()
    camera = opened(context=context, config=configuration, label="Cam")
    shutter = opened("micromanager.shutter", context, config=configuration)
    assert len(context.resources.held()) == 1
    native = camera._acquire_or_gone._native
    assert not native.getAutoShutter()
    shutter.on()
    camera.close()
    assert shutter.is_on
    shutter.close()
    assert context.resources.held() == ()


def test_second_camera_of_a_core_is_refused(configuration):
    context = OpenContext()
    with opened(context=context, config=configuration, label="Cam"):
        for label in ("Cam", "Other"):
            with pytest.raises(NotConnected) as refused:
                opened(context=context, config=configuration, label=label)
            assert "in use" in str(refused.value)
    with opened(context=context, config=configuration, label="Other") as camera:
        camera.arm(1)
        assert len(camera.fetch(5.0).frames) == 1


def test_two_cameras_run_at_once_in_cores_of_their_own():
    context = OpenContext()
    with (
        open_device("micromanager.camera", "first", DEMO, context) as first,
        open_device("micromanager.camera", "second", DEMO, context) as second,
    ):
        for camera in (first, second):
            camera.roi = SMALL
            camera.arm(5)
        assert [len(camera.fetch(10.0).frames) for camera in (first, second)] == [5, 5]


def test_camera_that_goes_while_frames_are_fetched_is_lost_and_opens_again():
    camera = demo()
    native = camera._acquire_or_gone._native
    camera.arm(1, skip=100_000)

    def pull():
        native.stopSequenceAcquisition()
        native.unloadAllDevices()

    threading.Timer(0.3, pull).start()
    started_s = time.monotonic()
    with pytest.raises(DeviceLost):
        camera.fetch(10 * LIMIT_S)
    assert time.monotonic() - started_s < LIMIT_S
    camera.close()
    with demo() as again:
        again.arm(2)
        assert len(again.fetch(10.0).frames) == 2


def test_frames_that_the_buffer_could_not_hold_are_dropped_and_counted():
    with demo(buffer_mb=1, properties={"PixelType": "16bit"}) as camera:
        camera.exposure_s = 0.002
        camera.arm(200)
        time.sleep(0.3)
        acquire = camera._acquire_or_gone
        take, pause = acquire.next_frame, threading.Event()
        acquire.next_frame = lambda timeout_s: None if pause.wait(0.4) else take(timeout_s)  # a computer that is busy
        time.sleep(1.0)
        pause.clear()
        acquire.next_frame = take
        block = camera.fetch(20.0)
        assert block.dropped > 0
        assert block.sequence[-1] - block.sequence[0] == 199 + block.dropped


class Emptied:
    """A core whose buffer an adapter empties between the count of its images and the taking of one."""

    def __init__(self, native, times):
        self.native, self.times, self.seen = native, times, 0

    def __getattr__(self, name):
        return getattr(self.native, name)

    def popNextImageAndMD(self):
        if self.times == self.seen:
            return self.native.popNextImageAndMD()
        self.seen += 1
        self.native.stopSequenceAcquisition()
        self.native.clearCircularBuffer()
        try:
            return self.native.popNextImageAndMD()
        finally:
            self.native.startContinuousSequenceAcquisition(0)


def test_buffer_emptied_between_the_count_and_the_taking_is_no_lost_camera():
    with demo() as camera:
        camera.roi = SMALL
        acquire = camera._acquire_or_gone
        acquire._native = emptied = Emptied(acquire._native, times=3)
        camera.arm(5)
        assert len(camera.fetch(10.0).frames) == 5
        assert emptied.seen == 3


class Flagged:
    """A core that says so often that its buffer has run over, where an adapter empties it at once."""

    def __init__(self, native, times):
        self.native, self.times = native, times

    def __getattr__(self, name):
        return getattr(self.native, name)

    def isBufferOverflowed(self):
        self.times -= 1
        return self.times >= 0


def test_buffer_that_has_run_over_and_is_being_emptied_is_no_failure_and_one_that_stays_so_is():
    with demo() as camera:
        camera.roi = SMALL
        acquire = camera._acquire_or_gone
        native = acquire._native
        acquire._native = Flagged(native, times=1)
        camera.arm(5)
        assert len(camera.fetch(LIMIT_S).frames) == 5
        acquire._native = Flagged(native, times=2)
        camera.arm(5)
        with pytest.raises(DroppedFrames, match="ran over"):
            camera.fetch(LIMIT_S)


class ClockSet:
    """A core that notes arrivals by a clock which is an hour ahead of the computer's."""

    def __init__(self, native):
        self.native = native

    def __getattr__(self, name):
        return getattr(self.native, name)

    def popNextImageAndMD(self):
        image, tags = self.native.popNextImageAndMD()
        came = datetime.fromisoformat(tags["TimeReceivedByCore"]) + timedelta(hours=1)
        return image, {**tags, "TimeReceivedByCore": came.isoformat(sep=" ")}


def test_frames_noted_by_a_clock_that_is_wrong_are_stamped_by_when_the_core_had_none():
    with demo() as camera:
        camera.roi = SMALL
        acquire = camera._acquire_or_gone
        acquire._native = ClockSet(acquire._native)
        armed_s = time.monotonic()
        camera.arm(5)
        block = camera.fetch(LIMIT_S)
        assert np.all(block.device_time_s >= armed_s)
        assert np.all(block.device_time_s < time.monotonic())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"properties": {"NoSuchProperty": 1}}, OptionError),
        ({"properties": {"BitDepth": 13}}, OptionError),
        ({"properties": {"Gain": 99}}, OptionError),
        ({"properties": {"CameraName": "x"}}, OptionError),
        ({"properties": {"PixelType": "32bitRGB"}}, CapabilityError),
        ({"properties": {"PixelType": "32bit", "BitDepth": 32}}, CapabilityError),
        ({"device": "NoSuchDevice"}, NotConnected),
        ({"library": "NoSuchLibrary"}, NotConnected),
        ({"device": "DShutter"}, NotConnected),
        ({"config": "bench.cfg"}, OptionError),
        ({"device": ""}, OptionError),
    ],
)
def test_what_the_camera_does_not_do_is_refused_at_opening(options, error):
    with pytest.raises(error) as refused:
        demo(**options)
    assert refused.value.expected
    assert refused.value.seen
    with demo() as camera:
        assert camera.identify().model == "DCam"


@pytest.mark.parametrize("options", [{"label": "Nope"}, {"label": "Shutter"}, {}])
def test_label_that_is_none_or_one_of_two_is_refused_with_those_that_are(configuration, options):
    with pytest.raises(NotConnected) as refused:
        opened(config=configuration, **options)
    assert "Cam, Other" in refused.value.expected
    assert "Cam" in refused.value.hint


def test_configuration_that_does_not_load_is_refused(tmp_path):
    path = tmp_path / "broken.cfg"
    path.write_text("Device,Cam,NoSuchLibrary,DCam\n")
    with pytest.raises(NotConnected) as refused:
        opened(config=str(path))
    assert "NoSuchLibrary" in refused.value.seen
    with pytest.raises(NotConnected):
        opened(config=str(tmp_path / "none.cfg"))


def test_exposure_that_the_adapter_silently_makes_another_is_refused():
    with demo() as camera:
        acquire = camera._acquire_or_gone
        acquire.exposure_range_s = 1e-6, 100.0  # beyond that of the demo camera, which makes it 0
        before_s = camera.exposure_s
        with pytest.raises(CapabilityError):
            camera.exposure_s = 50.0
        assert camera.exposure_s == before_s


def test_errors_of_a_running_camera_name_the_device():
    with demo() as camera:
        acquire = camera._acquire_or_gone
        with pytest.raises(DeviceProtocolError) as error:
            acquire._ask("try", lambda: acquire._native.setProperty("none", "x", "1"))
        assert error.value.device == "camera"


def test_discovery_says_that_the_devices_are_simulated():
    for backend, count in (("micromanager.camera", 1), ("micromanager.shutter", 1), ("micromanager.slm", 0)):
        devices = find_backend(backend).discover()
        assert len(devices) == count
        for one in devices:
            assert "simulated" in one.note
            with open_device(backend, "device", one.options, OpenContext()) as device:
                assert device.identify().model == one.identity.model


def test_program_that_has_closed_its_devices_ends_well():
    """The core's thread of notifications could still speak while Python ends, which aborted one program in three."""
    script = f"""
from drivers import OpenContext, find_backend, open_device
with open_device("micromanager.camera", "camera", {DEMO!r}, OpenContext()) as camera:
    camera.exposure_s = 1e-3
    camera.arm(20)
    camera.fetch(20.0)
find_backend("micromanager.camera").discover()
"""
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT_S)
        assert done.returncode == 0, done.stderr
