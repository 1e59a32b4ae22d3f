"""Instruments on a wire: readings in a second through each driver, and bare questions through its library."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from _compare import Missing, Pair, need_module, repeated, served

from drivers import OpenContext, open_device

READINGS = 300
"""In one turn, at least, for one block."""

METER = """
import sys
from mock_hardware.served.scpi_meter import MeterServer, PowerMeter
with MeterServer(PowerMeter(lambda: 2e-3)) as server:
    print(f"TCPIP0::127.0.0.1::{server.port}::SOCKET", flush=True)
    sys.stdin.read()
"""
THERMOMETER = r"""
import os, sys, threading, tty
here, there = os.openpty()
tty.setraw(here)
tty.setraw(there)
def answer():
    held = b""
    while True:
        held += os.read(here, 256)
        while b"\n" in held:
            _, held = held.split(b"\n", 1)
            os.write(here, b"T=23.5 C\r\n")
threading.Thread(target=answer, daemon=True).start()
print(os.ttyname(there), flush=True)
sys.stdin.read()
"""
LASER = r"""
import sys, tempfile
from pathlib import Path
from mock_hardware.served.serial_laser import LaserControls, SerialLaser
lit = [False]
controls = LaserControls(lambda: lit.__setitem__(0, True), lambda: lit.__setitem__(0, False), lambda: lit[0])
with tempfile.TemporaryDirectory() as folder, SerialLaser(controls, Path(folder) / "laser") as laser:
    print(laser.port, flush=True)
    sys.stdin.read()
"""


def read(backend: str, options: dict[str, Any], blocks: int) -> float:
    """Readings in a second through a driver [Hz]."""
    with open_device(backend, "monitor", options, OpenContext()) as monitor:
        return repeated(monitor.read, READINGS * blocks)


@contextmanager
def scpi(checked: bool, blocks: int) -> Iterator[Pair]:
    """Our served power meter over TCP, and pyvisa's ``query``.

    Where ``checked``, wavelength and unit are read back with each reading, as the driver does for a power meter: the
    bare loop asks the same three questions then, and does nothing with the answers.
    """
    need_module("pyvisa")
    need_module("pyvisa_py")
    import pyvisa

    questions = ["SENS:CORR:WAV?", "SENS:POW:UNIT?", "MEAS:POW?"] if checked else ["MEAS:POW?"]
    with served(METER) as address:

        def bare() -> float:
            manager = pyvisa.ResourceManager("@py")
            meter = manager.open_resource(address, read_termination="\n", write_termination="\n", timeout=2000)

            def once() -> float:
                for question in questions:
                    answer = meter.query(question)
                return float(answer)

            try:
                return repeated(once, READINGS * blocks)
            finally:
                meter.close()
                manager.close()

        what = {"preset": "pm100", "wavelength_nm": 633} if checked else {"ask": "MEAS:POW?", "unit": "W"}
        yield Pair(lambda: read("scpi.monitor", {"address": address, **what}, blocks), bare)


@contextmanager
def serial(blocks: int) -> Iterator[Pair]:
    """A thermometer on a pseudo-terminal, and pyserial's ``write`` and ``read_until``."""
    need_module("serial")
    if os.name != "posix":
        raise Missing("pseudo-terminals are POSIX")
    import serial as pyserial

    with served(THERMOMETER) as port:

        def bare() -> float:
            with pyserial.Serial(port, 115200, timeout=2) as line:

                def once() -> float:
                    line.write(b"TEMP?\r\n")
                    return float(line.read_until(b"\r\n")[2:-4])

                return repeated(once, READINGS * blocks)

        table = {"port": port, "baud": 115200, "ask": "TEMP?", "expect": "T=(?P<value>[-+0-9.]+) C", "unit": "degC"}
        yield Pair(lambda: read("serial.monitor", table, blocks), bare)


@contextmanager
def switched(blocks: int) -> Iterator[Pair]:
    """Our served laser on a pseudo-terminal, on and off, each read back; and the same by pyserial."""
    need_module("serial")
    if os.name != "posix":
        raise Missing("pseudo-terminals are POSIX")
    import serial as pyserial

    with served(LASER) as port:

        def bare() -> float:
            with pyserial.Serial(port, 115200, timeout=2) as line:

                def said(words: bytes) -> bytes:
                    line.write(words + b"\r\n")
                    return bytes(line.read_until(b"\r\n"))

                def once() -> None:
                    for words in (b"ON", b"STATE?", b"OFF", b"STATE?"):
                        said(words)

                return repeated(once, READINGS * blocks // 4)

        def ours() -> float:
            table = {"port": port, "baud": 115200, "on": "ON", "off": "OFF", "answer": "OK"}
            table |= {"state": "STATE?", "state_on": "ON", "state_off": "OFF"}
            with open_device("serial.source", "source", table, OpenContext()) as source:

                def once() -> None:
                    source.on()
                    source.off()

                return repeated(once, READINGS * blocks // 4)

        yield Pair(ours, bare)
