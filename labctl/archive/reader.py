"""Read a run folder: status as its seal says, segments checked against their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundwork.errors import CodedError
from groundwork.notebook import Card, Carded, State, figures
from groundwork.opening.json_text import read_json
from groundwork.opening.regular import read_regular
from labctl.archive import lock as run_lock
from labctl.archive.atomic import read_lines, storage
from labctl.archive.seal import SEGMENTS, Seal, Verification, read_seal, verify_run
from labctl.archive.segments import MANIFEST, Segment, SegmentRow, read_manifest, read_segments
from labctl.durations import in_words
from labctl.errors import ConfigError, RunDamaged, RunInUse, RunNotFound, UsageError

if TYPE_CHECKING:
    from labctl.station.loading import LoadedStation
    from labctl.summary import Summary

JOURNAL = "journal.jsonl"


IMPORT = "import"
"""The purpose of runs that hold what somebody else's bench measured."""


class RunReader(Carded):
    """A run on disk.

    Parameters
    ----------
    path
        The run folder.

    Raises
    ------
    RunNotFound
        When ``path`` is not a run folder.
    RunDamaged
        When its ``run.json`` cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.run_id = path, path.name
        self.info = read_run_json(path)

    @cached_property
    def seal(self) -> Seal | None:
        """The seal, or None while the run is not finished."""
        return read_seal(self.path)

    @property
    def status(self) -> str:
        """The sealed verdict; without a seal ``running`` while a process writes the run, else ``crashed``."""
        if self.seal:
            return str(self.seal.verdict)
        return "running" if run_lock.is_held(self.path) else "crashed"

    def require_ended(self) -> None:
        """Refuse a run that is still measured: what it lacks is on its way.

        Raises
        ------
        RunInUse
            When a process writes it.
        """
        if self.status == "running":
            raise RunInUse(
                "the run is still being measured",
                device=self.run_id,
                expected="a run that has ended",
                safe="it goes on undisturbed",
                hint=f"labctl run tail {self.run_id.rpartition('-')[2]} follows it until it ends",
            )

    @property
    def clock_epoch_s(self) -> float:
        """Host time at the zero of the run's clock, seconds since the epoch; its start where nobody noted it."""
        noted = self.info.get("clock_epoch_s")
        return datetime.fromisoformat(str(self.info["started"])).timestamp() if noted is None else float(noted)

    @property
    def manifest(self) -> list[SegmentRow]:
        """The segments on the disk."""
        return read_manifest(self.path / SEGMENTS)

    def require_manifest_as_sealed(self) -> None:
        """Refuse a sealed run whose list of segments is not the one that was sealed.

        Raises
        ------
        RunDamaged
            When a line was taken away, added or changed.
        """
        self.require_as_sealed(f"{SEGMENTS}/{MANIFEST}")

    def require_as_sealed(self, *names: str) -> None:
        """Refuse a sealed run of which one of these files is not what was sealed.

        Raises
        ------
        RunDamaged
            When one was changed, or is missing.
        """
        sealed = self.seal.files if self.seal else {}
        for name in names:
            path, expected = self.path / name, sealed.get(name)
            with storage(path, "reading"):
                there = expected and path.exists()
                found = hashlib.sha256(read_regular(path)).hexdigest() if there else None
            if found != expected:
                what = "the list of segments" if name.endswith(MANIFEST) else name
                raise RunDamaged(
                    f"{what} is not the one that was sealed",
                    device=str(path),
                    seen="" if found else "no such file",
                    hint=f"labctl run verify {self.run_id.rpartition('-')[2]}",
                )

    def require_segments_as_journalled(self) -> None:
        """Refuse a run whose list of segments lacks one that its journal calls sealed.

        A segment is listed before it is journalled: no stop of a process leaves that behind, and going on would remove
        the file as one that nobody has listed.

        Raises
        ------
        RunDamaged
            When one is missing in the list.
        """
        listed = {row.file for row in self.manifest}
        sealed = [line.get("file") for line in self.journal() if line.get("event") in ("segment", "adopted")]
        missing = [str(file) for file in sealed if file not in listed]
        if missing:
            raise RunDamaged(
                "the list of segments lacks some that the journal calls sealed",
                device=str(self.path / SEGMENTS / MANIFEST),
                expected=f"{len(sealed)} segments",
                seen=f"no line of {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
                safe="nothing was changed",
                hint=f"restore {SEGMENTS}/{MANIFEST} from a copy",
            )

    def segments(self, kind: str | None = None) -> Iterator[Segment]:
        """Segments of one kind (or all) in the order written, one in memory at a time, each checked.

        Raises
        ------
        RunDamaged
            When one is missing or altered.
        """
        return read_segments(self.path / SEGMENTS, kind)

    def journal(self) -> list[dict[str, Any]]:
        """The events so far."""
        try:
            return read_lines(self.path / JOURNAL)
        except ValueError as error:
            raise RunDamaged("the journal cannot be read", device=str(self.path / JOURNAL), seen=str(error)) from error

    def station(self) -> LoadedStation:
        """The station as it was when the run started.

        Raises
        ------
        RunDamaged
            When it is not there, or no station.
        """
        from labctl.station.loading import load_station

        try:
            return load_station(self.path / "config.toml")
        except (UsageError, ConfigError) as error:
            raise RunDamaged(
                f"config.toml cannot be read: {error.what}",
                device=error.device or str(self.path),
                expected=error.expected or "the station that the run was made with",
                seen=error.seen,
                hint="restore config.toml from a copy, or begin again",
            ) from error

    def summary(self) -> Summary | None:
        """``summary.json``, or None when the run did not get that far."""
        from labctl.summary import read_summary

        path = self.path / "summary.json"
        return read_summary(path) if path.exists() else None

    def card(self) -> Card:
        """What a notebook shows of it: how it ended, and what it found."""
        status, about = self.status, self.info
        bench = f"{about.get('bench')} ({about.get('mode')})"
        rows: dict[str, object] = {"bench": bench, "started": about.get("started")}
        notes: tuple[str, ...] = ()
        try:
            rows["segments"] = len(self.manifest)
            found = self.summary()
            rows |= _found(found) if found else {}
            if found and found.first_error:
                notes = (f"{found.first_error.code}  {found.first_error.message}",)
        except CodedError as error:
            notes = (f"{error.code}  {error.what}",)
        states: dict[str, State] = {"ok": "good", "running": ""}
        words = f"{about.get('purpose')}: {status}"
        return Card(f"run {self.run_id}", words, {**rows, "folder": self.path}, states.get(status, "bad"), notes)

    def verify(self) -> Verification:
        """Recompute every hash."""
        return verify_run(self.path)


def _found(summary: Summary) -> dict[str, object]:
    """What a run has found, in a few words."""
    rows: dict[str, object] = {"took": None if summary.duration_s is None else in_words(summary.duration_s)}
    if held_out := summary.validation:
        names = {"effective_bits": "effective bits", "nrmse": "nrmse", "chi2_per_dof": "χ²/dof"}
        rows["held-out products"] = ", ".join(filter(None, [str(held_out.products), figures(vars(held_out), names)]))
    rows["out of its limits"] = ", ".join(m.name for m in summary.metrics if m.verdict == "out_of_spec")
    if calibration := summary.calibration:
        applied = {None: "", True: ", applied", False: f", not applied: {calibration.why}"}[calibration.applied]
        rows["calibration"] = calibration.id + applied
    return rows


def read_run_json(path: Path) -> dict[str, Any]:
    """``run.json`` of a run folder."""
    if not (path / "run.json").is_file():
        raise RunNotFound(
            "not a run folder", device=str(path), expected="a folder with run.json", hint="labctl run list"
        )
    return _read_object(path / "run.json")


def is_import(path: Path) -> bool:
    """Whether a run folder holds an import."""
    return bool(read_run_json(path).get("purpose") == IMPORT)


def read_code_json(path: Path) -> dict[str, Any]:
    """``code.json`` of a run folder: which code and which packages made it."""
    return _read_object(path / "code.json")


def _read_object(file: Path) -> dict[str, Any]:
    try:
        with storage(file, "reading"):
            document = read_json(file)
    except ValueError as error:
        raise RunDamaged(f"{file.name} cannot be read", device=str(file), expected="JSON", seen=str(error)) from error
    if not isinstance(document, dict):
        raise RunDamaged(f"{file.name} cannot be read", device=str(file), expected="a JSON object")
    return document


class RunInfo(Mapping[str, Any]):
    """``run.json`` of a run that goes on, as it is whenever somebody looks.

    Parameters
    ----------
    run
        The folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = run

    def __getitem__(self, key: str) -> Any:
        return read_run_json(self._run)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(read_run_json(self._run))

    def __len__(self) -> int:
        return len(read_run_json(self._run))
