"""Everything that ``labctl doctor`` looks at, in this order. A new check is one function and one line here."""

from __future__ import annotations

from labctl.doctor import computer, lab, nights, wires
from labctl.doctor.check import Check

CHECKS = (
    Check("python", computer.python),
    Check("packages", computer.packages),
    Check("disk", computer.disk),
    Check("writing", computer.writing),
    Check("clock", computer.clock),
    Check("compiled loops", computer.compiled),
    Check("station", lab.station),
    Check("backends", lab.backends),
    Check("bench", lab.held),
    Check("runs", lab.left_behind),
    Check("locks", nights.state_folder),
    Check("nights", nights.timer),
    Check("display", computer.display),
    Check("monitors", lab.screens),
    Check("serial ports", wires.serial_ports),
    Check("usb", wires.usb_memory),
    Check("ethernet", wires.ethernet),
)
