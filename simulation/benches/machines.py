"""Machines that were published, as far as their publications say what a simulation needs.

A machine is a preset: tile, levels, encoding, noise. Each number is a `Fact` with its source, and says whether somebody
here has read it there. What a publication leaves open is named in `Machine.open` and left ideal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.machine.encoding import encoding
from simulation.benches.partial_sums import tile
from simulation.light.optics import PAPER_CLIP, Optics, Panel


@dataclass(frozen=True)
class Fact:
    """One number of a machine.

    Attributes
    ----------
    name, value
        What, and how much of it, in words.
    source
        Where it is printed; ``"ours"`` for what this preset assumes.
    verified
        Whether it was read there, and not in somebody's account of it.
    """

    name: str
    value: str
    source: str
    verified: bool


@dataclass(frozen=True)
class Machine(Optics):
    """A published machine.

    Attributes
    ----------
    family
        How it shows signs (`simulation.benches.families`).
    words
        What it is, in one line.
    facts
        Where its numbers come from.
    open
        What is not published, or not simulated, in words.
    """

    family: str = "sign-split"
    words: str = ""
    facts: tuple[Fact, ...] = ()
    open: str = ""

    def can(self, family: str) -> bool:
        """Whether it can show signs by a family: its own; with other converters; passes with an offset, or in tiles."""
        own, wanted = self.family.partition(":")[0], family.partition(":")[0]
        return own == wanted or (own == "sign-split" and wanted in ("offset", "tiled-scales"))


def _ramp(levels: int, floor: float = 0.0) -> Panel:
    """A modulator of that many even levels, the darkest at ``floor``."""
    return Panel.of(np.linspace(floor, 1.0, levels))


_ANY = Panel.continuous()
_SIGNED = encoding("sign-split")
_WANG = "Wang et al., Nature Communications 13, 123 (2022), doi:10.1038/s41467-021-27774-8"
_AOC = "README of github.com/microsoft/aoc"
_AOC_CODE = "github.com/microsoft/aoc, src/aoc/hardware_parameters.py"
_LIGHTENING = "github.com/zhuhanqing/Lightening-Transformer, params/device_params/Dota_B_{0}bit.yaml"
_LIGHTNING = "Zhong et al., SIGCOMM 2023, doi:10.1145/3603269.3604821, abstract"
_NETCAST = "Sludds et al., Science 378, 270 (2022), doi:10.1126/science.abq8271"
_HAMERLY = "Hamerly et al., Phys. Rev. X 9, 021032 (2019)"

SUM_OF_TWO = 2.0
"""Full scale of a reading of Lightning's prototype, which has two wavelengths [full elements]."""


def _lightening(bits: int) -> Machine:
    source = _LIGHTENING.format(bits)
    return Machine(
        name=f"lightening-transformer-2024-{bits}bit",
        encoding=_SIGNED,
        display=_ramp(2**bits),
        slm=_ramp(2**bits),
        layout=tile(12, 12),
        clip=PAPER_CLIP,
        family="coherent",
        words="crossbar of coherent dot products, both operands modulated (Zhu et al., HPCA 2024, arXiv:2305.19533)",
        facts=(
            Fact("tile", "12 wavelengths, 12 × 12 products at once", source, True),
            Fact("operands", f"{bits} bits", source, True),
            Fact("signs", "both operands of full range, one pass", source, True),
        ),
        open="noise: its software adds a normal one that is no function of light; give photons per MAC",
    )


def _aoc(channels: int, weights: str) -> Machine:
    return Machine(
        name=f"aoc-2025-{channels}",
        encoding=_SIGNED,
        display=_ANY,
        slm=_ramp(256),
        layout=tile(channels, channels),
        clip=PAPER_CLIP,
        detectors=2,
        words="analog optical computer: microLEDs, SLM, detectors (Kalinin et al., Nature 645, 354 (2025))",
        facts=(
            Fact("tile", f"{channels} × {channels}: the machine of {weights} weights", _AOC, True),
            Fact("SLM", "256 levels", "ours", False),
            Fact("signs of weights", "a path and a detector for each sign", _AOC_CODE, True),
            Fact("signs of inputs", "two passes", "ours", False),
        ),
        open="noise; curves of LEDs and weights, crosstalk of neighbours and between the signs, which its code has by "
        "channel (the mock bench channels-48 has crosstalk); readings are not converted there",
    )


_ALL = (
    Machine(
        name="wang-2022",
        encoding=_SIGNED,
        display=_ramp(128),
        slm=_ramp(251, 1 / 50),
        layout=tile(711, 711),
        words="OLED panel, SLM and photon counter: less than one photon per multiplication",
        facts=(
            Fact("tile", "711 × 711, half a million multiplications at once", _WANG, True),
            Fact("display", "about 7 bits of the panel's green", "code beside the publication", False),
            Fact("SLM", "gray 5 … 255, extinction about 1:50", "code beside the publication", False),
        ),
        open="read-out noise: shot noise alone, give photons per MAC",
    ),
    Machine(
        name="netcast-2022",
        encoding=_SIGNED,
        display=_ANY,
        slm=_ANY,
        layout=tile(2**20, 1),
        read_e=0.01 / np.sqrt(2),
        family="differential",
        words="weights sent through a fibre, one product after the other, summed by a slow receiver with two detectors",
        facts=(
            Fact("noise", "rms 0.50 % of range over 10,000 products; range taken as −1 … 1", _NETCAST, False),
            Fact("detection", "difference of both outputs of a modulator", _NETCAST, False),
        ),
        open="light of that measurement",
    ),
    Machine(
        name="lightning-2023",
        encoding=_SIGNED,
        display=_ramp(256),
        slm=_ramp(256),
        layout=tile(1, 2),
        read_e=0.0075 * SUM_OF_TWO,
        family="partial-sums:8",
        words="two wavelengths, every sum of two products converted",
        facts=(
            Fact("operands", "8 bits", _LIGHTNING, True),
            Fact("noise", "accuracy 99.25 %, taken as an rms of 0.75 % of full scale", _LIGHTNING, True),
            Fact("tile", "two wavelengths", _LIGHTNING, False),
            Fact("converter", "8 bits", "ours, as the operands", False),
        ),
        open="light of that measurement",
    ),
    Machine(
        name="microring-2022",
        encoding=_SIGNED,
        display=_ANY,
        slm=_ramp(512),
        family="differential",
        words="bank of ring resonators, each before two detectors",
        facts=(
            Fact("weights", "9 bits", "Zhang et al., Optica (2022), arXiv:2104.01164, abstract", True),
            Fact("detection", "balanced", "Tait et al., Scientific Reports 7, 7430 (2017)", False),
        ),
        open="size of a bank: as large as the matrix; light: give photons per MAC",
    ),
    Machine(
        name="hamerly-2019",
        encoding=_SIGNED,
        display=_ANY,
        slm=_ANY,
        family="coherent",
        words="fields multiplied by homodyne detection, at its standard quantum limit",
        facts=(Fact("limit", "shot noise of the detector alone", f"{_HAMERLY}, abstract", True),),
        open="the publication multiplies at the detector; here fields are summed, with the loss of a passive element",
    ),
    _lightening(4),
    _lightening(8),
    _aoc(16, "256"),
    _aoc(48, "2300"),
)

MACHINES: dict[str, Machine] = {machine.name: machine for machine in _ALL}
"""By name, as `labctl.opticalize` and ``labctl simulate`` take it."""
