"""The stream channel of a GigE Vision camera: an image as UDP packets, kept for a while to be sent again."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger("labctl.mock.served")

PIXEL_FORMATS = {
    8: ("Mono8", 0x0108_0001),
    10: ("Mono10", 0x0110_0003),
    12: ("Mono12", 0x0110_0005),
    14: ("Mono14", 0x0110_0025),
    16: ("Mono16", 0x0110_0007),
}
"""Bit depth → name and number of the format (PFNC), unpacked, least significant bit at the right."""
BLOCKS = 65535
"""Block numbers: 1 … 65535, then 1 again."""
HEADERS = 20 + 8 + 8
"""Bytes of a packet that are IP, UDP and GVSP headers."""
PACKET_SIZE = 9000
"""Of the stream, until a host sets another: what a loopback interface and jumbo frames let through [bytes]."""
_LEADER, _TRAILER, _PAYLOAD = 1, 2, 3
_IMAGE = 0x0001
_UNAVAILABLE = 0x800C
_KEPT = 4
"""Images of which packets can be sent again."""
_SEND_BUFFER = 1 << 22
_NAP_NS = 200_000
"""Packets are sent ahead of time by less than this: a shorter sleep takes longer than it should [ns]."""


@dataclass(frozen=True)
class Image:
    """What one block carries.

    Attributes
    ----------
    block
        Its number, 1 … `BLOCKS`.
    start_ns
        Start of exposure on the camera's clock [ns].
    x, y
        Offset of the region on the sensor [px].
    pixels
        (H, W) uint8, or uint16, little-endian.
    pixel_format
        By number.
    """

    block: int
    start_ns: int
    x: int
    y: int
    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    pixel_format: int

    @property
    def leader(self) -> bytes:
        """The first packet's content."""
        rows, columns = self.pixels.shape
        stamp = self.start_ns >> 32, self.start_ns & 0xFFFFFFFF
        return struct.pack(">HHIIIIIIIHH", 0, _IMAGE, *stamp, self.pixel_format, columns, rows, self.x, self.y, 0, 0)

    @property
    def trailer(self) -> bytes:
        """The last packet's content."""
        return struct.pack(">HHI", 0, _IMAGE, len(self.pixels))


class StreamChannel:
    """Sends images to the host that has asked for them.

    Parameters
    ----------
    address
        Of the device.

    Attributes
    ----------
    host, port
        Where to; port 0 for nowhere.
    packet_size
        Largest packet with all its headers [bytes].
    packet_delay_ns
        Wait from one packet of an image to the next, so that a receiver keeps up [ns].
    lose
        ``(block, packet)`` pairs that are left out once: lost on the way.
    """

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._socket.bind((address, 0))
        self.host, self.port, self.packet_size = address, 0, PACKET_SIZE
        self.packet_delay_ns = 0
        self.lose: set[tuple[int, int]] = set()
        self._kept: OrderedDict[int, tuple[Image, int]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def source_port(self) -> int:
        """From which the packets come."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Send nothing any more."""
        self._socket.close()

    def restart(self) -> None:
        """An acquisition begins: blocks of the one before cannot be asked for any more."""
        with self._lock:
            self._kept.clear()

    def send_test_packet(self) -> None:
        """A packet of full size, by which the host learns what the network lets through."""
        if self.port:
            self._put(struct.pack(">HHI", 0, 0, 0), memoryview(bytes(self.packet_size - HEADERS)))

    def send(self, image: Image) -> None:
        """One image: leader, payload, trailer."""
        size = self.packet_size - HEADERS
        with self._lock:
            self._kept[image.block] = image, size
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        if self.port:
            self._send(image, size, 0, _packets(image, size) - 1)

    def resend(self, block: int, first: int, last: int) -> None:
        """Packets of an image once more; where the image is gone, the answer says so."""
        with self._lock:
            kept = self._kept.get(block)
        if kept is None:
            for packet in range(first, min(last, first + 64) + 1):
                self._put(_header(block, _PAYLOAD, packet, _UNAVAILABLE), memoryview(b""))
            return
        image, size = kept
        self._send(image, size, first, min(last, _packets(image, size) - 1))

    def _send(self, image: Image, size: int, first: int, last: int) -> None:
        data = image.pixels.data.cast("B")
        trailer = _packets(image, size) - 1
        begin_ns = time.monotonic_ns()
        for packet in range(first, last + 1):
            early_ns = begin_ns + (packet - first) * self.packet_delay_ns - time.monotonic_ns()
            if early_ns > _NAP_NS:
                time.sleep(early_ns / 1e9)
            if self.lose and (image.block, packet) in self.lose:
                self.lose.discard((image.block, packet))
            elif packet == 0:
                self._put(_header(image.block, _LEADER, packet), memoryview(image.leader))
            elif packet == trailer:
                self._put(_header(image.block, _TRAILER, packet), memoryview(image.trailer))
            else:
                self._put(_header(image.block, _PAYLOAD, packet), data[(packet - 1) * size : packet * size])

    def _put(self, header: bytes, content: memoryview) -> None:
        try:
            self._socket.sendmsg((header, content), (), 0, (self.host, self.port))
        except OSError as error:  # the host's socket is gone, or its network: a camera goes on
            log.debug("a packet was not sent: %s", error)


def _packets(image: Image, size: int) -> int:
    return 2 + -(-image.pixels.nbytes // size)


def _header(block: int, kind: int, packet: int, status: int = 0) -> bytes:
    return struct.pack(">HHI", status, block, kind << 24 | packet)
