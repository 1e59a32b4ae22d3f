"""From whatever describes a bench, and the name of an encoding, to what multiplies."""

from __future__ import annotations

from calibration.errors import OutOfDomain
from calibration.response.model import Response
from simulation.benches.families import family
from simulation.benches.imported import Imported
from simulation.benches.machines import MACHINES, Machine
from simulation.benches.multiplier import Multiplier
from simulation.light.optics import PRESETS, Optics, optics
from simulation.light.optics import Source as Described
from simulation.light.settings import Variance

Source = Described | Imported
"""A calibration of a bench that labctl drives or that was imported, optics, or a preset or machine by its name."""


def described(source: Source, *, device_seed: int | None = None) -> Optics | Imported:
    """A source in numbers, with a name, a clip and the electrons of its own light.

    Raises
    ------
    OutOfDomain
        When there is no such preset.
    """
    if isinstance(source, Response):
        return Imported(source, device_seed=device_seed)
    if isinstance(source, Imported):
        return source
    if isinstance(source, str) and source in MACHINES:
        return MACHINES[source]
    if isinstance(source, str) and source not in PRESETS:
        raise OutOfDomain(
            "no such preset",
            expected=", ".join((*PRESETS, *MACHINES)),
            seen=source,
            hint="load a calibration, or see: labctl presets",
        )
    return optics(source, device_seed=device_seed)


def default_encoding(source: Source) -> str:
    """How a bench shows signs if nobody says."""
    found = described(source)
    if isinstance(found, Imported):
        return "sign-split"
    return found.family if isinstance(found, Machine) else found.encoding.name


def open_bench(
    source: Source,
    photons_per_mac: float | None,
    variance: Variance,
    *,
    encoding: str | None = None,
    device_seed: int | None = None,
) -> Multiplier:
    """What multiplies on a bench.

    Parameters
    ----------
    encoding
        Name of a family (`simulation.benches.families`); the bench's own if None.

    Raises
    ------
    OutOfDomain
        When there is no such preset or encoding, or the bench cannot do it.
    """
    found = described(source, device_seed=device_seed)
    name = default_encoding(found) if encoding is None else encoding
    strategy = family(name)
    if isinstance(found, Imported):
        return found.bench(strategy, photons_per_mac)
    if isinstance(found, Machine) and not found.can(name):
        raise OutOfDomain(
            "a published machine shows signs in its own way",
            device=found.name,
            expected=found.family,
            seen=name,
            hint="leave out --encoding, or simulate ideal",
        )
    if photons_per_mac is not None:
        require_known_light(found, photons_per_mac)
    return strategy.bench(found, photons_per_mac, variance)


def require_known_light(machine: object, photons_per_mac: float) -> None:
    """Refuse another light level for a machine whose own is not published.

    Raises
    ------
    OutOfDomain
    """
    if isinstance(machine, Machine) and machine.read_e and not machine.electrons:
        raise OutOfDomain(
            "the light of this machine is not published: its noise cannot be told for another",
            device=machine.name,
            expected="no light level",
            seen=f"{photons_per_mac:g} photons per MAC",
            hint=f"labctl simulate {machine.name}",
        )
