"""GigE Vision cameras over loopback: two servers by other people, and what goes wrong on a network.

Every GigE Vision camera listens at UDP port 3956, so that one test at a time has a server on this machine.
"""

import contextlib
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from processes import LIMIT_S

from drivers import (
    CapabilityError,
    DeviceError,
    DeviceLost,
    DeviceProtocolError,
    DeviceTimeout,
    NotConnected,
    OpenContext,
    OptionError,
    Roi,
    TriggerMode,
    find_backend,
    open_device,
)
from drivers.testing import CameraContract, TriggeredCameraContract, one_at_a_time, require_module, require_program

PACED_BY_SOFTWARE = 100.0  # relative; a server that sleeps between frames, on a machine that has more to do
SMALL = Roi(16, 8, 256, 128)

pytestmark = pytest.mark.timeout(180, func_only=True)  # to wait for another test's server is no fault of this one


@pytest.fixture(autouse=True)
def _alone():
    require_module("viva_genicam", "pip install labctl[genicam]")
    with one_at_a_time("udp-3956"):
        yield


@contextlib.contextmanager
def server(**options):
    """viva-genicam's camera: it keeps registers, sends packets, and can be told to do either badly."""
    testing = pytest.importorskip("viva_genicam.testing")
    with testing.FakeGigeCamera(**{"fps": 60, **options}) as running:
        yield running


@pytest.fixture
def fake():
    with server() as running:
        yield running


def opened(**options):
    return open_device("genicam.gige", "camera", {"ip": "127.0.0.1", "opening_s": 60.0, **options}, OpenContext())


def take(camera, n, skip=0):
    camera.arm(n, skip)
    return camera.fetch(60.0)


@pytest.mark.usefixtures("fake")
class TestVivaCamera(CameraContract):
    period_tolerance_rel = PACED_BY_SOFTWARE

    def open(self):
        return opened()

    def now_s(self, camera):
        return time.monotonic()


@pytest.mark.usefixtures("fake")
class TestVivaCameraTriggeredBySoftware(TriggeredCameraContract):
    period_tolerance_rel = PACED_BY_SOFTWARE

    def open(self):
        return opened(trigger="software")

    def now_s(self, camera):
        return time.monotonic()


@contextlib.contextmanager
def aravis(*arguments):
    """The fake camera of Aravis, a library by other people, in a process of its own."""
    program = require_program("arv-fake-gv-camera-0.8", "apt-get install aravis-tools")
    process = subprocess.Popen([program, "-i", "127.0.0.1", "-s", "LAB001", *arguments])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class TestAravisCamera(CameraContract):
    """It has ``ExposureTimeAbs``, no ``DeviceSerialNumber``, and 16-bit block numbers that soon begin again."""

    period_tolerance_rel = PACED_BY_SOFTWARE

    @pytest.fixture(autouse=True)
    def _served(self):
        with aravis():
            yield

    def open(self):
        return opened(serial="LAB001", frame_rate_hz=100, discovery_s=10)

    def now_s(self, camera):
        return time.monotonic()


def test_block_numbers_that_begin_again_are_no_loss():
    """Aravis' first block is 65401 or so: 135 frames later the camera's number falls to 1."""
    with aravis(), opened(frame_rate_hz=200, discovery_s=10) as camera:
        camera.roi = Roi(0, 0, 32, 16)
        block = take(camera, 200)
    assert block.device_sequence[-1] < block.device_sequence[0]
    steps = np.diff(block.device_sequence) % 65535  # 65535 is followed by 1
    assert np.array_equal(np.diff(block.sequence), steps)
    # A busy machine loses some, at most what the camera sends in the minute; a wrap would count as 65 thousand.
    assert block.dropped == np.sum(steps - 1) < 20_000


def test_network_that_loses_too_much_is_named():
    """Aravis drops one packet in fifty and sends none again; a full frame has three thousand."""
    with aravis("-r", "20"), pytest.raises(DeviceTimeout) as error:
        opened(discovery_s=10, opening_s=4)
    assert "lost packets" in error.value.hint


def test_dropped_packets_are_sent_again():
    with server(drop_packets=[(12, 3), (15, 1)]), opened() as camera:
        camera.roi = SMALL
        block = take(camera, 30)
        assert {12, 15} <= set(block.device_sequence.tolist())
        assert camera.snapshot()["stream"]["resend_recovered"] >= 2  # a busy machine loses more, and gets them again


@pytest.mark.parametrize("where", ["in the driver", "in the camera"])
def test_dropped_packets_without_resend_cost_their_frames_and_no_other(where):
    with (
        server(drop_packets=[(12, 3), (15, 1)], packet_resend=where == "in the driver"),
        opened(packet_resend=where == "in the camera") as camera,
    ):
        camera.roi = SMALL
        block = take(camera, 30)
        lost = {*range(block.device_sequence[0], block.device_sequence[-1] + 1)} - {*block.device_sequence.tolist()}
        assert {12, 15} <= lost
        assert block.dropped == len(lost)
        assert camera.snapshot()["stream"]["frames_incomplete"] >= 2  # a busy machine loses more


def test_first_frame_of_every_block_lost_is_no_endless_wait():
    """Every frame is damaged: nothing arrives, and that is said in time; the camera still answers."""
    with server(drop_packets=[(block, 1) for block in range(1, 400)], packet_resend=False):
        begun_s = time.monotonic()
        with pytest.raises(DeviceTimeout):
            opened(opening_s=3)
        assert time.monotonic() - begun_s < LIMIT_S
    with server(), opened() as camera:
        take(camera, 1)


def exposure_us(fake):
    return struct.unpack(">d", fake.peek(fake.REGISTERS["ExposureTime"], 8))[0]


def test_exposure_arrives_in_the_cameras_register(fake):
    with opened() as camera:
        camera.exposure_s = 0.007
        assert exposure_us(fake) == pytest.approx(7000.0)
        low, high = 10e-6, 1.0
        for wrong in (0.9 * low, 1.1 * high, -5e-6, float("nan")):
            with pytest.raises(CapabilityError):
                camera.exposure_s = wrong
        assert exposure_us(fake) == pytest.approx(7000.0)
        camera.exposure_s = low
        assert exposure_us(fake) == pytest.approx(10.0)


def test_acknowledgement_that_comes_late_is_waited_for():
    with server() as fake:
        register = fake.REGISTERS["ExposureTime"]
    with server(delay_ack={register: 1.5}) as fake, opened() as camera:
        begun_s = time.monotonic()
        camera.exposure_s = 0.006
        assert camera.exposure_s == pytest.approx(0.006)
        assert exposure_us(fake) == pytest.approx(6000.0)
        assert time.monotonic() - begun_s < LIMIT_S


UNHELPFUL = """
import sys, time
from viva_genicam.testing import FakeGigeCamera
gain = FakeGigeCamera.REGISTERS["Gain"]
with FakeGigeCamera(fps=60, delay_ack={gain: 2000.0}):
    print("serving", flush=True)
    time.sleep(2000)
"""


def test_acknowledgement_that_never_comes_is_a_coded_error_in_bounded_time():
    """The server is a process of its own: one that is stopped in this one goes on to wait, and keeps its port."""
    with subprocess.Popen([sys.executable, "-c", UNHELPFUL], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "serving\n"
            begun_s = time.monotonic()
            with pytest.raises(DeviceError) as error:
                opened(features={"Gain": 3.0})
            assert error.value.device == "camera"
            assert time.monotonic() - begun_s < LIMIT_S
        finally:
            process.kill()


def test_camera_that_goes_away_is_lost_within_the_deadline_and_opens_again():
    with server() as fake:
        camera = opened()
        camera.roi = SMALL
        take(camera, 3)
        camera.arm(1, skip=10_000)
        fake.stop()
        begun_s = time.monotonic()
        with pytest.raises(DeviceLost) as error:
            camera.fetch(10 * LIMIT_S)
        assert time.monotonic() - begun_s < LIMIT_S
        assert error.value.hint
        begun_s = time.monotonic()
        camera.close()
        camera.safe_state()
        assert time.monotonic() - begun_s < LIMIT_S
    with server(), opened() as again:
        assert len(take(again, 2).frames) == 2


def test_camera_whose_cable_is_pulled_is_lost_within_the_deadline():
    """A server that is stopped sends nothing, not even that nobody listens: what a pulled cable looks like."""
    with aravis() as process:
        camera = opened(discovery_s=10)
        camera.roi = SMALL
        take(camera, 2)
        camera.arm(1, skip=100_000)
        process.send_signal(signal.SIGSTOP)
        begun_s = time.monotonic()
        with pytest.raises(DeviceLost) as error:
            camera.fetch(10 * LIMIT_S)
        camera.close()
        assert time.monotonic() - begun_s < LIMIT_S
        assert "cable" in error.value.hint
    with aravis(), opened(discovery_s=10) as again:
        take(again, 1)


def test_settings_of_a_camera_that_is_gone_are_refused_as_lost():
    with server() as fake, opened() as camera:
        fake.stop()
        begun_s = time.monotonic()
        with pytest.raises(DeviceLost):
            camera.exposure_s = 0.001
        with pytest.raises(DeviceLost):
            camera.snapshot()
        assert time.monotonic() - begun_s < LIMIT_S


def test_camera_that_obeys_another_program_is_lost_and_can_be_taken_back(fake):
    with opened() as camera:
        camera.roi = SMALL
        take(camera, 1)
        camera.arm(1, skip=10_000)
        fake.revoke_control()
        begun_s = time.monotonic()
        with pytest.raises(DeviceLost):
            camera.fetch(10 * LIMIT_S)
        assert time.monotonic() - begun_s < LIMIT_S
    with opened() as again:
        take(again, 1)


def test_camera_of_another_program_is_not_taken(fake):
    with opened() as camera:
        with pytest.raises(NotConnected, match="does not open") as error:
            opened()
        assert "close the program" in error.value.hint
        assert len(take(camera, 1).frames) == 1


@pytest.mark.parametrize(
    "options",
    [{"serial": "7"}, {"ip": "127.0.0.9"}, {"user_name": "top"}, {"model": "Acme"}, {"mac": "00:00:00:00:00:01"}],
)
def test_camera_that_does_not_fit_is_not_opened(fake, options):
    begun_s = time.monotonic()
    with pytest.raises(NotConnected) as error:
        opened(**{"ip": "", "discovery_s": 1.0, **options})
    assert error.value.hint
    assert time.monotonic() - begun_s < LIMIT_S
    assert fake.controller() is None


def test_interface_that_is_not_there_is_said(fake):
    with pytest.raises(NotConnected) as error:
        opened(interface="10.254.254.254")
    assert "interface" in error.value.hint


def test_what_is_found_opens_with_the_options_that_it_comes_with(fake):
    found = find_backend("genicam.gige").discover()
    assert [one.identity.serial for one in found] == ["VIVA-FAKE-001"]
    assert found[0].role == "camera"
    with open_device("genicam.gige", "camera", found[0].options, OpenContext()) as camera:
        assert camera.identify() == found[0].identity


def test_nothing_is_found_where_nothing_is():
    begun_s = time.monotonic()
    assert find_backend("genicam.gige").discover() == []
    assert time.monotonic() - begun_s < LIMIT_S


def test_counts_beyond_the_bit_depth_are_refused():
    """The server's Mono12 pattern has values up to 65528: a camera whose data contradicts its format."""
    with server(pixel_format="Mono12"), pytest.raises(DeviceProtocolError, match="do not fit the bit depth"):
        opened(pixel_format="Mono12")


def test_packed_counts_fill_their_range():
    with server(pixel_format="Mono12p"), opened(pixel_format="Mono12p") as camera:
        camera.roi = SMALL
        block = take(camera, 3)
        assert camera.bit_depth == 12
        assert 2048 < block.frames.max() < 4096


def test_format_that_cameras_fill_up_needs_the_bit_depth():
    with server(pixel_format="Mono16"):
        with pytest.raises(OptionError, match="bit depth"):
            opened(pixel_format="Mono16")
        with opened(pixel_format="Mono16", bit_depth=16) as camera:
            assert camera.bit_depth == 16


def test_automatics_are_off_after_opening_and_the_snapshot_says_so(fake):
    vg = pytest.importorskip("viva_genicam")
    with vg.connect_gige(fake.device_info()) as other:
        other.set_enum("ExposureAuto", "Continuous")
        other.set_enum("GainAuto", "Once")
    with opened() as camera:
        snapshot = camera.snapshot()
        assert snapshot["automatics"] == {"ExposureAuto": "Off", "GainAuto": "Off"}
        assert snapshot["automatics_on_at_opening"] == {"ExposureAuto": "Continuous", "GainAuto": "Once"}
        camera.exposure_s = 0.003
        assert camera.exposure_s == pytest.approx(0.003)


def test_gain_and_frame_rate_are_restored_too(fake):
    with opened(features={"Gain": 6.0}) as camera:
        before = camera.snapshot()
    with opened(frame_rate_hz=17, features={"Gain": 0.0}) as camera:
        camera.exposure_s = 0.009
        writes = fake.writes()
        assert camera.restore(before) == ("frame_rate_hz", "gain_db", "exposure_s")
        assert camera.snapshot()["gain_db"] == 6.0
        applied = fake.writes() - writes
        writes = fake.writes()
        assert camera.restore(before) == ()
        assert fake.writes() == writes
        assert applied > 0


def register(fake, name):
    return int.from_bytes(fake.peek(fake.REGISTERS[name], 4))


def test_camera_waits_for_edges_only_while_armed(fake):
    """Nobody makes an edge here: that none is obeyed before ``arm`` and none after ``stop`` shows in the registers."""
    with opened(trigger="hardware-edge", trigger_line="Line1") as camera:
        assert camera.trigger_modes == (TriggerMode.HARDWARE_EDGE,)
        assert register(fake, "TriggerMode") == 1
        idle = register(fake, "TriggerSource")
        camera.roi = SMALL
        camera.arm_sequence(3, 2)
        assert register(fake, "TriggerSource") != idle
        with pytest.raises(DeviceTimeout):
            camera.fetch(0.5)
        camera.stop()
        assert register(fake, "TriggerMode") == 1
        assert register(fake, "TriggerSource") == idle
    with pytest.raises(CapabilityError, match="no such trigger"):
        opened(trigger="hardware-edge", trigger_line="Line7")


def test_each_exposure_is_triggered_once(fake):
    with opened(trigger="software") as camera:
        camera.roi = SMALL
        before = fake.software_triggers()
        camera.arm_sequence(4, 3)
        block = camera.fetch(10.0)
        assert fake.software_triggers() - before == 12
        assert len(block.frames) == 4


def test_frames_are_the_cameras_own():
    """Against the library's bare loop: the same pattern, the same rows and columns."""
    vg = pytest.importorskip("viva_genicam")
    with server() as fake:
        with vg.connect_gige(fake.device_info()) as bare:
            for name, value in (("OffsetX", 0), ("OffsetY", 0), ("Width", 256), ("Height", 128)):
                bare.set_integer(name, value)
            with bare.stream() as frames:
                wanted = {frames.next_frame(5000).to_numpy().tobytes() for _ in range(300)}
        with opened() as camera:
            camera.roi = Roi(0, 0, 256, 128)
            seen = [frame.astype(np.uint8).tobytes() for frame in take(camera, 10).frames]
    assert len(wanted & set(seen)) > 0
