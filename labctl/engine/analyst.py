"""Who analyses: this process, or one of its own, which opens no device and may fail without harm. The code is the same.

What is measured lies on an analyst's `Desk`. Whoever leads a run asks a function of it, and gets what it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from calibration.machine.artefact import Calibration
from labctl.archive.segments import Segment
from labctl.nodes.evidence import Evidence
from labctl.nodes.node import Node, Results, Setting
from labctl.summary import Metric

T = TypeVar("T")


@dataclass
class Desk:
    """What an analysis works on.

    Attributes
    ----------
    setting
        What the nodes work in.
    evidence, results
        What was measured and found so far.
    evidence_then, results_then
        What earlier runs have measured and found and still holds; empty where the run keeps nothing.
    """

    setting: Setting
    evidence: Evidence = field(default_factory=Evidence)
    results: Results = field(default_factory=Results)
    evidence_then: Evidence = field(default_factory=Evidence)
    results_then: Results = field(default_factory=Results)


class Analyst(Protocol):
    """Works on what is measured, somewhere."""

    def ask(self, function: Callable[[Desk], T]) -> T:
        """What the function makes of the desk.

        Raises
        ------
        AnalysisLost
            When the process that analyses hangs or dies. What the function raises comes through as it is.
        """

    def ask_of(self, segments: Iterable[Segment], function: Callable[[Desk, Iterable[Segment]], T]) -> T:
        """What the function makes of the desk and of segments that the run has sealed."""


class Here:
    """Analyses in this process.

    Parameters
    ----------
    setting
        What the nodes work in.
    evidence
        What was measured before.
    """

    def __init__(self, setting: Setting, evidence: Evidence | None = None) -> None:
        self.desk = Desk(setting, evidence or Evidence())

    def ask(self, function: Callable[[Desk], T]) -> T:
        """Call it."""
        return function(self.desk)

    def ask_of(self, segments: Iterable[Segment], function: Callable[[Desk, Iterable[Segment]], T]) -> T:
        """Call it with the segments."""
        return function(self.desk, list(segments))


def add_readings(desk: Desk, segments: Iterable[Segment]) -> None:
    """Take in segments in the order in which they were read: all blocks of a scan in one call."""
    desk.evidence.add(segments)


def analyse(node: Node[Any], desk: Desk) -> tuple[Any, list[Metric]]:
    """The node's result from what lies on the desk, where it stays too, and its figures."""
    metrics: list[Metric] = []
    desk.results[node] = result = node.analyse(desk.evidence, desk.results, desk.setting, metrics)
    return result, metrics


def photons_per_mac(desk: Desk) -> float:
    """Mean photons at the weight plane per MAC and pass over the products that the bench showed."""
    calibration = desk.results.one(Calibration)
    assert calibration is not None
    efficiency = desk.setting.station.camera.quantum_efficiency
    shown = [calibration.machine.photons_per_mac(tile.scan.display, efficiency) for tile, _ in desk.evidence.tiles]
    return float(np.concatenate(shown).mean())
