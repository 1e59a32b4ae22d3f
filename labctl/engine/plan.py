"""What a run would do on a bench now, why, and what that costs; no device is opened."""

from __future__ import annotations

import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from calibration.frames.scan import PanelLevels
from drivers.errors import DeviceError
from drivers.protocols import DeviceFacts
from drivers.registry import describe
from labctl.archive import RunReader
from labctl.archive.seal import SEGMENTS
from labctl.archive.segments import read_segment
from labctl.bench.bench import open_context
from labctl.bench.steps import Step
from labctl.engine.counting import Cost, Counter
from labctl.engine.graph import NodeStatus, runs_of, statuses
from labctl.engine.policy import EVERY_NIGHT
from labctl.engine.walk import Leg, Way
from labctl.errors import LabError
from labctl.nodes.evidence import CHECK
from labctl.nodes.node import Facts, Node, Results, Setting
from labctl.nodes.registry import BY_DAY
from labctl.station.loading import LoadedStation
from labctl.station.model import Station
from labctl.workload import Workload


@dataclass(frozen=True)
class Planned:
    """What a node costs when it is measured.

    Attributes
    ----------
    node
        Its name.
    kept
        Frames that are read, reference frames not counted.
    seconds
        All frames take on the device [s].
    """

    node: str
    kept: int
    seconds: float


def planned(station: Station, facts: Facts, nodes: Iterable[Node[Any]] = BY_DAY) -> list[Planned]:
    """Frames and device time of each node whose steps can be told before anything is measured, at most.

    At most: what is measured only where it is needed is counted.
    """
    setting, counter = Setting.on(station, facts), Counter(station, facts)
    costs = ((node, counter.cost(node.steps(setting, Results()), node.outputs(station))) for node in nodes)
    return [Planned(node.name, cost.kept, cost.seconds) for node, cost in costs if cost.kept]


@dataclass(frozen=True)
class PlannedNode:
    """What a run would do with one node.

    Attributes
    ----------
    name
        Of the node.
    state
        ``due``: measured; ``check``: a quick check, and measured only where that fails; ``keep``: taken over;
        ``always``: measured in every run like this.
    because
        Why, in words.
    frames, exposed
        That are read, and that the camera exposes; settling and references included in the latter. None where the
        devices do not say enough of themselves before they are open.
    bytes
        Of its segments [B].
    device_s
        Device time [s].
    seconds
        That it will take: the larger of device time and the median time of this node on this bench [s].
    seconds_from
        Which of the two.
    """

    name: str
    state: Literal["due", "check", "keep", "always"]
    because: str
    frames: int | None
    exposed: int | None
    bytes: int | None
    device_s: float | None
    seconds: float | None
    seconds_from: Literal["device", "history"]


@dataclass(frozen=True)
class Plan:
    """What a run would do on this bench now.

    Attributes
    ----------
    bench
        Its name.
    nodes
        In order.
    frames, exposed, bytes, device_s, seconds
        Of all of them together; None where that is not known.
    bytes_free
        Of the disk that holds the runs [B].
    budget_h
        That a night has at this bench [h].
    unknown
        What only the open bench can say, and what depends on what is read.
    """

    bench: str
    nodes: list[PlannedNode]
    frames: int | None
    exposed: int | None
    bytes: int | None
    device_s: float | None
    seconds: float | None
    bytes_free: int
    budget_h: float
    unknown: list[str]


def plan(
    runs: Path, loaded: LoadedStation, legs: Sequence[Leg], workload: Workload | None = None, ahead_h: float = 0.0
) -> Plan:
    """What a run over these legs would do.

    Parameters
    ----------
    runs
        The archive.
    legs
        As `labctl.engine.policy` makes them.
    workload
        Whose products are counted.
    ahead_h
        As `labctl.engine.policy.maintained` was given it.
    """
    station = loaded.station
    facts, unknown = _facts(station)
    history = _History(runs, station.bench.name)
    status = {one.name: one for one in statuses(runs, loaded, ahead_h=ahead_h)}
    nodes = []
    setting = None if facts is None else Setting.on(station, facts, groups=workload.groups if workload else ())
    counter = None if facts is None else Counter(station, facts)
    for leg, state, because, steps in _walk(legs, status, setting, history):
        node = leg.node
        if node.only_where_needed and history.has_read(node) is None:
            unknown.append(f"{node.name}: read only where the nodes before them find that this bench needs them")
        cost = None if counter is None else counter.cost(steps, node.outputs(station))
        nodes.append(_planned(node.name, state, because, cost, history.seconds(node) if state != "keep" else None))
    return Plan(
        bench=station.bench.name,
        nodes=nodes,
        frames=_sum(node.frames for node in nodes),
        exposed=_sum(node.exposed for node in nodes),
        bytes=_sum(node.bytes for node in nodes),
        device_s=_sum(node.device_s for node in nodes),
        seconds=_sum(node.seconds for node in nodes),
        bytes_free=shutil.disk_usage(next(p for p in (runs, *runs.absolute().parents) if p.exists())).free,
        budget_h=station.nightly.budget_h,
        unknown=unknown,
    )


class _History:
    """What earlier runs of a bench say about the next one.

    Parameters
    ----------
    runs, bench
        The archive, and whose runs.
    """

    def __init__(self, runs: Path, bench: str) -> None:
        self._readers = list(runs_of(runs, bench))
        self._has_read: dict[str, bool | None] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)
        for reader in self._readers:
            summary = reader.summary()
            for node in summary.nodes if summary else ():
                if node.state == "done" and node.duration_s is not None:
                    self._seconds[node.name].append(node.duration_s)

    def seconds(self, node: Node[Any]) -> float | None:
        """The median time of this node [s]; None where it was never measured."""
        found = self._seconds.get(node.name)
        return statistics.median(found) if found else None

    def has_read(self, node: Node[Any]) -> bool | None:
        """Whether the newest run that has come past this node has read frames for it; None where there is none."""
        if node.name not in self._has_read:
            self._has_read[node.name] = self._look_for_readings(node)
        return self._has_read[node.name]

    def _look_for_readings(self, node: Node[Any]) -> bool | None:
        for reader in self._readers:
            summary = reader.summary()
            passed = summary.nodes if summary else ()
            if any(one.name == node.name and one.state in ("done", "kept", "checked") for one in passed):
                return any(self._owned(reader, node))
        return None

    @staticmethod
    def _owned(reader: RunReader, node: Node[Any]) -> Iterator[bool]:
        for row in reader.manifest:
            if row.kind == node.kind:
                try:
                    attrs = read_segment(reader.path / SEGMENTS, row).attrs
                except LabError:
                    continue
                yield CHECK not in attrs and node.owns(row.kind, attrs)


def _walk(
    legs: Sequence[Leg], status: dict[str, NodeStatus], setting: Setting | None, history: _History
) -> Iterator[tuple[Leg, Literal["due", "check", "keep", "always"], str, Iterable[Step]]]:
    """Each leg with what becomes of it as far as no quick check fails: as `KeepingWalk.follow` decides it."""
    measured: set[str] = set()
    rests_on_check: dict[str, str] = {}
    for leg in legs:
        node = leg.node
        now = status.get(node.name) or NodeStatus(node.name, True, EVERY_NIGHT)
        renewed = next((parent.name for parent in node.parents if parent.name in measured), None)
        reads = setting is not None and not (node.only_where_needed and not history.has_read(node))
        checked = list(node.check_steps(setting, Results())) if setting and reads and leg.way is Way.CHECK else []
        parent = next((rests_on_check[parent.name] for parent in node.parents if parent.name in rests_on_check), None)
        if leg.way is Way.KEEP and renewed is None:
            if parent is not None:
                rests_on_check[node.name] = parent
            yield leg, "keep", f"holds if the check of {parent} confirms it" if parent and now.due else now.because, ()
        elif leg.way is Way.CHECK and renewed is None and (checked or setting is None):
            rests_on_check[node.name] = node.name
            yield leg, "check", now.because, checked
        else:
            measured.add(node.name)
            because = f"parent {renewed} is measured" if renewed and not now.due else now.because
            steps = node.steps(setting, Results()) if setting is not None and reads else ()
            if node.at_night:
                yield leg, "always", now.because, steps
            elif node.max_age_h is None:
                yield leg, "always", "measured in every run", steps
            elif now.due or leg.way is not Way.MEASURE:
                yield leg, "due", because, steps
            else:
                yield leg, "always", f"measured anew, though {now.because}", steps


def _planned(
    name: str,
    state: Literal["due", "check", "keep", "always"],
    because: str,
    cost: Cost | None,
    past_s: float | None,
) -> PlannedNode:
    """The row of a node; a quick check is no measurement, whose past times say nothing of it."""
    past_s = None if state == "check" else past_s
    if cost is None:
        return PlannedNode(name, state, because, None, None, None, None, past_s, "history")
    known = past_s is not None and past_s > cost.seconds
    seconds = past_s if known else cost.seconds
    source: Literal["device", "history"] = "history" if known else "device"
    return PlannedNode(name, state, because, cost.kept, cost.exposed, cost.bytes, cost.seconds, seconds, source)


def _sum(values: Iterable[Any]) -> Any:
    """None where one is."""
    found = list(values)
    return None if any(value is None for value in found) else sum(found)


def _facts(station: Station) -> tuple[Facts | None, list[str]]:
    """What the devices say of themselves unopened, None where that is too little; and what they do not say."""
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
    if not (slm and display and sensor):
        return None, unknown
    period_s = max(station.acquisition.exposure_s, 1 / max_fps if max_fps else 0.0)
    levels = PanelLevels(known["display"].levels or 256, known["slm"].levels or 256)
    return Facts(slm, display, sensor, period_s, levels), unknown


def _described(station: Station, role: str) -> DeviceFacts:
    """What the backend says of a device that is not open; nothing where it is not installed or does not know."""
    table = station.devices.one(role)
    try:
        return describe(table.backend, role, table.options, open_context(station))
    except DeviceError:
        return DeviceFacts()
