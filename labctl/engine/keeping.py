"""What earlier runs have measured and still holds: taken over, with or without a quick check, instead of measured."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from calibration.errors import CalibrationError
from labctl.archive import RunReader, RunWriter
from labctl.archive.reader import read_run_json
from labctl.archive.seal import SEGMENTS
from labctl.archive.segments import Segment, SegmentRow, read_segment
from labctl.engine.ledger import misses
from labctl.engine.walk import Leg, Walk, Way
from labctl.errors import LabError, RunDamaged
from labctl.nodes.evidence import CHECK, Evidence
from labctl.nodes.node import Node, Results, Setting
from labctl.summary import Metric

log = logging.getLogger("labctl.keeping")

NO_QUICK_CHECK = "no quick check tells"
"""Why a result that is merely old is measured again where no quick check can confirm it."""


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
    results
        Of the nodes; one whose run is gone or damaged has none, and neither have those that rest on it.
    evidence
        Of all of them together, on one clock.
    clock_epoch_s
        Host time at the zero of that clock, seconds since the epoch; None where nothing is kept.
    """

    def __init__(self, legs: Iterable[Leg], own: Path, folder_of: Callable[[str], Path], setting: Setting) -> None:
        self.results, self.evidence, self._own = Results(), Evidence(), own
        self.clock_epoch_s: float | None = None
        self._figures: dict[str, list[Metric]] = {}
        self._rows: dict[str, list[tuple[SegmentRow, Path, float]]] = {}
        for leg in legs:
            if leg.run_id is not None and all(p in self.results for p in leg.node.parents):
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
        epoch_s, folder = reader.clock_epoch_s, reader.path / SEGMENTS
        if self.clock_epoch_s is None:
            self.clock_epoch_s = epoch_s
        rows, segments = [], []
        for row in reader.manifest if node.kind else ():
            if row.kind == node.kind and (reader.path != self._own or row.origin is not None):
                segment = read_segment(folder, row)
                if CHECK not in segment.attrs and node.owns(row.kind, segment.attrs):
                    shift_s = row.shift_s + (epoch_s - self.clock_epoch_s)
                    rows.append((row, reader.path, shift_s))
                    segments.append(replace(segment, row=replace(row, shift_s=shift_s)))
        self.evidence.add(segments)
        if missing := node.missing(self.evidence, setting):
            raise RunDamaged("readings are missing", device=reader.run_id, seen=f"missing: {', '.join(missing)}")
        self._figures[node.name] = []
        self.results[node] = node.analyse(self.evidence, self.results, setting, self._figures[node.name])
        self._rows[node.name] = rows

    def figures(self, node: Node[Any]) -> list[Metric]:
        """What the result was judged by, with the limits of now."""
        return self._figures[node.name]

    def adopt(self, node: Node[Any], run: RunWriter) -> list[Segment]:
        """Make what the node rests on a part of the run, unless it is one already."""
        have = {row.sha256: row for row in run.segments.rows if row.origin is not None}
        taken = []
        for row, folder, shift_s in self._rows[node.name]:
            if row.sha256 not in have:
                have[row.sha256] = run.adopt_segment(row, folder, shift_s)
            taken.append(read_segment(run.segments.folder, have[row.sha256]))
        adopted = read_run_json(run.path).get("adopted", [])
        if node.name not in adopted:
            run.update(adopted=[*adopted, node.name])
        return taken


class KeepingWalk(Walk):
    """A walk that keeps what still holds.

    Parameters
    ----------
    run
        Takes over what is kept.
    earlier
        The results that may be kept.
    """

    def __init__(self, run: RunWriter, earlier: Earlier, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._run, self._earlier = run, earlier
        self._measured: set[str] = set()

    def follow(self, leg: Leg) -> bool:
        """Keep the node's earlier result if it may be kept; returns whether it was."""
        node = leg.node
        renewed = any(parent.name in self._measured for parent in node.parents)
        if leg.way is Way.MEASURE or renewed or node not in self._earlier.results:
            self._measured.add(node.name)
            return False
        reason, figures = f"measured in {leg.run_id}", self._earlier.figures(node)
        metrics: list[Metric] = []
        why = "; ".join(misses(figures))
        if not why and leg.way is Way.CHECK:
            with self.ledger.failing(node.name, time.monotonic()):
                metrics = self._check(node)
            why = "; ".join(misses(metrics)) if metrics else NO_QUICK_CHECK
        if why:
            self._run.journal("check", node=node.name, verdict="out_of_spec", why=why)
            self._measured.add(node.name)
            return False
        self.evidence.add(self._earlier.adopt(node, self._run))
        self.results[node] = self._earlier.results[node]
        if leg.way is Way.CHECK:
            self.ledger.check(node.name, f"{reason}, confirmed by a quick check", [*figures, *metrics])
        else:
            self.ledger.keep(node.name, reason, figures)
        return True

    def _check(self, node: Node[Any]) -> list[Metric]:
        """The figures of the quick check; none where the node has no quick check."""
        earlier, readings = self._earlier, Evidence()
        steps = [
            replace(step, attrs={**step.attrs, CHECK: node.name})
            for step in node.check_steps(self.setting, earlier.results)
        ]
        readings.add([self.segment(step) for step in steps])
        return node.check(readings, earlier.evidence, earlier.results, self.setting) if steps else []
