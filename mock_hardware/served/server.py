"""The backend ``mock.server``: all servers of one bench, opened and closed together.

It fills no role on a bench; ``labctl mock serve`` opens it. The snapshot says what is served, and by which table of a
station file a program on the other side opens each instrument.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self

from drivers.backend import Backend
from drivers.errors import CapabilityError, NotConnected
from drivers.options import Checked, option
from drivers.protocols import Identity, OpenContext
from mock_hardware.config import BenchConfig, parse
from mock_hardware.served.bench import ServedBench
from mock_hardware.served.gige_camera import GigeCamera
from mock_hardware.served.gvsp import PACKET_SIZE
from mock_hardware.served.panels import MonitorPanel
from mock_hardware.served.scpi_meter import MeterServer, PowerMeter
from mock_hardware.served.serial_laser import LaserControls, SerialLaser

PACKET_DELAY_NS = 10_000
"""What the other side should ask of the camera: a receiver on a busy computer loses packets that come at once [ns]."""


@dataclass(frozen=True)
class ServerOptions(Checked):
    """Options of ``mock.server``.

    Attributes
    ----------
    display_output, slm_output
        Names of the monitors that are the bench's panels, ``"DUMMY1"``; empty for a panel that stays bright.
    host
        Address of the camera and the power meter.
    beyond_this_computer
        Allow a host that other computers reach. There is no password: whoever reaches it has the bench.
    meter_port
        TCP port of the power meter; 0 for any that is free.
    laser_link
        Path that leads to the laser's serial line; empty for the system's own name of it.
    wavelength_nm
        Of the light, which a power meter must be told [nm].
    """

    display_output: str = ""
    slm_output: str = ""
    host: str = "127.0.0.1"
    beyond_this_computer: bool = False
    meter_port: int = option(0, 65535, 5025)
    laser_link: str = ""
    wavelength_nm: float = option(400, 1100, 525.0)


class MockServer:
    """The servers of one bench.

    Parameters
    ----------
    name
        For messages.
    options
        What is served where.
    config
        Of the bench.

    Attributes
    ----------
    bench
        For tests, which compare what a client gets with it.
    camera, meter, laser
        Its servers.

    Raises
    ------
    CapabilityError
        For a bench or a host that is not served.
    NotConnected
        When an address, a port or a monitor is not to be had.
    """

    def __init__(self, name: str, options: ServerOptions, config: BenchConfig) -> None:
        self.name, self.options = name, options
        _check_host(options)
        _check_monitors(options)
        panels = [
            MonitorPanel(role, output, (panel.rows, panel.cols), panel.levels)
            for role, output, panel in (
                ("display", options.display_output, config.display),
                ("slm", options.slm_output, config.slm),
            )
            if output
        ]
        self.bench = bench = ServedBench(config, panels)
        self._identity = bench.identify()
        with ExitStack() as opened:
            self.camera = GigeCamera(bench, self._identity, options.host)
            opened.callback(self.camera.close)
            serial = self._identity.serial
            self.meter = opened.enter_context(self._serve_meter(serial))
            controls = LaserControls(bench.on, bench.off, lambda: bench.is_lit, bench.interlock)
            link = Path(options.laser_link) if options.laser_link else None
            self.laser = opened.enter_context(SerialLaser(controls, link, serial))
            opened.callback(bench.off)
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """The light goes off, then every server stops."""
        self._opened.close()

    def identify(self) -> Identity:
        return self._identity

    def safe_state(self, timeout_s: float = 5.0) -> None:
        self.bench.off()

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """What is served.

        Raises
        ------
        DeviceLost
            When one of the servers has stopped.
        """
        self.camera.check()
        config, options = self.bench.config, self.options
        return {
            "serial": self._identity.serial,
            "served": {
                "camera": f"GigE Vision at {options.host}, serial number {self._identity.serial}",
                "display": _panel_words(options.display_output, config.display.levels),
                "slm": _panel_words(options.slm_output, config.slm.levels),
                "power meter": f"SCPI over TCP at {options.host}:{self.meter.port}",
                "laser": f"serial line at {self.laser.port}",
            },
            "devices": self._devices(),
        }

    def _devices(self) -> dict[str, Any]:
        """For the other side's station file; a panel without a monitor is in none."""
        options = self.options
        laser = {"port": self.laser.port, "baud": 115200}
        panels = {"display": options.display_output, "slm": options.slm_output}
        return {
            **{
                role: {
                    "role": role,
                    "backend": "screen",
                    "options": {"monitor": output, "settle_s": round(self.bench.settle_s(role), 4)},
                }
                for role, output in panels.items()
                if output
            },
            "camera": {
                "role": "camera",
                "backend": "genicam.gige",
                "options": {
                    "ip": options.host,
                    "serial": self._identity.serial,
                    "bit_depth": self.bench.bit_depth,
                    "packet_size_bytes": PACKET_SIZE,
                    "packet_delay_ns": PACKET_DELAY_NS,
                },
            },
            "source": {
                "role": "source",
                "backend": "serial.source",
                "options": {
                    **laser,
                    "identity": "ID?",
                    "identity_expect": "labctl served laser .*",
                    "on": "ON",
                    "off": "OFF",
                    "answer": "OK",
                    "state": "STATE?",
                    "state_on": "ON",
                    "state_off": "OFF",
                },
            },
            "power": {
                "role": "monitor",
                "backend": "scpi.monitor",
                "options": {
                    "address": f"TCPIP0::{options.host}::{self.meter.port}::SOCKET",
                    "preset": "pm100",
                    "wavelength_nm": options.wavelength_nm,
                },
            },
        }

    def _serve_meter(self, serial: str) -> MeterServer:
        options = self.options
        meter = PowerMeter(self.bench.power_w, options.wavelength_nm, serial)
        try:
            return MeterServer(meter, options.meter_port, options.host)
        except OSError as error:
            raise NotConnected(
                f"the power meter cannot be served on {options.host}:{options.meter_port}: {error.strerror or error}",
                action="serve the power meter",
                expected="a free TCP port",
                seen=str(error),
                hint="--meter-port 0",
            ) from error


def _panel_words(output: str, levels: int) -> str:
    if output:
        return f"the monitor {output}, read back from the screen"
    return f"not served: it shows level {levels - 1} everywhere"


def _check_host(options: ServerOptions) -> None:
    try:
        address = IPv4Address(options.host)
    except ValueError as error:
        raise CapabilityError(
            "that is no IPv4 address", action="serve the mock bench", expected="127.0.0.1", seen=options.host
        ) from error
    if address.is_unspecified or address.is_multicast:
        raise CapabilityError(
            "a camera has one address of its own",
            action="serve the mock bench",
            expected="an address of this computer",
            seen=options.host,
            hint="ip address lists them",
        )
    if not address.is_loopback and not options.beyond_this_computer:
        raise CapabilityError(
            "other computers would reach the bench, and nothing asks them for a password",
            action="serve the mock bench",
            expected="an address of this computer only, 127.0.0.1",
            seen=options.host,
            hint="if you want that: --beyond-this-computer",
        )


def _check_monitors(options: ServerOptions) -> None:
    if options.slm_output and options.slm_output == options.display_output:
        raise CapabilityError(
            "one monitor cannot be both panels",
            action="serve the mock bench",
            expected="two outputs",
            seen=options.slm_output,
            hint="xrandr --listmonitors",
        )


def _open(name: str, options: ServerOptions, context: OpenContext) -> MockServer:
    table: Mapping[str, Any] = context.bench.get("mock", {})
    return MockServer(name, options, parse(table))


SERVER = Backend("mock.server", (), ServerOptions, _open)
"""The station's mock bench, behind real protocols."""
