"""An answer that was there in time is taken, however late the program looks for it; one that is not there is late."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from drivers.libraries.line import LineOptions, SerialLine
from drivers.libraries.visa import VisaOptions, VisaSession
from drivers.libraries.wire import Late

PAST_S = -60.0
"""From now to the end of the time, for a program that got no processor meanwhile [s]."""


class Port:
    """A serial port, with what has come over it."""

    def __init__(self, come: bytes) -> None:
        self.come = come

    @property
    def in_waiting(self) -> int:
        return len(self.come)

    def read(self, count: int) -> bytes:
        read, self.come = self.come[:count], self.come[count:]
        return read


def serial_line(come: bytes) -> SerialLine:
    line = SerialLine(LineOptions(port="/dev/ttyUSB0"))
    line._port = Port(come)
    return line


def test_answer_on_a_serial_line_that_waits_when_the_time_is_over_is_taken() -> None:
    assert serial_line(b"1.5 W\n")._line(time.monotonic() + PAST_S) == "1.5 W"


@pytest.mark.parametrize("come", [b"", b"1.5"])
def test_answer_on_a_serial_line_that_is_not_there_when_the_time_is_over_is_late(come: bytes) -> None:
    with pytest.raises(Late) as late:
        serial_line(come)._line(time.monotonic() + PAST_S)
    assert late.value.args == (come.decode(),)


def test_serial_line_that_is_silent_when_the_time_is_over_is_not_said_to_talk() -> None:
    with pytest.raises(Late) as late:
        serial_line(b"")._resynchronise(time.monotonic() + PAST_S)
    assert late.value.args == ("",)
    with pytest.raises(Late, match="talks without being asked"):
        serial_line(b"1.5 W\n")._resynchronise(time.monotonic() + PAST_S)


class Connected(VisaSession):
    """A session over a socket that the test has made."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(VisaOptions(address="TCPIP0::127.0.0.1::5025::SOCKET"))
        self.socket = connection

    def _connection(self) -> socket.socket:
        return self.socket

    def _read(self, count: int, deadline: float) -> bytes:
        try:
            return self.socket.recv(count, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise Late("") from None


@pytest.fixture
def ends() -> Iterator[tuple[Any, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        yield Connected(ours), theirs


def test_answer_over_tcp_that_waits_when_the_time_is_over_is_taken(ends: tuple[Any, socket.socket]) -> None:
    session, instrument = ends
    instrument.sendall(b"1.5 W\n")
    assert session._line(time.monotonic() + PAST_S) == "1.5 W"


@pytest.mark.parametrize("come", [b"", b"1.5"])
def test_answer_over_tcp_that_is_not_there_when_the_time_is_over_is_late(
    ends: tuple[Any, socket.socket], come: bytes
) -> None:
    session, instrument = ends
    instrument.sendall(come)
    with pytest.raises(Late) as late:
        session._line(time.monotonic() + PAST_S)
    assert late.value.args == (come.decode(),)
