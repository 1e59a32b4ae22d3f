"""Open zip archives and ``.npy`` arrays whose declared sizes are what they can hold; no array of objects is read."""

from __future__ import annotations

import io
import math
import os
import tokenize
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from groundwork.errors import FileRefused
from groundwork.opening.regular import MOST_BYTES, open_regular, read_regular

MOST_MEMBERS = 1000
MOST_AXES = 32
MOST_EXPANSION = 1100
"""How many times its stored bytes a member may unfold to: a little more than deflate can."""
_END = b"PK\5\6"
_END_BYTES = 22
_END_64 = b"PK\6\6"
_BYTES_64 = 76
"""Of the end of a large archive and of the pointer to it, which stand before the end of every archive."""
_NO_HEADER = (ValueError, TypeError, SyntaxError, EOFError, KeyError, RecursionError, OverflowError,
              tokenize.TokenError)  # fmt: skip
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class NpyHeader:
    """What an ``.npy`` array says of itself: its shape, its type, its order in memory, and where its numbers begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    start: int


@contextmanager
def open_zip(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> Iterator[zipfile.ZipFile]:
    """An archive, every member of which has been looked at; nothing has been unpacked.

    Raises
    ------
    FileRefused
        No regular file, no whole archive, too many members, encrypted ones, or more bytes than ``most_bytes`` or than
        the stored ones can unfold to.
    OSError
        There is nothing, or it may not be read.
    """
    with open_regular(path) as stream:
        _require_small_directory(stream, path)
        try:
            archive = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, EOFError) as error:
            raise _refused(path, "not a zip archive, or only part of one", "a whole archive", str(error)) from error
        with archive:
            members = archive.infolist()
            if len(members) > MOST_MEMBERS:
                raise _refused(path, "too many members", f"at most {MOST_MEMBERS}", str(len(members)))
            names = {member.filename for member in members}
            if len(names) < len(members):
                raise _refused(path, "two members have the same name", "each name once", f"{len(names)} names")
            for member in members:
                _require_honest(member, path)
            total = sum(member.file_size for member in members)
            if total > most_bytes:
                raise _refused(path, "unfolds to too much", f"at most {most_bytes} bytes", f"{total} bytes")
            yield archive


def read_npy(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> NDArray[Any]:
    """The array in an ``.npy`` file.

    Raises
    ------
    FileRefused
        No regular file, too large, or not as `parse_npy` wants it.
    OSError
        There is nothing, or it may not be read.
    """
    return parse_npy(read_regular(path, most_bytes), path)


def parse_npy(raw: bytes, path: str | os.PathLike[str] = "") -> NDArray[Any]:
    """The array in the bytes of an ``.npy`` file or member; ``path`` is where they come from.

    Raises
    ------
    FileRefused
        When they are none, hold objects, or are not as long as their header says.
    """
    header = npy_header(io.BytesIO(raw), path)
    if header.dtype.hasobject:
        what = "holds pickled objects, which can run code and are never opened"
        raise _refused(path, what, "numbers", str(header.dtype))
    require_length(header, len(raw), path)
    order: Literal["C", "F"] = "F" if header.fortran_order else "C"
    return np.ndarray(header.shape, header.dtype, raw, header.start, order=order).copy(order)


def npy_header(stream: IO[bytes], path: str | os.PathLike[str] = "") -> NpyHeader:
    """The header of an ``.npy`` array, which ``stream`` begins with.

    Raises
    ------
    FileRefused
        When there is none.
    """
    try:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"npy format {version}")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran_order, dtype = read(stream)
    except _NO_HEADER as error:
        raise _refused(path, "not an npy array, or only part of one", "the header of one", str(error)[:200]) from error
    if len(shape) > MOST_AXES or any(type(n) is not int or n < 0 for n in shape):
        raise _refused(path, "not an npy array", f"up to {MOST_AXES} whole numbers as its shape", str(shape)[:200])
    return NpyHeader(shape, dtype, bool(fortran_order), stream.tell())


def require_length(header: NpyHeader, length: int, path: str | os.PathLike[str] = "") -> None:
    """Refuse an array whose file or member is not as long as its header says.

    Raises
    ------
    FileRefused
    """
    expected = header.start + math.prod(header.shape) * header.dtype.itemsize
    if expected != length:
        what = "not as long as its header says"
        raise _refused(path, what, f"{expected} bytes for {header.dtype} {header.shape}", f"{length} bytes")


def _require_small_directory(stream: io.BufferedReader, path: str | os.PathLike[str]) -> None:
    """The library reads the directory at the end whole: refuse one that is larger than so many members need."""
    size = os.fstat(stream.fileno()).st_size
    stream.seek(max(0, size - _BYTES_64 - _END_BYTES - 2**16))
    tail = stream.read()
    stream.seek(0)
    plain = tail[-_END_BYTES:].startswith(_END) and tail.endswith(b"\0\0")
    at = len(tail) - _END_BYTES if plain else tail.rfind(_END)
    if at < 0:
        raise _refused(path, "not a zip archive, or only part of one", "a directory at its end", f"{size} bytes")
    directory, large = int.from_bytes(tail[at + 12 : at + 16], "little"), tail[max(0, at - _BYTES_64) : at]
    if large.startswith(_END_64):
        directory = int.from_bytes(large[40:48], "little")
    if directory > MOST_MEMBERS * 4096:
        raise _refused(path, "too many members", f"at most {MOST_MEMBERS}", f"a directory of {directory} bytes")


def _require_honest(member: zipfile.ZipInfo, path: str | os.PathLike[str]) -> None:
    if member.flag_bits & 0x1 or member.compress_type not in _METHODS:
        raise _refused(path, f"member {member.filename!r} is not read", "stored or deflated", "another compression")
    stored = member.compress_size
    if member.file_size > stored * (1 if member.compress_type == zipfile.ZIP_STORED else MOST_EXPANSION):
        seen = f"{member.file_size} bytes from {stored}"
        raise _refused(path, f"member {member.filename!r} declares more than it holds", "its own bytes", seen)


def _refused(path: str | os.PathLike[str], what: str, expected: str, seen: str) -> FileRefused:
    return FileRefused(what, device=str(path), expected=expected, seen=seen)
