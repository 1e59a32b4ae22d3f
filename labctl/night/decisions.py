"""What people have decided about the control charts of a bench: a line each in ``runs/drift/BENCH.jsonl``."""

from __future__ import annotations

import datetime as dt
import getpass
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from labctl.archive.atomic import append_line, drop_torn_line, read_lines, storage
from labctl.archive.ids import timestamp
from labctl.errors import RunDamaged, UsageError

FOLDER = "drift"


@dataclass(frozen=True)
class ChartDecision:
    """One line.

    Attributes
    ----------
    at
        When it was taken; ISO 8601.
    event
        ``ack``: the alarm is known. ``rebaseline``: what was learned counts no more.
    metric
        Of the chart; None for all charts of the bench.
    reason
        In the words of who took it.
    user
        Who took it; None where the system does not know.
    """

    at: str
    event: Literal["ack", "rebaseline"]
    metric: str | None
    reason: str
    user: str | None

    @property
    def moment(self) -> dt.datetime:
        """When it was taken."""
        return dt.datetime.fromisoformat(self.at)

    def concerns(self, metric: str) -> bool:
        """Whether it is about the chart of this metric."""
        return self.metric in (None, metric)


def decide(
    runs: Path, bench: str, event: Literal["ack", "rebaseline"], metric: str | None, reason: str
) -> ChartDecision:
    """Write a decision down.

    Raises
    ------
    UsageError
        When no reason is given.
    StorageError
        When the disk does not take it.
    """
    if not reason.strip():
        raise UsageError(
            "a decision about a chart needs a reason",
            device=bench,
            action=f"labctl drift {event}",
            expected="words for whoever reads the chart next year",
            safe="nothing was written",
            hint=f'labctl drift {event} {metric or ""} --reason "…"'.replace("  ", " "),
        )
    decision = ChartDecision(timestamp(), event, metric, reason.strip(), _user())
    path = _journal(runs, bench)
    with storage(path, "making the folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
    drop_torn_line(path)
    append_line(path, asdict(decision), sync=True)
    return decision


def decisions(runs: Path, bench: str) -> list[ChartDecision]:
    """All of them, oldest first.

    Raises
    ------
    RunDamaged
        When a line cannot be read.
    """
    path = _journal(runs, bench)
    try:
        found = [ChartDecision(**line) for line in read_lines(path)]
        return sorted(found, key=lambda decision: decision.moment)
    except (ValueError, TypeError) as error:
        hint = f"restore it from a copy; without it the charts begin anew with all nights: mv {path} {path}.bad"
        raise RunDamaged(
            "the decisions about the charts cannot be read",
            device=str(path),
            expected="one JSON object a line",
            seen=str(error),
            hint=hint,
        ) from error


def _journal(runs: Path, bench: str) -> Path:
    return runs / FOLDER / f"{bench}.jsonl"


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return None
