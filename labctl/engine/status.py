"""Is the calibration still good? From the store and the run folders alone; no device is touched."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.archive.calibrations import CalibrationStore, Decision, read_header
from labctl.clock import is_future, utc_now
from labctl.engine.graph import NodeStatus, statuses
from labctl.errors import RunDamaged
from labctl.station.loading import LoadedStation


@dataclass(frozen=True)
class BenchStatus:
    """What a bench uses.

    Attributes
    ----------
    bench
        Its name.
    applied
        The decision that applied it; None where there is none.
    schema, acquired, valid_until
        From its header.
    age_h, left_h
        Since it was acquired and until it expires, negative afterwards [h].
    outside
        In which respects the station lies outside the calibration's domain; empty inside, or when the station is of
        another bench.
    chain
        The calibrations that it replaced, nearest first.
    refused
        The last decision against a calibration, where it came after the one applied.
    nodes
        Of the calibration graph; only for the station's own bench.
    """

    bench: str
    applied: Decision | None = None
    schema: str = ""
    acquired: str = ""
    valid_until: str = ""
    age_h: float | None = None
    left_h: float | None = None
    outside: list[str] = field(default_factory=list)
    chain: list[str] = field(default_factory=list)
    refused: Decision | None = None
    nodes: list[NodeStatus] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Applied, not expired, and inside its domain."""
        return self.applied is not None and not self.outside and (self.left_h is None or self.left_h > 0)


def bench_status(runs: Path, loaded: LoadedStation, now: dt.datetime | None = None) -> list[BenchStatus]:
    """The station's bench first, then every other bench with an applied calibration."""
    now = now or utc_now()
    store, mine = CalibrationStore(runs), loaded.station.bench.name
    found = [_status(store, mine, now, loaded, statuses(runs, loaded, now))]
    return found + [_status(store, bench, now, None, []) for bench in store.benches() if bench != mine]


def _status(
    store: CalibrationStore, bench: str, now: dt.datetime, loaded: LoadedStation | None, nodes: list[NodeStatus]
) -> BenchStatus:
    applied = store.applied(bench)
    if applied is None:
        return BenchStatus(bench, nodes=nodes)
    history = store.history(bench)
    later = [d for d in history[history.index(applied) :] if d.event == "not_applied"]
    path = store.path(applied.id)
    if not path.exists():
        missing = [f"its file is missing: {path}"]
        return BenchStatus(bench, applied, outside=missing, refused=later[-1] if later else None, nodes=nodes)
    try:
        header = read_header(path)
    except RunDamaged as error:
        return BenchStatus(bench, applied, outside=[error.what], nodes=nodes)
    acquired, until = str(header.get("acquired") or ""), str(header.get("valid_until") or "")
    return BenchStatus(
        bench,
        applied,
        str(header["schema"]),
        acquired,
        until,
        None if (age_h := _hours(acquired, now)) is None else max(0.0, age_h),
        -hours if (hours := _hours(until, now)) is not None else None,
        [*_ahead(acquired, now), *(_outside(header, loaded) if loaded else [])],
        list(store.parents(applied.id)),
        later[-1] if later else None,
        nodes,
    )


def _outside(header: dict[str, Any], loaded: LoadedStation) -> list[str]:
    """Where the station lies outside the domain of a calibration, in words."""
    station, domain, layout = loaded.station, header.get("domain") or {}, header.get("layout") or {}
    asked: dict[str, tuple[object, object]] = {
        "exposure_s": (domain.get("exposure_s"), station.acquisition.exposure_s),
        "wavelength_nm": (domain.get("wavelength_nm"), station.source.wavelength_nm),
        "quantum_efficiency": (domain.get("quantum_efficiency"), station.camera.quantum_efficiency),
        "encoding": (header.get("encoding"), station.layout.encoding),
    }
    asked |= {f"layout.{key}": (layout[key], value) for key, value in station.layout if key in layout}
    return [
        f"{name} is {now}, calibrated at {then}"
        for name, (then, now) in asked.items()
        if then is not None and then != now
    ]


def _ahead(acquired: str, now: dt.datetime) -> list[str]:
    """Why a calibration that was acquired in the future cannot be trusted to expire in time."""
    try:
        is_ahead = is_future(dt.datetime.fromisoformat(acquired), now)
    except (ValueError, TypeError):
        return []
    return [f"acquired in the future, {acquired}: the clock was wrong then, or is now"] if is_ahead else []


def _hours(moment: str, now: dt.datetime) -> float | None:
    try:
        return round((now - dt.datetime.fromisoformat(moment)).total_seconds() / 3600, 3)
    except (ValueError, TypeError):
        return None
