"""Plans, executes, seals, skips and resumes the steps of nodes; knows no node by name."""

from typing import TYPE_CHECKING

from groundwork.lazy import lazy_front

if TYPE_CHECKING:
    from labctl.engine.graph import NodeStatus, statuses
    from labctl.engine.ledger import Ledger
    from labctl.engine.plan import Plan
    from labctl.engine.session import Session, open_session, resumed_session
    from labctl.engine.walk import Leg, Walk, Way, walk_on
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "Ledger": "labctl.engine.ledger",
            "Leg": "labctl.engine.walk",
            "NodeStatus": "labctl.engine.graph",
            "Plan": "labctl.engine.plan",
            "Session": "labctl.engine.session",
            "Walk": "labctl.engine.walk",
            "Way": "labctl.engine.walk",
            "open_session": "labctl.engine.session",
            "resumed_session": "labctl.engine.session",
            "statuses": "labctl.engine.graph",
            "walk_on": "labctl.engine.walk",
        },
    )

__all__ = [
    "Ledger",
    "Leg",
    "NodeStatus",
    "Plan",
    "Session",
    "Walk",
    "Way",
    "open_session",
    "resumed_session",
    "statuses",
    "walk_on",
]
