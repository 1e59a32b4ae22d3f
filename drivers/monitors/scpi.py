"""Backend ``scpi.monitor``: a power meter, thermometer or voltmeter that answers a SCPI question.

A Thorlabs power meter of the PM100 family (PM100D, PM100A, PM100USB, PM101, PM400 …)::

    [devices.power]
    role = "monitor"
    backend = "scpi.monitor"
    options = {address = "USB0::0x1313::0x8078::P0012345::INSTR", preset = "pm100", wavelength_nm = 633}

The wavelength must be given: a photodiode's responsivity follows it, and with the wrong one the watts are wrong. It is
set, read back, and read back again with each reading, as the unit is: a run does not go on when somebody has turned
the meter's knob.

Any other instrument, from its manual::

    [devices.lab_temperature]
    role = "monitor"
    backend = "scpi.monitor"

    [devices.lab_temperature.options]
    address = "TCPIP0::192.168.1.20::5025::SOCKET"
    identity_expect = "MY57001234"            # of *IDN?: addresses move
    commands = ["*RST", "CONF:TEMP TC,K"]
    settings = {"UNIT:TEMP" = "C", "SENS:TEMP:NPLC" = 10}
    ask = "READ?"
    unit = "degC"
    low = 10
    high = 40

USB needs ``pip install pyusb``, or the system's own VISA with ``visa = "@ivi"``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from drivers.backend import Backend, Family, Found, Proof
from drivers.libraries.visa import VisaOptions, open_session, visa_instruments
from drivers.libraries.wired import NUMBER, Quantity, SetUp, opened
from drivers.monitors.wired import WiredMonitor
from drivers.options import option, refused
from drivers.protocols import Identity, OpenContext

TEST = "tests/endpoints/test_scpi.py"


@dataclass(frozen=True, kw_only=True)
class ScpiMonitorOptions(VisaOptions):
    """Options of the backend ``scpi.monitor``, besides where the instrument is.

    Attributes
    ----------
    preset
        ``"pm100"`` for a Thorlabs power meter of that family: question, unit and settings are known.
    wavelength_nm
        Of the light [nm]; with the preset only, and required there.
    averages
        Samples of the meter in one reading; with the preset only. The meter keeps what it has when omitted.
    ask, unit
        The question, and the unit of the reading after scaling; without a preset only, and required there.
    expect
        Regular expression that the whole answer must match, with the number in the group ``value``.
    scale
        From the instrument's number to ``unit``.
    low, high
        Readings outside are refused [unit].
    commands
        Commands at opening, in order; the error queue is read after each.
    settings
        Header → number or word: set at opening by ``HEADER VALUE``, read back by ``HEADER?`` then and with each
        reading.
    """

    preset: Literal["none", "pm100"] = "none"
    wavelength_nm: float | None = option(100, 30_000, None)
    averages: int | None = option(1, 100_000, None)
    ask: str = ""
    unit: str = ""
    expect: str = NUMBER
    scale: float = option(-1e30, 1e30, 1.0)
    low: float | None = option(-1e30, 1e30, None)
    high: float | None = option(-1e30, 1e30, None)
    commands: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preset == "pm100" and self.wavelength_nm is None:
            raise refused("wavelength_nm is missing", expected="of the light on the sensor, in nm", seen="nothing")
        if self.preset == "pm100" and (self.ask or self.unit):
            raise refused("the preset says what to ask", expected="no ask, no unit", seen=self.ask or self.unit)
        if self.preset == "none" and (self.wavelength_nm is not None or self.averages is not None):
            raise refused(
                "only a preset knows how to set that",
                expected='preset = "pm100"',
                seen="wavelength_nm or averages without preset",
                hint='other instruments: settings = {"SENS:CORR:WAV" = 633}, from the manual',
            )
        if "?" not in self.quantity.ask:
            raise refused("ask is no question", expected='a question mark: "MEAS:POW?"', seen=repr(self.ask))
        _ = self.set_up  # refuses what makes no sense

    @property
    def quantity(self) -> Quantity:
        """What is asked for."""
        is_known = self.preset == "pm100"
        ask, unit = ("MEAS:POW?", "W") if is_known else (self.ask, self.unit)
        return Quantity(ask=ask, unit=unit, expect=self.expect, scale=self.scale, low=self.low, high=self.high)

    @property
    def set_up(self) -> SetUp:
        """What the instrument is told at opening."""
        settings: dict[str, Any] = {}
        if self.preset == "pm100":
            settings = {"SENS:CORR:WAV": self.wavelength_nm, "SENS:POW:UNIT": "W"}
        if self.averages is not None:
            settings["SENS:AVER:COUN"] = self.averages
        return SetUp(
            identity_expect=self.identity_expect, commands=self.commands, settings={**settings, **self.settings}
        )


def _open(name: str, options: ScpiMonitorOptions, context: OpenContext) -> WiredMonitor:
    hold = open_session(name, options, context)
    return opened(hold, lambda wire: WiredMonitor(name, wire, options.timeout_s, options.quantity, options.set_up))


def _discover() -> Sequence[Found]:
    found = []
    for library, address, identity in visa_instruments():
        options: dict[str, Any] = {"address": address, **({} if library == "@py" else {"visa": library})}
        note = 'say what to ask, from the manual: ask = "MEAS:…?", unit = "…"'
        if identity is None:
            identity, note = Identity("unknown", "unknown", address), f"it does not answer *IDN?; {note}"
        else:
            options["identity_expect"] = re.escape(identity.serial)
        if re.search(r"\bPM[1-4]\d\d", identity.model):
            options["preset"], note = "pm100", "add wavelength_nm: that of the light on the sensor"
        found.append(Found("monitor", identity, options, note))
    return found


MONITOR = Backend(
    "scpi.monitor",
    ("monitor",),
    ScpiMonitorOptions,
    _open,
    needs=("pyvisa",),
    install="pip install pyvisa pyvisa-py",
    discover=_discover,
    families=(
        Family("SCPI instruments over TCP", Proof.LIVE, "scpipy's server, not ours; pyvisa's Python backend", TEST),
        Family(
            "Thorlabs PM100 family, SCPI commands",
            Proof.FAKE,
            "our served meter, which the package ThorlabsPM100 reads",
            TEST,
        ),
        Family("SCPI instruments over USB, GPIB, VXI-11", Proof.NOT_RUN),
    ),
)
"""A SCPI question as a monitor."""
