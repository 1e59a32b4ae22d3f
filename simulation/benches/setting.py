"""A bench set otherwise than it is: by the percentile that is full scale, and by how many bits are shown."""

from __future__ import annotations

from dataclasses import replace

from calibration.errors import OutOfDomain
from groundwork.nearest import did_you_mean
from simulation.benches.families import NAMES, family
from simulation.benches.imported import Imported
from simulation.benches.opening import Source, default_encoding, described
from simulation.benches.tiled import TiledScales
from simulation.light.coarse import Bits
from simulation.light.optics import Optics


def set_otherwise(
    source: Source,
    *,
    clip: float | None = None,
    encoding: str | None = None,
    bits: Bits | None = None,
    device_seed: int | None = None,
) -> Optics | Imported:
    """A bench with another clip and fewer levels; what is None is the bench's own.

    Parameters
    ----------
    clip
        Percentile of the magnitudes that full scale stands for.
    encoding
        How signs are to become light: some ways clip nothing.
    bits
        Of inputs and weights; those of outputs are in the ranges of converters (`simulation.conversion.ranges`).
    device_seed
        See `simulation.light.optics.Optics.of`.

    Raises
    ------
    OutOfDomain
        When there is no such preset, encoding or clip, or an import is to have other bits.
    """
    if tile_of(encoding) and clip not in (None, 100):
        raise OutOfDomain(
            "nothing is clipped in tiles with scales of their own: the largest number of each is its full scale",
            expected="no percentile, or 100",
            seen=f"{clip:g}",
            hint=f"leave out --clip, or --encoding {default_encoding(source)}",
        )
    bench = described(source, device_seed=device_seed)
    if bits is not None:
        bench = _with_bits(bench, bits)
    return bench if clip is None else replace(bench, clip=(clip, clip))


def tile_of(encoding: str | None) -> int:
    """Inputs that share a scale in an encoding; 0: all.

    Raises
    ------
    OutOfDomain
        When there is no such encoding.
    """
    if encoding is None:
        return 0
    try:
        way = family(encoding)
    except OutOfDomain as error:
        if (stem := str(encoding).partition(":")[0]) not in NAMES:  # else its number is wrong, which was said
            error.hint = did_you_mean(stem, NAMES, "what each is: labctl presets")
        raise
    return way.tile if isinstance(way, TiledScales) else 0


def _with_bits(bench: Optics | Imported, bits: Bits) -> Optics:
    if isinstance(bench, Imported):
        raise OutOfDomain(
            "an imported bench shows what it was measured with",
            device=bench.name,
            expected="a calibration of a bench that labctl drives, or a preset",
            seen="an import",
            hint="leave out --bits, or: labctl simulate ideal --bits 4",
        )
    return bits.on(bench)
