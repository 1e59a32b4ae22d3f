"""What a calibration would cost and why it is due; no device is opened."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.frames.scan import PanelLevels
from drivers.errors import DeviceError
from drivers.protocols import DeviceFacts
from drivers.registry import describe
from labctl.bench.bench import open_context
from labctl.bench.steps import Settling, WholeFrames
from labctl.engine.graph import NodeStatus, statuses
from labctl.nodes.node import Facts, Node, Results, Setting
from labctl.nodes.registry import BY_DAY
from labctl.station.loading import LoadedStation
from labctl.station.model import Station


@dataclass(frozen=True)
class Planned:
    """What a node costs.

    Attributes
    ----------
    node
        Its name.
    kept
        Frames that are read, reference frames not counted.
    exposed
        Frames that the camera exposes, settling and references included.
    seconds
        They take on the device [s].
    bytes
        On the disk, at most [B]: whole frames of two bytes a pixel; of others sums in eight bytes, levels, an SLM
        pattern, a few numbers.
    """

    node: str
    kept: int
    exposed: int
    seconds: float
    bytes: int


def planned(station: Station, facts: Facts, nodes: Iterable[Node[Any]] = BY_DAY) -> list[Planned]:
    """Frames and device time of each node whose steps can be told before anything is measured, at most.

    At most: what is measured only where it is needed is counted.
    """
    setting, settling, results = Setting.on(station, facts), Settling(station.acquisition), Results()
    m, k = station.layout.rows, station.layout.columns
    whole, summed = 2 * facts.camera_shape[0] * facts.camera_shape[1], 8 * m + k + m * k + 40
    costs = []
    for node in nodes:
        kept = exposed = size = 0
        for step in node.steps(setting, results):
            kept += step.rows
            exposed += settling.exposed(step.shots())
            size += step.rows * (whole if isinstance(step, WholeFrames) else summed)
        if kept:
            costs.append(Planned(node.name, kept, exposed, exposed * facts.frame_period_s, size))
    return costs


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
        All nodes, as `labctl calibrate` measures them all; None where the shape of a device is not known.
    bytes
        On the disk, at most [B]; None where that is not known.
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
    known = {role: _described(station, role) for role in ("slm", "display", "camera")}
    slm, display, sensor = (known[role].shape for role in ("slm", "display", "camera"))
    max_fps = known["camera"].max_fps
    unknown = [
        f"{what} ({station.devices.one(role).backend}): known when the bench is opened"
        for what, role, value in (
            ("shape of the SLM", "slm", slm),
            ("shape of the display", "display", display),
            ("shape of the camera", "camera", sensor),
            ("frame time of the camera, here taken as one exposure", "camera", max_fps),
        )
        if value is None
    ]
    costs = []
    if slm and display and sensor:
        period_s = max(station.acquisition.exposure_s, 1 / max_fps if max_fps else 0.0)
        levels = PanelLevels(known["display"].levels or 256, known["slm"].levels or 256)
        costs = planned(station, Facts(slm, display, sensor, period_s, levels))
    by_name = {cost.node: cost for cost in costs}
    total = _total(costs) if costs else None
    return Plan(
        station.bench.name,
        [PlannedNode(status, by_name.get(status.name)) for status in statuses(runs, loaded)],
        total,
        total.bytes if total else None,
        shutil.disk_usage(next(p for p in (runs, *runs.absolute().parents) if p.exists())).free,
        unknown,
    )


def _total(costs: list[Planned]) -> Planned:
    kept, exposed, size = (sum(getattr(cost, name) for cost in costs) for name in ("kept", "exposed", "bytes"))
    return Planned("total", kept, exposed, sum(cost.seconds for cost in costs), size)


def _described(station: Station, role: str) -> DeviceFacts:
    """What the backend says of a device that is not open; nothing where it is not installed or does not know."""
    table = station.devices.one(role)
    try:
        return describe(table.backend, role, table.options, open_context(station))
    except DeviceError:
        return DeviceFacts()
