"""Errors of the lab itself, and how any coded error is shown."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from groundwork.errors import CodedError
from labctl.osal import Terminated, stops

_STORAGE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})


_READS = ("reading", "hashing", "looking")
"""How the action begins of whoever only reads."""
_RESUMABLE = frozenset({20, 21, 22, 30, 130, 143})
"""Exit codes after which a run is worth going on with: a fault, an interlock, the disk, the time, a stop."""
_OF_THE_STATION = frozenset({"E-CFG-001", "E-DEV-006", "E-DEV-007", "E-DEV-009", "E-DEV-010"})
"""What the station asks for and cannot be: a run that goes on keeps its station, and would end so again."""
_ENDS_AGAIN = "put it right in the station, and type the command anew: a run that goes on keeps its station"


class LabError(CodedError):
    """Something the lab could not do: the command line, a file, a run."""

    code = "E-LAB-001"
    exit_code = 1


class UsageError(LabError):
    """The command line asks for something that does not exist or does not fit together."""

    code = "E-USE-001"
    exit_code = 2


class ConfigError(LabError):
    """The station file has an unknown key, a wrong type or a value outside its range."""

    code = "E-CFG-001"
    exit_code = 2


class BenchBusy(LabError):
    """Another process holds the bench."""

    code = "E-BSY-001"
    exit_code = 75
    retryable = True


class LockUntrusted(LabError):
    """The lock of a bench would lie on a file system where locks say nothing of other computers."""

    code = "E-BSY-002"
    exit_code = 2


class LockGone(LabError):
    """The file of a bench's lock is no longer the one that is held: another command could take the same bench."""

    code = "E-BSY-003"
    exit_code = 20


class ClockDoubtful(LabError):
    """The clock does not fit the runs in the archive: nothing is removed because of its age."""

    code = "E-CLK-001"
    exit_code = 2


class LeftUnsafe(LabError):
    """A process was killed with devices of the bench open, and they cannot be made safe: a person has to look."""

    code = "E-SAF-001"
    exit_code = 20


class InterlockOpen(LabError):
    """An interlock of the bench forbids light."""

    code = "E-INT-001"
    exit_code = 21


class StorageError(LabError):
    """A file could not be written or read."""

    code = "E-STO-001"
    exit_code = 22


class DiskFull(StorageError):
    """No space left on the disk, or the quota is used up."""

    code = "E-STO-002"


class NotWritable(StorageError):
    """A read-only file system, or no permission."""

    code = "E-STO-003"


class DiskLow(StorageError):
    """Less space is free on the disk than the run needs, or than it is to leave free."""

    code = "E-STO-004"


class RunNotFound(LabError):
    """No run, or more than one run, has that id."""

    code = "E-RUN-001"
    exit_code = 2


class RunDamaged(LabError):
    """A run folder does not hold what its manifest or seal says."""

    code = "E-RUN-002"
    exit_code = 22


class RunInUse(LabError):
    """Another process writes this run, or the same output, now."""

    code = "E-RUN-003"
    exit_code = 75
    retryable = True


class RunComplete(LabError):
    """The run is sealed and complete: nothing can be added to it."""

    code = "E-RUN-004"
    exit_code = 2


class RunChanged(LabError):
    """An interrupted run would go on with other steps than it began with."""

    code = "E-RUN-005"
    exit_code = 2


class CaptureUnreadable(LabError):
    """A file of somebody's measurement that is truncated, empty, of an unknown format, or absurdly large."""

    code = "E-IMP-001"
    exit_code = 2


class CaptureIncomplete(LabError):
    """A file of somebody's measurement that lacks an array, or has it under another name."""

    code = "E-IMP-002"
    exit_code = 2


class CaptureMismatch(LabError):
    """Inputs, weights and readings whose shapes do not fit together, or fit in more than one way."""

    code = "E-IMP-003"
    exit_code = 2


class CaptureValues(LabError):
    """Values that no bench can have measured: NaN, infinite, text, an output that does not exist."""

    code = "E-IMP-004"
    exit_code = 2


class NotServed(LabError):
    """The live page cannot be served so: other computers without token and TLS, a port in use, the extra missing."""

    code = "E-WEB-001"
    exit_code = 2


class NotPrinted(LabError):
    """No PDF was made of a report: there is no browser that prints, or it did not."""

    code = "E-REP-001"
    exit_code = 2


class OutOfSpec(LabError):
    """A valid measurement, and the bench fails its limits."""

    code = "E-SPC-001"
    exit_code = 10


class Aborted(LabError):
    """The operator stopped the command."""

    code = "E-ABT-001"
    exit_code = 130


class ServiceStop(LabError):
    """SIGTERM stopped the command: a service manager, or kill."""

    code = "E-ABT-002"
    exit_code = 143


class Stalled(LabError):
    """The process at the bench made no progress, or died: it was ended, and the bench made safe by another."""

    code = "E-STL-001"
    exit_code = 20


class AnalysisLost(LabError):
    """The process that analyses hung or died: it was ended; what was read is sealed, and the bench safe."""

    code = "E-STL-002"
    exit_code = 20


class BudgetSpent(LabError):
    """The time that the command was given does not suffice for what comes next; the run can go on another time."""

    code = "E-BUD-001"
    exit_code = 30


class NotNotified(LabError):
    """Those who should hear how a night ended could not be told; the night itself is over, and stays as it is."""

    code = "E-NOT-001"
    exit_code = 20
    retryable = True


class NotSwitchedOn(LabError):
    """systemd of this user does not answer, or refuses what a night that starts by itself needs: none will start."""

    code = "E-SVC-001"
    exit_code = 2


class PartFailed(LabError):
    """A part of a reproduction did not end as it should; the parts before it are kept."""

    code = "E-RPR-001"
    exit_code = 30
    retryable = True


class WorkerLost(LabError):
    """A worker of a sweep died again and again on the same work; what was computed is kept."""

    code = "E-SWP-001"
    exit_code = 30
    retryable = True


class SchedulerSilent(LabError):
    """The cluster's scheduler does not answer, or no worker has finished anything for too long."""

    code = "E-SWP-002"
    exit_code = 75
    retryable = True


class CommandFailed(LabError):
    """A command that was started from Python ended with an error, whose own code it names.

    Attributes
    ----------
    document
        What the command printed, from its JSON; empty where that was no document.
    exit_code, retryable
        Those of the command: 75 and True where somebody else has the bench, and trying later is reasonable.
    """

    code = "E-CMD-001"
    exit_code = 2

    def __init__(self, what: str, document: Mapping[str, Any] | None = None, status: int = 2, **facts: str) -> None:
        super().__init__(what, **facts)
        self.document = dict(document or {})
        self.exit_code = status  # type: ignore[misc]
        self.retryable = status == BenchBusy.exit_code  # type: ignore[misc]


class CatalogueRow(NamedTuple):
    """One error code: ``("E-CFG-001", "ConfigError", "The station file has …", 2)``."""

    code: str
    name: str
    meaning: str
    exit_code: int


def ends_again(code: str) -> bool:
    """Whether a run that ended with this error would do so again: it keeps its station and its readings."""
    return code in _OF_THE_STATION or code.startswith("E-CAL")


def render(error: CodedError, run_id: str | None = None, *, goes_on: bool = False) -> str:
    """An error as the operator sees it: what failed on what, expected and seen, what is safe, what to type next.

    Parameters
    ----------
    run_id
        The run in which it happened.
    goes_on
        Whether that run can be resumed.
    """
    where = f"{error.device}: " if error.device else ""
    doing = f" ({error.action})" if error.action else ""
    lines = [f"{error.code}  {where}{error.what}{doing}"]
    facts = [f"{word} {text}" for word, text in (("expected", error.expected), ("seen", error.seen)) if text]
    if facts:
        lines.append("  " + "; ".join(facts))
    if error.safe:
        lines.append(f"  state: {error.safe}")
    steps = [error.hint] if error.hint else []
    if run_id:
        short = run_id.rpartition("-")[2]
        ends_again = error.code.startswith("E-CAL")  # its readings stay as they are
        if error.code in _OF_THE_STATION:
            steps.append(_ENDS_AGAIN)
        elif goes_on and error.exit_code in _RESUMABLE and not ends_again and "labctl run resume" not in error.hint:
            steps.append(f"go on: labctl run resume {short}")
        steps.append(f"the run: labctl run show {short}")
    if steps:
        lines.append("  try:  " + "   ·   ".join(steps))
    return "\n".join(lines)


def catalogue() -> list[CatalogueRow]:
    """Every error code of the three families and of the files that are not opened, by code."""
    import calibration.errors
    import drivers.errors
    import groundwork.errors

    families = (
        LabError,
        drivers.errors.DeviceError,
        calibration.errors.CalibrationError,
        groundwork.errors.FileRefused,
    )
    rows = [
        CatalogueRow(value.code, name, (value.__doc__ or "").partition("\n")[0], value.exit_code)
        for module in (sys.modules[__name__], drivers.errors, calibration.errors, groundwork.errors)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, families) and value.__module__ == module.__name__
    ]
    return sorted(rows)


def storage_error(error: OSError, path: Path, action: str = "") -> StorageError:
    """The coded error for what the operating system said about ``path``."""
    said = error.strerror or str(error) or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            "the disk is full",
            device=str(path),
            action=action,
            seen=_free_space(path) or said,
            safe="everything sealed before is intact; the open segment is not kept",
            hint="free some space, or write to another disk",
        )
    if error.errno in (errno.EACCES, errno.EPERM) and action.startswith(_READS):
        return NotWritable(
            "cannot read this",
            device=str(path),
            action=action,
            expected="a file that this user may read, in folders that it may enter",
            seen=said,
            safe="nothing was changed",
            hint=f"look who may: ls -l {path}",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return NotWritable(
            "cannot write here",
            device=str(path),
            action=action,
            expected="a folder that this user may write to",
            seen=said,
            safe="nothing was changed",
            hint="check the permissions and the mount, or write to another folder",
        )
    if error.errno == errno.ENOTDIR:
        return StorageError(
            "there is a file where a folder is wanted",
            device=str(path),
            action=action,
            expected="folders all the way",
            seen=f"{_existing(path)} is no folder",
            safe="what was sealed before is intact",
            hint="name another folder",
        )
    is_gone = error.errno == errno.ENOENT
    hint = f"look whether it was renamed or removed: ls {_existing(path)}" if is_gone else "check the path and the disk"
    return StorageError(
        said,
        device=str(path),
        action=action,
        expected="the folder stays where it is while it is used" if is_gone else "a file that can be read and written",
        seen=_nearest(path) if is_gone else said,
        safe="what was sealed before is where the folder is now" if is_gone else "what was sealed before is intact",
        hint=hint,
    )


def as_coded(error: BaseException, folder: Path = Path()) -> BaseException:
    """The coded error that an exception stands for: a stop by a signal, a full disk; any other as it is.

    Parameters
    ----------
    folder
        Where the disk is when the operating system does not say.
    """
    if isinstance(error, KeyboardInterrupt) and stops.because:
        return Stalled(stops.because, action="ended by the supervisor", safe="what was sealed before is intact")
    if isinstance(error, Terminated):
        return ServiceStop("stopped by SIGTERM", safe="what was sealed before is intact")
    if isinstance(error, KeyboardInterrupt):
        return Aborted("stopped by Ctrl-C", safe="what was sealed before is intact")
    if isinstance(error, OSError) and error.errno in _STORAGE_ERRNOS:
        return storage_error(error, Path(error.filename or folder))
    return error


def _free_space(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(_existing(path)).free / 1e6:.1f} MB free"
    except OSError:
        return ""


def _nearest(path: Path) -> str:
    found = _existing(path)
    return f"of its path only {found} is there" if found.exists() else "the working folder is not there"


def _existing(path: Path) -> Path:
    """The part of a path that is there; the path itself where even the working folder is gone."""
    try:
        parents = (path, *path.absolute().parents)
    except OSError:
        return path
    return next((p for p in parents if os.path.lexists(p)), parents[-1])
