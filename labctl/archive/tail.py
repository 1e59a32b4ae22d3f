"""Follow a run from its folder alone: what is journalled, where it is, and how it ends; from any process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from groundwork.opening.json_text import parse_json
from groundwork.opening.regular import open_regular
from labctl.archive import lock as run_lock
from labctl.archive.atomic import storage
from labctl.archive.seal import SEAL
from labctl.clock import utc_now
from labctl.durations import in_words as span_in_words

RECENT_S = 60.0
"""A journal that was written to so lately belongs to a run whose supervisor may still seal it [s]."""
PATIENCE_S = 30.0
"""How long one waits for that seal once nobody writes the run any more [s]."""


class Tail:
    """What is new in a run folder.

    Parameters
    ----------
    run
        The folder.
    patience_s
        How long to wait for the seal of a run that nobody writes any more [s].
    """

    def __init__(self, run: Path, patience_s: float = PATIENCE_S) -> None:
        self._run, self._patience_s = run, patience_s
        self._journal, self._read_bytes = run / "journal.jsonl", 0
        self._left_s: float | None = None

    def news(self) -> list[dict[str, Any]]:
        """Events that were journalled since this was last asked; a line that is being written comes next time."""
        if not self._journal.exists():
            return []
        with storage(self._journal, "reading"), open_regular(self._journal) as stream:
            stream.seek(self._read_bytes)
            whole, newline, _ = stream.read().rpartition(b"\n")
        self._read_bytes += len(whole) + len(newline)
        return [line for line in map(_event, whole.splitlines()) if line]

    def is_over(self) -> bool:
        """Whether the run was sealed, or has been left without a seal for so long that it will get none."""
        if (self._run / SEAL).exists():
            return True
        if run_lock.is_held(self._run):
            self._left_s = None
            return False
        if self._left_s is None:
            if not self._journal.exists() or utc_now().timestamp() - self._journal.stat().st_mtime > RECENT_S:
                return True
            self._left_s = time.monotonic()
        return time.monotonic() - self._left_s >= self._patience_s


def in_words(line: Mapping[str, Any]) -> str:
    """One event of a journal for a person."""
    event = str(line.get("event", "?"))
    try:
        said = _WORDS.get(event, _other)(line)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        said = _other(line)
    return f"{str(line.get('at', ''))[11:19]}  {said}"


class Folded:
    """Events in words, where the segments that a node has sealed one after the other are one line."""

    def __init__(self) -> None:
        self._sealed: list[Mapping[str, Any]] = []

    def lines(self, event: Mapping[str, Any]) -> list[str]:
        """What is to be said once this event has come: nothing while more of the same may follow."""
        if event.get("event") == "segment":
            before = [] if not self._sealed or self._sealed[0].get("kind") == event.get("kind") else self.rest()
            self._sealed.append(event)
            return before
        return [*self.rest(), in_words(event)]

    def rest(self) -> list[str]:
        """What has not been said yet."""
        sealed, self._sealed = self._sealed, []
        if len(sealed) < 2:
            return [in_words(event) for event in sealed]
        try:
            rows, size = (sum(int(event[name]) for event in sealed) for name in ("rows", "bytes"))
            files = f"{sealed[0].get('file')} … {sealed[-1].get('file')}"
            said = f"sealed {files}: {rows} × {sealed[0].get('kind')}, {size / 1e3:,.0f} kB"
        except (KeyError, TypeError, ValueError, ArithmeticError):
            return [in_words(event) for event in sealed]
        return [f"{str(sealed[-1].get('at', ''))[11:19]}  {said}"]


def where(progress: Mapping[str, Any]) -> str:
    """``progress.json`` for a person, in one line."""
    node, total = progress.get("node_frames") or {}, (progress.get("run_frames") or {}).get("total")
    parts = [" ".join(filter(None, (progress.get("state"), progress.get("node"))))]
    if node.get("total"):
        parts.append(f"{node.get('done', 0):,}/{node['total']:,} frames")
    if total:
        parts.append(f"{progress['run_frames'].get('done', 0) / total:.0%} of the run")
    if progress.get("frames_per_s"):
        parts.append(f"{progress['frames_per_s']:.0f} frames/s")
    if progress.get("left_s") is not None:
        parts.append(f"{span_in_words(progress['left_s'])} left")
    return "   ".join(parts)


def _node(line: Mapping[str, Any]) -> str:
    found = line.get("check") or line["state"]
    duration_s = line.get("duration_s")
    took = f" in {duration_s:.1f} s" if duration_s is not None else ""
    return f"node {line['name']}: {str(found).replace('_', ' ')}{took}" + _after(line.get("reason"))


def _check(line: Mapping[str, Any]) -> str:
    if line["verdict"] == "impossible":
        return f"{line['node']} has no quick check: it is done again"
    return f"quick check of {line['node']}: {line['verdict'].replace('_', ' ')}{_after(line['why'])}"


def _resumed(line: Mapping[str, Any]) -> str:
    if "waited_s" in line:
        return f"{line['device']} is closed again after {line['waited_s']:.1f} s"
    return f"the run goes on after {line['segments']} segments"


def _reopen(line: Mapping[str, Any]) -> str:
    devices = ", ".join(line.get("devices") or [str(line["device"])])
    if "opened" not in line:
        return f"{devices}: being opened again"
    return f"{devices}: " + ("open again" if line["opened"] else f"not opened{_after(line.get('what'))}")


def _monitor(line: Mapping[str, Any]) -> str:
    if "error" in line:
        return f"{line['device']} does not answer{_after(line['error'])}"
    return f"{line['device']} reads {line['value']:.6g} {line.get('unit', '')}".rstrip()


def _other(line: Mapping[str, Any]) -> str:
    facts = [f"{key} {value}" for key, value in line.items() if key not in ("at", "event") and value not in (None, "")]
    return " ".join([str(line.get("event", "?")), *facts])


def exit_words(code: object) -> str:
    """`` (exit 20)``; nothing for a run that no process ended, and which has no exit code."""
    return "" if code is None else f" (exit {code})"


def _after(words: object) -> str:
    return f": {words}" if words else ""


_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "started": lambda line: "the run begins",
    "resumed": _resumed,
    "segment": lambda line: f"sealed {line['file']}: {line['rows']} × {line['kind']}, {line['bytes'] / 1e3:,.0f} kB",
    "adopted": lambda line: f"taken over from {line['origin']}: {line['file']}, {line['kind']}",
    "node": _node,
    "check": _check,
    "warning": lambda line: f"warning: {line['device']}{_after(line['words'])}",
    "retry": lambda line: f"{line['device']}, attempt {line['attempt']} failed: {line['code']} {line['what']}",
    "reopen": _reopen,
    "reset": lambda line: f"{line['device']} is reset: {line['answer']}",
    "again": lambda line: f"a step ({line['step']}) is read again{_after(line['why'])}",
    "fault": lambda line: f"FAULT {line['device']}: {line['code']} {line['what']}",
    "light": lambda line: f"THE LIGHT DOES NOT GO OFF, {line['device']}: {line['code']} {line['what']}",
    "monitor": _monitor,
    "suspended": lambda line: f"suspended: {line['device']} is open{_after(line['reason'])}",
    "interlock": lambda line: f"INTERLOCK {line['device']}{_after(line['reason'])}; {line['seen']}",
    "clock": lambda line: f"the clock has jumped by {line['jumped_s']:+.1f} s",
    "stalled": lambda line: f"STALLED{_after(line['reason'])}",
    "sealing": lambda line: f"sealed as {line['verdict']}{exit_words(line['exit_code'])}",
}


def _event(raw: bytes) -> dict[str, Any] | None:
    try:
        line = parse_json(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None
