"""Nodes *canary_start*, *canary_middle*, *canary_end*: what a night shows three times to see whether the bench changes.

They are measured in nights only, and nothing is fitted to them. The first ones come as soon as it is known where the
camera reads the outputs, the second ones before the products, the last ones after them and before anything is exported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from calibration.judge.canaries import Canaries, canary_scan, change, read_canaries
from labctl.bench.steps import Step, blocks
from labctl.nodes.evidence import CANARY, Evidence
from labctl.nodes.node import HARDWARE, Node, Results, Setting, Titled
from labctl.nodes.registration import REGISTRATION_NODE, layout_of
from labctl.nodes.saturation import require_unsaturated
from labctl.summary import Metric

MOMENT = "moment"
SIGNAL = "canary_signal"
TILT = "canary_tilt"
KNOCKED = "something moved during the run"


class CanaryNode(Node[Canaries]):
    """The canaries at one moment of a night.

    Parameters
    ----------
    moment
        ``start``, ``middle`` or ``end``.
    before
        The canaries of the same night that these are compared with, in order.
    """

    kind = CANARY
    at_night = True
    keys = (*HARDWARE, "limits.canary_knock_max", "limits.saturated_fraction_max")

    def __init__(self, moment: str, *before: CanaryNode) -> None:
        self.name, self.moment, self.before = f"canary_{moment}", moment, before
        self.parents = (REGISTRATION_NODE, *before)

    def steps(self, setting: Setting, results: Results) -> Iterator[Step]:
        facts = setting.facts
        assert facts is not None
        layout = layout_of(setting.station, facts.slm_shape)
        scan = canary_scan((layout.rows, layout.columns), facts.levels)
        geometry = results.get(REGISTRATION_NODE)
        return blocks(
            CANARY,
            scan,
            np.zeros(len(scan), np.bool_),
            None if geometry is None else geometry.place,
            {MOMENT: self.moment},
            setting.station.acquisition.segment_frames,
        )

    def owns(self, kind: str, attrs: Mapping[str, Any]) -> bool:
        return kind == self.kind and attrs.get(MOMENT) == self.moment

    def missing(self, evidence: Evidence, setting: Setting) -> list[str]:
        return [] if self._segments(evidence) else [f"canaries of the {self.moment}"]

    def analyse(self, evidence: Evidence, results: Results, setting: Setting, metrics: list[Metric]) -> Canaries:
        """What they read, and how that differs from the canaries before."""
        arrays = [segment.arrays for segment in self._segments(evidence)]
        dn, saturated = (np.concatenate([a[name] for a in arrays]) for name in ("readings_dn", "saturated_fraction"))
        limits = results[REGISTRATION_NODE].tolerant(setting.station.limits)
        require_unsaturated(float(saturated.max()), f"canaries of the {self.moment}", self.name, limits)
        canaries = read_canaries(dn - results[REGISTRATION_NODE].dark_dn)
        name = SIGNAL if not self.before else f"{SIGNAL}_{self.moment}"
        metrics.append(Metric.judge(name, canaries.signal_dn, "DN", stderr=canaries.signal_stderr_dn))
        if not self.before:
            metrics.append(Metric.judge(TILT, canaries.tilt, "1", stderr=canaries.tilt_stderr))
        else:
            self._compare([*(results[node] for node in self.before), canaries], setting, metrics)
        return canaries

    def _compare(self, moments: list[Canaries], setting: Setting, metrics: list[Metric]) -> None:
        """Light and pattern against the first canaries; and the largest change of the pattern between any two."""
        since = change(moments[0], moments[-1])
        knock = max(change(then, now).shape for then, now in combinations(moments, 2))
        so_far = "" if len(self.before) > 1 else f"_{self.moment}"
        metrics += [
            Metric.judge(f"canary_warmup{so_far}", since.light, "1", stderr=since.light_stderr),
            Metric.judge(f"canary_shape{so_far}", since.shape, "1"),
            Metric.judge(
                f"canary_knock{so_far}", knock, "1", maximum=setting.station.limits.canary_knock_max, words=KNOCKED
            ),
        ]

    def _segments(self, evidence: Evidence) -> list[Any]:
        return [s for s in evidence.others.get(CANARY, []) if self.owns(s.row.kind, s.attrs)]

    def figures(self, evidence: Evidence, results: Results, setting: Setting) -> Iterator[Titled]:
        """All moments of the night in one picture, once."""
        from labctl.nodes import figures

        if len(self.before) > 1:
            found = {node.moment: results[node] for node in (*self.before, self)}
            yield Titled(
                "Canaries",
                "The same vectors on the same matrix at the start, in the middle and at the end of the night. On the "
                "left their light, which a source that warms up or ages changes; on the right what one factor does not "
                "explain of each output: noise, unless something has moved.",
                figures.canaries(found, setting.station.limits.canary_knock_max),
            )


CANARY_START = CanaryNode("start")
CANARY_MIDDLE = CanaryNode("middle", CANARY_START)
CANARY_END = CanaryNode("end", CANARY_START, CANARY_MIDDLE)
