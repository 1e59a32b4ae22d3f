"""A GigE Vision camera whose exposures are somebody else's: its registers, its acquisition, its stream.

Frames come from a `Sensor`; the camera asks for one exposure after the other while the host acquires, numbers the
blocks as the sensor numbers its frames (a frame that the sensor lost is a block that is missing), and stamps each with
the start of its exposure. Width, height and offsets may change between acquisitions, the exposure at any time.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.errors import CapabilityError, DeviceError, DeviceLost, NotConnected
from drivers.protocols import Identity, Roi
from mock_hardware.served.genicam import At, Facts, description
from mock_hardware.served.gvcp import (
    PORT,
    ControlServer,
    Memory,
    Nameplate,
    Privilege,
    Refused,
    Status,
    bootstrap,
    number,
    real,
)
from mock_hardware.served.gvsp import BLOCKS, PIXEL_FORMATS, Image, StreamChannel

log = logging.getLogger("labctl.mock.served")

WAITING = 2
"""Images that may wait to be sent; then the camera exposes no more."""
PACKET_SIZES = 576, 65000
"""Smallest and largest packet, headers included [bytes]."""
PACKET_DELAY_MAX_NS = 10_000_000
"""Longest wait between two packets [ns]."""
_SIZE_BITS, _TEST_BIT = 0xFFFF, 1 << 31


@dataclass(frozen=True)
class Exposed:
    """A frame.

    Attributes
    ----------
    dn : (H, W) uint16 [DN]
    sequence
        Its number; a gap is a loss.
    start_s
        Start of exposure [s].
    """

    dn: NDArray[np.uint16]
    sequence: int
    start_s: float


class Sensor(Protocol):
    """What exposes the frames. Times are those of its own clock."""

    shape: tuple[int, int]
    bit_depth: int
    exposure_range_s: tuple[float, float]
    exposure_s: float
    """Raises `CapabilityError` out of range."""

    @property
    def frame_period_s(self) -> float: ...
    @property
    def temperature_c(self) -> float: ...
    def clock_s(self) -> float: ...
    def expose(self, roi: Roi, at_once: bool, is_over: Callable[[], bool]) -> Exposed | None:
        """The next frame, when its exposure has ended; it begins when the sensor's clock says so, or ``at_once``.

        None when ``is_over`` before it has begun.
        """


class GigeCamera:
    """The device.

    Parameters
    ----------
    sensor
        Exposes the frames.
    identity
        What the camera says that it is.
    address
        Address to serve on. Its network, in which discovery is answered, is 127.0.0.0/8, or the nearest 256 addresses.

    Raises
    ------
    CapabilityError
        When no pixel format has the sensor's bit depth.
    NotConnected
        When the address cannot be served on: another camera has it, or it is no address of this machine.
    """

    def __init__(self, sensor: Sensor, identity: Identity, address: str = "127.0.0.1") -> None:
        if sensor.bit_depth not in PIXEL_FORMATS:
            raise CapabilityError(
                "GigE Vision has no pixel format of that bit depth",
                action="serve the camera",
                expected="bit_depth of " + ", ".join(map(str, PIXEL_FORMATS)),
                seen=str(sensor.bit_depth),
                hint="--set mock.camera.bit_depth=12",
            )
        self._sensor, self.address = sensor, address
        self._pixel_format = PIXEL_FORMATS[sensor.bit_depth]
        rows, columns = sensor.shape
        self._roi = Roi(0, 0, columns, rows)
        self._changed = threading.Condition()
        self._acquisition = 0
        self._acquiring = self._closed = False
        self._triggered, self._locked, self._pending = 0, 0, 0
        self._failed: Exception | None = None
        with ExitStack() as opened:
            try:
                self.stream = StreamChannel(address)
                opened.callback(self.stream.close)
                self._control = self._serve_control(identity)
            except OSError as error:
                raise NotConnected(
                    f"the camera cannot be served on {address}: {error.strerror or error}",
                    action="serve the camera",
                    expected=f"UDP port {PORT} of {address} free",
                    seen=str(error),
                    hint="end the other camera server there; on loopback, hosts look for a camera at 127.0.0.1 alone",
                ) from error
            opened.pop_all()
        self._images: queue.Queue[tuple[int, Image] | None] = queue.Queue(WAITING)
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=f"camera-{work.__name__}", daemon=True)
            for work in (self._expose_all, self._send_all)
        ]
        for thread in self._threads:
            thread.start()

    def check(self) -> None:
        """Make sure that the camera works.

        Raises
        ------
        DeviceLost
            When it has stopped: why, as far as that is known.
        """
        if isinstance(self._failed, DeviceError):
            raise self._failed
        if self._failed is not None or not (
            self._control.is_alive() and all(thread.is_alive() for thread in self._threads)
        ):
            reason = f": {type(self._failed).__name__}: {self._failed}" if self._failed else ""
            raise DeviceLost(f"the served camera has stopped{reason}", action="serve the camera", seen=reason[2:])

    def close(self) -> None:
        """Vanish from the network."""
        with self._changed:
            self._closed = True
            self._acquiring = False
            self._acquisition += 1
            self._changed.notify_all()
        exposing, sending = self._threads
        exposing.join(5.0)
        self._images.put(None)
        sending.join(5.0)
        self._control.close()
        self.stream.close()

    def _serve_control(self, identity: Identity) -> ControlServer:
        sensor, memory = self._sensor, Memory()
        rows, columns = sensor.shape
        shortest_s, longest_s = sensor.exposure_range_s
        xml = description(Facts(rows, columns, self._pixel_format, (1e6 * shortest_s, 1e6 * longest_s)))
        prefix = 8 if IPv4Address(self.address).is_loopback else 24
        network = IPv4Network(f"{self.address}/{prefix}", strict=False)
        plate = Nameplate(
            identity.vendor, identity.model, identity.serial, identity.firmware, IPv4Address(self.address), network
        )
        privilege = Privilege(self._stop)
        bootstrap(memory, plate, privilege, xml.encode(), sensor.clock_s)
        self._put_registers(memory)
        return ControlServer(memory, plate, privilege, self.stream.resend)

    def _put_registers(self, memory: Memory) -> None:
        sensor, stream = self._sensor, self.stream
        rows, columns = sensor.shape
        code = self._pixel_format[1]
        registers = {
            At.WIDTH: number(lambda: self._roi.width, lambda value: self._resize(width=value)),
            At.HEIGHT: number(lambda: self._roi.height, lambda value: self._resize(height=value)),
            At.OFFSET_X: number(lambda: self._roi.x, lambda value: self._resize(x=value)),
            At.OFFSET_Y: number(lambda: self._roi.y, lambda value: self._resize(y=value)),
            At.SENSOR_WIDTH: number(lambda: columns),
            At.SENSOR_HEIGHT: number(lambda: rows),
            At.PIXEL_FORMAT: number(lambda: code, lambda value: _only(code, value)),
            At.PAYLOAD_SIZE: number(lambda: self._roi.width * self._roi.height * (1 if sensor.bit_depth == 8 else 2)),
            At.EXPOSURE_TIME: real(lambda: round(1e6 * sensor.exposure_s, 3), self._set_exposure_us),
            At.FRAME_RATE: real(lambda: 1.0 / sensor.frame_period_s),
            At.TEMPERATURE: real(lambda: sensor.temperature_c),
            At.ACQUISITION_MODE: number(lambda: 0, lambda value: _only(0, value)),
            At.ACQUISITION_START: number(lambda: 0, lambda value: self._start()),
            At.ACQUISITION_STOP: number(lambda: 0, lambda value: self._stop()),
            At.TRIGGER_SELECTOR: number(lambda: 0, lambda value: _only(0, value)),
            At.TRIGGER_MODE: number(lambda: self._triggered, self._set_triggered),
            At.TRIGGER_SOURCE: number(lambda: 0, lambda value: _only(0, value)),
            At.TRIGGER_SOFTWARE: number(lambda: 0, lambda value: self._trigger()),
            At.LOCKED: number(lambda: self._locked, self._set_locked),
            0x0D00: number(lambda: stream.port, self._set_port),
            0x0D04: number(lambda: stream.packet_size, self._set_packet_size),
            0x0D08: number(lambda: stream.packet_delay_ns, self._set_packet_delay),
            0x0D18: number(lambda: int(IPv4Address(stream.host)), self._set_host),
            0x0D1C: number(lambda: stream.source_port),
            0x0D20: number(lambda: 0),
            0x0D24: number(lambda: 0),
        }
        for address, register in registers.items():
            memory.put(address, register)

    def _resize(self, **changes: int) -> None:
        old = self._roi
        new = Roi(**{"x": old.x, "y": old.y, "width": old.width, "height": old.height, **changes})
        rows, columns = self._sensor.shape
        if self._acquiring:
            raise Refused(Status.ACCESS_DENIED)
        if min(new.width, new.height) < 1 or new.x + new.width > columns or new.y + new.height > rows:
            raise Refused(Status.INVALID_PARAMETER)
        self._roi = new

    def _set_exposure_us(self, value: float) -> None:
        try:
            self._sensor.exposure_s = value / 1e6
        except CapabilityError as error:
            raise Refused(Status.INVALID_PARAMETER) from error

    def _set_triggered(self, value: int) -> None:
        if value not in (0, 1):
            raise Refused(Status.INVALID_PARAMETER)
        if self._acquiring:
            raise Refused(Status.ACCESS_DENIED)
        self._triggered = value

    def _set_locked(self, value: int) -> None:
        self._locked = int(value != 0)

    def _set_port(self, value: int) -> None:
        self.stream.port = value & 0xFFFF

    def _set_host(self, value: int) -> None:
        self.stream.host = str(IPv4Address(value))

    def _set_packet_delay(self, value: int) -> None:
        if value > PACKET_DELAY_MAX_NS:
            raise Refused(Status.INVALID_PARAMETER)
        self.stream.packet_delay_ns = value

    def _set_packet_size(self, value: int) -> None:
        size = value & _SIZE_BITS
        if not PACKET_SIZES[0] <= size <= PACKET_SIZES[1]:
            raise Refused(Status.INVALID_PARAMETER)
        self.stream.packet_size = size
        if value & _TEST_BIT:
            self.stream.send_test_packet()

    def _start(self) -> None:
        with self._changed:
            if not self._acquiring:
                self._acquiring, self._pending = True, 0
                self._acquisition += 1
                self.stream.restart()
                self._changed.notify_all()

    def _stop(self) -> None:
        with self._changed:
            self._acquiring, self._locked = False, 0
            self._acquisition += 1
            self._changed.notify_all()

    def _trigger(self) -> None:
        """One exposure; a trigger that comes while another is waiting for its exposure is lost, as on a camera."""
        with self._changed:
            if not (self._acquiring and self._triggered):
                raise Refused(Status.ACCESS_DENIED)
            self._pending = 1
            self._changed.notify_all()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do the work of one thread; what ends it early is kept for `check`."""
        try:
            work()
        except Exception as error:
            if not isinstance(error, DeviceError):
                log.exception("the served camera has stopped")
            self._failed = error

    def _send_all(self) -> None:
        """Send the images while the next exposure is under way; those of an acquisition that is over are not wanted."""
        while (waiting := self._images.get()) is not None:
            acquisition, image = waiting
            if acquisition == self._acquisition:
                self.stream.send(image)

    def _expose_all(self) -> None:
        """Acquire whenever the host wants it, until the device is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._acquiring or self._closed)
                if self._closed:
                    return
                acquisition, roi, triggered = self._acquisition, self._roi, bool(self._triggered)
            self._acquire(acquisition, roi, triggered)

    def _acquire(self, acquisition: int, roi: Roi, triggered: bool) -> None:
        def is_over() -> bool:
            return self._acquisition != acquisition

        first: int | None = None
        while not is_over():
            if triggered and not self._await_trigger(is_over):
                return
            frame = self._sensor.expose(roi, triggered, is_over)
            if frame is None or is_over():
                return
            first = frame.sequence if first is None else first
            self._images.put((acquisition, self._image(frame, (frame.sequence - first) % BLOCKS + 1, roi)))

    def _await_trigger(self, is_over: Callable[[], bool]) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or is_over())
            self._pending = 0
            return not is_over()

    def _image(self, frame: Exposed, block: int, roi: Roi) -> Image:
        pixels = frame.dn.astype(np.uint8 if self._sensor.bit_depth == 8 else "<u2", copy=False)
        return Image(
            block, round(frame.start_s * 1e9), roi.x, roi.y, np.ascontiguousarray(pixels), self._pixel_format[1]
        )


def _only(allowed: int, value: int) -> None:
    """An enumeration with one entry."""
    if value != allowed:
        raise Refused(Status.INVALID_PARAMETER)
