"""When an image of a GenICam camera arrived, whatever the host was busy with: never later than it did."""

import math
import time

import numpy as np
import pytest

from drivers import CapabilityError, DroppedFrames, OpenContext, OptionError, check_options, describe
from drivers.libraries.genicam_camera import ArrivalClock, GenicamAcquire, Image
from drivers.triggers import FreeRunning, HardwareEdge, SoftwareTrigger

PERIOD_S = 0.01


@pytest.mark.parametrize("drift_rel", [-1e-4, 0.0, 1e-4])
def test_stamps_are_put_on_the_hosts_clock_however_late_the_host_is(drift_rel):
    """The camera's clock begins anywhere and drifts; the host is up to half a second late, and at times is not."""
    rng = np.random.default_rng(3)
    clock = ArrivalClock(window=64)
    clock.restart(PERIOD_S)
    transfer_s = 0.003
    lately_s = []
    for k in range(2000):
        arrives_s = 1000.0 + k * PERIOD_S
        late_s = 0.0 if k % 50 == 0 else float(rng.uniform(0, 0.5))
        stamp_s = (arrives_s - transfer_s) * (1 + drift_rel) - 777.0
        found_s = clock.arrived_s(stamp_s, arrives_s, arrives_s + late_s)
        lately_s.append(found_s - arrives_s)
    tolerance_s = abs(drift_rel) * 64 * PERIOD_S + 1e-9
    assert max(np.abs(lately_s)) <= tolerance_s


def test_image_without_a_stamp_that_lay_in_a_queue_is_as_old_as_it_may_be():
    clock = ArrivalClock()
    clock.restart(PERIOD_S)
    begun_s = time.monotonic()
    assert clock.arrived_s(None, begun_s, begun_s + 0.5 * PERIOD_S) == begun_s + 0.5 * PERIOD_S
    waited_s = begun_s + 1.5 * PERIOD_S
    assert clock.arrived_s(None, begun_s + 0.5 * PERIOD_S, waited_s) == waited_s
    for late_s in (0.3, 0.31, 0.32):  # the host was away; three images lay in the queue
        assert clock.arrived_s(None, begun_s + late_s, begun_s + late_s + 1e-4) == waited_s
    fresh_s = begun_s + 0.33
    assert clock.arrived_s(None, fresh_s - PERIOD_S, fresh_s) == fresh_s


def test_images_in_the_queue_when_the_stream_begins_are_no_newer_than_that():
    clock = ArrivalClock()
    before_s = time.monotonic()
    clock.restart(PERIOD_S)
    after_s = time.monotonic()
    assert before_s <= clock.arrived_s(None, after_s + 5, after_s + 5) <= after_s


def test_image_that_had_come_when_the_trigger_was_armed_is_of_an_earlier_exposure():
    """The camera is asked whether it is there in between, which may take a second, and the next list is armed then."""
    trigger = HardwareEdge(lambda on: None)

    class Link:
        lost = 0

        def next_image(self, kind, timeout_s):
            return Image(np.zeros((1, 1), np.uint16), 7, None)

        def is_there(self):
            trigger.arm(1)
            return True

    acquire = object.__new__(GenicamAcquire)
    acquire.name, acquire.format, acquire.trigger = "camera", None, trigger
    acquire._link, acquire._asked_s, acquire._lost = Link(), -math.inf, 0
    late = acquire.next_frame(1.0)
    assert late.begins_s < trigger.begins_s
    assert acquire.next_frame(1.0).begins_s == trigger.begins_s


@pytest.mark.parametrize("free", [True, False])
def test_triggered_exposure_that_the_network_lost_is_told_at_once_and_is_no_matter_of_one_that_runs_freely(free):
    class Link:
        lost = 0

        def next_image(self, kind, timeout_s):
            self.lost += 1

        def advice(self):
            return "a larger packet size"

    acquire = object.__new__(GenicamAcquire)
    acquire.name, acquire.format = "camera", None
    acquire.trigger = FreeRunning() if free else SoftwareTrigger(lambda: None)
    acquire._link, acquire._asked_s, acquire._lost = Link(), math.inf, 0
    if free:
        assert acquire.next_frame(1.0) is None
    else:
        with pytest.raises(DroppedFrames, match="lost on the way") as lost:
            acquire.next_frame(1.0)
        assert lost.value.hint == "a larger packet size"


BACKENDS = "genicam.gentl", "genicam.gige", "genicam.usb3"


@pytest.fixture
def installed(monkeypatch):
    """As where the libraries are installed: options are checked without them."""
    monkeypatch.setattr("drivers.registry._lacking", lambda found: "")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("options", "bits"),
    [
        ({}, None),
        ({"pixel_format": "Mono12p"}, 12),
        ({"pixel_format": "Mono16", "bit_depth": 14}, 14),
        ({"bit_depth": 10}, 10),
    ],
)
def test_bit_depth_is_known_before_the_camera_is_opened(backend, options, bits):
    assert describe(backend, "camera", options, OpenContext()).bit_depth == bits


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"pixel_format": "Mono13"}, CapabilityError),
        ({"pixel_format": "BayerRG8"}, CapabilityError),
        ({"pixel_format": "Mono16"}, OptionError),
        ({"pixel_format": "Mono8", "bit_depth": 12}, OptionError),
        ({"trigger": "wire"}, OptionError),
        ({"trigger_edge": "Both"}, OptionError),
        ({"bit_depth": 17}, OptionError),
        ({"frame_rate_hz": 0}, OptionError),
        ({"exposure": 1}, OptionError),
    ],
)
def test_options_that_make_no_sense_are_refused_before_the_camera_is_opened(backend, options, kind):
    with pytest.raises(kind) as error:
        check_options(backend, "camera", options, OpenContext())
    assert error.value.device == "camera"
