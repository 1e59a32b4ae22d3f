"""The calibration graph. A node is added by its file and by one line in `GRAPH`."""

from __future__ import annotations

from collections.abc import Iterable
from pkgutil import resolve_name
from typing import Any

from groundwork.nearest import did_you_mean
from labctl.errors import UsageError
from labctl.nodes.couplings import COUPLINGS_NODE
from labctl.nodes.export import EXPORT_NODE
from labctl.nodes.node import Node

GRAPH: tuple[Node[Any], ...] = tuple(
    resolve_name(f"labctl.nodes.{where}")
    for where in (
        "dark:DARK_NODE",
        "timing:TIMING_NODE",
        "registration:REGISTRATION_NODE",
        "canary:CANARY_START",
        "lut:LUT_NODE",
        "noise:NOISE_NODE",
        "gain:GAIN_NODE",
        "crosstalk:CROSSTALK_NODE",
        "couplings:COUPLINGS_NODE",
        "canary:CANARY_MIDDLE",
        "validation:VALIDATION_NODE",
        "canary:CANARY_END",
        "export:EXPORT_NODE",
    )
)
"""Every node, ``file:object``, parents before their children."""
BY_DAY = tuple(node for node in GRAPH if not node.at_night)
"""The nodes that a run may measure that is no night."""
MACHINE = COUPLINGS_NODE
"""With it and what it rests on, products can be shown and read."""
EXPORT = EXPORT_NODE
"""With it, a run of real products ends."""


def node_named(name: str) -> Node[Any]:
    """The node of this name.

    Raises
    ------
    UsageError
        When there is none.
    """
    for node in GRAPH:
        if node.name == name:
            return node
    names = [node.name for node in GRAPH]
    raise UsageError(
        f"no node {name!r}", device="the calibration graph", expected=f"one of {', '.join(names)}", seen=name,
        hint=did_you_mean(name, names, "labctl calibrate status"),
    )  # fmt: skip


def shows_products(targets: Iterable[Node[Any]]) -> bool:
    """Whether the targets, or what they rest on, show the products of a workload."""
    return any(node.shows_products for node in with_parents(targets))


def without_products() -> tuple[Node[Any], ...]:
    """The nodes that need no workload, nor a night: what a calibration measures when no node is named."""
    return tuple(node for node in BY_DAY if not shows_products([node]))


def with_parents(targets: Iterable[Node[Any]]) -> tuple[Node[Any], ...]:
    """The targets and all that they rest on, in the order of the graph."""
    wanted: set[str] = set()
    waiting = list(targets)
    while waiting:
        node = waiting.pop()
        if node.name not in wanted:
            wanted.add(node.name)
            waiting += node.parents
    return tuple(node for node in GRAPH if node.name in wanted)
