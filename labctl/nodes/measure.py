"""Show real products and read them."""

from __future__ import annotations

from calibration.frames.products import ProductGroup
from calibration.frames.schedule import TileScan, schedule
from calibration.machine.machine import Machine
from labctl.bench.acquirer import Acquirer
from labctl.nodes.analysis import Geometry
from labctl.nodes.evidence import PRODUCTS, Evidence


def measure(
    acquirer: Acquirer,
    machine: Machine,
    geometry: Geometry,
    tiles: list[TileScan],
    evidence: Evidence,
    kind: str = PRODUCTS,
) -> None:
    """Read every tile of a schedule, in order, into the evidence and into segments of a kind."""
    for tile in tiles:
        t = tile.tile
        attrs = {"group": tile.group, "tile": [t.row0, t.row1, t.col0, t.col1]}
        extra = {"product": tile.product, "input_pass": tile.input_pass}
        readings, references = acquirer.read(
            kind, tile.scan, machine.layout, geometry.regions, geometry.display_index, attrs, extra
        )
        evidence.tiles.append((tile, readings))
        evidence.add_references(PRODUCTS, references)


def planned(machine: Machine, groups: tuple[ProductGroup, ...]) -> tuple[list[TileScan], int]:
    """The schedule of a workload, and its frames, settling and reference frames not counted."""
    tiles = list(schedule(machine, list(groups)))
    return tiles, sum(len(tile.scan) for tile in tiles)
