"""Which nodes a run measures, which it keeps, and which it only checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from labctl.engine.graph import NodeStatus, statuses
from labctl.engine.walk import Leg, Way
from labctl.errors import RunDamaged, UsageError
from labctl.nodes.node import Node
from labctl.nodes.registry import node_named, with_parents
from labctl.station.loading import LoadedStation

EVERY_NIGHT = "measured in every night"
"""Why a node is measured that belongs to nights only."""


def measured(targets: Iterable[Node[Any]]) -> list[Leg]:
    """The targets and all that they rest on, measured anew."""
    return [Leg(node) for node in with_parents(targets)]


def needed(runs: Path, loaded: LoadedStation, targets: Sequence[Node[Any]]) -> list[Leg]:
    """The targets measured anew; of what they rest on only what is due, the rest kept."""
    asked = {node.name for node in targets}
    return [
        Leg(node) if node.name in asked or status.due else _kept(node, status)
        for node, status in _with_status(runs, loaded, targets)
    ]


def maintained(runs: Path, loaded: LoadedStation, targets: Sequence[Node[Any]], ahead_h: float = 0.0) -> list[Leg]:
    """What is due is measured, what is merely old gets a quick check, the rest is kept.

    Parameters
    ----------
    ahead_h
        What will be too old within this time counts as old already [h].
    """
    return [_maintained(node, status) for node, status in _with_status(runs, loaded, targets, ahead_h)]


def as_json(legs: Iterable[Leg]) -> list[list[str | None]]:
    """Legs for ``run.json``."""
    return [[leg.node.name, str(leg.way), leg.run_id, leg.until] for leg in legs]


def from_json(rows: Iterable[Sequence[str | None]]) -> list[Leg]:
    """Legs from ``run.json``.

    Raises
    ------
    RunDamaged
        When they are no list of nodes that exist, each with a way and a run.
    """
    try:
        legs = [Leg(node_named(str(name)), Way(str(way)), run_id, until) for name, way, run_id, until in rows]
        if not legs or [leg.node for leg in legs] != list(with_parents(leg.node for leg in legs)):
            raise ValueError(f"not all that it rests on, parents first: {', '.join(leg.node.name for leg in legs)}")
        if any((leg.way is Way.MEASURE) != (leg.run_id is None) for leg in legs):
            raise ValueError("a kept node names the run that it is from, a measured one none")
        return legs
    except (TypeError, ValueError, UsageError) as error:
        raise RunDamaged(
            "run.json: job.legs are not what a run can take",
            action="reading what the run was to do",
            expected="a list of [node, way, run or null, time or null]",
            seen=str(error),
            safe="no device was opened",
            hint="restore run.json from a copy, or begin again",
        ) from error


def holds_until(legs: Iterable[Leg]) -> str | None:
    """When the first of the results that are kept unchecked will be too old; None where none is kept."""
    return min((leg.until for leg in legs if leg.until is not None), default=None)


def _maintained(node: Node[Any], status: NodeStatus) -> Leg:
    if status.due and not status.aged:
        return Leg(node)
    if status.old:
        return Leg(node, Way.CHECK, status.run_id)
    return _kept(node, status)


def _kept(node: Node[Any], status: NodeStatus) -> Leg:
    """A node that reads nothing holds as long as its parents, which say so themselves."""
    return Leg(node, Way.KEEP, status.run_id, status.until if node.reads else None)


def _with_status(
    runs: Path, loaded: LoadedStation, targets: Sequence[Node[Any]], ahead_h: float = 0.0
) -> list[tuple[Node[Any], NodeStatus]]:
    found: Mapping[str, NodeStatus] = {status.name: status for status in statuses(runs, loaded, ahead_h=ahead_h)}
    return [(n, found.get(n.name) or NodeStatus(n.name, True, EVERY_NIGHT)) for n in with_parents(targets)]
