"""What a run folder holds for other programs, beside ``summary.json``: ``junit.xml`` and ``metrics.prom``."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from groundwork.opening.json_text import read_json
from labctl.archive.atomic import atomic_write_text
from labctl.archive.index import last_success
from labctl.archive.junit import junit
from labctl.archive.prometheus import prometheus
from labctl.archive.reader import read_run_json
from labctl.verdicts import Verdict

if TYPE_CHECKING:
    from labctl.summary import Summary

JUNIT, METRICS = "junit.xml", "metrics.prom"


def write_documents(run: Path, summary: Summary) -> None:
    """Write both into the run folder, from the summary that the run ends with.

    Raises
    ------
    StorageError
        Disk full or not writable.
    """
    atomic_write_text(run / JUNIT, junit(summary, _properties(run, summary)))
    atomic_write_text(run / METRICS, prometheus(summary, _last_success_s(run, summary), _free_bytes(run)))


def _properties(run: Path, summary: Summary) -> dict[str, str]:
    info = read_run_json(run)
    try:
        code = read_json(run / "code.json")
    except (OSError, ValueError):
        code = {}
    found = {
        "run_id": run.name,
        "labctl": code.get("labctl"),
        "commit": (code.get("git") or {}).get("commit"),
        "config_sha256": info.get("config_sha256"),
        "calibration": summary.calibration.id if summary.calibration else None,
    }
    return {name: str(value) for name, value in found.items() if value}


def _last_success_s(run: Path, summary: Summary) -> float | None:
    if summary.verdict is Verdict.OK and summary.finished is not None:
        return summary.finished.timestamp()
    if len(run.parents) < 4 or summary.bench is None:
        return None
    finished = last_success(run.parents[3], summary.bench)
    return dt.datetime.fromisoformat(finished).timestamp() if finished else None


def _free_bytes(run: Path) -> float | None:
    try:
        return float(shutil.disk_usage(run).free)
    except OSError:
        return None
