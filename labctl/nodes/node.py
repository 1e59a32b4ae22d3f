"""What a node of the calibration graph is: one object that says what to show, what to make of it, when it is due."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from calibration.fit.structured import Tell, untold
from calibration.frames.products import ProductGroup
from calibration.frames.references import References
from calibration.frames.scan import EIGHT_BIT, PanelLevels
from calibration.machine.lut import Levels, level_dtype
from labctl.bench.steps import Step
from labctl.nodes.evidence import Evidence
from labctl.station.model import Station
from labctl.summary import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from labctl.bench.bench import Bench

T = TypeVar("T")

HARDWARE = (
    "devices",
    "layout",
    "mock",
    "acquisition.exposure_s",
    "acquisition.slm_settle_frames",
    "acquisition.display_settle_frames",
)
"""Keys of the station that every node behind the dark signal depends on."""


@dataclass(frozen=True)
class Facts:
    """What the devices say of themselves, open or not.

    Attributes
    ----------
    slm_shape, display_shape, camera_shape
        (rows, columns) [px].
    frame_period_s
        From one frame of the camera to the next [s].
    levels
        Gray levels of the panels.
    """

    slm_shape: tuple[int, int]
    display_shape: tuple[int, int]
    camera_shape: tuple[int, int]
    frame_period_s: float
    levels: PanelLevels = EIGHT_BIT

    def uniform(self, panel: str, level: int) -> Levels:
        """A picture for the ``slm`` or the ``display`` with the same gray level on all of its pixels."""
        shape, levels = {
            "slm": (self.slm_shape, self.levels.slm),
            "display": (self.display_shape, self.levels.display),
        }[panel]
        return np.full(shape, level, level_dtype(levels))

    def bright(self, panel: str) -> int:
        """The highest gray level of the ``slm`` or the ``display``."""
        return self.levels.slm_bright if panel == "slm" else self.levels.display_bright

    @classmethod
    def of(cls, bench: Bench) -> Facts:
        """Of an open bench."""
        return cls(bench.slm.shape, bench.display.shape, bench.camera.shape, bench.camera.frame_period_s, bench.levels)


@dataclass(frozen=True)
class Setting:
    """What a node works in, besides what was measured.

    Attributes
    ----------
    station
        The effective station.
    facts
        Of its devices; None where nothing is shown (a run is analysed again).
    references
        Puts reference frames into the scans, in the order in which these are shown.
    groups
        The products of the workload; empty where there is none.
    holds_until
        When the first of the earlier results that the run keeps will be too old; ISO 8601, None where it keeps none.
    run, code
        The run's ``run.json`` and ``code.json``, for the origin of what is exported.
    tell
        Called at each round of a long fit, with where it is in words.
    """

    station: Station
    facts: Facts | None
    references: References
    groups: tuple[ProductGroup, ...] = ()
    holds_until: str | None = None
    run: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, Any] = field(default_factory=dict)
    tell: Tell = untold

    @classmethod
    def on(cls, station: Station, facts: Facts | None = None, **more: Any) -> Setting:
        """A setting with reference frames spaced as the station says."""
        levels = facts.levels if facts else EIGHT_BIT
        return cls(station, facts, References(station.acquisition.reference_spacing_frames, levels), **more)


class Titled(NamedTuple):
    """A figure of a report: its title, what it shows in a sentence, and the drawing."""

    title: str
    words: str
    figure: Figure


class Node(ABC, Generic[T]):
    """One node of the calibration graph.

    A subclass states what it rests on and implements `steps` and `analyse`; it is added to the graph by one line in
    `labctl.nodes.registry`. The code that it depends on is not stated: it is what its module imports.

    Attributes
    ----------
    name
        As the operator types it.
    parents
        The nodes that it rests on.
    kind
        Of the segments that it reads; empty where it reads none.
    max_age_h
        How long a result holds [h]; None: measured in every run. A node that reads nothing is as old as its parents.
    keys
        Keys of the station, or beginnings of them, that it depends on, its limits among them; ``devices.ROLE`` is
        the device that fills the role, whatever its name.
    only_in_spec
        Whether it is left out when a node before it is out of spec.
    shows_products
        Whether its steps show the products of a workload.
    only_where_needed
        Whether the results before it decide that it reads anything at all.
    """

    name: str
    parents: tuple[Node[Any], ...] = ()
    kind: str = ""
    max_age_h: float | None = None
    keys: tuple[str, ...] = ()
    only_in_spec: bool = False
    shows_products: bool = False
    only_where_needed: bool = False

    @property
    def reads(self) -> bool:
        """Whether it has steps of its own."""
        return type(self).steps is not Node.steps

    def steps(self, setting: Setting, results: Results) -> Iterator[Step]:
        """What to show and read, in order.

        A plan asks without results, to count frames: then the steps need not say where on the panels they lie.
        """
        return iter(())

    def outputs(self, station: Station) -> int:
        """Region sums of each frame of its scans."""
        return station.layout.rows

    def owns(self, kind: str, attrs: Mapping[str, Any]) -> bool:
        """Whether a segment of this kind and these attributes is what the node has read."""
        return kind == self.kind

    def missing(self, evidence: Evidence, setting: Setting) -> list[str]:
        """What of its readings is not there, in words; a node that may go without has none missing."""
        return []

    @abstractmethod
    def analyse(self, evidence: Evidence, results: Results, setting: Setting, metrics: list[Metric]) -> T:
        """What the readings say; opens no device.

        Parameters
        ----------
        metrics
            Takes the node's figures, judged by the station's limits.

        Raises
        ------
        CalibrationError
            When the readings make no sense: the node has failed.
        """

    def check_steps(self, setting: Setting, results: Results) -> Iterator[Step]:
        """A few frames that tell whether an old result still holds; none where only measuring anew tells."""
        return iter(())

    def check(self, readings: Evidence, evidence: Evidence, results: Results, setting: Setting) -> list[Metric]:
        """What the quick check says: ``readings`` against the ``evidence`` and ``results`` of then.

        Raises
        ------
        CalibrationError
            When the readings make no sense; they are never fitted.
        """
        return []

    def summary(self, result: T, results: Results) -> Mapping[str, Any]:
        """Parts of the run's summary that the result gives."""
        return {}

    def figures(self, evidence: Evidence, results: Results, setting: Setting) -> Iterator[Titled]:
        """The figures of a report."""
        return iter(())

    def __repr__(self) -> str:
        return f"<node {self.name}>"


class Results:
    """Results of nodes, by node."""

    def __init__(self) -> None:
        self._results: dict[str, Any] = {}

    def __setitem__(self, node: Node[T], result: T) -> None:
        self._results[node.name] = result

    def __getitem__(self, node: Node[T]) -> T:
        result: T = self._results[node.name]
        return result

    def __contains__(self, node: Node[Any]) -> bool:
        return node.name in self._results

    def get(self, node: Node[T]) -> T | None:
        """The result of a node, None where it has none."""
        return self._results.get(node.name)

    def one(self, kind: type[T]) -> T | None:
        """The result of this type, whichever node it is from; None where there is none."""
        return next((result for result in self._results.values() if isinstance(result, kind)), None)
