"""What a calibration would cost and why it is due; no device is opened."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import DeviceError
from drivers.protocols import DeviceFacts, OpenContext
from drivers.registry import describe
from labctl.engine.graph import NodeStatus, statuses
from labctl.nodes.calibrate import Planned, planned
from labctl.station.loading import LoadedStation
from labctl.station.model import Station

WHOLE_FRAMES = ("dark", "registration")


@dataclass(frozen=True)
class PlannedNode:
    """One node: whether it is due and why, and its frames; None where it reads none, or their number is not known."""

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
    bytes
        On the disk, at most [B]; None where the camera's shape is not known either.
    bytes_free
        Of the disk that holds the runs [B].
    unknown
        What only the open bench can say.
    """

    bench: str
    nodes: list[PlannedNode]
    total: Planned | None
    bytes: int | None
    bytes_free: int
    unknown: list[str]


def plan(runs: Path, loaded: LoadedStation) -> Plan:
    """The plan for the station's bench."""
    station = loaded.station
    known = {role: _described(station, role) for role in ("slm", "camera")}
    shape, sensor, max_fps = known["slm"].shape, known["camera"].shape, known["camera"].max_fps
    period_s = max(station.acquisition.exposure_s, 1 / max_fps) if max_fps else None
    costs = planned(station, shape, period_s) if shape else []
    by_name = {cost.node: cost for cost in costs}
    unknown = [
        f"{what} ({getattr(station.devices, role).backend}): known when the bench is opened"
        for what, role, value in (
            ("shape of the SLM", "slm", shape),
            ("shape of the camera", "camera", sensor),
            ("frame time of the camera, here taken as one exposure", "camera", period_s),
        )
        if value is None
    ]
    return Plan(
        station.bench.name,
        [PlannedNode(status, by_name.get(status.name)) for status in statuses(runs, loaded)],
        _total(costs) if costs else None,
        _bytes(station, costs, sensor) if costs and sensor else None,
        shutil.disk_usage(next(p for p in (runs, *runs.absolute().parents) if p.exists())).free,
        unknown,
    )


def _total(costs: list[Planned]) -> Planned:
    kept, exposed, seconds = (sum(getattr(c, name) for c in costs) for name in ("kept", "exposed", "seconds"))
    return Planned("total", kept, exposed, seconds)


def _described(station: Station, role: str) -> DeviceFacts:
    """What the backend says of a device that is not open; nothing where it is not installed or does not know."""
    table = getattr(station.devices, role)
    try:
        return describe(table.backend, role, table.options, OpenContext(bench={"mock": station.mock}))
    except DeviceError:
        return DeviceFacts()


def _bytes(station: Station, costs: list[Planned], sensor: tuple[int, int]) -> int:
    """Whole frames of two bytes a pixel; of others sums in eight bytes, levels, an SLM pattern, a few numbers."""
    m, k = station.layout.rows, station.layout.columns
    per_frame = {True: 2 * sensor[0] * sensor[1], False: 8 * m + k + m * k + 40}
    return sum(cost.kept * per_frame[cost.node in WHOLE_FRAMES] for cost in costs)
