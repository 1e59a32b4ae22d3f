"""What earlier runs have measured and still holds: taken over, with or without a quick check, instead of measured."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from calibration.errors import CalibrationError
from labctl.archive import RunReader, RunWriter, find_run
from labctl.archive.reader import read_run_json
from labctl.archive.seal import SEGMENTS
from labctl.archive.segments import Segment, SegmentRow, read_segment
from labctl.engine.analyst import Desk, add_readings
from labctl.engine.ledger import misses
from labctl.engine.walk import Leg, Walk, Way
from labctl.errors import LabError, RunDamaged
from labctl.nodes.evidence import CHECK, Evidence
from labctl.nodes.node import Node, Results, Setting
from labctl.summary import Metric

log = logging.getLogger("labctl.keeping")

NO_QUICK_CHECK = "no quick check tells"
"""Why a result that is merely old is measured again where no quick check can confirm it."""


@dataclass
class Kept:
    """What earlier runs have found and still holds, and what it rests on: all that the keeping run needs to know of it.

    Attributes
    ----------
    results
        Of the nodes; one whose run is gone or damaged has none, and neither have those that rest on it.
    figures
        By node: what its result was judged by, with the limits of now.
    rows
        By node: the segments that it rests on, the run folder that each is in, and the shift of its device times [s].
    clock_epoch_s
        Host time at the zero of the clock of them all, seconds since the epoch; None where nothing is kept.
    """

    results: Results = field(default_factory=Results)
    figures: dict[str, list[Metric]] = field(default_factory=dict)
    rows: dict[str, list[tuple[SegmentRow, Path, float]]] = field(default_factory=dict)
    clock_epoch_s: float | None = None


class Earlier:
    """Results of earlier runs that still hold, analysed again from what was measured then.

    Parameters
    ----------
    legs
        The nodes that are kept or checked, in order.
    own
        The folder of the run that keeps them.
    folder_of
        Gives the folder of a run.
    setting
        As for the walk.

    Attributes
    ----------
    kept
        `Kept`
    evidence
        Of all of them together, on one clock.
    """

    def __init__(self, legs: Iterable[Leg], own: Path, folder_of: Callable[[str], Path], setting: Setting) -> None:
        self.kept, self.evidence, self._own = Kept(), Evidence(), own
        for leg in legs:
            if leg.run_id is not None and all(p in self.kept.results for p in leg.node.parents):
                try:
                    self._load(leg.node, self._adopted(leg.node, own) or RunReader(folder_of(leg.run_id)), setting)
                except (LabError, CalibrationError) as error:
                    log.warning("what %s measured in %s cannot be kept: %s", leg.node.name, leg.run_id, error.what)

    @staticmethod
    def _adopted(node: Node[Any], own: Path) -> RunReader | None:
        """The run itself, where it goes on after an interruption and has taken over all that the node rests on."""
        run = RunReader(own)
        return run if node.name in run.info.get("adopted", []) else None

    def _load(self, node: Node[Any], reader: RunReader, setting: Setting) -> None:
        """Readings and result of a node, unless a reading is damaged, or one that it needs is not there."""
        reader.require_manifest_as_sealed()
        kept, epoch_s, folder = self.kept, reader.clock_epoch_s, reader.path / SEGMENTS
        if kept.clock_epoch_s is None:
            kept.clock_epoch_s = epoch_s
        rows, segments = [], []
        for row in reader.manifest if node.kind else ():
            if row.kind == node.kind and (reader.path != self._own or row.origin is not None):
                segment = read_segment(folder, row)
                if CHECK not in segment.attrs and node.owns(row.kind, segment.attrs):
                    shift_s = row.shift_s + (epoch_s - kept.clock_epoch_s)
                    rows.append((row, reader.path, shift_s))
                    segments.append(replace(segment, row=replace(row, shift_s=shift_s)))
        self.evidence.add(segments)
        if missing := node.missing(self.evidence, setting):
            raise RunDamaged("readings are missing", device=reader.run_id, seen=f"missing: {', '.join(missing)}")
        figures: list[Metric] = []
        kept.results[node] = node.analyse(self.evidence, kept.results, setting, figures)
        kept.figures[node.name], kept.rows[node.name] = figures, rows


def look_back(legs: Iterable[Leg], own: Path, runs: Path, desk: Desk) -> Kept:
    """Analyse what earlier runs of the archive ``runs`` have measured and still holds; it stays on the desk."""
    earlier = Earlier(legs, own, partial(find_run, runs), replace(desk.setting, facts=None))
    desk.evidence_then, desk.results_then = earlier.evidence, earlier.kept.results
    return earlier.kept


def keep(node: Node[Any], desk: Desk) -> None:
    """What was found then is the node's result now."""
    desk.results[node] = desk.results_then[node]


def check(node: Node[Any], desk: Desk, segments: Iterable[Segment]) -> list[Metric]:
    """The figures of a quick check: its segments against what was measured then."""
    readings = Evidence()
    readings.add(segments)
    return node.check(readings, desk.evidence_then, desk.results_then, desk.setting)


class KeepingWalk(Walk):
    """A walk that keeps what still holds.

    Parameters
    ----------
    run
        Takes over what is kept.
    kept
        The results that may be kept.
    """

    def __init__(self, run: RunWriter, kept: Kept, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._run, self._kept = run, kept
        self._measured: set[str] = set()

    def follow(self, leg: Leg) -> bool:
        """Keep the node's earlier result if it may be kept; returns whether it was."""
        node = leg.node
        renewed = any(parent.name in self._measured for parent in node.parents)
        if leg.way is Way.MEASURE or renewed or node not in self._kept.results:
            self._measured.add(node.name)
            return False
        reason, figures = f"measured in {leg.run_id}", self._kept.figures[node.name]
        metrics: list[Metric] = []
        why = "; ".join(misses(figures))
        if not why and leg.way is Way.CHECK:
            with self.ledger.failing(node.name, time.monotonic()):
                metrics = self._check(node)
            why = "; ".join(misses(metrics)) if metrics else NO_QUICK_CHECK
        if why:
            verdict = "impossible" if why == NO_QUICK_CHECK else "out_of_spec"
            self._run.journal("check", node=node.name, verdict=verdict, why=why)
            self._measured.add(node.name)
            return False
        self.analyst.ask_of(self._adopted(node), add_readings)
        self.analyst.ask(partial(keep, node))
        self.results[node] = self._kept.results[node]
        if leg.way is Way.CHECK:
            self.ledger.check(node.name, f"{reason}, confirmed by a quick check", [*figures, *metrics])
        else:
            self.ledger.keep(node.name, reason, figures)
        return True

    def _adopted(self, node: Node[Any]) -> Iterator[Segment]:
        """Make what the node rests on a part of the run, unless it is one already."""
        have = {row.sha256: row for row in self._run.segments.rows if row.origin is not None}
        for row, folder, shift_s in self._kept.rows[node.name]:
            if row.sha256 not in have:
                have[row.sha256] = self._run.adopt_segment(row, folder, shift_s)
            yield read_segment(self._run.segments.folder, have[row.sha256])
        adopted = read_run_json(self._run.path).get("adopted", [])
        if node.name not in adopted:
            self._run.update(adopted=[*adopted, node.name])

    def _check(self, node: Node[Any]) -> list[Metric]:
        """The figures of the quick check; none where the node has no quick check."""
        steps = [
            replace(step, attrs={**step.attrs, CHECK: node.name})
            for step in node.check_steps(self.setting, self._kept.results)
        ]
        return self.analyst.ask_of(map(self.segment, steps), partial(check, node)) if steps else []
