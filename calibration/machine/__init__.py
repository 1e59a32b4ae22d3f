"""The machine: channel, look-up tables, layout, encoding and noise, and the artefact that holds them."""

from calibration.machine.artefact import Calibration, Domain, load, save
from calibration.machine.channel import Channel, Couplings
from calibration.machine.encoding import Encoding, Offset, SignSplit
from calibration.machine.findings import DarkLevel, Findings, GainCandidate
from calibration.machine.layout import Layout, Tile, apply_homography, display_frame
from calibration.machine.lut import Lut, level_dtype
from calibration.machine.machine import Machine
from calibration.machine.noise import Noise
from calibration.machine.registration import Registration

__all__ = [
    "Calibration",
    "Channel",
    "Couplings",
    "DarkLevel",
    "Domain",
    "Encoding",
    "Findings",
    "GainCandidate",
    "Layout",
    "Lut",
    "Machine",
    "Noise",
    "Offset",
    "Registration",
    "SignSplit",
    "Tile",
    "apply_homography",
    "display_frame",
    "level_dtype",
    "load",
    "save",
]
