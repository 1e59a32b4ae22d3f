"""What goes on now: benches and who holds them, and the runs that are being written, from files alone.

No lock is asked for. Who holds a bench has written that down, and his process lives or does not.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from groundwork.errors import CodedError, FileRefused
from groundwork.opening.json_text import read_json
from labctl.archive.index import RunRow
from labctl.archive.preview import stamp_of
from labctl.archive.progress import read_progress
from labctl.archive.reader import read_run_json
from labctl.archive.seal import REPORT, SUMMARY, Seal, read_seal
from labctl.archive.tail import Tail, in_words
from labctl.bench.marks import known_benches, mark_of
from labctl.durations import in_words as span
from labctl.locks import BenchFiles, Holder, holder_of
from labctl.osal import process_lives
from labctl.verdicts import COMPLETE, VERDICTS
from labctl.web.catalogue import Catalogue

ALARMING = frozenset({"fault", "light", "interlock", "stalled", "suspended"})
"""Events of a journal that somebody should see at once."""
EVENTS_SHOWN = 14
RECENT_SHOWN = 6
BENCHES_SHOWN = 12
COUNT_MAX = 10**12
STATES = {
    "opening": "opening the devices",
    "measuring": "measuring",
    "suspended": "waiting for an interlock",
    "fitting": "fitting",
    "closing": "closing the devices",
    "done": "done",
}
MEANINGS = {str(row.verdict): row.meaning for row in VERDICTS}


@dataclass(frozen=True)
class BenchNow:
    """A bench.

    Attributes
    ----------
    name
        Of the bench.
    holder
        Who has it; None where nobody does.
    devices_open, left_unsafe
        Whether a living process has its devices open, or a dead one has left them so.
    """

    name: str
    holder: Holder | None
    devices_open: bool
    left_unsafe: bool


@dataclass(frozen=True)
class NodeNow:
    """A node of a run: ``state`` is ``"now"``, or what the journal says of it."""

    name: str
    state: str
    took: str = ""
    reason: str = ""


@dataclass(frozen=True)
class EventNow:
    """A line of a journal in words, with the time of day, UTC."""

    at: str
    words: str
    alarming: bool


@dataclass(frozen=True)
class RunNow:
    """A run that is being written, or that ended last.

    Attributes
    ----------
    status
        ``"running"``, the sealed verdict, or ``"crashed"``.
    state, left
        What it does and how long it will still take, in words.
    done, total, node_done, node_total
        Frames; totals are None where nobody knows.
    rate
        Frames a second; None before the first ones.
    nodes, events
        In the order of time; of the events only the last ones.
    finished
        When it ended; empty while it goes on.
    error
        What ended it, as it was shown: ``code``, ``message``, ``device``, ``hint``; empty where nothing did.
    alarm
        The last event that somebody should see at once; None where none has come, or all went on after it.
    has_report
        Whether there is a report.
    goes_on
        What to type so that it goes on where it stopped; empty where it cannot.
    preview
        Changes with each new picture of the camera; empty where there is none.
    """

    run_id: str
    bench: str
    mode: str
    purpose: str
    started: str
    status: str
    state: str = ""
    node: str = ""
    step: str = ""
    left: str = ""
    done: int = 0
    total: int | None = None
    node_done: int = 0
    node_total: int | None = None
    rate: float | None = None
    nodes: Sequence[NodeNow] = ()
    events: Sequence[EventNow] = ()
    finished: str = ""
    error: Mapping[str, str] = field(default_factory=dict)
    alarm: EventNow | None = None
    has_report: bool = False
    goes_on: str = ""
    preview: str = ""

    @property
    def meaning(self) -> str:
        """The status in words."""
        return "" if self.status == "running" else MEANINGS.get(self.status, "")


@dataclass(frozen=True)
class Now:
    """Everything that the live page shows."""

    benches: Sequence[BenchNow] = ()
    jobs: Sequence[RunNow] = ()
    recent: Sequence[RunRow] = ()


@dataclass
class _Followed:
    """What has been read of a run's journal so far."""

    tail: Tail
    nodes: dict[str, NodeNow] = field(default_factory=dict)
    events: deque[EventNow] = field(default_factory=lambda: deque(maxlen=EVENTS_SHOWN))
    alarm: EventNow | None = None
    sealed: Seal | None = None
    error: Mapping[str, str] = field(default_factory=dict)

    def end(self, seal: Seal | None, folder: Path) -> None:
        """What ended the run is read once for each seal."""
        if seal is not None and seal != self.sealed:
            self.error = _first_error(folder)
        elif seal is None:
            self.error = {}
        self.sealed = seal

    def go_on(self) -> None:
        """Read what is new."""
        for line in self.tail.news():
            event = str(line.get("event", ""))
            at, _, words = in_words(line).partition("  ")
            told = EventNow(at, words, event in ALARMING)
            if event == "node":
                self._node(line)
            if told.alarming:
                self.alarm = told
            elif event == "resumed":
                self.alarm = None
            if event == "segment" and self.events and self.events[-1].words.startswith("sealed "):
                self.events.pop()  # of segments one after the other the last says it all
            self.events.append(told)

    def _node(self, line: Mapping[str, Any]) -> None:
        took_s = line.get("duration_s")
        took = span(took_s) if isinstance(took_s, int | float) else ""
        name = str(line.get("name", ""))
        state = str(line.get("check") or line.get("state") or "").replace("_", " ")
        self.nodes[name] = NodeNow(name, state, took, str(line.get("reason") or ""))


class Watcher:
    """Looks, when it is asked to, and never more often than that; one thread at a time.

    Parameters
    ----------
    catalogue
        The runs.
    clock
        Monotonic seconds.
    """

    def __init__(self, catalogue: Catalogue, clock: Callable[[], float] = time.monotonic) -> None:
        self._catalogue, self._clock = catalogue, clock
        self._followed: dict[str, _Followed] = {}

    def look(self) -> Now:
        """The benches, the runs that are being written or else the newest one, and the last runs."""
        benches = _benches()
        rows = self._catalogue.rows()
        writing = [bench.holder.who for bench in benches if bench.holder is not None]
        writing += [row.run_id for row in rows if row.status == "running"]
        found = [job for run_id in dict.fromkeys(writing) if (job := self._job(run_id)) is not None]
        if not found and rows:
            found = [job for row in rows[:1] if (job := self._job(row.run_id)) is not None]
        shown = {job.run_id for job in found}
        self._followed = {run_id: one for run_id, one in self._followed.items() if run_id in shown}
        return Now(benches, found, [row for row in rows if row.run_id not in shown][:RECENT_SHOWN])

    def _job(self, run_id: str) -> RunNow | None:
        folder = self._catalogue.folder(run_id)
        if folder is None:
            return None
        try:
            return self._read(folder)
        except (CodedError, FileRefused, OSError, ValueError, TypeError, AttributeError, ArithmeticError):
            return None  # a folder that is being made or removed, or that is damaged, is none to follow

    def _read(self, folder: Path) -> RunNow:
        info, progress = read_run_json(folder), read_progress(folder) or {}
        followed = self._followed.setdefault(folder.name, _Followed(Tail(folder)))
        followed.go_on()
        seal = _seal(folder)
        followed.end(seal, folder)
        status = str(seal.verdict) if seal else _unsealed(folder, info, progress)
        node, of_node, of_run = (progress.get(key) or {} for key in ("node", "node_frames", "run_frames"))
        now = {str(node): NodeNow(str(node), "now")} if node and status == "running" else {}
        left_s = progress.get("left_s")
        return RunNow(
            run_id=folder.name,
            **{key: str(info.get(key, "")) for key in ("bench", "mode", "purpose", "started")},
            status=status,
            state=STATES.get(str(progress.get("state")), "") if status == "running" else "",
            node=str(node or ""),
            step=str(progress.get("step") or ""),
            left=span(left_s) if isinstance(left_s, int | float) and status == "running" else "",
            done=_count(of_run.get("done")) or 0,
            total=_count(of_run.get("total")),
            node_done=_count(of_node.get("done")) or 0,
            node_total=_count(of_node.get("total")),
            rate=_number(progress.get("frames_per_s")) if status == "running" else None,
            nodes=[*({**followed.nodes, **now}.values())],
            events=[*followed.events][::-1],
            finished=seal.finished if seal else "",
            error=followed.error,
            alarm=followed.alarm,
            has_report=(folder / REPORT).is_file(),
            goes_on=_goes_on(folder, info, status),
            preview=stamp_of(folder),
        )


def _benches() -> list[BenchNow]:
    """Those in use, or left unsafe, first."""
    found = []
    for name in known_benches():
        holder, mark = holder_of(name), mark_of(name)
        is_open = mark is not None and process_lives(mark.process)
        unsafe = BenchFiles(name).mark.exists() and not is_open
        found.append(BenchNow(name, holder if holder is not None and holder.lives else None, is_open, unsafe))
    found.sort(key=lambda bench: (bench.holder is None and not bench.left_unsafe, bench.name))
    return found[:BENCHES_SHOWN]


def _seal(folder: Path) -> Seal | None:
    with suppress(CodedError):
        return read_seal(folder)
    return None


def _unsealed(folder: Path, info: Mapping[str, Any], progress: Mapping[str, Any]) -> str:
    """A run without a seal goes on while the process that wrote its progress, or that holds its bench for it, lives."""
    holder = holder_of(str(info.get("bench", "")))
    if holder is not None and holder.who == folder.name and holder.lives:
        return "running"
    pid = progress.get("pid")
    return "running" if isinstance(pid, int) and process_lives(pid) else "crashed"


def _goes_on(folder: Path, info: Mapping[str, Any], status: str) -> str:
    can = bool(info.get("job")) and status not in (*COMPLETE, "running")
    return f"labctl run resume {folder.name.rpartition('-')[2]}" if can else ""


def _first_error(folder: Path) -> dict[str, str]:
    try:
        error = read_json(folder / SUMMARY)["first_error"] or {}
        return {key: str(error.get(key) or "") for key in ("code", "message", "device", "hint")} if error else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, FileRefused):
        return {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _count(value: object) -> int | None:
    """A number of frames; None for what can be none."""
    return int(value) if isinstance(value, int | float) and 0 <= value < COUNT_MAX else None
