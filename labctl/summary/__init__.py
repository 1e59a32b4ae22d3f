"""``summary.json``: what a run, or a command, found; schema ``labctl.summary/1``."""

from typing import TYPE_CHECKING

from groundwork.lazy import lazy_front

if TYPE_CHECKING:
    from labctl.summary.document import (
        Artifact,
        Budget,
        ChartState,
        Counts,
        DeviceEvent,
        FirstError,
        Summary,
        failure,
        json_schema,
        read_summary,
    )
    from labctl.summary.fitted import BadFrame, CalibrationRef, Choice, Compared, Validation
    from labctl.summary.metrics import Limit, Metric, Node, reasons_out_of_spec
    from labctl.summary.parts import Number, Part, number, rounded, with_error
    from labctl.summary.simulated import (
        DigitalShare,
        LightBudget,
        LightLevel,
        LightOfProduct,
        LightScore,
        LightUsed,
        Perplexity,
        Simulation,
    )
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "Artifact": "labctl.summary.document",
            "BadFrame": "labctl.summary.fitted",
            "Budget": "labctl.summary.document",
            "CalibrationRef": "labctl.summary.fitted",
            "ChartState": "labctl.summary.document",
            "Choice": "labctl.summary.fitted",
            "Compared": "labctl.summary.fitted",
            "Counts": "labctl.summary.document",
            "DeviceEvent": "labctl.summary.document",
            "DigitalShare": "labctl.summary.simulated",
            "FirstError": "labctl.summary.document",
            "LightBudget": "labctl.summary.simulated",
            "LightLevel": "labctl.summary.simulated",
            "LightOfProduct": "labctl.summary.simulated",
            "LightScore": "labctl.summary.simulated",
            "LightUsed": "labctl.summary.simulated",
            "Limit": "labctl.summary.metrics",
            "Metric": "labctl.summary.metrics",
            "Node": "labctl.summary.metrics",
            "Number": "labctl.summary.parts",
            "Part": "labctl.summary.parts",
            "Perplexity": "labctl.summary.simulated",
            "Simulation": "labctl.summary.simulated",
            "Summary": "labctl.summary.document",
            "Validation": "labctl.summary.fitted",
            "failure": "labctl.summary.document",
            "json_schema": "labctl.summary.document",
            "number": "labctl.summary.parts",
            "read_summary": "labctl.summary.document",
            "reasons_out_of_spec": "labctl.summary.metrics",
            "rounded": "labctl.summary.parts",
            "with_error": "labctl.summary.parts",
        },
    )

__all__ = [
    "Artifact",
    "BadFrame",
    "Budget",
    "CalibrationRef",
    "ChartState",
    "Choice",
    "Compared",
    "Counts",
    "DeviceEvent",
    "DigitalShare",
    "FirstError",
    "LightBudget",
    "LightLevel",
    "LightOfProduct",
    "LightScore",
    "LightUsed",
    "Limit",
    "Metric",
    "Node",
    "Number",
    "Part",
    "Perplexity",
    "Simulation",
    "Summary",
    "Validation",
    "failure",
    "json_schema",
    "number",
    "read_summary",
    "reasons_out_of_spec",
    "rounded",
    "with_error",
]
