"""The control charts of a bench: what its sealed nights measured, night by night, and where each chart stands.

The run folders are the truth: a chart is computed from their summaries whenever it is looked at, and nothing is kept
beside them but the decisions of people.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calibration.statistics.control_chart import ALARM_AT, Point, control_chart
from groundwork.nearest import did_you_mean
from groundwork.opening.regular import read_regular
from labctl.archive import RunReader, find_run, list_runs
from labctl.archive.index import RunRow
from labctl.engine.graph import changed_keys
from labctl.engine.keeping import NO_QUICK_CHECK
from labctl.errors import LabError, UsageError
from labctl.night.decisions import ChartDecision, decisions
from labctl.nodes.canary import CANARY_START, SIGNAL, TILT
from labctl.nodes.dark import DARK_NODE
from labctl.nodes.node import HARDWARE, Node
from labctl.nodes.noise import NOISE_NODE
from labctl.nodes.registration import REGISTRATION_NODE
from labctl.nodes.validation import VALIDATION_NODE
from labctl.summary import ChartState, Metric, Summary
from labctl.verdicts import COMPLETE
from labctl.workload import WORKLOAD

PURPOSE = "nightly"
"""Purpose of the runs that charts are made of."""
OF_NATURE = ("mock", "limits")
"""Keys of a station that begin no phase: how a simulated bench behaves, and what is in spec."""


@dataclass(frozen=True)
class Gate:
    """A metric whose chart may fire.

    Attributes
    ----------
    metric
        Its name.
    node
        That measures it.
    title
        What it is, in words.
    is_relative
        Whether it says how far the bench is from its calibration: then a repair begins a new phase.
    checked
        Name of the metric that says the same in a quick check; empty where none does.
    widened
        Factor by which its limits are wider than those of other charts.
    """

    metric: str
    node: Node[Any]
    title: str
    is_relative: bool
    checked: str = ""
    widened: float = 1.0

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the station whose change makes another metric of it."""
        keys = (*HARDWARE, *self.node.keys)
        return tuple(key for key in dict.fromkeys(keys) if not key.startswith(OF_NATURE))


GATES = (
    Gate("nrmse", VALIDATION_NODE, "error of held-out products", True),
    Gate(SIGNAL, CANARY_START, "light of the canaries", False),
    Gate("dark_level", DARK_NODE, "dark level", False, "dark_level_checked"),
    Gate("registration_slm_rms", REGISTRATION_NODE, "residual of the registration", True),
    Gate("system_gain", NOISE_NODE, "slope of the noise scan, DN per electron", False),
    Gate(TILT, CANARY_START, "balance of the canaries' light over the outputs", True, widened=2.0),
)
"""At most five at the usual limits, as each more is another chance of a false alarm; one more has limits so wide that
it adds hardly any (decision 30). All other metrics are plotted and never fire."""


@dataclass(frozen=True)
class Night:
    """A metric in one night.

    Attributes
    ----------
    run_id, started
        The run.
    value, stderr
        Of the metric; the error is 0 where it is not known.
    begins
        Why a new phase begins with it, in words; empty where none does.
    is_acknowledged
        Whether somebody has acknowledged the alarm since the night before.
    calibration
        Id of the calibration that the bench used from this night on; None where it went on with the one before.
    """

    run_id: str
    started: dt.datetime
    value: float
    stderr: float
    begins: str = ""
    is_acknowledged: bool = False
    calibration: str | None = None


@dataclass(frozen=True)
class Chart:
    """The chart of one metric.

    Attributes
    ----------
    metric, unit, title
        What is charted.
    is_gated
        Whether it may fire.
    nights, points
        Oldest first, one point for each night.
    is_begun_anew
        Whether somebody has begun a new phase after the last night.
    """

    metric: str
    unit: str
    title: str
    is_gated: bool
    nights: tuple[Night, ...]
    points: tuple[Point, ...]
    is_begun_anew: bool = False

    def state(self) -> ChartState:
        """Where the chart stands after its last night."""
        if not self.points:
            return ChartState(metric=self.metric, unit=self.unit, state="learning")
        last, base = self.points[-1], self.points[-1].baseline
        if self.is_begun_anew:
            return ChartState(metric=self.metric, unit=self.unit, value=last.value, state="learning")
        return ChartState(
            metric=self.metric,
            unit=self.unit,
            value=last.value,
            state=last.state,
            nights=last.night,
            centre=base.centre if base else None,
            sigma=base.sigma if base else None,
            z=last.z,
            limit=ALARM_AT if base else None,
            phase_since=self.nights[-last.night].started.isoformat(),
        )


@dataclass(frozen=True)
class _Run:
    """A run as far as charts are concerned.

    Attributes
    ----------
    is_night
        Whether it counts as a night; of the others only what they changed does.
    values
        Its station, dotted key → value.
    workload
        SHA-256 of the products that it has shown; empty where it has shown none.
    repaired
        The nodes that were measured because a check said that they held no more, and why.
    """

    summary: Summary
    is_night: bool
    values: Mapping[str, Any]
    workload: str
    repaired: str

    @property
    def applied(self) -> str | None:
        """Id of the calibration that the bench used from this run on."""
        calibration = self.summary.calibration
        return calibration.id if calibration is not None and calibration.applied else None


def charts(runs: Path, bench: str, current: Summary | None = None) -> list[Chart]:
    """The gated charts of a bench, also those of metrics that no night has measured yet.

    Parameters
    ----------
    runs
        The archive.
    current
        The night in progress, or one to look back from: later ones are left out. None for all sealed nights.
    """
    history = _history(runs, bench, current)
    decided = decisions(runs, bench)
    return [_chart(gate.metric, history, decided, gate) for gate in GATES]


def chart_of(runs: Path, bench: str, metric: str) -> Chart:
    """The chart of any metric that a night has measured; only those of `GATES` may fire.

    Raises
    ------
    UsageError
        When no night of the bench has such a metric.
    """
    history = _history(runs, bench, None)
    gated = {gate.metric: gate for gate in GATES}
    known = gated.keys() | {m.name for run in history if run.is_night for m in run.summary.metrics}
    if metric not in known:
        raise _unknown(bench, metric, f"one of {', '.join(gated)}, or another metric of a night", known)
    return _chart(metric, history, decisions(runs, bench), gated.get(metric))


def gated_chart(runs: Path, bench: str, metric: str) -> Chart:
    """The chart of a metric whose chart may fire.

    Raises
    ------
    UsageError
        When there is none.
    """
    found = {chart.metric: chart for chart in charts(runs, bench)}
    if metric not in found:
        raise _unknown(bench, metric, f"one of {', '.join(found)}: no other chart fires", found)
    return found[metric]


def in_words(chart: Chart) -> str:
    """``alarm, +4.1 standard deviations (limit 3.5)``"""
    state = chart.state()
    if not chart.is_gated:
        return "plotted, never fires"
    if state.state == "learning":
        return f"learning, {state.nights} {'night' if state.nights == 1 else 'nights'} so far"
    return f"{state.state.replace('_', ' ')}, {state.z:+.1f} standard deviations (limit {state.limit:g})"


def _unknown(bench: str, metric: str, expected: str, known: Iterable[str]) -> UsageError:
    return UsageError(
        f"no such chart: {metric}",
        device=bench,
        expected=expected,
        seen=metric,
        safe="nothing was changed",
        hint=did_you_mean(metric, sorted(known), "labctl drift show"),
    )


def _chart(metric: str, history: Sequence[_Run], decided: Sequence[ChartDecision], gate: Gate | None) -> Chart:
    mine = [decision for decision in decided if decision.concerns(metric)]
    nights: list[Night] = []
    unit, before, repaired, applied = "", None, "", None
    for run in history:
        repaired, applied = run.repaired or repaired, run.applied or applied
        found = _measured(run.summary, metric, gate) if run.is_night else None
        if found is None or found.value is None or run.summary.started is None:
            continue
        since = [d for d in mine if nights and nights[-1].started < d.moment <= run.summary.started]
        nights.append(
            Night(
                run.summary.run_id or "",
                run.summary.started,
                found.value,
                found.stderr or 0.0,
                _why_begun(gate, run, before, repaired, since) if gate is not None and before is not None else "",
                any(d.event == "ack" for d in since),
                applied,
            )
        )
        unit, before, repaired, applied = found.unit, run, "", None
    return _with_points(metric, unit, nights, mine, gate)


def _with_points(
    metric: str, unit: str, nights: list[Night], mine: Sequence[ChartDecision], gate: Gate | None
) -> Chart:
    after = [d.event for d in mine if nights and d.moment > nights[-1].started]
    if gate is None:
        points = [Point(night.value, 0, i + 1, "learning") for i, night in enumerate(nights)]
    else:
        points = control_chart(
            [night.value for night in nights],
            [night.stderr for night in nights],
            [bool(night.begins) for night in nights],
            [night.is_acknowledged for night in nights],
            gate.widened,
        )
        if "ack" in after and points[-1].state == "alarm":
            points[-1] = replace(points[-1], state="acknowledged")
    title = gate.title if gate else metric.replace("_", " ")
    return Chart(metric, unit, title, gate is not None, tuple(nights), tuple(points), "rebaseline" in after)


def _why_begun(gate: Gate, run: _Run, before: _Run, repaired: str, since: Iterable[ChartDecision]) -> str:
    """Why a night is not to be compared with those before it; empty where it is."""
    for decision in since:
        if decision.event == "rebaseline":
            return f"rebaselined: {decision.reason}"
    if changed := changed_keys(gate.keys, run.values, before.values):
        return f"station changed: {', '.join(changed[:3])}{', …' if len(changed) > 3 else ''}"
    if gate.node.shows_products and run.workload != before.workload:
        return "other products are shown"
    if gate.is_relative and repaired:
        return f"repaired: {repaired}"
    return ""


def _measured(summary: Summary, metric: str, gate: Gate | None) -> Metric | None:
    """The metric, if this night has measured it: what is kept from an earlier night says nothing new."""
    for node in summary.nodes:
        if gate is not None and node.name != gate.node.name:
            continue
        wanted = {"done": metric, "checked": gate.checked if gate else ""}.get(node.state)
        for found in node.metrics:
            if found.name == wanted and found.value is not None and math.isfinite(found.value):
                return found
    return None


def _history(runs: Path, bench: str, current: Summary | None) -> list[_Run]:
    """Runs of the bench, oldest first, and the one in progress; what cannot be read says nothing."""
    stations: dict[str, Mapping[str, Any]] = {}
    found: list[_Run] = []
    for row in sorted(list_runs(runs), key=lambda row: row.run_id):
        if row.bench == bench and (current is None or row.run_id < (current.run_id or "")):
            with suppress(LabError):
                found += _read(row, stations)
    if current is not None:
        found.append(_run(RunReader(find_run(runs, current.run_id or "")), current, True, stations))
    return found


def _read(row: RunRow, stations: dict[str, Mapping[str, Any]]) -> Iterator[_Run]:
    reader = RunReader(row.path)
    summary = reader.summary()
    if summary is not None:
        yield _run(reader, summary, row.purpose == PURPOSE and row.status in COMPLETE, stations)


def _run(reader: RunReader, summary: Summary, is_night: bool, stations: dict[str, Mapping[str, Any]]) -> _Run:
    """Equal station files are read once."""
    key = str(reader.info.get("config_sha256"))
    if is_night and key not in stations:
        stations[key] = reader.station().values()
    repairs = [
        f"{event.get('node')}, {event.get('why')}"
        for event in reader.journal()
        if event.get("event") == "check" and event.get("why") != NO_QUICK_CHECK
    ]
    return _Run(summary, is_night, stations.get(key, {}), _workload_of(reader), "; ".join(repairs))


def _workload_of(reader: RunReader) -> str:
    path = reader.path / WORKLOAD
    if reader.seal is not None:
        return reader.seal.files.get(WORKLOAD, "")
    return hashlib.sha256(read_regular(path)).hexdigest() if path.is_file() else ""
