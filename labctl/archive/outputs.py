"""Where a command may write: never over what it reads, nor, unless asked, over a file that it did not write itself.

Looked at before anything is computed, so that nobody waits an hour for a refusal. What is written then is whole or
absent: see `labctl.archive.atomic`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from groundwork.opening.regular import kind_of, open_regular
from labctl.archive.atomic import storage
from labctl.errors import UsageError, storage_error

_LOOKED_AT = 2**22
"""So many bytes at either end of a file are searched for the mark of whoever wrote it."""


class Made(NamedTuple):
    """A kind of file that labctl makes, and how one is known from a file of somebody else.

    Attributes
    ----------
    words
        What it is, as in "expected …".
    marks
        Each such file has one of these among its first or last bytes; none for a kind that is edited by hand, which is
        therefore nobody's to replace.
    """

    words: str
    marks: tuple[bytes, ...] = ()


PAGE = Made("a page of labctl", (b":root { color-scheme: light dark; font: 15px/1.5 system-ui",))
PRINTED = Made("a printed report of labctl", (b"/Title (labctl report",))
PICTURE_MARK = "labctl.picture/1"
PICTURE = Made("a picture of labctl", (PICTURE_MARK.encode(),))
PREDICTIONS_SCHEMA = "labctl.predictions/1"
PREDICTIONS = Made(
    "predictions of labctl",
    (*(PREDICTIONS_SCHEMA.encode(form) for form in ("utf-8", "utf-32-le")), b"\n# outside_reasons: "),
)
WORKLOAD = Made("a workload file", (b"labctl.workload/",))
CHECKPOINT = Made("a checkpoint of labctl", (b"labctl.transformer/",))
CHECKPOINT_RECORD = Made("the record of a checkpoint", (b'{\n  "checkpoint": {',))
BUG_REPORT = Made("a bug report of labctl", (b"labctl.doctor/", b"\nenvironment variables (names only):\n"))
EDITED = Made("a new file")
"""A station file or a task: whoever has one has put work into it."""
EXPORTED = Made("a folder without this file")
"""What was taken to another system: somebody may have gone on with it, and its name is that of the run."""


def document(schema: str) -> Made:
    """JSON whose ``schema`` begins so."""
    return Made("a document of labctl", (b'"schema": "' + schema.encode(),))


def table(header: str) -> Made:
    """CSV whose header, below one remark, begins so."""
    return Made("a table of labctl", (b"\n" + header.encode(),))


def require_output(
    path: Path, made: Made, read: Iterable[str | Path | None] = (), *, force: bool | None = None
) -> None:
    """Refuse a file that must not be written, or cannot be.

    Parameters
    ----------
    path
        The file that is to be written.
    made
        What will be written: an older file of that kind may be replaced.
    read
        What the command reads: files, and folders whose files are all spared. None and what is not there count for
        nothing.
    force
        Whether another file may be replaced, too; None where the command has no ``--force``.

    Raises
    ------
    UsageError
        A folder, a file that is read, or one of somebody else.
    FileRefused
        A pipe, a socket or a device.
    StorageError
        It cannot be written there.
    """
    with storage(path, "writing"):
        about = _about(path)
        if about is None:
            _require_parent(path)
            return
        _require_no_folder(path, about, made)
        is_made = _bears(Path(os.path.realpath(path)), made.marks)
        _require_not_read(path, about, is_made, [Path(other) for other in read if other is not None])
        if not is_made and not force:
            raise UsageError(
                "the file exists already",
                device=str(path),
                expected=f"a new name, or {made.words} to replace" if made.marks else made.words,
                seen="a file of another kind" if made.marks else "",
                safe="nothing was changed",
                hint="another name, or remove it first" if force is None else "another name, or --force to replace it",
            )
        if not os.access(os.path.realpath(path), os.W_OK):
            raise PermissionError(errno.EACCES, "the file is write-protected")


def require_output_folder(path: Path) -> None:
    """Refuse a folder for results that is none, or cannot be written.

    Raises
    ------
    UsageError
        A file is there.
    StorageError
        It cannot be made, or nothing can be put into it.
    """
    with storage(path, "writing"):
        about = _about(path)
        if about is not None and not stat.S_ISDIR(about.st_mode):
            raise _no_folder(path)
        _require_parent(path / "a file")


def _about(path: Path) -> os.stat_result | None:
    """What is there, None for nothing; a name that no file can have raises `OSError`.

    ``new/../a.html`` is there as soon as the folder ``new`` has been made for it.
    """
    try:
        return path.stat()
    except FileNotFoundError:
        beyond = Path(os.path.realpath(path))
        return beyond.stat() if beyond.exists() else None
    except NotADirectoryError:
        return None
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error)) from error


def _require_parent(path: Path) -> None:
    """Missing folders are made when the file is written; the nearest that is there has to allow it."""
    there = next(parent for parent in (*path.absolute().parents, Path("/")) if os.path.lexists(parent))
    if not there.is_dir():
        raise _no_folder(there)
    if not os.access(there, os.W_OK | os.X_OK):
        raise storage_error(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), there, "writing")


def _no_folder(path: Path) -> UsageError:
    return UsageError(
        "there is a file where a folder is wanted",
        device=str(path),
        expected="a folder, or a new name for one",
        seen=kind_of(path) or "a file",
        safe="nothing was changed",
        hint="another folder, or a new name for one",
    )


def _require_no_folder(path: Path, about: os.stat_result, made: Made) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise UsageError(
            "there is a folder where a file is wanted",
            device=str(path),
            expected=f"a name for {made.words}" if made.marks else made.words,
            seen="a folder",
            safe="nothing was changed",
            hint=f"a name in it: {path}/NAME",
        )


def _require_not_read(path: Path, about: os.stat_result, is_made: bool, read: Iterable[Path]) -> None:
    """Whatever its name: a link, a hard link, another spelling of the same file."""
    for other in read:
        try:
            there = other.stat()
        except (OSError, ValueError):
            continue
        inside = stat.S_ISDIR(there.st_mode) and path.resolve().is_relative_to(other.resolve()) and not is_made
        if inside or os.path.samestat(about, there):
            raise UsageError(
                "the output would be written over what it is made from",
                device=str(path),
                expected="the name of another file",
                seen=f"a file of {other}" if inside else str(other),
                safe="nothing was changed",
                hint=f"another name: {path.stem}-2{path.suffix}",
            )


def _bears(path: Path, marks: tuple[bytes, ...]) -> bool:
    with open_regular(path) as stream:
        ends = [stream.read(_LOOKED_AT)]
        if len(ends[0]) == _LOOKED_AT:
            stream.seek(max(_LOOKED_AT // 2, stream.seek(0, os.SEEK_END) - _LOOKED_AT))
            ends.append(stream.read(_LOOKED_AT))
    return any(mark in end for mark in marks for end in ends)
