"""The control channel of a GigE Vision camera: registers behind UDP, who may write them, and for how long.

The subset of GigE Vision 1.2 (AIA, 2010) that hosts use: discovery, reading and writing of registers and memory, the
control privilege with its heartbeat, and requests to send packets again.
"""

from __future__ import annotations

import logging
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network

log = logging.getLogger("labctl.mock.served")

PORT = 3956
"""UDP port of every GigE Vision device."""
_KEY = 0x42
_ACKNOWLEDGE = 0x01
_BLOCK_MAX = 536
"""Bytes that one READMEM may ask for."""
_POLL_S = 0.1


class Command(IntEnum):
    """What a host may ask."""

    DISCOVERY = 0x0002
    RESEND = 0x0040
    READ_REGISTER = 0x0080
    WRITE_REGISTER = 0x0082
    READ_MEMORY = 0x0084
    WRITE_MEMORY = 0x0086


class Status(IntEnum):
    """What the device answers."""

    SUCCESS = 0x0000
    NOT_IMPLEMENTED = 0x8001
    INVALID_PARAMETER = 0x8002
    INVALID_ADDRESS = 0x8003
    WRITE_PROTECTED = 0x8004
    BAD_ALIGNMENT = 0x8005
    ACCESS_DENIED = 0x8006
    PACKET_UNAVAILABLE = 0x800C


class Refused(Exception):
    """A request that the device answers with an error status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


@dataclass(frozen=True)
class Register:
    """A value in the device's memory.

    Attributes
    ----------
    read
        Its bytes now; always equally many, a multiple of four.
    write
        Takes as many; None for one that cannot be written.
    """

    read: Callable[[], bytes]
    write: Callable[[bytes], None] | None = None


def number(read: Callable[[], int], write: Callable[[int], None] | None = None) -> Register:
    """A register of 32 bits."""
    take = None if write is None else lambda data: write(int.from_bytes(data, "big"))
    return Register(lambda: (read() & 0xFFFFFFFF).to_bytes(4, "big"), take)


def real(read: Callable[[], float], write: Callable[[float], None] | None = None) -> Register:
    """A register of 64 bits that holds an IEEE 754 number."""
    take = None if write is None else lambda data: write(struct.unpack(">d", data)[0])
    return Register(lambda: struct.pack(">d", read()), take)


def text(content: str, length: int) -> Register:
    """A string that cannot be written."""
    data = content.encode()[: length - 1].ljust(length, b"\0")
    return Register(lambda: data)


class Memory:
    """The device's address space: registers at the addresses that they were put to, nothing between them."""

    def __init__(self) -> None:
        self._words: dict[int, tuple[Register, int]] = {}
        self._lengths: dict[int, int] = {}

    def put(self, address: int, register: Register) -> None:
        """Place a register."""
        length = len(register.read())
        self._lengths[id(register)] = length
        for offset in range(0, length, 4):
            self._words[address + offset] = register, offset

    def read(self, address: int, count: int) -> bytes:
        """``count`` bytes; registers are read once each, whole, so that no number is torn."""
        if address % 4 or count % 4:
            raise Refused(Status.BAD_ALIGNMENT)
        found: dict[int, bytes] = {}
        data = bytearray()
        for at in range(address, address + count, 4):
            register, offset = self._at(at)
            if id(register) not in found:
                found[id(register)] = register.read()
            data += found[id(register)][offset : offset + 4]
        return bytes(data)

    def write(self, address: int, data: bytes) -> None:
        """Write whole registers, one after the other."""
        if address % 4 or len(data) % 4:
            raise Refused(Status.BAD_ALIGNMENT)
        while data:
            register, offset = self._at(address)
            length = self._lengths[id(register)]
            if register.write is None:
                raise Refused(Status.WRITE_PROTECTED)
            if offset or len(data) < length:
                raise Refused(Status.INVALID_PARAMETER)
            register.write(data[:length])
            address, data = address + length, data[length:]

    def _at(self, address: int) -> tuple[Register, int]:
        found = self._words.get(address)
        if found is None:
            raise Refused(Status.INVALID_ADDRESS)
        return found


@dataclass(frozen=True)
class Nameplate:
    """What a device says of itself when it is discovered."""

    vendor: str
    model: str
    serial: str
    version: str
    address: IPv4Address
    network: IPv4Network
    mac: bytes = b"\x02\x00\x4c\x41\x42\x01"


_TICKS_HZ = 1_000_000_000
_CAN_WRITE_MEMORY, _CAN_RESEND, _HAS_SERIAL, _CAN_READ_MANY = 1 << 1, 1 << 2, 1 << 30, 1 << 0
_XML_AT = 0x0010_0000
_HEARTBEAT_MS = 3000
_SUBNETS = 0x7  # LLA, DHCP, persistent: bits of the IP configuration


class Privilege:
    """Who controls the device: one host, for as long as it is heard of.

    Parameters
    ----------
    on_loss
        Called when the host that had control gives it up or falls silent.
    """

    def __init__(self, on_loss: Callable[[], None]) -> None:
        self.heartbeat_ms = _HEARTBEAT_MS
        self.holder: tuple[str, int] | None = None
        self.asking: tuple[str, int] = ("", 0)
        self.mode = 0
        self._heard_at_s = 0.0
        self._on_loss = on_loss

    def heard(self, host: tuple[str, int]) -> None:
        """A command of ``host`` has arrived and is about to be carried out."""
        self.asking = host
        self.expire()
        if host == self.holder:
            self._heard_at_s = time.monotonic()

    def expire(self) -> None:
        """Take control from a host that was silent for longer than the heartbeat."""
        if self.holder is not None and 1e3 * (time.monotonic() - self._heard_at_s) > self.heartbeat_ms:
            log.warning("the host %s:%d is silent: it has lost control of the camera", *self.holder)
            self._drop()

    def require(self) -> None:
        """Refuse a write of anybody but the holder."""
        if self.holder != self.asking:
            raise Refused(Status.ACCESS_DENIED)

    def claim(self, mode: int) -> None:
        """The control privilege register is written: 0 gives control up, 1 and 2 take it."""
        if self.holder not in (None, self.asking):
            raise Refused(Status.ACCESS_DENIED)
        if mode & 0x3:
            self.holder, self.mode, self._heard_at_s = self.asking, mode, time.monotonic()
        elif self.holder is not None:
            self._drop()

    def set_heartbeat_ms(self, value: int) -> None:
        """At least half a second, as the standard asks."""
        self.heartbeat_ms = max(value, 500)

    def _drop(self) -> None:
        self.holder, self.mode = None, 0
        self._on_loss()


def bootstrap(memory: Memory, plate: Nameplate, privilege: Privilege, xml: bytes, clock_s: Callable[[], float]) -> None:
    """The registers that every GigE Vision device has, without those of its stream channel."""
    mac, latched = plate.mac, [0]

    def latch(value: int) -> None:
        if value & 0x2:
            latched[0] = round(clock_s() * _TICKS_HZ)

    padded = xml + b"\0" * (-len(xml) % 4)
    capability = _CAN_WRITE_MEMORY | _CAN_RESEND | _HAS_SERIAL | _CAN_READ_MANY
    url = f"Local:labctl_mock.xml;{_XML_AT:x};{len(xml):x}"
    registers = {
        0x0000: number(lambda: 0x0001_0002),
        0x0004: number(lambda: 0x8000_0001),
        0x0008: number(lambda: int.from_bytes(mac[:2], "big")),
        0x000C: number(lambda: int.from_bytes(mac[2:], "big")),
        0x0010: number(lambda: _SUBNETS),
        0x0014: number(lambda: _SUBNETS, lambda value: None),
        0x0024: number(lambda: int(plate.address)),
        0x0034: number(lambda: int(plate.network.netmask)),
        0x0044: number(lambda: 0),
        0x0048: text(plate.vendor, 32),
        0x0068: text(plate.model, 32),
        0x0088: text(plate.version, 32),
        0x00A8: text("the mock bench, served", 48),
        0x00D8: text(plate.serial, 16),
        0x00E8: text("", 16),
        0x0200: text(url, 512),
        0x0400: text("", 512),
        0x0600: number(lambda: 1),
        0x0900: number(lambda: 0),
        0x0904: number(lambda: 1),
        0x0908: number(lambda: 0),
        0x092C: number(lambda: 0),
        0x0930: number(lambda: 0),
        0x0934: number(lambda: capability),
        0x0938: number(lambda: privilege.heartbeat_ms, privilege.set_heartbeat_ms),
        0x093C: number(lambda: _TICKS_HZ >> 32),
        0x0940: number(lambda: _TICKS_HZ),
        0x0944: number(lambda: 0, latch),
        0x0948: Register(lambda: latched[0].to_bytes(8, "big")),
        0x0950: number(lambda: 0),
        0x0954: number(lambda: 0, lambda value: None),
        0x0958: number(lambda: 0),
        0x0A00: number(lambda: privilege.mode, privilege.claim),
        0x0A04: number(lambda: privilege.holder[1] if privilege.holder else 0),
        _XML_AT: Register(lambda: padded),
    }
    for address, register in registers.items():
        memory.put(address, register)


class ControlServer:
    """Answers commands on the device's address, and discovery by broadcast, of hosts in the same network only.

    Parameters
    ----------
    memory, plate, privilege
        Of the device.
    resend
        ``resend(block, first, last)`` sends packets of a block again.
    """

    def __init__(
        self, memory: Memory, plate: Nameplate, privilege: Privilege, resend: Callable[[int, int, int], None]
    ) -> None:
        self._memory, self._plate, self._privilege, self._resend = memory, plate, privilege, resend
        self._sockets = [_bound(str(plate.address))]
        for broadcast in (str(plate.network.broadcast_address), "255.255.255.255"):
            try:
                self._sockets.append(_bound(broadcast))
            except OSError:  # not on this system, or somebody's already: unicast works all the same
                log.debug("no discovery by broadcast to %s", broadcast)
        self._running = True
        self._thread = threading.Thread(target=self._serve, name="gvcp", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Does it answer?"""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop answering."""
        self._running = False
        self._thread.join(2.0)
        for channel in self._sockets:
            channel.close()

    def _serve(self) -> None:
        own = self._sockets[0]
        while self._running:
            self._privilege.expire()
            for channel in select.select(self._sockets, [], [], _POLL_S)[0]:
                packet, host = channel.recvfrom(2048)
                if channel is not own and IPv4Address(host[0]) not in self._plate.network:
                    continue
                answer = self._answer(packet, host, only_discovery=channel is not own)
                if answer is not None:
                    with suppress(OSError):  # a host that is gone; the next command is answered all the same
                        own.sendto(answer, host)

    def _answer(self, packet: bytes, host: tuple[str, int], only_discovery: bool) -> bytes | None:
        if len(packet) < 8 or packet[0] != _KEY:
            return None
        flags, command, length, request = struct.unpack(">xBHHH", packet[:8])
        body = packet[8 : 8 + length]
        if only_discovery and command != Command.DISCOVERY:
            return None
        try:
            answer, status = self._carry_out(command, body, host), Status.SUCCESS
        except Refused as refused:
            answer, status = b"", refused.status
        except (struct.error, IndexError):
            answer, status = b"", Status.INVALID_PARAMETER
        if command == Command.RESEND or not flags & _ACKNOWLEDGE:
            return None
        return struct.pack(">HHHH", status, command + 1, len(answer), request) + answer

    def _carry_out(self, command: int, body: bytes, host: tuple[str, int]) -> bytes:
        memory, privilege = self._memory, self._privilege
        if command == Command.DISCOVERY:
            return memory_of_discovery(memory)
        privilege.heard(host)
        match command:
            case Command.READ_REGISTER:
                addresses = struct.unpack(f">{len(body) // 4}I", body)
                return b"".join(memory.read(address, 4) for address in addresses)
            case Command.WRITE_REGISTER:
                pairs = struct.iter_unpack(">I4s", body)
                return struct.pack(">HH", 0, sum(self._write(address, data) for address, data in pairs))
            case Command.READ_MEMORY:
                address, count = struct.unpack(">IxxH", body)
                if count > _BLOCK_MAX:
                    raise Refused(Status.INVALID_PARAMETER)
                return struct.pack(">I", address) + memory.read(address, count)
            case Command.WRITE_MEMORY:
                self._write(struct.unpack(">I", body[:4])[0], body[4:])
                return struct.pack(">HH", 0, len(body) - 4)
            case Command.RESEND:
                _, block, first, last = struct.unpack(">HHII", body[:12])
                self._resend(block, first & 0xFFFFFF, last & 0xFFFFFF)
                return b""
        raise Refused(Status.NOT_IMPLEMENTED)

    def _write(self, address: int, data: bytes) -> int:
        """Write for the host that asks, who must have control; the control privilege itself has a rule of its own."""
        if address != 0x0A00:
            self._privilege.require()
        self._memory.write(address, data)
        return 1


def memory_of_discovery(memory: Memory) -> bytes:
    """The 248 bytes in which a device presents itself: its registers from 0, in the order of the standard."""
    return memory.read(0x0000, 0x18) + b"".join(
        padding + memory.read(address, count)
        for padding, address, count in (
            (b"\0" * 12, 0x0024, 4),
            (b"\0" * 12, 0x0034, 4),
            (b"\0" * 12, 0x0044, 4 + 32 + 32 + 32 + 48 + 16 + 16),
        )
    )


def _bound(address: str) -> socket.socket:
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        channel.bind((address, PORT))
    except BaseException:
        channel.close()
        raise
    return channel
