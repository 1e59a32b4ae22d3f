"""The calibration graph: one file for each node, and one registry."""

from typing import TYPE_CHECKING

from groundwork.lazy import lazy_front

if TYPE_CHECKING:
    from labctl.nodes.analysis import Analysis, analysis_of
    from labctl.nodes.evidence import Evidence, load_evidence
    from labctl.nodes.node import Facts, Node, Results, Setting
    from labctl.nodes.registry import GRAPH, node_named, with_parents
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "Analysis": "labctl.nodes.analysis",
            "Evidence": "labctl.nodes.evidence",
            "Facts": "labctl.nodes.node",
            "GRAPH": "labctl.nodes.registry",
            "Node": "labctl.nodes.node",
            "Results": "labctl.nodes.node",
            "Setting": "labctl.nodes.node",
            "analysis_of": "labctl.nodes.analysis",
            "load_evidence": "labctl.nodes.evidence",
            "node_named": "labctl.nodes.registry",
            "with_parents": "labctl.nodes.registry",
        },
    )

__all__ = [
    "GRAPH",
    "Analysis",
    "Evidence",
    "Facts",
    "Node",
    "Results",
    "Setting",
    "analysis_of",
    "load_evidence",
    "node_named",
    "with_parents",
]
