"""Two runs side by side: figures, nodes, station, code, calibrations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundwork.errors import CodedError
from groundwork.opening.json_text import parse_json
from groundwork.opening.regular import MOST_TEXT_BYTES, decoded, read_regular
from groundwork.opening.toml_text import parse_toml
from labctl.archive import RunReader
from labctl.archive.atomic import storage
from labctl.archive.recovery import reached
from labctl.engine.calibrations import difference, open_calibration
from labctl.errors import RunDamaged
from labctl.summary import Metric, Summary


@dataclass(frozen=True)
class Figure:
    """A metric in both runs; ``z`` is B − A in its standard error, where both have one. None: that run has it not."""

    name: str
    unit: str
    a: float | None
    b: float | None
    z: float | None


@dataclass(frozen=True)
class Changed:
    """Something that is not the same in both; None: that run does not have it."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes
    ----------
    figures
        Every metric of either run.
    nodes, station, code
        States, keys and versions that differ.
    calibrations
        Ids of the calibrations that the runs exported; None where one did not.
    changed
        Families whose calibration has changed; None where there is nothing to compare, and ``why_not`` says why.
    """

    a: str
    b: str
    status: Changed
    figures: list[Figure]
    nodes: list[Changed]
    station: list[Changed]
    code: list[Changed]
    calibrations: Changed
    changed: list[str] | None
    why_not: str


def compare(a: RunReader, b: RunReader, runs: Path) -> Comparison:
    """Put two runs of any age and any end side by side; what one of them lacks is None.

    Parameters
    ----------
    runs
        The archive whose store holds the calibrations.

    Raises
    ------
    RunDamaged
        When a document of a run cannot be read.
    """
    one, two = (run.summary() or reached(run) for run in (a, b))
    ids = Changed("calibration", *(s.calibration.id if s.calibration else None for s in (one, two)))
    changed, why_not = _families(runs, ids)
    return Comparison(
        a=a.run_id,
        b=b.run_id,
        status=Changed("status", a.status, b.status),
        figures=_figures(_metrics(one), _metrics(two)),
        nodes=differing(*({node.name: _state(node.state, node.check) for node in s.nodes} for s in (one, two))),
        station=differing(*(_flat(_read(run.path / "config.toml")) for run in (a, b))),
        code=differing(*(_flat(_read(run.path / "code.json")) for run in (a, b))),
        calibrations=ids,
        changed=changed,
        why_not=why_not,
    )


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Changed]:
    """The keys of either whose values are not the same, in the order of ``a``."""
    return [Changed(key, a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key)]


def _state(state: str, check: str | None) -> str:
    return f"{state}, {check}" if check else state


def _metrics(summary: Summary) -> dict[str, Metric]:
    own = {f"{node.name}.{metric.name}": metric for node in summary.nodes for metric in node.metrics}
    return own | {metric.name: metric for metric in summary.metrics}


def _figures(a: Mapping[str, Metric], b: Mapping[str, Metric]) -> list[Figure]:
    rows = []
    for name in {**a, **b}:
        one, two = a.get(name), b.get(name)
        unit = next(metric.unit for metric in (one, two) if metric is not None)
        values = [metric.value if metric else None for metric in (one, two)]
        rows.append(Figure(name, unit, values[0], values[1], _z(one, two)))
    return rows


def _z(a: Metric | None, b: Metric | None) -> float | None:
    if a is None or b is None or a.unit != b.unit:
        return None
    if a.value is None or b.value is None or a.stderr is None or b.stderr is None:
        return None
    spread = math.hypot(a.stderr, b.stderr)
    return (b.value - a.value) / spread if spread > 0 else None


def _families(runs: Path, ids: Changed) -> tuple[list[str] | None, str]:
    if ids.a is None or ids.b is None:
        return None, "not both exported a calibration"
    try:
        found, _left = difference(open_calibration(runs, ids.a), open_calibration(runs, ids.b))
    except CodedError as error:
        return None, error.what
    return [family.name for family in found if family.changed], ""


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    with storage(path, "reading"):
        data = read_regular(path, MOST_TEXT_BYTES)
    try:
        document: dict[str, Any] = (
            parse_toml(decoded(data, path), path) if path.suffix == ".toml" else parse_json(data, path)
        )
    except ValueError as error:
        raise RunDamaged(f"{path.name} cannot be read", device=str(path), seen=str(error)) from error
    return document


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
