"""Run ids: UTC time, purpose and four random characters; they sort by time and can be typed."""

from __future__ import annotations

import datetime as dt
import re
import secrets
from pathlib import Path

from labctl.clock import CLOCKS_APART, utc_now
from labctl.errors import UsageError

_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # without 0/o, 1/l/i
_ID = re.compile(r"(\d{4})(\d\d)(\d\d)T\d{6}Z-[a-z0-9-]+-[2-9a-z]{4}")


def timestamp(moment: dt.datetime | None = None) -> str:
    """``2026-11-23T02:00:03.125000Z``"""
    return (moment or utc_now()).astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def new_run_id(purpose: str, moment: dt.datetime | None = None) -> str:
    """``20261123T020003Z-demo-k7f2``

    Raises
    ------
    UsageError
        When ``purpose`` is not lower-case words joined by hyphens.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", purpose):
        raise UsageError("a run's purpose is lower-case letters, digits and hyphens", expected="demo", seen=purpose)
    suffix = "".join(secrets.choice(_ALPHABET) for _ in range(4))
    return f"{(moment or utc_now()).astimezone(dt.UTC):%Y%m%dT%H%M%SZ}-{purpose}-{suffix}"


def run_folder(root: Path, run_id: str) -> Path:
    """``root/2026/11/23/20261123T020003Z-demo-k7f2``"""
    match = _ID.fullmatch(run_id)
    if not match:
        raise UsageError("not a run id", expected="20261123T020003Z-demo-k7f2", seen=run_id)
    return root / match[1] / match[2] / match[3] / run_id


def is_ahead(run_id: str) -> bool:
    """Whether a run says that it began in the future: some clock was wrong, then or now."""
    return run_id[:16] > f"{utc_now() + CLOCKS_APART:%Y%m%dT%H%M%SZ}"


def by_age(run_id: str) -> tuple[bool, str]:
    """Sorts runs from the oldest to the newest; what lies in the future is older than anything else."""
    return not is_ahead(run_id), run_id


def is_run_id(text: str) -> bool:
    """Whether ``text`` has the form of a whole run id."""
    return _ID.fullmatch(text) is not None
