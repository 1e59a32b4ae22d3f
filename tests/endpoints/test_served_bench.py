"""The mock bench behind real protocols: each server on its own, met by a client that others have written."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import serial
from processes import LIMIT_S

from drivers.errors import CapabilityError, DeviceLost, NotConnected
from drivers.libraries.xserver import DummyX
from drivers.protocols import OpenContext, Roi
from drivers.registry import open_device, open_role
from drivers.testing import (
    CameraContract,
    TriggeredCameraContract,
    require_module,
)
from mock_hardware import parse
from mock_hardware.served.server import MockServer, ServerOptions
from mock_hardware.truth import expected_dn, expected_electrons, variance_dn2

ROWS, COLUMNS = 96, 128
MONITOR = {"rows": 256, "cols": 320}
SMALL: dict[str, Any] = {"seed": 1, "slm": MONITOR, "display": MONITOR, "camera": {"rows": 310, "cols": 380}}
"""A bench whose panels are as large as the monitors DUMMY1 and DUMMY2."""
PANEL = {"rows": 80, "cols": 100}
TABLE: dict[str, Any] = {"camera": {"rows": ROWS, "cols": COLUMNS}, "slm": PANEL, "display": PANEL}
INSTALL = "pip install labctl[genicam]"
REGION = Roi(32, 16, 48, 40)
PACKET = 9000

Serve = Callable[..., MockServer]


@pytest.fixture
def serve(gige_port: None, tmp_path: Path) -> Iterator[Serve]:
    """Serves a bench of a few pixels, with changes of its table."""
    opened: list[MockServer] = []

    def start(**changes: Any) -> MockServer:
        options = ServerOptions(meter_port=0, laser_link=str(tmp_path / "laser"))
        opened.append(MockServer("served", options, parse({**TABLE, **changes})))
        return opened[-1]

    yield start
    for server in opened:
        server.close()


def take(camera: Any, count: int, **options: Any) -> list[Any]:
    """Frames of one acquisition."""
    with camera.stream(packet_size=PACKET, **options) as frames:
        return [frame for frame, _ in zip(frames, range(count), strict=False)]


def mean_dn(frames: list[Any]) -> np.ndarray[Any, Any]:
    return np.mean([frame.to_numpy() for frame in frames], axis=0)


def set_region(viva: Any, camera: Any, region: Roi) -> None:
    camera.set_roi(viva.Roi(region.x, region.y, region.width, region.height))


class ServedCamera:
    """The served camera through our own driver."""

    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _served(self, serve: Serve) -> None:
        require_module("viva_genicam", INSTALL)
        self.server = serve()
        self.server.bench.on()

    def open(self) -> Any:
        options = {"ip": "127.0.0.1", "serial": "000001", **self.options}
        return open_device("genicam.gige", "camera", options, OpenContext())

    def now_s(self, camera: Any) -> float:
        return time.monotonic()


class TestServedCamera(ServedCamera, CameraContract):
    period_tolerance_rel = 100.0  # the bench exposes when a busy machine lets it


class TestServedCameraTriggeredBySoftware(ServedCamera, TriggeredCameraContract):
    options: ClassVar[dict[str, Any]] = {"trigger": "software"}
    period_tolerance_rel = 100.0  # the driver stamps the call, when a busy machine lets it


@pytest.mark.parametrize("exposure_us", [4000.0, 16000.0])
def test_exposure_and_region_that_the_client_sets_reach_the_physics(
    serve: Serve, client: Callable[[], Any], viva: Any, exposure_us: float
) -> None:
    server = serve(source={"rin_rms": 0.0})
    server.bench.on()
    camera = client()
    camera.set_exposure_time(exposure_us)
    set_region(viva, camera, REGION)
    frames = take(camera, 40)
    bench = server.bench.bench
    bright = np.full((80, 100), 255, np.uint8)
    truth = expected_dn(bench, expected_electrons(bench, bright, bright, REGION), REGION)
    assert bench.exposure_s == exposure_us / 1e6
    assert mean_dn(frames).shape == REGION.shape
    # Shot and read noise of 40 frames, 6 standard deviations.
    noise_dn = np.sqrt(16 * (truth / 4 + 4) / len(frames))
    assert np.all(np.abs(mean_dn(frames) - truth) < 6 * noise_dn)


def test_frames_are_numbered_and_stamped_with_the_start_of_their_exposure(
    serve: Serve, client: Callable[[], Any]
) -> None:
    server = serve()
    camera = client()
    camera.time_calibrate()
    before_s = server.bench.clock_s()
    frames = take(camera, 30)
    after_s = server.bench.clock_s()
    assert [frame.block_id for frame in frames] == list(range(1, 31))
    starts_s = np.array([frame.ts_dev for frame in frames]) / 1e9
    periods = np.diff(starts_s) * 60
    assert np.allclose(periods, np.round(periods), atol=1e-6)
    assert np.all(periods > 0.5)
    assert before_s <= starts_s[0] < starts_s[-1] <= after_s


@pytest.mark.parametrize("bit_depth", [8, 10, 12, 14, 16])
def test_each_bit_depth_has_its_pixel_format(serve: Serve, client: Callable[[], Any], bit_depth: int) -> None:
    server = serve(
        camera={"rows": ROWS, "cols": COLUMNS, "bit_depth": bit_depth, "gain_dn_per_e": 2.0**bit_depth / 1024}
    )
    server.bench.on()
    camera = client()
    frame = take(camera, 2)[1]
    assert camera.get_enum("PixelFormat") == frame.pixel_format == f"Mono{bit_depth}"
    values = frame.to_numpy()
    assert values.dtype == (np.uint8 if bit_depth == 8 else np.uint16)
    assert 2**bit_depth / 16 < values.max() < 2**bit_depth


def test_a_bit_depth_without_a_pixel_format_is_refused(serve: Serve) -> None:
    with pytest.raises(CapabilityError, match="no pixel format"):
        serve(camera={"bit_depth": 11})


def test_what_is_out_of_range_is_refused_and_changes_nothing(serve: Serve, client: Callable[[], Any]) -> None:
    server = serve()
    camera = client()
    exposure_us, width = 0x20020, 0x20000
    for address, data in (
        (exposure_us, np.array(-5.0, ">f8").tobytes()),
        (exposure_us, np.array(np.nan, ">f8").tobytes()),
        (exposure_us, np.array(1e12, ">f8").tobytes()),
        (exposure_us, b"\0" * 4),
        (width, (COLUMNS + 1).to_bytes(4, "big")),
        (width, bytes(4)),
        (0x20010, (7).to_bytes(4, "big")),
        (0x2F000, bytes(4)),
        (0x0D04, (100).to_bytes(4, "big")),
    ):
        with pytest.raises(Exception, match=r"(?i)status|refus|denied|invalid|protect|error"):
            camera.write_register(address, data)
    assert server.bench.exposure_s == 0.01
    assert (camera.roi().width, camera.roi().height) == (COLUMNS, ROWS)


def test_the_region_is_locked_while_frames_come(serve: Serve, client: Callable[[], Any]) -> None:
    serve()
    camera = client()
    with camera.stream(packet_size=PACKET) as frames:
        next(iter(frames))
        with pytest.raises(Exception, match=r"(?i)lock|denied|access"):
            camera.write_register(0x20000, (64).to_bytes(4, "big"))
        camera.set_exposure_time(5000.0)
        assert next(iter(frames)).to_numpy().shape == (ROWS, COLUMNS)


def test_a_lost_packet_is_sent_again_when_asked_for(serve: Serve, client: Callable[[], Any]) -> None:
    server = serve()
    camera = client()
    server.camera.stream.lose = {(2, 2), (4, 0), (5, 1)}
    with camera.stream(packet_size=PACKET) as frames:
        numbers = [frame.block_id for frame, _ in zip(frames, range(6), strict=False)]
        stats = frames.stats()
    assert numbers == [1, 2, 3, 4, 5, 6]
    assert stats.resend_recovered >= 2


def test_a_lost_packet_that_nobody_asks_for_costs_its_frame(serve: Serve, client: Callable[[], Any]) -> None:
    server = serve()
    camera = client()
    server.camera.stream.lose = {(2, 2)}
    numbers = [frame.block_id for frame in take(camera, 3, resend=False)]
    assert numbers == [1, 3, 4]


def test_a_frame_that_the_bench_loses_is_a_missing_block(serve: Serve, client: Callable[[], Any]) -> None:
    server = serve(faults=[f"drop@{12}:2"])
    numbers = [frame.block_id for frame in take(client(), 6)]
    gaps = np.diff(numbers)
    assert sorted(gaps) == [1, 1, 1, 1, 3]
    assert not server.bench.bench.faults.pending


def test_a_fault_that_cannot_be_served_is_refused(serve: Serve) -> None:
    with pytest.raises(CapabilityError, match="'hang'"):
        serve(faults=["hang@5"])


def test_each_software_trigger_is_one_exposure(serve: Serve, client: Callable[[], Any]) -> None:
    server = serve()
    camera = client()
    camera.enable_trigger("FrameStart", "Software")
    with camera.stream(packet_size=PACKET) as frames:
        coming = iter(frames)
        for number in range(1, 6):
            before_s = server.bench.clock_s()
            camera.trigger_software()
            frame = next(coming)
            assert frame.block_id == number
            assert before_s <= frame.ts_dev / 1e9 <= server.bench.clock_s()
        time.sleep(0.1)
        assert frames.stats().frames_complete == 5


def test_one_host_controls_the_camera_until_it_is_silent(serve: Serve, client: Callable[[], Any], viva: Any) -> None:
    server = serve()
    holder = client()
    with pytest.raises(Exception, match=r"(?i)denied|control"):
        client()
    holder.write_register(0x0938, (500).to_bytes(4, "big"))
    silent_s = 1.0
    control = server.camera._control
    stopped, control._answer = control._answer, lambda *_, **__: None  # type: ignore[method-assign]
    time.sleep(silent_s)
    control._answer = stopped  # type: ignore[method-assign]
    with closing(viva.connect_gige(viva.discover(iface="lo")[0])) as other:
        assert other.exposure_time() == 10_000


def test_two_cameras_cannot_have_one_address(serve: Serve) -> None:
    serve()
    with pytest.raises(NotConnected, match="cannot be served"):
        serve()


def test_light_off_is_dark_and_the_laser_switches_it(serve: Serve, client: Callable[[], Any], tmp_path: Path) -> None:
    serve()
    camera = client()
    with serial.Serial(str(tmp_path / "laser"), 115200, timeout=LIMIT_S) as laser:

        def ask(line: str) -> str:
            laser.write(line.encode() + b"\n")
            return str(laser.readline().decode().strip())

        levels = []
        for command, state in (("OFF", "OFF"), ("ON", "ON"), ("OFF", "OFF")):
            assert ask(command) == "OK"
            assert ask("STATE?") == state
            levels.append(mean_dn(take(camera, 5)).mean())
    assert abs(levels[0] - 100) < 1.5
    assert levels[1] > 500
    assert abs(levels[2] - levels[0]) < 0.5


def test_an_open_interlock_keeps_the_light_off(serve: Serve, tmp_path: Path) -> None:
    server = serve(faults=["interlock@0"])
    with serial.Serial(str(tmp_path / "laser"), 115200, timeout=LIMIT_S) as laser:
        laser.write(b"ON\nINTERLOCK?\n")
        assert laser.readline() == b"ERROR interlock\r\n"
        assert laser.readline().startswith(b"OPEN ")
    assert not server.bench.is_lit


def test_the_meter_reads_the_power_with_its_drift(serve: Serve) -> None:
    server = serve(source={"power_mw": 2.5}, drift={"power_walk_per_sqrt_s": 0.05})
    with socket.create_connection(("127.0.0.1", server.meter.port), timeout=LIMIT_S) as line:
        answers = line.makefile("rw", newline="\n")

        def read_w() -> float:
            answers.write("MEAS:POW?\n")
            answers.flush()
            return float(answers.readline())

        answers.write("SENS:CORR:WAV 525\n")
        assert read_w() == 0
        server.bench.on()
        first, bench = read_w(), server.bench.bench
        assert abs(first / (2.5e-3 * bench.drift.power(bench.clock_s)) - 1) < 6 * 0.002
        time.sleep(0.5)
        later = read_w()
        assert abs(later / (2.5e-3 * bench.drift.power(bench.clock_s)) - 1) < 6 * 0.002
        assert bench.clock_s > 0.5


def test_other_computers_reach_nothing_unless_they_may(gige_port: None) -> None:
    with pytest.raises(CapabilityError, match="password"):
        MockServer("served", ServerOptions(host="192.0.2.1"), parse(TABLE))
    with pytest.raises(CapabilityError, match="one address"):
        MockServer("served", ServerOptions(host="0.0.0.0", beyond_this_computer=True), parse(TABLE))
    with pytest.raises(CapabilityError, match="no IPv4"):
        MockServer("served", ServerOptions(host="localhost"), parse(TABLE))


def test_the_light_goes_off_with_the_servers(serve: Serve) -> None:
    server = serve()
    server.bench.on()
    server.close()
    assert not server.bench.is_lit
    with pytest.raises(DeviceLost):
        server.snapshot()


def test_what_two_monitors_show_is_what_the_camera_sees(
    gige_port: None, three_monitors: DummyX, client: Callable[[], Any], viva: Any, tmp_path: Path
) -> None:
    config = parse({**SMALL, "source": {"rin_rms": 0.0}})
    options = ServerOptions("DUMMY1", "DUMMY2", meter_port=0, laser_link=str(tmp_path / "laser"))
    region = Roi(60, 50, 240, 200)
    rng = np.random.default_rng(3)
    with (
        MockServer("served", options, config) as server,
        open_role("screen", "display", "display", {"monitor": "DUMMY1"}, OpenContext()) as display,
        open_role("screen", "slm", "slm", {"monitor": "DUMMY2"}, OpenContext()) as slm,
    ):
        server.bench.on()
        camera = client()
        set_region(viva, camera, region)
        for _ in range(3):
            pictures = [rng.integers(0, 256, (256, 320), dtype=np.uint8) for _ in range(2)]
            display.show(pictures[0])
            slm.show(pictures[1])
            frames = take(camera, 24)[4:]
            bench = server.bench.bench
            truth = expected_dn(bench, expected_electrons(bench, *pictures, region), region)
            noise_dn = np.sqrt(16 * (truth / 4 + 4) / len(frames))
            assert np.all(np.abs(mean_dn(frames) - truth) < 6 * noise_dn)


def test_the_frame_kept_after_a_change_is_the_one_that_the_bench_would_have_rendered(
    gige_port: None, three_monitors: DummyX, viva: Any, tmp_path: Path
) -> None:
    config = parse({**SMALL, "source": {"rin_rms": 0.0}})
    options = ServerOptions("DUMMY1", "DUMMY2", meter_port=0, laser_link=str(tmp_path / "laser"))
    region, rng, chi2 = Roi(60, 50, 240, 200), np.random.default_rng(4), []
    with (
        MockServer("served", options, config) as server,
        open_role("screen", "display", "display", {"monitor": "DUMMY1"}, OpenContext()) as display,
        open_role("screen", "slm", "slm", {"monitor": "DUMMY2"}, OpenContext()) as slm,
        open_device("genicam.gige", "camera", {"ip": "127.0.0.1"}, OpenContext()) as camera,
    ):
        server.bench.on()
        camera.roi, bench = region, server.bench.bench
        for k in range(40):
            if k % 10 == 0:
                weights = rng.integers(0, 256, (256, 320), dtype=np.uint8)
                slm.show(weights)
            inputs = rng.integers(0, 2, (256, 320), dtype=np.uint8) * np.uint8(255)
            display.show(inputs)
            camera.arm(1, 2 if k % 10 else 4)
            frame = camera.fetch(10.0).frames[0]
            electrons = expected_electrons(bench, inputs, weights, region)
            residual = frame - expected_dn(bench, electrons, region)
            chi2.append(float((residual**2 / variance_dn2(bench, electrons)).mean()))
    # 48,000 pixels each: χ² scatters by 0.0065.
    assert max(chi2) < 1.05
    assert min(chi2) > 0.95


def test_a_monitor_of_another_size_is_refused(three_monitors: DummyX) -> None:
    with pytest.raises(CapabilityError, match="size") as caught:
        MockServer("served", ServerOptions(slm_output="DUMMY0"), parse(SMALL))
    assert (caught.value.expected, caught.value.seen) == ("320 × 256", "640 × 480")
