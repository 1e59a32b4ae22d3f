"""A bench in use: its roles, shared resources, lock, acquirer, and the way to its safe state."""

from typing import TYPE_CHECKING

from groundwork.lazy import lazy_front

if TYPE_CHECKING:
    from labctl.bench.acquirer import Acquirer
    from labctl.bench.bench import Bench, make_safe, open_bench
    from labctl.bench.lock import hold_bench
    from labctl.bench.steps import Exposure, ScanBlock, Step, StepResponse, WholeFrames
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "Acquirer": "labctl.bench.acquirer",
            "Bench": "labctl.bench.bench",
            "Exposure": "labctl.bench.steps",
            "ScanBlock": "labctl.bench.steps",
            "Step": "labctl.bench.steps",
            "StepResponse": "labctl.bench.steps",
            "WholeFrames": "labctl.bench.steps",
            "hold_bench": "labctl.bench.lock",
            "make_safe": "labctl.bench.bench",
            "open_bench": "labctl.bench.bench",
        },
    )

__all__ = [
    "Acquirer",
    "Bench",
    "Exposure",
    "ScanBlock",
    "Step",
    "StepResponse",
    "WholeFrames",
    "hold_bench",
    "make_safe",
    "open_bench",
]
