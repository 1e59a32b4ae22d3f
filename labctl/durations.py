"""Spans of time as people type them: ``90s``, ``20m``, ``1h30m``; and as they read them: ``2 min 05 s``."""

from __future__ import annotations

import re

from labctl.errors import UsageError

LONGEST_WAIT_S = 7 * 86400.0
"""A command waits no longer for its bench: what is typed beyond that is a slip [s]."""
_PARTS = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", re.ASCII)


def seconds_of(text: str | None, option: str) -> float:
    """Seconds; 0 where nothing was typed.

    Raises
    ------
    UsageError
        When it is no span of time.
    """
    if text is None:
        return 0.0
    found = _PARTS.fullmatch(text.strip().replace(" ", ""))
    if found is None or not any(found.groups()):
        raise UsageError(f"{option} needs a span of time", expected="for example 90s, 20m, 3h, 1h30m", seen=text)
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def in_words(seconds: float) -> str:
    """``"0.4 s"``, ``"45 s"``, ``"2 min 05 s"``, ``"1 h 10 min"``."""
    if 0 < seconds < 0.05:
        return "less than 0.1 s"
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60:02d} s" if whole % 60 else "")
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h" + (f" {minutes:02d} min" if minutes else "")


def wait_s_of(text: str | None) -> float:
    """How long a command waits for its bench [s]; not at all where nothing was typed.

    Raises
    ------
    UsageError
        When it is no span of time, or one that nobody can mean.
    """
    seconds = seconds_of(text, "--wait")
    if seconds > LONGEST_WAIT_S:
        raise UsageError(
            "--wait is longer than a week",
            expected="at most 168h",
            seen=str(text)[:40],
            safe="nothing was touched",
            hint="who has the bench, and until when: labctl bench who",
        )
    return seconds
