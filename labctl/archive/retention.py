"""Retention: the raw data of old nights go, what was found stays.

Only segments are ever removed. A run keeps them while it is young, is not ok, is the first of its bench in a month, was
pinned, or has a calibration in the store; a night only while that calibration is in use, and as long again as a run is
young. Whatever is in doubt stays.

Ages are told by the computer's clock, which may be wrong. So the newest nights of each bench stay whatever it says, as
many as raw data stay days, and nothing goes while the clock does not fit the nights in the archive.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

from labctl.archive import lock as run_lock
from labctl.archive.atomic import append_line, atomic_write_json, drop_torn_line, storage
from labctl.archive.calibrations import CalibrationRow, CalibrationStore
from labctl.archive.ids import is_ahead, timestamp
from labctl.archive.index import RunRow, list_runs
from labctl.archive.reader import RunReader
from labctl.archive.removal import Removal, read_removal, write_removal
from labctl.archive.seal import PINNED, SEGMENTS
from labctl.clock import is_future
from labctl.errors import ClockDoubtful, LabError, RunInUse

JOURNAL = "gc.jsonl"
NIGHTLY = "nightly"
"""Purpose of runs that nobody asked for in person: what they exported may become worthless with time."""
USUAL_PAUSE_DAYS = 14
"""A pause of so many days makes nobody doubt the clock, however few days raw data stay."""
NO_TIME = "goes the next time: there was no more time"


@dataclass(frozen=True)
class Decided:
    """One run that has raw data: whether they go, why, and how many bytes the disk gets back when they do.

    A file that several runs hold by hard links counts where the last of them goes, as they go the oldest first.
    """

    run_id: str
    goes: bool
    why: str
    bytes: int
    path: Path


@dataclass(frozen=True)
class Collected:
    """What retention found, and whether it did so or only looked.

    Attributes
    ----------
    runs
        Every run that still has raw data, newest first.
    bytes
        What the disk gets back: a file that another run still holds frees nothing.
    deleted
        Whether the files of `going` are gone.
    doubt
        Why the clock is not trusted, so that nothing goes; empty where it is.
    """

    runs: tuple[Decided, ...]
    bytes: int
    deleted: bool
    doubt: str = ""

    @property
    def going(self) -> tuple[Decided, ...]:
        """The runs whose raw data go, or are gone."""
        return tuple(run for run in self.runs if run.goes)

    @property
    def left(self) -> tuple[Decided, ...]:
        """The runs whose raw data would have gone, had there been the time."""
        return tuple(run for run in self.runs if run.why == NO_TIME)


def collect(
    runs: Path,
    keep_nights: int,
    now: dt.datetime,
    *,
    delete: bool = False,
    time_s: float = math.inf,
    trust_clock: bool = False,
) -> Collected:
    """Decide which raw data are no longer needed, and remove them if told so.

    A run's ``removed.json`` is on the disk before its first file goes: whatever stops the deletion, the run verifies,
    and the next call finishes it.

    Parameters
    ----------
    runs
        The archive.
    keep_nights
        Every run keeps its raw data for so many days, and so many newest nights of each bench at least.
    now
        The time of the call.
    delete
        Remove them, the oldest first; only look otherwise.
    time_s
        After so long no further run is begun; one is in any case, so that whoever has little time comes to an end, too.
    trust_clock
        Whether somebody says that the clock is right, whatever the nights in the archive say.

    Raises
    ------
    ClockDoubtful
        When files are to be removed while the clock does not fit the nights.
    StorageError
        When the disk refuses; what was removed until then is written down.
    """
    until_s = time.monotonic() + time_s
    rows = list_runs(runs)
    doubt = "" if trust_clock else _doubt_of_clock(rows, keep_nights, now)
    if delete and doubt:
        raise _clock_doubtful(runs, doubt, now)
    first, newest = _first_of_months(rows), _newest_nights(rows, keep_nights)
    exported = _Exported(CalibrationStore(runs), keep_nights, now)
    found, states = list[Decided](), dict[Path, list[os.stat_result]]()
    for row in rows:
        if files := _raw(row.path):
            why = _why_kept(row, first, exported, runs) or _why_young(row, keep_nights, now)
            why = why or (f"one of the newest {keep_nights} nights" if row.run_id in newest else doubt)
            states[row.path] = [path.lstat() for path in files]
            found.append(Decided(row.run_id, not why, why or f"older than {keep_nights} days", 0, row.path))
    found = _sized(found, states)
    if delete:
        found = _removed(runs, found, now, until_s)
    freed = _freed([state for run in found if run.goes for state in states[run.path]])
    return Collected(tuple(found), freed, delete, doubt)


def pin(folder: Path, reason: str) -> None:
    """Keep the raw data of a run for ever, or until `unpin`."""
    atomic_write_json(folder / PINNED, {"at": timestamp(), "reason": reason})


def has_raw_data(folder: Path) -> bool:
    """Whether a run still has what it measured."""
    return bool(_raw(folder))


def is_pinned(folder: Path) -> bool:
    """Whether somebody has said that a run keeps its raw data."""
    return (folder / PINNED).exists()


def unpin(folder: Path) -> bool:
    """Let retention decide about the run again; whether it was pinned."""
    with storage(folder / PINNED, "removing"):
        was = is_pinned(folder)
        (folder / PINNED).unlink(missing_ok=True)
    return was


def _raw(folder: Path) -> list[Path]:
    return sorted((folder / SEGMENTS).glob("*.h5"))


def _first_of_months(rows: list[RunRow]) -> set[str]:
    """The first good run of each bench in each month."""
    good = (row for row in rows if row.status == "ok" and row.segments and not is_ahead(row.run_id))
    return set({(row.bench, row.run_id[:6]): row.run_id for row in good}.values())


def _newest_nights(rows: list[RunRow], count: int) -> set[str]:
    """The newest good nights of each bench; one that is dated in the future takes no other's place."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.purpose == NIGHTLY and row.status == "ok" and not is_ahead(row.run_id):
            found[row.bench].append(row.run_id)
    return {run_id for nights in found.values() for run_id in nights[:count]}


def _doubt_of_clock(rows: list[RunRow], keep_nights: int, now: dt.datetime) -> str:
    """Why the clock does not fit the nights in the archive; empty where it does, or there is no night."""
    nights = [row.run_id for row in rows if row.purpose == NIGHTLY]
    if ahead := [run_id for run_id in nights if is_ahead(run_id)]:
        return f"the night {max(ahead)} lies in the future"
    begun = [dt.datetime.strptime(run_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC) for run_id in nights[:2]]
    for later, before in pairwise([now, *begun]):
        days = (later - before) / dt.timedelta(days=1)
        if days > max(keep_nights, USUAL_PAUSE_DAYS):
            return f"{days:.0f} days without a night before {later:%F}: the clock may have jumped"
    return ""


def _clock_doubtful(runs: Path, doubt: str, now: dt.datetime) -> ClockDoubtful:
    return ClockDoubtful(
        doubt,
        device=str(runs),
        action="looking which raw data are old",
        expected="nights one after the other, none in the future",
        seen=f"the clock says {now:%FT%TZ}",
        safe="no raw data were removed",
        hint="look at the clock: date -u   ·   where it is right: labctl run gc --delete --trust-clock",
    )


def _why_kept(row: RunRow, first: set[str], exported: _Exported, runs: Path) -> str:
    """Why the raw data of a run stay, however old they are; empty where nothing speaks for it."""
    if row.status != "ok":
        return f"the run is {row.status.replace('_', ' ')}"
    if is_ahead(row.run_id):
        return "dated in the future: some clock was wrong"
    segments = row.path / SEGMENTS
    if segments.resolve() != runs.resolve() / segments.relative_to(runs):
        return "lies behind a link"
    if is_pinned(row.path):
        return "pinned"
    if row.run_id in first:
        return "the first of its month"
    if run_lock.is_held(row.path):
        return "in use"
    return _why_exported(row, exported)


def _why_exported(row: RunRow, exported: _Exported) -> str:
    try:
        summary = RunReader(row.path).summary()
        read_removal(row.path)
    except LabError as error:
        return f"cannot be read: {error.what}"
    calibration = summary.calibration.id if summary and summary.calibration else None
    needed = exported.in_use if row.purpose == NIGHTLY else exported.all
    return "a calibration in the store rests on it" if needed & {row.run_id, calibration} else ""


class _Exported:
    """Names of calibrations, and of the runs that gave them, whose raw data somebody may want.

    Attributes
    ----------
    all
        Of every calibration in the store.
    in_use
        Without those that were replaced, or never applied, for ``keep_nights`` days.
    """

    def __init__(self, store: CalibrationStore, keep_nights: int, now: dt.datetime) -> None:
        rows, self._limit, self._now = store.rows(), dt.timedelta(days=keep_nights), now
        over = {bench: self._over(store, bench) for bench in {row.bench for row in rows}}
        self.all = {name for row in rows for name in (row.id, row.run_id)}
        self.in_use = {name for row in rows if not self._is_over(row, over[row.bench]) for name in (row.id, row.run_id)}

    @staticmethod
    def _over(store: CalibrationStore, bench: str) -> dict[str, str] | None:
        """Calibration → when it was replaced last, or turned down; None where nobody knows what the bench uses."""
        try:
            applied, history = store.applied(bench), store.history(bench)
        except LabError:
            return None
        if applied is None:
            return None
        ends = {d.id: d.at for d in history if d.event == "not_applied"}
        ends |= {d.before: d.at for d in history if d.event == "applied" and d.before is not None}
        ends.pop(applied.id, None)
        return ends

    def _is_over(self, row: CalibrationRow, over: dict[str, str] | None) -> bool:
        if row.schema == "damaged" or over is None or row.id not in over:
            return False
        try:
            ended = dt.datetime.fromisoformat(over[row.id])
            return not is_future(ended, self._now) and self._now - ended >= self._limit
        except (ValueError, TypeError):
            return False


def _why_young(row: RunRow, keep_nights: int, now: dt.datetime) -> str:
    ended = dt.datetime.fromisoformat(str(row.finished))
    young = is_future(ended, now) or now - ended < dt.timedelta(days=keep_nights)
    return f"younger than {keep_nights} {'day' if keep_nights == 1 else 'days'}" if young else ""


def _sized(found: list[Decided], states: dict[Path, list[os.stat_result]]) -> list[Decided]:
    """The same, newest first, with what the disk gets back when a run goes after all older ones that go."""
    gone, sized = Counter[tuple[int, int]](), list[Decided]()
    for run in reversed(found):
        mine = Counter((s.st_dev, s.st_ino) for s in states[run.path])
        links = {(s.st_dev, s.st_ino): s for s in states[run.path]}
        size = sum(s.st_size for file, s in links.items() if gone[file] + mine[file] == s.st_nlink)
        sized.append(replace(run, bytes=size))
        if run.goes:
            gone += mine
    return sized[::-1]


def _freed(states: list[os.stat_result]) -> int:
    """What the disk gets back: the size of each file all of whose names go."""
    going = Counter((state.st_dev, state.st_ino) for state in states)
    sizes = {(s.st_dev, s.st_ino): s.st_size for s in states if going[s.st_dev, s.st_ino] == s.st_nlink}
    return sum(sizes.values())


def _removed(runs: Path, found: list[Decided], now: dt.datetime, until_s: float) -> list[Decided]:
    """The same, newest first, after the raw data of those that go were removed, the oldest first, in the time given."""
    done, has_begun = list[Decided](), False
    for run in reversed(found):
        if not run.goes:
            done.append(run)
        elif has_begun and time.monotonic() >= until_s:
            done.append(replace(run, goes=False, why=NO_TIME))
        else:
            done.append(_remove(runs, run, now))
            has_begun = True
    return done[::-1]


def _remove(runs: Path, run: Decided, now: dt.datetime) -> Decided:
    """Remove the raw data of one run, unless somebody holds it."""
    try:
        lock = run_lock.hold(run.path)
    except RunInUse:
        return replace(run, goes=False, why="in use")
    try:
        if (run.path / PINNED).exists():  # since the runs were looked through
            return replace(run, goes=False, why="pinned")
        reader = RunReader(run.path)
        listed = tuple(row.file for row in reader.manifest)
        if {path.name for path in _raw(run.path)} - set(listed) or reader.seal is None:
            return replace(run, goes=False, why="holds files that nobody listed")
        if read_removal(run.path) is None:
            drop_torn_line(runs / JOURNAL)
            line = {"at": timestamp(now), **asdict(run), "path": run.path.relative_to(runs).as_posix()}
            append_line(runs / JOURNAL, line, sync=True)
            write_removal(run.path, Removal(timestamp(now), reader.seal.digest, listed))
        for path in _raw(run.path):
            with storage(path, "removing"):
                path.unlink()
    except LabError as error:
        if error.code.startswith("E-RUN"):
            return replace(run, goes=False, why=f"cannot be read: {error.what}")
        raise
    finally:
        lock.release()
    return run
