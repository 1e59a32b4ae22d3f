"""Where calibrations live, once each: ``runs/calibrations/<id>.calib.h5`` and its twin; and which one a bench uses.

Files are named by their content and never change. What is *applied* is one small file for each bench, replaced whole,
and that replacement is what counts; beside it a journal of every decision, also those against a calibration. A kill
between the two costs no decision: the pointer holds the whole line, and the journal gets it with the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calibration.errors import ArtefactError
from calibration.naming import ENDING, MEANT, ids_meant
from groundwork.opening.json_text import read_json
from groundwork.opening.regular import is_file
from labctl.archive.atomic import append_line, atomic_write_json, drop_torn_line, read_lines, storage
from labctl.archive.ids import timestamp
from labctl.errors import RunDamaged, UsageError

FOLDER = "calibrations"


@dataclass(frozen=True)
class CalibrationRow:
    """One calibration in the store, as its header says; ``schema`` is ``damaged`` when that cannot be read."""

    id: str
    schema: str
    bench: str
    run_id: str
    parent: str | None
    acquired: str
    valid_until: str
    path: Path


@dataclass(frozen=True)
class Decision:
    """One line of a bench's journal.

    Attributes
    ----------
    at
        When it was taken.
    event
        ``applied`` or ``not_applied``.
    id
        The calibration it is about.
    before
        The calibration applied until then.
    run_id
        The run that measured it.
    why
        In words and numbers.
    """

    at: str
    event: str
    id: str
    before: str | None
    run_id: str
    why: str


class CalibrationStore:
    """The calibrations of an archive.

    Parameters
    ----------
    runs
        The archive: ``runs/``.
    """

    def __init__(self, runs: Path) -> None:
        self.folder = runs / FOLDER

    def rows(self) -> list[CalibrationRow]:
        """Every calibration, newest first; only headers are read."""
        found = [_row(path) for path in sorted(self.folder.glob(f"*{ENDING}"))]
        return sorted(found, key=lambda row: (row.acquired, row.id), reverse=True)

    def path(self, calibration_id: str) -> Path:
        """Where the full file of an id lies, whether or not it is there."""
        return self.folder / f"{calibration_id}{ENDING}"

    def find(self, name: str, of_run: Callable[[str], str | None] = lambda run: None) -> Path:
        """The file that ``name`` means.

        Parameters
        ----------
        name
            A file, the beginning of an id, a bench's name, or ``latest`` (`calibration.naming.ids_meant`).
        of_run
            Gives the calibration of a run by the run's name, None where there is no such run; asked last.

        Raises
        ------
        UsageError
            When it means none, or more than one.
        """
        if is_file(name):
            return Path(name)
        found = ids_meant(self.folder, name)
        if not found and (of_this_run := of_run(name)) is not None:
            found = [of_this_run] if self.path(of_this_run).exists() else []
        if len(found) == 1:
            return self.path(found[0])
        raise UsageError(
            f"{len(found) or 'no'} calibrations go by the name {name!r}",
            device=str(self.folder),
            expected=f"{MEANT}; or the end of the id of a run that made one",
            seen=", ".join(found[:5]) or f"{len(list(self.folder.glob(f'*{ENDING}')))} calibrations",
            hint=f"labctl calib list --runs {self.folder.parent}   ·   labctl presets",
        )

    def benches(self) -> list[str]:
        """Benches with an applied calibration."""
        return sorted(path.stem for path in (self.folder / "applied").glob("*.json"))

    def applied(self, bench: str) -> Decision | None:
        """What the bench uses now.

        Raises
        ------
        RunDamaged
            When the pointer cannot be read.
        """
        path = self._pointer(bench)
        if not path.exists():
            return None
        try:
            with storage(path, "reading"):
                return Decision(**read_json(path))
        except (ValueError, TypeError) as error:
            raise RunDamaged(
                "which calibration is applied cannot be read",
                device=str(path),
                expected="a decision as JSON",
                seen=str(error),
                hint=f"delete it: the next run in spec applies its own; earlier ones are in {path.stem}.jsonl",
            ) from error

    def history(self, bench: str) -> list[Decision]:
        """Every decision about the bench, oldest first."""
        journal = self._pointer(bench).with_suffix(".jsonl")
        try:
            decisions = [Decision(**line) for line in read_lines(journal)]
        except (ValueError, TypeError) as error:
            raise RunDamaged("the journal cannot be read", device=str(journal), seen=str(error)) from error
        now = self.applied(bench)
        return decisions if now is None or now in decisions else [*decisions, now]

    def parents(self, calibration_id: str) -> Iterator[str]:
        """Ids of the calibrations that it replaced, nearest first; ends with the first one that is not here."""
        seen = {calibration_id}
        path = self.path(calibration_id)
        while path.exists() and (parent := _row(path).parent) and parent not in seen:
            yield parent
            seen.add(parent)
            path = self.path(parent)

    def decide(self, bench: str, calibration_id: str, run_id: str, why: str, *, apply: bool) -> Decision:
        """Apply a calibration that lies here, or write down why not.

        Raises
        ------
        StorageError
            When the disk does not take it; what was applied before stays.
        """
        now = self.applied(bench)
        event = "applied" if apply else "not_applied"
        decision = Decision(timestamp(), event, calibration_id, now.id if now else None, run_id, why)
        pointer = self._pointer(bench)
        journal = pointer.with_suffix(".jsonl")
        missing = [] if now is None or now in self._journalled(journal) else [now]
        if apply:
            atomic_write_json(pointer, asdict(decision))
        pointer.parent.mkdir(parents=True, exist_ok=True)
        drop_torn_line(journal)
        for line in [*missing, decision]:
            append_line(journal, asdict(line), sync=True)
        return decision

    def _journalled(self, journal: Path) -> list[Decision]:
        return [Decision(**line) for line in read_lines(journal)]

    def _pointer(self, bench: str) -> Path:
        return self.folder / "applied" / f"{bench}.json"


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a calibration of any schema, in full or portable form; no array is read.

    Raises
    ------
    RunDamaged
        When there is none.
    """
    from calibration.statistics.tensors import read_header as read_any_header

    try:
        header = read_any_header(path, "labctl cal list")
    except ArtefactError as error:
        raise RunDamaged("the header of a calibration cannot be read", device=str(path), seen=error.seen) from error
    if not isinstance(header.get("schema"), str):
        raise RunDamaged("the header of a calibration names no schema", device=str(path))
    return header


def _row(path: Path) -> CalibrationRow:
    name = path.name.removesuffix(ENDING)
    try:
        header = read_header(path)
    except RunDamaged:
        return CalibrationRow(name, "damaged", "", "", None, "", "", path)
    origin = header.get("provenance") or {}
    parent = header.get("parent")
    return CalibrationRow(
        name,
        str(header["schema"]),
        str(origin.get("bench") or ""),
        str(origin.get("run_id") or ""),
        str(parent) if parent else None,
        str(header.get("acquired") or ""),
        str(header.get("valid_until") or ""),
        path,
    )
