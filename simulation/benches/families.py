"""The families by their names."""

from __future__ import annotations

from calibration.errors import OutOfDomain
from simulation.benches.coherent import Coherent
from simulation.benches.differential import Differential
from simulation.benches.intensity import OFFSET, SIGN_SPLIT
from simulation.benches.multiplier import Family
from simulation.benches.partial_sums import BITS, PartialSums
from simulation.benches.tiled import TILE, TiledScales

PARTIAL_SUMS, TILED_SCALES = "partial-sums", "tiled-scales"

FAMILIES: dict[str, Family] = {each.name: each for each in (SIGN_SPLIT, OFFSET, Differential(), Coherent())}
NAMES = (*FAMILIES, PARTIAL_SUMS, TILED_SCALES)


def family(name: str) -> Family:
    """The strategy of that name; ``partial-sums:6`` has converters of 6 bits, ``tiled-scales:32`` tiles of 32 inputs.

    Raises
    ------
    OutOfDomain
        When there is none.
    """
    stem, _, number = name.partition(":") if isinstance(name, str) else (None, "", "")
    if stem == PARTIAL_SUMS:
        return PartialSums(_whole(name, number, BITS))
    if stem == TILED_SCALES:
        return TiledScales(_whole(name, number, TILE))
    if name not in FAMILIES:
        raise OutOfDomain(
            "no such encoding",
            expected=f"{', '.join(FAMILIES)}, {PARTIAL_SUMS}:BITS or {TILED_SCALES}:INPUTS",
            seen=repr(name),
            hint="--encoding sign-split",
        )
    return FAMILIES[name]


def _whole(name: str, number: str, usual: int) -> int:
    """The number behind a name; the usual one if none is there."""
    if number and not (number.isascii() and number.isdecimal()):
        raise OutOfDomain(
            "no such encoding: its number is a whole one, from 1 on",
            expected="1, 2, 3, …",
            seen=repr(name),
            hint=f"--encoding {name.partition(':')[0]}:{usual}",
        )
    return int(number) if number else usual
