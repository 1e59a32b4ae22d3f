"""Show real products and read them."""

from __future__ import annotations

from calibration.machine import Machine
from calibration.products import ProductGroup
from calibration.scan import Readings
from calibration.schedule import TileScan, schedule
from labctl.pipeline.acquire import Acquirer
from labctl.pipeline.analysis import Geometry
from labctl.pipeline.evidence import PRODUCTS


def measure(
    acquirer: Acquirer, machine: Machine, geometry: Geometry, tiles: list[TileScan], kind: str = PRODUCTS
) -> list[tuple[TileScan, Readings]]:
    """Read every tile of a schedule, in order, into segments of a kind."""
    read = []
    for tile in tiles:
        t = tile.tile
        attrs = {"group": tile.group, "tile": [t.row0, t.row1, t.col0, t.col1]}
        extra = {"product": tile.product, "input_pass": tile.input_pass}
        readings = acquirer.read(
            kind, tile.scan, machine.layout, geometry.regions, geometry.display_index, attrs, extra
        )
        read.append((tile, readings))
    return read


def planned(machine: Machine, groups: tuple[ProductGroup, ...]) -> tuple[list[TileScan], int]:
    """The schedule of a workload, and its frames."""
    tiles = list(schedule(machine, list(groups)))
    return tiles, sum(len(tile.scan) for tile in tiles)
