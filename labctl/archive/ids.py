"""Run ids: UTC time, purpose and four random characters; they sort by time and can be typed."""

from __future__ import annotations

import datetime as dt
import re
import secrets
from pathlib import Path

from labctl.clock import utc_now
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


def is_run_id(text: str) -> bool:
    """Whether ``text`` has the form of a whole run id."""
    return _ID.fullmatch(text) is not None
