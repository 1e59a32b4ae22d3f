"""Backend ``scpi.source``: a laser or LED driver that is switched by SCPI commands.

An LED driver, with the words of its manual::

    [devices.source]
    backend = "scpi.source"

    [devices.source.options]
    address = "USB0::0x0699::0x0346::C034165::INSTR"
    settings = {"SOUR:CURR" = 0.35}           # [A]; set in the dark, read back
    on = "OUTP ON"
    off = "OUTP OFF"
    state = "OUTP?"                           # answers 1 or 0, or ON or OFF

It is switched off as soon as it is known who answers, again after its settings, and when it is closed; each is read
back. Where the answer to ``state`` is another word than 1, 0, ON or OFF, say it: ``state_on = "EMISSION"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from drivers.backend import Backend, Family, Proof
from drivers.libraries.visa import VisaOptions, open_session
from drivers.libraries.wired import SetUp, opened
from drivers.protocols import OpenContext
from drivers.sources.wired import Switch, WiredSource


@dataclass(frozen=True, kw_only=True)
class ScpiSourceOptions(VisaOptions):
    """Options of the backend ``scpi.source``, besides where the instrument is.

    Attributes
    ----------
    on, off
        Commands that switch the light.
    state
        Question whether there is light.
    state_on, state_off
        Regular expressions for its two answers.
    commands
        Commands at opening, in the dark, in order.
    settings
        Header → number or word: set at opening by ``HEADER VALUE``, read back by ``HEADER?``.
    """

    on: str = "OUTP ON"
    off: str = "OUTP OFF"
    state: str = "OUTP?"
    state_on: str = r"\+?1|ON"
    state_off: str = r"\+?0|OFF"
    commands: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.switch, self.set_up  # each refuses what makes no sense

    @property
    def switch(self) -> Switch:
        """How the light is switched."""
        return Switch(on=self.on, off=self.off, state=self.state, state_on=self.state_on, state_off=self.state_off)

    @property
    def set_up(self) -> SetUp:
        """What the instrument is told at opening."""
        return SetUp(identity_expect=self.identity_expect, commands=self.commands, settings=self.settings)


def _open(name: str, options: ScpiSourceOptions, context: OpenContext) -> WiredSource:
    hold = open_session(name, options, context)
    return opened(hold, lambda wire: WiredSource(name, wire, options.timeout_s, options.switch, options.set_up))


SOURCE = Backend(
    "scpi.source",
    ("source",),
    ScpiSourceOptions,
    _open,
    needs=("pyvisa",),
    install="pip install pyvisa pyvisa-py",
    families=(
        Family(
            "Lasers and LED drivers with SCPI",
            Proof.LIVE,
            "scpipy's server, not ours, over TCP",
            "tests/endpoints/test_scpi.py",
        ),
    ),
)
"""SCPI commands as a light source."""
