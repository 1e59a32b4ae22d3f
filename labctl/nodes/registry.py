"""The calibration graph: every node, parents before their children. A node is added by its file and one line here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labctl.errors import UsageError
from labctl.nodes.couplings import COUPLINGS_NODE
from labctl.nodes.crosstalk import CROSSTALK_NODE
from labctl.nodes.dark import DARK_NODE
from labctl.nodes.export import EXPORT_NODE
from labctl.nodes.gain import GAIN_NODE
from labctl.nodes.lut import LUT_NODE
from labctl.nodes.node import Node
from labctl.nodes.noise import NOISE_NODE
from labctl.nodes.registration import REGISTRATION_NODE
from labctl.nodes.timing import TIMING_NODE
from labctl.nodes.validation import VALIDATION_NODE

GRAPH: tuple[Node[Any], ...] = (
    DARK_NODE,
    TIMING_NODE,
    REGISTRATION_NODE,
    LUT_NODE,
    NOISE_NODE,
    GAIN_NODE,
    CROSSTALK_NODE,
    COUPLINGS_NODE,
    VALIDATION_NODE,
    EXPORT_NODE,
)
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
    names = ", ".join(node.name for node in GRAPH)
    raise UsageError(f"no node {name!r}", device="the calibration graph", expected=f"one of {names}", seen=name)


def shows_products(targets: Iterable[Node[Any]]) -> bool:
    """Whether the targets, or what they rest on, show the products of a workload."""
    return any(node not in with_parents([MACHINE]) for node in targets)


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
