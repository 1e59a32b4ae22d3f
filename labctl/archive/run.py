"""Write one run folder: what was asked, what was done, what was read, and how it ended."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from labctl.archive import lock as run_lock
from labctl.archive.atomic import append_line, atomic_write_json, atomic_write_text, copy_file, drop_torn_line, storage
from labctl.archive.documents import write_documents
from labctl.archive.ids import new_run_id, run_folder, timestamp
from labctl.archive.loghandler import JsonLogHandler
from labctl.archive.provenance import code_provenance
from labctl.archive.reader import JOURNAL, RunReader, read_run_json
from labctl.archive.seal import SEAL, SEGMENTS, Seal, read_seal, write_seal
from labctl.archive.segments import Segment, SegmentRow, SegmentWriter
from labctl.archive.space import drop_reserve, keep_reserve
from labctl.clock import Jumps, utc_now
from labctl.errors import RunComplete
from labctl.locks import KernelLock
from labctl.osal import fsync_directory
from labctl.verdicts import COMPLETE, Verdict, exit_codes

if TYPE_CHECKING:
    from labctl.summary import Summary

RUN_SCHEMA = "labctl.run/1"


class Configuration(Protocol):
    """What a run is made with: the station of a bench, or what was said about an imported file."""

    @property
    def bench(self) -> str:
        """``"bench-a"``"""

    @property
    def mode(self) -> str:
        """``"hardware"``, ``"mock"`` or ``"replay"``."""

    @property
    def origins(self) -> Mapping[str, str]:
        """Dotted key → where its value comes from."""

    def to_toml(self) -> str:
        """All of it, as it is kept in ``config.toml``."""


def unheard(event: str) -> None:
    """Nobody listens."""


class RunWriter:
    """A run being written. Use it as a context manager: leaving the block without `finish` leaves the run unsealed.

    While it is open, what is logged anywhere goes to its ``log.jsonl``, tracebacks included.

    Attributes
    ----------
    run_id, path
        The id and the folder.
    segments
        Where measured data goes.
    heard
        Called with the name of each event that is journalled.
    """

    def __init__(self, path: Path, lock: Any) -> None:
        self.heard: Callable[[str], None] = unheard
        self.path, self.run_id = path, path.name
        self._lock, self._sealed = lock, False
        self._clock_noted, self._jumps = False, Jumps()
        self.segments = SegmentWriter(path / SEGMENTS)
        self._log_handler = JsonLogHandler(path / "log.jsonl")
        logging.getLogger().addHandler(self._log_handler)
        logging.getLogger("labctl").setLevel(logging.INFO)

    @classmethod
    def create(
        cls,
        root: Path,
        purpose: str,
        config: Configuration,
        info: Mapping[str, Any] | None = None,
        sources: Mapping[str, str] | None = None,
        brought: Mapping[str, Path] | None = None,
        begun: Callable[[Path], None] = lambda path: None,
    ) -> RunWriter:
        """Start a run: folder, lock, configuration with origins, code provenance; status ``running``.

        ``run.json`` is written last: a folder that has one has all that its run needs to go on.

        Parameters
        ----------
        root
            The archive: ``runs/``.
        purpose
            ``"demo"``, ``"nightly"``: part of the id.
        config
            The effective station, or what was said about an imported file.
        info
            More keys for ``run.json``: the workload's hash, the run that is compared with, JSON types only.
        sources
            Module → hash of its source, for the modules that its results depend on.
        brought
            Name in the folder → file that is copied to it, such as the workload.
        begun
            Called with the folder as soon as it is that of a run, which somebody must seal.

        Raises
        ------
        StorageError
            Disk full or not writable.
        """
        started = utc_now()
        path = run_folder(root, new_run_id(purpose, started))
        config_toml = config.to_toml()
        with storage(path, "making the run folder"):
            path.mkdir(parents=True)
        lock = run_lock.hold(path)
        try:
            document = {
                "schema": RUN_SCHEMA,
                "run_id": path.name,
                "purpose": purpose,
                "bench": config.bench,
                "mode": config.mode,
                "status": "running",
                "verdict": None,
                "exit_code": None,
                "started": timestamp(started),
                "finished": None,
                "config_sha256": hashlib.sha256(config_toml.encode()).hexdigest(),
                "counts": {"planned": 0, "recorded": 0, "discarded": 0, "retried": 0},
                **(info or {}),
            }
            atomic_write_text(path / "config.toml", config_toml)
            atomic_write_json(path / "config.origin.json", dict(config.origins))
            atomic_write_json(path / "code.json", code_provenance(sources or {}))
            for name, source in (brought or {}).items():
                copy_file(source, path / name)
            atomic_write_json(path / "run.json", document)
            begun(path)
            run = cls(path, lock)
            keep_reserve(path)
            run.journal("started", sync=True)
        except BaseException:
            if not (path / "run.json").exists():
                shutil.rmtree(path, ignore_errors=True)
            lock.release()
            raise
        return run

    @classmethod
    def resume(cls, path: Path, event: str = "resumed", lock: KernelLock | None = None) -> RunWriter:
        """Open an unfinished run again, after its last listed segment.

        Parameters
        ----------
        event
            What the journal calls it: only measuring goes by the name of ``resumed``.
        lock
            Of the run, where it is held already.

        Raises
        ------
        RunInUse
            When another process writes it.
        RunComplete
            When it measured all that it planned.
        RunDamaged
            When its list of segments lacks one that was sealed: nothing is changed then.
        """
        lock = lock or run_lock.hold(path)
        try:
            seal = read_seal(path)
            if seal and seal.verdict in COMPLETE:
                raise RunComplete(
                    "the run is complete",
                    device=path.name,
                    action="resuming",
                    seen=f"sealed as {seal.verdict} at {seal.finished}",
                    safe="nothing was changed",
                    hint="begin another one: labctl calibrate maintain   ·   labctl measure WORKLOAD",
                )
            RunReader(path).require_segments_as_journalled()
            if seal:
                with storage(path / SEAL, "reopening the run"):
                    (path / SEAL).unlink()
                    fsync_directory(path)
            drop_reserve(path)  # on a disk that has filled up meanwhile, what follows needs it
            drop_torn_line(path / JOURNAL)
            drop_torn_line(path / "log.jsonl")
            run = cls(path, lock)
            run.update(status="running", verdict=None, exit_code=None, finished=None)
            if not run.segments.rows:
                run.update(clock_epoch_s=None)
            run.journal(event, sync=True, segments=len(run.segments.rows))
            keep_reserve(path)
        except BaseException:
            lock.release()
            raise
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock; without a seal the run counts as crashed from now on."""
        logging.getLogger().removeHandler(self._log_handler)
        self._log_handler.close()
        self._lock.release()

    @property
    def sealed(self) -> bool:
        """Whether the run has been finished."""
        return self._sealed

    def journal(self, event: str, *, sync: bool = False, **fields: Any) -> None:
        """Append one event; with ``sync`` it is on the disk at return (once per block is enough)."""
        if self._sealed:
            raise RuntimeError("the run is sealed")
        if jumped_s := self._jumps.since_last():
            self.update(clock_jumped_s=float(read_run_json(self.path).get("clock_jumped_s", 0.0)) + jumped_s)
            append_line(
                self.path / JOURNAL,
                {"at": timestamp(), "event": "clock", "jumped_s": round(jumped_s, 3)},
                sync=True,
            )
        append_line(self.path / JOURNAL, {"at": timestamp(), "event": event, **fields}, sync=sync)
        self.heard(event)

    def write_segment(self, kind: str, arrays: Mapping[str, Any], attrs: Mapping[str, Any] | None = None) -> Segment:
        """Seal a segment and journal it: when this returns, a kill cannot lose it."""
        self.segments.write(kind, arrays, attrs)
        row = self.segments.rows[-1]
        self.journal("segment", sync=True, file=row.file, kind=kind, rows=row.rows, bytes=row.bytes)
        return Segment(row, arrays, attrs or {})

    def note_clock(self, device_epoch_s: float, *, simulated: bool, began_s: float, left_s: float) -> None:
        """Put the times of what follows on the run's clock; done once, at the first frame of a process.

        Parameters
        ----------
        device_epoch_s
            Host time at the zero of the device's clock, seconds since the epoch. The first one ever noted, by this
            run or by one that it takes segments over from, is the zero of the run's clock.
        simulated
            The device's clock is a simulated one, which goes on where the last own segment ended.
        began_s
            Device time of the first frame [s].
        left_s
            Device time at the end of the last own segment, as the process before this one had it [s]. What follows
            does not come before it, whatever the computer's clock has done in between.
        """
        if self._clock_noted:
            return
        self._clock_noted = True
        own = [row for row in self.segments.rows if row.origin is None]
        epoch_s = read_run_json(self.path).get("clock_epoch_s")
        if epoch_s is None:
            self.update(clock_epoch_s=device_epoch_s)
        elif simulated and own:
            self.segments.shift_s = own[-1].shift_s
        else:
            self.segments.shift_s = device_epoch_s - float(epoch_s)
            early_s = left_s + own[-1].shift_s - (began_s + self.segments.shift_s) if own else 0.0
            if early_s > 0:
                self.segments.shift_s += early_s
                self.journal("clock", jumped_s=round(-early_s, 3))

    def adopt_segment(self, row: SegmentRow, run: Path, shift_s: float) -> SegmentRow:
        """Take over a segment of the run in the folder ``run``: this run then rests on no other folder."""
        origin = row.origin or run.name
        taken = self.segments.adopt(row, run / SEGMENTS, origin, shift_s)
        self.journal("adopted", sync=True, file=taken.file, kind=taken.kind, origin=origin)
        return taken

    def snapshot(self, when: Literal["start", "end"], devices: Mapping[str, Any]) -> None:
        """Keep the devices' settings as read back at the start or the end."""
        atomic_write_json(self.path / f"snapshot-{when}.json", {"at": timestamp(), "devices": dict(devices)})

    def update(self, **fields: Any) -> None:
        """Replace keys of ``run.json``."""
        atomic_write_json(self.path / "run.json", read_run_json(self.path) | fields)

    def finish(self, verdict: Verdict, summary: Summary | None = None, exit_code: int | None = None) -> Seal:
        """Seal the run: summary and what is made of it, last journal line, SEAL, and only then its status.

        Parameters
        ----------
        verdict
            How it ended.
        summary
            Becomes ``summary.json``; it must end in the same verdict (see `Summary.concluded`).
        exit_code
            When it is not the verdict's usual one (143 rather than 130). A run that crashed has none.
        """
        code = next(iter(exit_codes(verdict)), None) if exit_code is None else exit_code
        if summary is not None and (summary.verdict, summary.exit_code) != (verdict, code):
            raise ValueError(f"the summary says {summary.verdict} ({summary.exit_code}), the run {verdict} ({code})")
        drop_reserve(self.path)
        if summary is not None:
            atomic_write_text(self.path / "summary.json", summary.to_json())
            write_documents(self.path, summary)
        self.segments.settle()  # Ctrl-C may have come while a segment was being written
        finished = timestamp()
        self.journal("sealing", sync=True, verdict=verdict, exit_code=code)
        self._sealed = True
        seal = write_seal(self.path, self.run_id, verdict, code, finished)
        counts = {"counts": summary.counts.model_dump()} if summary is not None else {}
        self.update(status=str(verdict), verdict=str(verdict), exit_code=code, finished=finished, **counts)
        return seal
