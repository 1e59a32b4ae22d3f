"""Find runs: by any unique end of their id, newest first."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from groundwork.errors import FileRefused
from groundwork.nearest import did_you_mean
from groundwork.opening.json_text import parse_json
from groundwork.opening.regular import is_file
from labctl.archive.ids import by_age, is_run_id, run_folder
from labctl.archive.reader import RunReader, read_run_json
from labctl.archive.rows import WORTH, forget, read_rows, stamp, write_rows
from labctl.errors import LabError, RunDamaged, RunNotFound

_SECOND = 16
"""Characters of a run's id that say in which second it began."""


@dataclass(frozen=True)
class RunRow:
    """One line of ``labctl run list``; ``status`` is ``damaged`` when the folder cannot be read."""

    run_id: str
    status: str
    purpose: str
    bench: str
    mode: str
    started: str
    finished: str | None
    segments: int
    path: Path


def list_runs(root: Path) -> list[RunRow]:
    """Every run under ``root``, newest first, those dated in the future last; an absent folder holds none."""
    folders = _folders(root)
    if len(folders) < WORTH:
        return [_row(path) for path in folders]
    return _indexed(root, folders)


def rebuild_index(root: Path) -> int:
    """Make ``index.sqlite`` anew from the folders; how many runs are in it."""
    forget(root)
    folders = _folders(root)
    _indexed(root, folders)
    return len(read_rows(root, _FIELDS))


def find_run(root: Path, name: str) -> Path:
    """The folder of a run.

    Parameters
    ----------
    root
        The archive: ``runs/``.
    name
        Any unique end or beginning of its id (``"k7f2"``), the folder itself, ``"latest"``, or the name of a bench, for
        the newest run of it.

    Raises
    ------
    RunNotFound
        When no run, or more than one, goes by this name.
    """
    if is_file(Path(name) / "run.json"):
        return Path(name).resolve()
    folders = _folders(root)
    if name == "latest" and folders:
        return folders[0]
    found = [path for path in folders if name and path.name.endswith(name)]
    found = found or [path for path in folders if name and path.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise RunNotFound(
            f"{len(found)} runs go by the name {name!r}",
            device=str(root),
            expected="the end of one run's id",
            seen=", ".join(path.name for path in found[:5]),
            hint="type more characters of the id",
        )
    if (of_bench := next((path for path in folders if _is_of(path, name)), None)) is not None:
        return of_bench
    suffixes = [path.name.rpartition("-")[2] for path in folders]
    raise RunNotFound(
        f"no run goes by the name {name!r}",
        device=str(root),
        expected=f"the beginning or end of the id of one of {len(folders)} runs, or a bench's name",
        hint=did_you_mean(name.rpartition("-")[2], suffixes, f"labctl run list --runs {root}"),
    )


def open_run(name: str = "latest", runs: str | Path = "runs") -> RunReader:
    """Open a run for reading: its status, its summary, its segments.

    Parameters
    ----------
    name
        What `find_run` understands: the end of its id (``"k7f2"``), ``"latest"``, its folder, a bench's name.
    runs
        The archive.

    Raises
    ------
    RunNotFound
        When no run, or more than one, ends so.

    Examples
    --------
    >>> import labctl
    >>> run = labctl.open_run("latest", "runs")
    >>> run.status, run.seal is None
    ('ok', False)
    """
    return RunReader(find_run(Path(runs), name))


def newest_run(root: Path, purpose: str, hint: str) -> Path:
    """The folder of the newest sealed run of a purpose.

    Parameters
    ----------
    hint
        What to type when there is none.

    Raises
    ------
    RunNotFound
        When there is none.
    """
    for row in list_runs(root):
        if row.purpose == purpose and row.status == "ok":
            return row.path
    raise RunNotFound(f"no finished {purpose} run", device=str(root), expected=f"a run of purpose {purpose}", hint=hint)


def last_success(root: Path, bench: str) -> str | None:
    """When a run of the bench last ended as ``ok``, by the runs' own words; None where none has."""
    for folder in _folders(root):
        try:
            info = read_run_json(folder)
        except (RunDamaged, RunNotFound):
            continue
        if info.get("bench") == bench and info.get("verdict") == "ok" and info.get("finished"):
            return str(info["finished"])
    return None


def _is_of(folder: Path, bench: str) -> bool:
    try:
        return bool(bench) and read_run_json(folder).get("bench") == bench
    except LabError:
        return False


def _folders(root: Path) -> list[Path]:
    found = [path.parent for path in root.glob("*/*/*/*/run.json") if is_run_id(path.parent.name)]
    seconds = Counter(path.name[:_SECOND] for path in found)

    def age(path: Path) -> tuple[bool, str, str, str]:
        now_or_before, name = by_age(path.name)
        second = name[:_SECOND]
        return now_or_before, second, began(path) if seconds[second] > 1 else "", name

    return sorted(found, key=age, reverse=True)


def order(root: Path, run_id: str) -> tuple[str, str]:
    """Sorts runs of one archive by when they began, two of one second by what they have recorded."""
    try:
        return run_id[:_SECOND], began(run_folder(root, run_id))
    except LabError:
        return run_id[:_SECOND], ""


def began(folder: Path) -> str:
    """When a run began, to the microsecond, by its own words; empty where they cannot be read."""
    try:
        return str(read_run_json(folder)["started"])
    except (LabError, KeyError):
        return ""


_FIELDS = tuple(field.name for field in fields(RunRow))


def _indexed(root: Path, folders: list[Path]) -> list[RunRow]:
    """The row of each folder, from the index where that is of the folder as it is now; what was not there is noted."""
    noted, new, found = read_rows(root, _FIELDS), {}, []
    for path in folders:
        name, now = path.relative_to(root).as_posix(), stamp(path)
        row = _noted(path, noted[name][1]) if now and noted.get(name, ("",))[0] == now else None
        if row is None:
            row = _row(path)
            if now and row.finished:
                new[name] = (now, json.dumps(asdict(row) | {"path": ""}))
        found.append(row)
    if new:
        write_rows(root, _FIELDS, new)
    return found


def _noted(path: Path, line: str) -> RunRow | None:
    try:
        return RunRow(**{**parse_json(line), "path": path})
    except (ValueError, TypeError):
        return None


def _row(path: Path) -> RunRow:
    try:
        run = RunReader(path)
        info = {key: str(run.info.get(key, "")) for key in ("purpose", "bench", "mode", "started")}
        finished = run.seal.finished if run.seal else None
        return RunRow(path.name, run.status, **info, finished=finished, segments=len(run.manifest), path=path)
    except (LabError, FileRefused):  # one folder that is none keeps nobody from the others
        return RunRow(path.name, "damaged", "", "", "", "", None, 0, path)
