"""The families by their names."""

from __future__ import annotations

from calibration.errors import OutOfDomain
from simulation.benches.coherent import Coherent
from simulation.benches.differential import Differential
from simulation.benches.intensity import OFFSET, SIGN_SPLIT
from simulation.benches.multiplier import Family
from simulation.benches.partial_sums import BITS, PartialSums

PARTIAL_SUMS = "partial-sums"

FAMILIES: dict[str, Family] = {each.name: each for each in (SIGN_SPLIT, OFFSET, Differential(), Coherent())}
NAMES = (*FAMILIES, PARTIAL_SUMS)


def family(name: str) -> Family:
    """The strategy of that name; ``partial-sums:6`` has converters of 6 bits.

    Raises
    ------
    OutOfDomain
        When there is none.
    """
    stem, _, bits = name.partition(":")
    if stem == PARTIAL_SUMS and (not bits or bits.isdecimal()):
        return PartialSums(int(bits) if bits else BITS)
    if name not in FAMILIES:
        raise OutOfDomain(
            "no such encoding",
            expected=f"{', '.join(FAMILIES)} or {PARTIAL_SUMS}:BITS",
            seen=name,
            hint="--encoding sign-split",
        )
    return FAMILIES[name]
