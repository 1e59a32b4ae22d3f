"""Open regular files and nothing else; read them whole up to a limit. Standard library only."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

from groundwork.errors import FileRefused

MOST_BYTES = 2**30
"""The most that a file which is read whole may have."""
MOST_TEXT_BYTES = 2**26
"""The most that a document or a text may have."""
_HOLES_FROM = 2**24
_MOST_HOLLOW = 1000
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_FLAGS = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))


def require_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what is there and no regular file; for paths that a library opens by their name.

    Raises
    ------
    FileRefused
        A folder, pipe, socket or device, or a file that is nearly all holes.
    OSError
        There is nothing, or it cannot be looked at.
    """
    open_regular(path).close()


def require_kind(path: str | os.PathLike[str], about: os.stat_result) -> None:
    """Refuse what is no regular file, ``about`` being what the operating system says of it.

    Raises
    ------
    FileRefused
        A folder, pipe, socket or device.
    """
    if not stat.S_ISREG(about.st_mode):
        raise FileRefused("not a regular file", device=str(path), expected="a file", seen=_words(about))


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """A regular file, opened for reading; never waits, whatever lies at ``path``.

    Raises
    ------
    FileRefused
        A folder, pipe, socket or device, also one that has just taken the place of a file; or nearly all holes.
    OSError
        There is nothing, or it may not be read.
    """
    require_kind(path, Path(path).stat())
    try:
        handle = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise FileRefused("not a regular file", device=str(path), seen="a socket or pipe") from error
        raise
    try:
        require_kind(path, about := os.fstat(handle))
        _require_content(path, about, handle)
    except BaseException:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def read_regular(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file.

    Raises
    ------
    FileRefused
        No regular file, or more than ``most_bytes``: known from its length, before it is read.
    OSError
        There is nothing, or it may not be read.
    """
    with open_regular(path) as stream:
        declared = os.fstat(stream.fileno()).st_size
        data = b"" if declared > most_bytes else stream.read(declared)
    if max(declared, len(data)) > most_bytes:
        raise FileRefused(
            "the file is too large",
            device=str(path),
            expected=f"at most {most_bytes / 1e6:.4g} MB",
            seen=f"{max(declared, len(data)) / 1e6:.4g} MB",
        )
    return data


def read_text(path: str | os.PathLike[str], most_bytes: int = MOST_TEXT_BYTES) -> str:
    """A UTF-8 text; the mark that editors of Windows put first is no part of it.

    Raises
    ------
    FileRefused
        No regular file, too large, or not UTF-8.
    OSError
        There is nothing, or it may not be read.
    """
    return decoded(read_regular(path, most_bytes), path)


def decoded(data: bytes, path: str | os.PathLike[str]) -> str:
    """Bytes of a UTF-8 text as characters.

    Raises
    ------
    FileRefused
        When they are none.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileRefused("not UTF-8 text", device=str(path), seen=str(error)) from error


def kind_of(path: str | os.PathLike[str]) -> str:
    """What is there: "a folder", "a device" …; empty for a file, for nothing, and for a name that no file can have.

    Examples
    --------
    >>> kind_of("/"), kind_of("a" * 5000)
    ('a folder', '')
    """
    try:
        about = Path(path).stat()
    except (OSError, ValueError):
        return ""
    return "" if stat.S_ISREG(about.st_mode) else _words(about)


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is such a file; false, too, for a name that no file can have.

    Examples
    --------
    >>> is_file("a" * 5000), is_file("")
    (False, False)
    """
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def _words(about: os.stat_result) -> str:
    return next((words for is_kind, words in _KINDS if is_kind(about.st_mode)), "something else")


def _require_content(path: str | os.PathLike[str], about: os.stat_result, handle: int) -> None:
    """A file of a few bytes can be terabytes long, and whoever reads it whole gets zeros."""
    stored = getattr(about, "st_blocks", about.st_size) * 512
    if about.st_size <= _HOLES_FROM or stored * _MOST_HOLLOW >= about.st_size:
        return
    hole = os.lseek(handle, 0, os.SEEK_HOLE)  # some network file systems count no blocks; they know of no hole either
    os.lseek(handle, 0, os.SEEK_SET)
    if hole < about.st_size:
        raise FileRefused(
            "the file is nearly all holes",
            device=str(path),
            expected="a file whose bytes are on the disk",
            seen=f"{about.st_size / 1e6:.4g} MB long, {stored / 1e6:.4g} MB stored",
        )
