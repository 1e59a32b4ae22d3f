"""One file for a bug report: what was found, and with what; nothing that is secret."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

from drivers.registry import available
from labctl.archive.ids import timestamp
from labctl.doctor.check import Row, State, Surroundings
from labctl.osal import home_directory

SCHEMA = "labctl.doctor/1"


def report(rows: Sequence[Row], around: Surroundings) -> dict[str, Any]:
    """The rows, versions, backends, and the names of environment variables, without their values.

    Of the station only names, roles and backends are given: options may hold addresses and passwords. The folder of
    the user is written as ``~``.
    """
    devices = around.station.station.devices.root if around.station else {}
    document = {
        "schema": SCHEMA,
        "at": timestamp(),
        "labctl": metadata.version("labctl"),
        "python": sys.version,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "checks": [asdict(row) for row in rows],
        "station": {name: {"role": one.role, "backend": one.backend} for name, one in devices.items()},
        "backends": {one.name: one.broken or "ok" for one in available(probe=True)},
        "packages": dict(sorted({one.name: one.version for one in metadata.distributions() if one.name}.items())),
        "environment": sorted(os.environ),
    }
    hidden: dict[str, Any] = _without_home(document)
    return hidden


def as_text(document: dict[str, Any]) -> str:
    """The report for people, who may paste it."""
    lines = [f"labctl {document['labctl']}, Python {document['python']}, {document['platform']}", ""]
    lines += [row_text(Row(**{**row, "state": State(row["state"])})) for row in document["checks"]]
    for title in ("station", "backends", "packages"):
        lines += ["", f"{title}:", *(f"  {name}: {_plain(value)}" for name, value in document[title].items())]
    lines += ["", "environment variables (names only):", "  " + " ".join(document["environment"])]
    return "\n".join(lines) + "\n"


def row_text(row: Row) -> str:
    """``WARN  disk: 12.0 GB free   ·   free some space``."""
    return f"{row.state}  {row.check}: {row.detail}" + (f"   ·   try: {row.fix}" if row.fix else "")


def _plain(value: Any) -> str:
    return f"{value['role']}, {value['backend']}" if isinstance(value, dict) else str(value)


def _without_home(value: Any) -> Any:
    if isinstance(value, dict):
        return {_without_home(key): _without_home(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_home(one) for one in value]
    home = str(home_directory() or "")
    return value.replace(home, "~") if isinstance(value, str) and len(home) > 1 else value
