"""What cameras call their features, and in which units: one table, against maps of features like those of makers."""

import numpy as np
import pytest

from drivers import CapabilityError, DeviceProtocolError, OptionError, Roi
from drivers.libraries.genicam_features import Features, Limits
from drivers.libraries.genicam_names import AUTOMATICS
from drivers.libraries.pixel_formats import FORMATS, Packing, best_format, pixel_format, unpacked


class Nodes:
    """A camera's features as a table; numbers may have limits, enumerations entries, and each a unit."""

    def __init__(self, values, limits=None, entries=None, units=None, locked=()):
        self.values, self._limits = dict(values), limits or {}
        self._entries, self._units, self.locked = entries or {}, units or {}, set(locked)
        self.log = []

    def has(self, name):
        return name in self.values

    def writable(self, name):
        return name in self.values and name not in self.locked

    def get(self, name):
        return self.values[name]

    def set(self, name, value):
        assert name not in self.locked, name
        if name in self._limits:
            low, high, step = self._limits[name]
            assert low <= value <= high, (name, value)
            assert not step or (value - low) % step == 0, (name, value)
        if name in self._entries:
            assert value in self._entries[name], (name, value)
        self.log.append((name, value))
        self.values[name] = value

    def limits(self, name):
        return Limits(*self._limits[name])

    def entries(self, name):
        return self._entries.get(name, ())

    def unit(self, name):
        return self._units.get(name, "")

    def execute(self, name):
        self.log.append((name, None))


@pytest.mark.parametrize(
    ("values", "units", "seconds"),
    [
        ({"ExposureTime": 5000.0}, {}, 5e-3),
        ({"ExposureTime": 5000.0}, {"ExposureTime": "us"}, 5e-3),
        ({"ExposureTime": 5.0}, {"ExposureTime": "ms"}, 5e-3),  # the camera's own unit counts for more
        ({"ExposureTime": 0.005}, {"ExposureTime": "s"}, 5e-3),
        ({"ExposureTime": 5000.0}, {"ExposureTime": "µs"}, 5e-3),
        ({"ExposureTimeAbs": 5000.0}, {}, 5e-3),
        ({"ExposureTimeAbs": 5000.0, "ExposureTimeRaw": 250, "ExposureTimeBaseAbs": 20.0}, {}, 5e-3),
        ({"ExposureTimeRaw": 250, "ExposureTimeBaseAbs": 20.0}, {}, 5e-3),
        ({"ExposureTimeRaw": 5000}, {"ExposureTimeRaw": "us"}, 5e-3),
        ({"IntegrationTime": 5000.0}, {}, 5e-3),
        ({"ExposureValue": 5000}, {}, 5e-3),
        ({"Exposure": 5.0}, {"Exposure": "ms"}, 5e-3),
    ],
)
def test_exposure_is_in_seconds_whatever_the_camera_calls_it(values, units, seconds):
    limits = dict.fromkeys(values, (0, 1e6, 0))
    features = Features(Nodes(values, limits, units=units))
    assert features.exposure_s == pytest.approx(seconds)
    features.set_exposure_s(2 * seconds)
    assert features.exposure_s == pytest.approx(2 * seconds)


@pytest.mark.parametrize("values", [{}, {"Exposure": 5.0}, {"ExposureTimeRaw": 5}])
def test_exposure_without_a_known_unit_is_no_exposure(values):
    features = Features(Nodes(values))
    assert not features.can_expose
    assert features.exposure_s is None
    with pytest.raises(CapabilityError):
        features.set_exposure_s(0.005)


def test_exposure_is_rounded_to_the_cameras_step_and_stays_whole_where_it_is_whole():
    nodes = Nodes({"ExposureTimeRaw": 10, "ExposureTimeBaseAbs": 20.0}, {"ExposureTimeRaw": (1, 4095, 1)})
    features = Features(nodes)
    assert features.exposure_range_s == pytest.approx((20e-6, 81.9e-3))
    features.set_exposure_s(5.031e-3)
    assert nodes.values["ExposureTimeRaw"] == 252
    assert isinstance(nodes.values["ExposureTimeRaw"], int)
    stepped = Nodes({"ExposureTime": 19.0}, {"ExposureTime": (19.0, 1e6, 4.0)})
    Features(stepped).set_exposure_s(25e-6)
    assert stepped.values["ExposureTime"] in (23.0, 27.0)


def test_exposure_that_an_automatic_locks_is_found_when_that_is_off():
    class Locking(Nodes):
        def has(self, name):
            return super().has(name) and (name != "ExposureTime" or self.values["ExposureAuto"] == "Off")

    nodes = Locking(
        {"ExposureAuto": "Continuous", "ExposureTime": 100.0},
        {"ExposureTime": (10, 1e6, 0)},
        {"ExposureAuto": ("Off", "Continuous")},
    )
    features = Features(nodes)
    assert features.switch_off_automatics() == {"ExposureAuto": "Continuous"}
    assert features.exposure_s == pytest.approx(1e-4)


def test_automatics_are_switched_off_and_said():
    values = {"ExposureAuto": "Off", "GainAuto": "Once", "GammaEnable": True, "PixelFormat": "Mono8", "DigitalShift": 2}
    switches = {"ExposureAuto": ("Off", "Once"), "GainAuto": ("Off", "Once")}
    features = Features(Nodes(values, entries=switches))
    assert features.switch_off_automatics() == {"GainAuto": "Once", "GammaEnable": True, "DigitalShift": 2}
    assert features.settings()["automatics"] == {name: AUTOMATICS[name] for name in values if name in AUTOMATICS}
    assert features.switch_off_automatics() == {}


def test_automatic_that_stays_on_is_refused():
    nodes = Nodes({"GainAuto": "Continuous"}, entries={"GainAuto": ("Off", "Continuous")}, locked={"GainAuto"})
    with pytest.raises(DeviceProtocolError, match="GainAuto"):
        Features(nodes).switch_off_automatics()


class Sensor(Nodes):
    """A sensor whose offset's range depends on the size, as on a real camera; nothing may stick out at any moment."""

    WIDTH, HEIGHT = 640, 480

    def limits(self, name):
        other = {"OffsetX": "Width", "Width": "OffsetX", "OffsetY": "Height", "Height": "OffsetY"}[name]
        most = self.WIDTH if name in ("OffsetX", "Width") else self.HEIGHT
        low, step = {"Width": (32, 16), "Height": (8, 2), "OffsetX": (0, 16), "OffsetY": (0, 2)}[name]
        return Limits(low, most - self.values[other], step)

    def set(self, name, value):
        limits = self.limits(name)
        assert limits.low <= value <= limits.high, (name, value, limits)
        assert (value - limits.low) % limits.step == 0, (name, value)
        super().set(name, value)


def sensor():
    return Sensor({"OffsetX": 0, "OffsetY": 0, "Width": 64, "Height": 48})


@pytest.mark.parametrize("start", [Roi(0, 0, 640, 480), Roi(608, 470, 32, 8), Roi(0, 0, 32, 8)])
@pytest.mark.parametrize(
    ("asked", "got"),
    [
        (Roi(16, 8, 64, 32), Roi(16, 8, 64, 32)),
        (Roi(17, 9, 64, 31), Roi(16, 8, 80, 32)),  # the region that is asked for is always inside
        (Roi(0, 0, 1, 1), Roi(0, 0, 32, 8)),
        (Roi(639, 479, 1, 1), Roi(608, 472, 32, 8)),
        (Roi(0, 0, 640, 480), Roi(0, 0, 640, 480)),
    ],
)
def test_region_is_aligned_outwards_from_wherever_it_was(start, asked, got):
    features = Features(sensor())
    shape = features.open_fully()
    assert shape == (480, 640)
    features.set_roi(start, shape)
    features.set_roi(asked, shape)
    assert features.roi == got


def test_a_sensor_that_is_no_multiple_of_the_cameras_steps_is_opened_as_far_as_these_go():
    nodes = sensor()
    nodes.WIDTH, nodes.HEIGHT = 645, 481
    assert Features(nodes).open_fully() == (480, 640)


@pytest.mark.parametrize("seed", range(20))
def test_any_region_on_the_sensor_is_covered(seed):
    rng = np.random.default_rng(seed)
    features = Features(sensor())
    shape = features.open_fully()
    for _ in range(20):
        x, y = int(rng.integers(640)), int(rng.integers(480))
        asked = Roi(x, y, int(rng.integers(1, 641 - x)), int(rng.integers(1, 481 - y)))
        features.set_roi(asked, shape)
        got = features.roi
        assert got.x <= asked.x
        assert got.y <= asked.y
        assert got.x + got.width >= asked.x + asked.width
        assert got.y + got.height >= asked.y + asked.height


def test_camera_without_offsets_grows_its_region_from_the_corner():
    nodes = Nodes({"Width": 400, "Height": 400}, {"Width": (100, 800, 1), "Height": (100, 800, 1)})
    features = Features(nodes)
    assert features.open_fully() == (800, 800)
    features.set_roi(Roi(10, 20, 30, 500), (800, 800))
    assert features.roi == Roi(0, 0, 100, 520)


@pytest.mark.parametrize(
    ("values", "period_s"),
    [
        ({"ResultingFrameRate": 25.0, "AcquisitionFrameRate": 60.0}, 0.04),
        ({"ResultingFrameRateAbs": 25.0}, 0.04),
        ({"AcquisitionFrameRate": 50.0}, 0.02),
        ({"AcquisitionFrameRate": 50.0, "AcquisitionFrameRateEnable": True}, 0.02),
        ({"AcquisitionFrameRate": 50.0, "AcquisitionFrameRateEnable": False}, 0.01),  # as fast as it can: 100 Hz
        ({"AcquisitionFrameRateAbs": 50.0, "ExposureTimeAbs": 30_000.0}, 0.03),  # never shorter than the exposure
        ({"ExposureTime": 7000.0}, 0.007),
    ],
)
def test_frame_period_is_what_the_camera_does_not_what_was_asked(values, period_s):
    limits = {name: (1, 100, 0) for name in values if "FrameRate" in name}
    assert Features(Nodes(values, limits)).frame_period_s() == pytest.approx(period_s)


def test_frame_rate_switches_its_enable_on():
    nodes = Nodes(
        {"AcquisitionFrameRate": 10.0, "AcquisitionFrameRateEnabled": False}, {"AcquisitionFrameRate": (1, 100, 0)}
    )
    Features(nodes).set_frame_rate_hz(60)
    assert nodes.values == {"AcquisitionFrameRate": 60, "AcquisitionFrameRateEnabled": True}
    with pytest.raises(CapabilityError):
        Features(nodes).set_frame_rate_hz(500)
    with pytest.raises(CapabilityError):
        Features(Nodes({})).set_frame_rate_hz(10)


def triggers(**more):
    return Nodes(
        {
            "TriggerSelector": "AcquisitionStart",
            "TriggerMode": "On",
            "TriggerSource": "Line1",
            "TriggerActivation": "FallingEdge",
            **more,
        },
        entries={"TriggerSelector": ("AcquisitionStart", "FrameStart"), "TriggerSource": ("Line1", "Software")},
    )


def test_trigger_switches_every_other_one_off():
    nodes = triggers()
    Features(nodes).trigger("Line1")
    assert ("TriggerSelector", "AcquisitionStart") in nodes.log
    assert nodes.log.index(("TriggerMode", "Off")) < nodes.log.index(("TriggerMode", "On"))
    assert nodes.values == {
        "TriggerSelector": "FrameStart",
        "TriggerMode": "On",
        "TriggerSource": "Line1",
        "TriggerActivation": "RisingEdge",
    }
    Features(nodes).trigger()
    assert nodes.values["TriggerMode"] == "Off"


def test_trigger_that_is_not_there_is_refused():
    with pytest.raises(CapabilityError, match="no such trigger"):
        Features(triggers()).trigger("Line7")
    with pytest.raises(CapabilityError, match="no trigger"):
        Features(Nodes({})).trigger("Software")
    Features(Nodes({})).trigger()


def test_pixel_format_is_the_best_gray_one_or_the_one_asked_for():
    nodes = Nodes({"PixelFormat": "RGBa8"}, entries={"PixelFormat": ("RGBa8", "Mono8", "Mono12p", "Mono12", "Mono16")})
    features = Features(nodes)
    assert features.set_pixel_format().name == "Mono12"
    assert features.set_pixel_format("Mono8").bits == 8
    for name in ("Mono10", "RGBa8", "nonsense"):
        with pytest.raises(CapabilityError):
            features.set_pixel_format(name)
    assert best_format(["Mono16", "Mono8"]).name == "Mono8"
    assert best_format(["BayerRG8"]) is None


def test_timestamp_ticks_are_nanoseconds_unless_the_camera_says_otherwise():
    assert Features(Nodes({})).timestamp_hz == 1e9
    assert Features(Nodes({"GevTimestampTickFrequency": 125_000_000})).timestamp_hz == 125e6
    assert Features(Nodes({"GevTimestampTickFrequency": 0})).timestamp_hz == 1e9


@pytest.mark.parametrize(
    ("settings", "seen"),
    [({"Nonsense": 1}, "none"), ({"Locked": 1}, "0"), ({"Gain": 99}, "99"), ({"Stubborn": 4}, "3")],
)
def test_feature_that_is_not_taken_is_refused_with_its_name(settings, seen):
    class Stubborn(Nodes):
        def set(self, name, value):
            super().set(name, 3 if name == "Stubborn" else value)

    nodes = Stubborn({"Gain": 1.0, "Locked": 0, "Stubborn": 3}, {"Gain": (0, 20, 0)}, locked={"Locked"})
    with pytest.raises(OptionError) as error:
        Features(nodes, "camera").apply(settings)
    assert seen in error.value.seen
    assert next(iter(settings)) in str(error.value)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", [(3, 4), (3, 5), (1, 1), (7, 13)])
def test_packed_pixels_come_back_as_they_were(name, shape):
    """Packed here bit by bit, straight from the definition, and unpacked by the driver."""
    kind = pixel_format(name)
    rng = np.random.default_rng(7)
    counts = rng.integers(0, 2**kind.bits, shape)
    flat = [int(v) for v in counts.ravel()]
    if kind.packing is Packing.BITS:
        word = sum(value << k * kind.bits for k, value in enumerate(flat))
        data = word.to_bytes((len(flat) * kind.bits + 7) // 8, "little")
    elif kind.packing is Packing.PAIRS:
        low = kind.bits - 8
        data = b""
        for k in range(0, len(flat), 2):
            first, second = flat[k], flat[k + 1] if k + 1 < len(flat) else 0
            mask = 2**low - 1
            data += bytes([first >> low, first & mask | (second & mask) << 4, second >> low])
    else:
        data = counts.astype("<u2" if kind.bits > 8 else "u1").tobytes()
    buffer = np.frombuffer(data + b"chunk", np.uint8)
    assert np.array_equal(unpacked(buffer, kind, shape), counts)
    with pytest.raises(DeviceProtocolError):
        unpacked(buffer[: len(data) // 2], kind, shape)


def test_padding_after_each_row_is_left_out():
    rows = [np.arange(5, dtype="<u2") + 100 * k for k in range(3)]
    data = b"".join(row.tobytes() + b"\xff\xff" for row in rows)
    found = unpacked(np.frombuffer(data, np.uint8), pixel_format("Mono12"), (3, 5), padding=2)
    assert np.array_equal(found, rows)
