"""The walk over nodes: what is sealed is passed over, what is not is shown and read, and every node is analysed.

A live run, one that is resumed, one that keeps what still holds, and one that is analysed again from the disk are this
same walk: they differ in where the readings of a step come from.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from labctl.archive import RunReader, RunWriter
from labctl.archive.segments import Segment, SegmentRow, read_segment
from labctl.archive.seal import SEGMENTS
from labctl.bench.acquirer import Acquirer
from labctl.bench.steps import Step
from labctl.engine.ledger import Ledger, misses
from labctl.nodes.evidence import Evidence
from labctl.nodes.node import Node, Results, Setting
from labctl.nodes.registry import GRAPH

CHECK = "check"
"""Attribute of segments that a quick check has read: evidence for no fit."""


class Way(StrEnum):
    """How a walk comes to the readings of a node."""

    MEASURE = "measure"
    KEEP = "keep"
    CHECK = "check"


@dataclass(frozen=True)
class Leg:
    """A node of a walk.

    Attributes
    ----------
    node
        `Node`
    way
        `Way`
    run_id
        The run that its earlier result is from, unless it is measured.
    """

    node: Node[Any]
    way: Way = Way.MEASURE
    run_id: str | None = None


class SealedSteps:
    """Steps that a run has sealed, each to be passed over once.

    Parameters
    ----------
    run
        The folder.
    """

    def __init__(self, run: Path) -> None:
        self._folder = run / SEGMENTS
        self._rows: dict[str, deque[SegmentRow]] = defaultdict(deque)
        for segment in RunReader(run).segments():
            if segment.row.origin is None and "step" in segment.attrs:
                self._rows[str(segment.attrs["step"])].append(segment.row)

    def take(self, step: Step) -> Segment | None:
        """The segment that the step became; None where it has not been taken yet."""
        if not self._rows:
            return None
        rows = self._rows.get(step.id)
        return read_segment(self._folder, rows.popleft()) if rows else None


class Walk:
    """A walk in progress.

    Parameters
    ----------
    setting
        What the nodes work in.
    ledger
        Takes what becomes of each node.
    acquirer
        Of the open bench; None where everything was read before.
    sealed
        What the run has sealed before it was interrupted.

    Attributes
    ----------
    evidence, results
        What has been read and found so far.
    """

    def __init__(
        self,
        setting: Setting,
        ledger: Ledger,
        acquirer: Acquirer | None = None,
        sealed: SealedSteps | None = None,
        evidence: Evidence | None = None,
    ) -> None:
        self.setting, self.ledger, self.acquirer, self._sealed = setting, ledger, acquirer, sealed
        self.evidence = evidence or Evidence()
        self.results = Results()

    def go(self, nodes: Iterable[Node[Any]]) -> None:
        """Read and analyse nodes, in order."""
        for node in nodes:
            with self.ledger.node(node.name) as metrics:
                self.read(node.steps(self.setting, self.results))
                self.analyse(node, metrics)

    def read(self, steps: Iterable[Step]) -> None:
        """Show and read steps, or pass over those that are sealed; without a bench nothing is read."""
        if self.acquirer is not None:
            self.evidence.add([self.segment(step) for step in steps])

    def segment(self, step: Step) -> Segment:
        """What a step reads."""
        assert self.acquirer is not None
        found = self._sealed.take(step) if self._sealed is not None else None
        if found is None:
            return self.acquirer.take(step)
        self.acquirer.pass_over(step, found)
        return found

    def analyse(self, node: Node[Any], metrics: list[Any]) -> None:
        """The node's result from what was read."""
        self.results[node] = node.analyse(self.evidence, self.results, self.setting, metrics)


class Earlier:
    """Results of earlier runs that still hold, analysed again from what was measured then.

    Parameters
    ----------
    legs
        The nodes that are kept or checked, in order.
    folder_of
        Gives the folder of a run.
    setting
        As for the walk.

    Attributes
    ----------
    results
        Of the nodes.
    evidence
        Of all of them together, on one clock.
    clock_epoch_s
        Host time at the zero of that clock, seconds since the epoch; None where nothing is kept.
    """

    def __init__(self, legs: Iterable[Leg], folder_of: Callable[[str], Path], setting: Setting) -> None:
        self.results, self.evidence = Results(), Evidence()
        self.clock_epoch_s: float | None = None
        self._rows: dict[str, list[tuple[SegmentRow, Path, float]]] = {}
        for leg in legs:
            assert leg.run_id is not None
            reader = RunReader(folder_of(leg.run_id))
            epoch_s = reader.clock_epoch_s
            if self.clock_epoch_s is None:
                self.clock_epoch_s = epoch_s
            rows, segments = [], []
            for segment in reader.segments():
                if CHECK not in segment.attrs and leg.node.owns(segment.row.kind, segment.attrs):
                    shift_s = segment.row.shift_s + (epoch_s - self.clock_epoch_s)
                    rows.append((segment.row, reader.path, shift_s))
                    segments.append(replace(segment, row=replace(segment.row, shift_s=shift_s)))
            self._rows[leg.node.name] = rows
            self.evidence.add(segments)
            self.results[leg.node] = leg.node.analyse(self.evidence, self.results, setting, [])

    def adopt(self, node: Node[Any], run: RunWriter) -> list[Segment]:
        """Make what the node rests on a part of the run, unless it is one already."""
        have = {row.sha256: row for row in run.segments.rows if row.origin is not None}
        taken = []
        for row, folder, shift_s in self._rows[node.name]:
            if row.sha256 not in have:
                have[row.sha256] = run.adopt_segment(row, folder, shift_s)
            taken.append(read_segment(run.segments.folder, have[row.sha256]))
        return taken


class MaintainingWalk(Walk):
    """A walk that keeps what still holds.

    Parameters
    ----------
    run
        Takes over what is kept.
    earlier
        The results that may be kept.
    """

    def __init__(self, run: RunWriter, earlier: Earlier, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._run, self._earlier = run, earlier
        self._measured: set[str] = set()

    def follow(self, leg: Leg) -> bool:
        """Keep the node's earlier result if it may be kept; returns whether it was."""
        node = leg.node
        if leg.way is Way.MEASURE or any(parent.name in self._measured for parent in node.parents):
            self._measured.add(node.name)
            return False
        reason = f"measured in {leg.run_id}"
        metrics: list[Any] = []
        if leg.way is Way.CHECK:
            metrics = self._check(node)
            if not metrics or misses(metrics):
                why = "; ".join(misses(metrics)) or "no quick check tells"
                self._run.journal("check", node=node.name, verdict="out_of_spec", why=why)
                self._measured.add(node.name)
                return False
        self.evidence.add(self._earlier.adopt(node, self._run))
        self.results[node] = self._earlier.results[node]
        if leg.way is Way.CHECK:
            self.ledger.check(node.name, f"{reason}, confirmed by a quick check", metrics)
        else:
            self.ledger.keep(node.name, reason)
        return True

    def _check(self, node: Node[Any]) -> list[Any]:
        """The figures of the quick check; none where the node has no quick check."""
        earlier, readings = self._earlier, Evidence()
        steps = [
            replace(step, attrs={**step.attrs, CHECK: node.name})
            for step in node.check_steps(self.setting, earlier.results)
        ]
        readings.add([self.segment(step) for step in steps])
        return node.check(readings, earlier.evidence, earlier.results, self.setting) if steps else []


def legs_of(nodes: Iterable[Node[Any]], kept: Mapping[str, tuple[str, str]]) -> list[Leg]:
    """Nodes with the way that was decided for each: ``{"dark": ("keep", run_id)}``; the others are measured."""
    return [
        Leg(node, Way(kept[node.name][0]), kept[node.name][1]) if node.name in kept else Leg(node) for node in nodes
    ]


def node_of(name: str) -> Node[Any] | None:
    """The node of this name, None where the graph has none."""
    return next((node for node in GRAPH if node.name == name), None)
