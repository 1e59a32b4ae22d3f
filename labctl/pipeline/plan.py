"""What a calibration would cost and why it is due; no device is opened."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.errors import DeviceError
from drivers.protocols import OpenContext
from drivers.registry import describe
from labctl.pipeline.calibrate import Planned, planned
from labctl.pipeline.graph import NodeStatus, statuses
from labctl.station import LoadedStation
from labctl.station_model import Station


@dataclass(frozen=True)
class PlannedNode:
    """One node: whether it is due and why, and its frames; None where they depend on a workload or an open device."""

    status: NodeStatus
    cost: Planned | None


@dataclass(frozen=True)
class Plan:
    """What `labctl calibrate` would do on this bench now.

    Attributes
    ----------
    bench
        Its name.
    nodes
        In order.
    total
        All nodes, as `labctl calibrate` measures them all; None where the SLM's shape is not known.
    frame_period_s
        Of the camera at the station's exposure [s]; None where it is not known.
    bytes
        On the disk, at most [B].
    bytes_free
        Of the disk that holds the runs [B].
    unknown
        What only the open bench can say.
    """

    bench: str
    nodes: list[PlannedNode]
    total: Planned | None
    frame_period_s: float | None
    bytes: int | None
    bytes_free: int
    unknown: list[str]


def plan(runs: Path, loaded: LoadedStation) -> Plan:
    """The plan for the station's bench."""
    station = loaded.station
    known = {role: _described(station, role) for role in ("slm", "camera")}
    shape, sensor, max_fps = known["slm"].get("shape"), known["camera"].get("shape"), known["camera"].get("max_fps")
    period_s = max(station.acquisition.exposure_s, 1 / float(max_fps)) if max_fps else None
    costs = planned(station, tuple(shape)) if shape else {}
    nodes = [PlannedNode(status, costs.get(status.name)) for status in statuses(runs, loaded)]
    total = sum(costs.values(), Planned()) if costs else None
    unknown = [
        f"{what}: known when the bench is opened ({getattr(station.devices, role).backend})"
        for what, role, value in (
            ("shape of the SLM", "slm", shape),
            ("shape of the camera", "camera", sensor),
            ("frame time of the camera", "camera", period_s),
        )
        if value is None
    ]
    return Plan(
        station.bench.name,
        nodes,
        total,
        period_s,
        _bytes(station, total, sensor) if total and sensor else None,
        shutil.disk_usage(next(p for p in (runs, *runs.absolute().parents) if p.exists())).free,
        unknown,
    )


def _described(station: Station, role: str) -> dict[str, Any]:
    """What the backend says of a device that is not open; nothing where it is not installed or does not know."""
    table = getattr(station.devices, role)
    try:
        return describe(table.backend, role, table.options, OpenContext(bench={"mock": station.mock}))
    except DeviceError:
        return {}


def _bytes(station: Station, total: Planned, sensor: tuple[int, int]) -> int:
    """Raw frames of two bytes a pixel; of the others sums in eight bytes, levels and a few numbers."""
    rows, columns = station.layout.rows, station.layout.columns
    raw = 2 * sensor[0] * sensor[1] * total.raw
    return raw + (total.kept - total.raw) * (8 * rows + columns + 40) + total.slm_patterns * rows * columns
