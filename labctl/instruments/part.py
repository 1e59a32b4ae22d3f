"""A part of a bench: some of the station's devices, opened and made safe as the whole bench is."""

from __future__ import annotations

from collections.abc import Collection

from labctl.station.model import Devices, Station


def part_of(station: Station, names: Collection[str]) -> Station:
    """The station with these devices only, for `labctl.bench.open_bench`.

    It is no whole bench: a role that nothing fills stays empty, and the mock bench does not fill it.
    """
    devices = {name: table for name, table in station.devices.root.items() if name in names}
    return station.model_copy(update={"devices": Devices.model_construct(devices)})
