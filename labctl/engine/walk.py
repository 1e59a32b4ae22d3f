"""The walk over nodes: what is sealed is passed over, what is not is shown and read, and every node is analysed.

A live run, one that is resumed, one that keeps what still holds, and one that is analysed again from the disk are this
same walk: they differ in where the readings of a step come from.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.frames.products import ProductGroup
from labctl.archive import RunReader
from labctl.archive.seal import SEGMENTS
from labctl.archive.segments import Segment, SegmentRow, read_segment
from labctl.bench.steps import Step
from labctl.engine.analyst import Analyst, Here, add_readings, analyse
from labctl.engine.ledger import Ledger
from labctl.errors import RunChanged
from labctl.nodes.evidence import Evidence
from labctl.nodes.node import Facts, Node, Results, Setting
from labctl.station.model import Station
from labctl.summary import Metric

if TYPE_CHECKING:
    from labctl.bench.acquirer import Acquirer


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
    until
        When a result that is kept unchecked will be too old; ISO 8601.
    """

    node: Node[Any]
    way: Way = Way.MEASURE
    run_id: str | None = None
    until: str | None = None


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

    @property
    def count(self) -> int:
        """How many are left."""
        return sum(map(len, self._rows.values()))

    @property
    def frames(self) -> int:
        """In those that are left."""
        return sum(row.rows for rows in self._rows.values() for row in rows)

    def take(self, step: Step) -> Segment | None:
        """The segment that the step became; None where it has not been taken yet.

        Raises
        ------
        RunChanged
            When the step is new while sealed ones are left, which are then no steps of this walk: readings of two
            walks would lie in one run.
        """
        rows = self._rows.get(step.id)
        if rows:
            return read_segment(self._folder, rows.popleft())
        if self.count:
            raise RunChanged(
                "what is to be shown has changed since the run began",
                device=self._folder.parent.name,
                action="going on after the last sealed step",
                expected="the steps that the run has sealed, in their order",
                seen=f"a new step ({step.kind}) while {self.count} sealed ones are left",
                safe="what was sealed stays as it is",
                hint="begin again; the code or the panels are not those of then: labctl run show "
                + self._folder.parent.name.rpartition("-")[2],
            )
        return None


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
    analyst
        Who analyses what is read; this process if omitted.
    before_step
        Called before each step that is shown; what it raises ends the walk.

    Attributes
    ----------
    results
        What has been found so far.
    """

    def __init__(
        self,
        setting: Setting,
        ledger: Ledger,
        acquirer: Acquirer | None = None,
        sealed: SealedSteps | None = None,
        analyst: Analyst | None = None,
        before_step: Callable[[Step], None] = lambda step: None,
    ) -> None:
        self._before_step = before_step
        self.setting, self.ledger, self.acquirer, self._sealed = setting, ledger, acquirer, sealed
        self.analyst = analyst or Here(setting)
        self.results = Results()

    @property
    def evidence(self) -> Evidence:
        """What has been read so far, where this process analyses it."""
        assert isinstance(self.analyst, Here)
        return self.analyst.desk.evidence

    @evidence.setter
    def evidence(self, evidence: Evidence) -> None:
        assert isinstance(self.analyst, Here)
        self.analyst.desk.evidence = evidence

    def follow(self, leg: Leg) -> bool:
        """Take over the node's earlier result where it may be kept; returns whether it was."""
        return False

    def read(self, steps: Iterable[Step]) -> None:
        """Show and read steps, or pass over those that are sealed; without a bench nothing is read."""
        if self.acquirer is not None:
            self.analyst.ask_of((self.segment(step) for step in steps), add_readings)

    def segment(self, step: Step) -> Segment:
        """What a step reads."""
        assert self.acquirer is not None
        found = self._sealed.take(step) if self._sealed is not None else None
        if found is None:
            self._before_step(step)
            return self.acquirer.take(step)
        self.acquirer.pass_over(step, found)
        return found

    def analyse(self, node: Node[Any], started_s: float | None = None) -> Any:
        """The node's result from what was read, its figures into the ledger, as `Ledger.node` times it."""
        with self.ledger.node(node.name, started_s) as metrics:
            return self._result(node, metrics)

    def go(self, nodes: Iterable[Node[Any]]) -> None:
        """Read and analyse nodes, in order."""
        for node in nodes:
            with self.ledger.node(node.name) as metrics:
                self.read(node.steps(self.setting, self.results))
                self._result(node, metrics)

    def _result(self, node: Node[Any], metrics: list[Metric]) -> Any:
        result, found = self.analyst.ask(partial(analyse, node))
        self.results[node] = result
        metrics += found
        return result


def walk_on(
    acquirer: Acquirer,
    station: Station,
    nodes: Iterable[Node[Any]],
    ledger: Ledger | None = None,
    groups: tuple[ProductGroup, ...] = (),
) -> Walk:
    """Walk over nodes on an open bench, for whoever needs no session: no gate, no summary, no seal.

    Parameters
    ----------
    groups
        Products that may be shown afterwards.
    """
    walk = Walk(Setting.on(station, Facts.of(acquirer.bench), groups=groups), ledger or Ledger(), acquirer)
    walk.go(nodes)
    return walk
