"""The full-screen display against a real X server: on the second of its monitors, and read back from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager

import numpy as np
import pytest
from processes import LIMIT_S, gone, wait_for

from drivers import (
    CapabilityError,
    DeviceLost,
    DeviceProtocolError,
    DeviceTimeout,
    Identity,
    NotConnected,
    OpenContext,
    open_device,
)
from drivers.libraries.loading import load
from drivers.libraries.monitors import monitor
from drivers.libraries.window_process import LOOK_EVERY_S
from drivers.libraries.xserver import REFRESH_HZ, DummyX, make_edid
from drivers.modulators.screen import SCREEN
from drivers.testing import ModulatorContract, require_module

NAME = "DUMMY1"
INSTALL = "pip install labctl[display]"
PATIENT = {"open_timeout_s": 120.0}
"""The longest time that can be given: what takes long on a busy machine is no failure where time is not the matter."""


@pytest.fixture(autouse=True)
def _libraries(second_monitor):
    for module in ("glfw", "OpenGL", "mss"):
        require_module(module, INSTALL)


def open_screen(**options):
    return open_device("screen", "slm", {"monitor": NAME} | PATIENT | options, OpenContext())


def seen(name=NAME):
    """(rows, columns, 3) what the monitor shows: red, green, blue."""
    with load("mss:MSS")() as screen:
        return np.asarray(screen.grab(monitor(name).rectangle))[:, :, 2::-1]


def noise(device, seed):
    return np.random.default_rng(seed).integers(0, device.levels, device.shape, np.uint16)


@pytest.fixture
def screen():
    with open_screen() as device:
        yield device


class TestScreen(ModulatorContract):
    def open(self):
        return open_screen()


class TestScreenOfThousandLevels(ModulatorContract):
    def open(self):
        return open_screen(packing="rgb334", self_test=False)


def test_each_pixel_arrives_in_all_channels(screen):
    for seed in range(5):
        frame = noise(screen, seed)
        screen.show(frame)
        assert np.array_equal(seen(), np.repeat(frame[:, :, None], 3, axis=2))
    screen.blank()
    assert not seen().any()


def test_packed_levels_can_be_told_from_the_bits_that_arrive():
    with open_screen(packing="rgb334") as screen:
        assert screen.levels == 1024
        frame = np.arange(np.prod(screen.shape)).reshape(screen.shape) % 1024
        screen.show(frame)
        red, green, blue = (part.astype(int) for part in np.moveaxis(seen(), 2, 0))
        assert np.array_equal((red >> 5) * 128 + (green >> 5) * 16 + (blue >> 4), frame)
        assert not (red % 32).any()
        assert not (blue % 16).any()


def test_nothing_appears_on_the_first_monitor(screen):
    screen.show(np.full(screen.shape, 255, np.uint8))
    assert seen().all()
    assert not seen("DUMMY0").any()


def test_receipts_follow_the_refresh(screen):
    frames = [noise(screen, seed) for seed in range(2)]
    before_s = time.monotonic()
    at_s = [screen.show(frames[i % 2], LIMIT_S).shown_at_s for i in range(20)]
    assert before_s < at_s[0]
    assert at_s[-1] <= time.monotonic()
    assert np.diff(at_s).min() > 0.95 / REFRESH_HZ, "two frames within one refresh: the first was never seen"
    assert screen.refresh_hz == pytest.approx(REFRESH_HZ, rel=0.01)


def test_settling_is_longer_where_the_refresh_is_not_waited_for(screen):
    assert not screen.snapshot()["vertical_sync"], "software rendering cannot wait for a refresh"
    assert screen.settle_s == pytest.approx(0.1 + 1 / screen.refresh_hz)


def test_killed_window_is_a_lost_device_and_opens_again(screen):
    screen.show(np.full(screen.shape, 200, np.uint8))
    os.kill(screen._window.pid, signal.SIGKILL)
    with pytest.raises(DeviceLost) as error:
        screen.show(noise(screen, 1))
    assert error.value.hint == "open it again"
    screen.safe_state()
    screen.close()
    assert not seen().any(), "the panel is dark when the window is gone"
    with open_screen() as again:
        assert again.blank().frame_id == 1


class Closing:
    """The commands' pipe of a window that another thread closes just before a command is written."""

    def __init__(self, window):
        self.window, self.pipe = window, window._process.stdin

    def __getattr__(self, name):
        return getattr(self.pipe, name)

    def write(self, command):
        self.window.close()
        return self.pipe.write(command)


def test_window_that_another_thread_closes_meanwhile_is_a_lost_device(screen):
    screen._window._process.stdin = Closing(screen._window)
    with pytest.raises(DeviceLost):
        screen.show(noise(screen, 1), LIMIT_S)
    with pytest.raises(DeviceLost):
        screen.show(noise(screen, 1), LIMIT_S)


def test_stuck_window_is_a_timeout_and_goes_on_when_it_can(screen):
    os.kill(screen._window.pid, signal.SIGSTOP)
    started_s = time.monotonic()
    for _ in range(2):
        with pytest.raises(DeviceTimeout):
            screen.show(noise(screen, 1), timeout_s=0.3)
    assert time.monotonic() - started_s < LIMIT_S
    os.kill(screen._window.pid, signal.SIGCONT)
    frame = noise(screen, 2)
    assert screen.show(frame, timeout_s=LIMIT_S).frame_id == 1
    assert np.array_equal(seen()[:, :, 0], frame)


def test_stuck_window_is_made_dark_by_force(screen):
    screen.show(np.full(screen.shape, 200, np.uint8))
    os.kill(screen._window.pid, signal.SIGSTOP)
    screen.safe_state(timeout_s=0.3)
    assert not seen().any()
    with pytest.raises(DeviceLost):
        screen.blank()


def test_window_dies_with_the_program_that_opened_it(tmp_path):
    program = textwrap.dedent(
        """
        import sys, time
        import numpy as np
        from drivers import OpenContext, open_device
        device = open_device("screen", "slm", {"monitor": "DUMMY1", "open_timeout_s": 120.0}, OpenContext())
        device.show(np.full(device.shape, 255, np.uint8), 120.0)
        print(device._window.pid, flush=True)
        time.sleep(2000)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with process:
        child = int(process.stdout.readline())
        assert seen().all()
        process.kill()
    wait_for(lambda: gone(child))
    wait_for(lambda: not seen().any())


def test_window_whose_program_has_died_before_it_looked_ends_too():
    """Something else keeps its standard input open; it is nobody's from the beginning."""
    program = """if True:
        import json, time
        from drivers.libraries import window_process
        window_process.Window = lambda setting: time.sleep(2000)
        window_process.main([json.dumps({"parent": -1})])
    """
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as late:
        assert late.wait(LIMIT_S) == 0


def test_monitor_switched_off_is_a_lost_device(screen, second_monitor):
    screen.blank()
    second_monitor.xrandr("--output", NAME, "--off")
    with pytest.raises(DeviceLost, match="unplugged or switched off"):
        screen.show(np.full(screen.shape, 255, np.uint8))
    assert not seen("DUMMY0").any(), "the pattern does not move to the other monitor"
    screen.close()
    second_monitor.arrange()
    with open_screen() as again:
        again.blank()


def test_pattern_does_not_move_to_another_monitor_when_nobody_looks(screen, second_monitor):
    screen.show(np.full(screen.shape, 255, np.uint8))
    second_monitor.xrandr("--output", NAME, "--off")
    wait_for(lambda: not screen._window.alive)
    assert not seen("DUMMY0").any()
    with pytest.raises(DeviceLost, match="unplugged or switched off"):
        screen.blank()


def test_monitor_moved_or_in_another_mode_is_a_lost_device(screen, second_monitor):
    second_monitor.xrandr("--output", NAME, "--mode", "1280x1024")
    with pytest.raises(DeviceLost, match="was set to 1280x1024"):
        screen.show(noise(screen, 1))


def test_two_panels_on_one_monitor_are_refused(screen):
    with pytest.raises(NotConnected, match="in use"):
        open_screen()
    screen.close()
    open_screen().close()


def test_monitor_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(NotConnected) as error:
        open_screen(monitor="HDMI-7")
    assert error.value.seen == "DUMMY0, DUMMY1"


def test_primary_monitor_is_refused_unless_allowed():
    with pytest.raises(CapabilityError, match="primary"):
        open_screen(monitor="DUMMY0")
    with open_screen(monitor="DUMMY0", allow_primary=True) as device:
        assert device.shape == (1024, 1280)


@pytest.mark.parametrize("shape", [[1200, 1920], [1920, 1080]])
def test_another_size_than_the_station_says_is_refused(shape):
    with pytest.raises(CapabilityError, match="1080 rows of 1920 pixels"):
        open_screen(shape=shape)


@pytest.mark.parametrize("option", ["model", "serial"])
def test_panel_that_does_not_say_who_it_is_is_refused_where_the_station_asks(option):
    with pytest.raises(CapabilityError, match="a panel that does not say what it is, not PLUTO"):
        open_screen(**{option: "PLUTO"})


@pytest.fixture
def pluto(second_monitor):
    second_monitor.plug_in(NAME, make_edid("HOL", "HE PLUTO-2.1", 60, (1920, 1080)))
    yield second_monitor
    second_monitor.plug_in(NAME, b"")


def test_panel_is_known_by_its_edid(pluto):
    with open_screen(model="HE PLUTO-2.1", serial="60") as device:
        assert device.identify() == Identity("HOL", "HE PLUTO-2.1", "60")
    with pytest.raises(CapabilityError, match=r"it is HE PLUTO-2\.1 60, not HE PLUTO-2\.1 61"):
        open_screen(model="HE PLUTO-2.1", serial="61")
    with pytest.raises(CapabilityError, match=r"not HE PLUTO-2\.1") as error:
        open_screen(monitor="DUMMY0", model="HE PLUTO-2.1")
    assert error.value.hint == 'that one hangs on DUMMY1 now: monitor = "DUMMY1"'
    found = next(one for one in SCREEN.discover() if one.options["monitor"] == NAME)
    assert found.options == {"monitor": NAME, "shape": [1080, 1920], "model": "HE PLUTO-2.1", "serial": "60"}


def test_mode_that_is_not_the_panels_own_is_refused(pluto):
    pluto.xrandr("--output", NAME, "--mode", "1280x1024")
    with pytest.raises(CapabilityError, match="the mode 1280x1024 is not the panel's own 1920x1080") as error:
        open_screen()
    assert error.value.hint == "xrandr --output DUMMY1 --mode 1920x1080"


def test_mirrored_monitor_is_refused(second_monitor):
    second_monitor.xrandr("--output", NAME, "--same-as", "DUMMY0")
    with pytest.raises(CapabilityError, match="mirrored") as error:
        open_screen()
    assert "--right-of DUMMY0" in error.value.hint


def test_panning_monitor_is_refused(second_monitor):
    second_monitor.xrandr("--output", NAME, "--panning", "3000x1080+1280+0")
    with pytest.raises(CapabilityError, match="pans"):
        open_screen()


@pytest.mark.parametrize("change", [("--gamma", "1:1:0.9"), ("--brightness", "0.8")])
def test_gamma_ramp_is_refused_though_no_screenshot_shows_it(second_monitor, change):
    second_monitor.xrandr("--output", NAME, *change)
    with pytest.raises(DeviceProtocolError, match="gamma ramp") as error:
        open_screen()
    assert "--gamma 1:1:1 --brightness 1" in error.value.hint


def test_gamma_ramp_that_comes_later_is_noticed(screen, second_monitor):
    screen.blank()
    second_monitor.xrandr("--output", NAME, "--gamma", "1:0.9:0.7")
    time.sleep(LOOK_EVERY_S)
    with pytest.raises(DeviceProtocolError, match="gamma ramp"):
        screen.blank(LIMIT_S)
    with pytest.raises(DeviceProtocolError, match="gamma ramp"):
        screen.self_test(LIMIT_S)


def test_x_server_that_is_stuck_or_gone_is_an_error_in_time(monkeypatch):
    with DummyX() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        device = open_screen()
        os.kill(server.pid, signal.SIGSTOP)
        started_s = time.monotonic()
        with pytest.raises(DeviceTimeout):
            device.show(noise(device, 1), timeout_s=0.5)
        device.safe_state(timeout_s=0.5)
        with pytest.raises(DeviceLost):
            device.blank()
        device.close()
        with pytest.raises(DeviceTimeout):
            open_screen(open_timeout_s=1.0)
        assert time.monotonic() - started_s < LIMIT_S
        os.kill(server.pid, signal.SIGCONT)
        device = open_screen()
    with pytest.raises(DeviceLost):
        device.show(noise(device, 1))
    device.close()
    with pytest.raises(NotConnected):
        open_screen()


COVER = """
import sys, time, glfw
glfw.init()
for hint in (glfw.DECORATED, glfw.FOCUS_ON_SHOW):
    glfw.window_hint(hint, False)
glfw.window_hint(glfw.CLIENT_API, glfw.NO_API)
x, y, width, height = map(int, sys.argv[1:])
window = glfw.create_window(width, height, "message", None, None)
glfw.set_window_pos(window, x, y)
while not glfw.get_window_attrib(window, glfw.VISIBLE):  # the server is asked, and has done all before that
    glfw.wait_events_timeout(0.02)
print("covered", flush=True)
while True:
    glfw.wait_events_timeout(0.1)
"""


@contextmanager
def covered(*area):
    """Another program's window over a part of the desktop: left, top, width, height [px]."""
    process = subprocess.Popen([sys.executable, "-c", COVER, *map(str, area)], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout.readline().strip() == "covered"
            yield
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("area", "words"),
    [
        ((1300, 40, 200, 100), "covers the frames at columns 20 … 219, rows 40 … 139"),
        ((1280, 0, 1920, 1080), "the frames do not appear on this monitor: it is all of one colour"),
    ],
)
def test_window_that_covers_the_panel_is_found_and_named(screen, area, words):
    with covered(*area):
        with pytest.raises(DeviceProtocolError, match=words) as error:
            screen.self_test(LIMIT_S)
        assert "close the window" in error.value.hint
    assert _shows_again(lambda: screen.self_test(LIMIT_S))
    assert not seen().any()
    assert screen.blank().frame_id == 1, "frames of the test are not counted"


def test_window_that_comes_up_in_the_night_is_noticed(screen):
    screen.show(noise(screen, 1), LIMIT_S)
    with covered(1300, 40, 20, 10):
        time.sleep(LOOK_EVERY_S)
        with pytest.raises(DeviceProtocolError, match="does not show the frame"):
            screen.show(noise(screen, 2), LIMIT_S)
    assert _shows_again(lambda: screen.verify(LIMIT_S))
    time.sleep(LOOK_EVERY_S)
    screen.show(noise(screen, 3), LIMIT_S)


def test_what_covers_the_panel_is_found_at_once_where_somebody_asks(screen):
    screen.verify(LIMIT_S)
    screen.show(noise(screen, 1), LIMIT_S)
    screen.verify(LIMIT_S)
    with covered(1300, 40, 20, 10), pytest.raises(DeviceProtocolError, match="does not show the frame"):
        screen.verify(LIMIT_S)
    assert _shows_again(lambda: screen.verify(LIMIT_S))
    screen.close()
    with pytest.raises(DeviceLost):
        screen.verify()


def _shows_again(looks):
    """What was covered is drawn anew when the server says that it is bare."""
    until_s = time.monotonic() + LIMIT_S
    while time.monotonic() < until_s:
        try:
            looks()
        except DeviceProtocolError:
            time.sleep(0.05)
        else:
            return True
    return False


COMPOSITOR = """
import ctypes, time
x = ctypes.CDLL("libX11.so.6")
x.XOpenDisplay.restype = ctypes.c_void_p
x.XInternAtom.restype = x.XDefaultRootWindow.restype = x.XCreateSimpleWindow.restype = ctypes.c_ulong
display = ctypes.c_void_p(x.XOpenDisplay(None))
root = ctypes.c_ulong(x.XDefaultRootWindow(display))
window = ctypes.c_ulong(x.XCreateSimpleWindow(display, root, 0, 0, 1, 1, 0, 0, 0))
x.XSetSelectionOwner(display, ctypes.c_ulong(x.XInternAtom(display, b"_NET_WM_CM_S0", 0)), window, 0)
x.XSync(display, 0)
print("composited", flush=True)
time.sleep(2000)
"""


def test_settling_is_longer_behind_a_compositor():
    with subprocess.Popen([sys.executable, "-c", COMPOSITOR], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline().strip() == "composited"
            with open_screen() as screen:
                assert screen.snapshot()["composited"]
                assert screen.settle_s == pytest.approx(0.1 + 2 / screen.refresh_hz)
        finally:
            process.kill()


def test_regions_of_one_screen_are_a_display_and_an_slm():
    context = OpenContext()
    half = {"panel": "screen", "panel_options": {"monitor": NAME} | PATIENT, "y": 0, "width": 960, "height": 1080}
    with (
        open_device("region", "display", half | {"x": 0}, context) as display,
        open_device("region", "slm", half | {"x": 960}, context) as slm,
    ):
        display.show(np.full(display.shape, 7, np.uint8))
        slm.show(np.full(slm.shape, 9, np.uint8))
        assert np.all(seen()[:, :960] == 7)
        assert np.all(seen()[:, 960:] == 9)


def test_two_screens_show_two_frames():
    with open_screen() as slm, open_screen(monitor="DUMMY0", allow_primary=True) as display:
        slm.show(np.full(slm.shape, 7, np.uint8))
        display.show(np.full(display.shape, 9, np.uint8))
        assert np.all(seen() == 7)
        assert np.all(seen("DUMMY0") == 9)


def test_discovery_lists_monitors_and_says_which_cannot_be_used(second_monitor):
    found = {one.options["monitor"]: one for one in SCREEN.discover()}
    assert found[NAME].note == ""
    assert found[NAME].options["shape"] == [1080, 1920]
    assert "primary" in found["DUMMY0"].note
    second_monitor.xrandr("--output", NAME, "--same-as", "DUMMY0")
    assert all("mirrored" in one.note for one in SCREEN.discover())
    second_monitor.arrange()
    open_screen(**found[NAME].options).close()
