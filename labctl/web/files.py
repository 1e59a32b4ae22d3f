"""The files of a run folder: which there are, and how one is sent; no name leads out of the folder."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from groundwork.errors import FileRefused
from groundwork.opening.regular import open_regular

CHUNK = 2**18
LISTED_MAX = 400


@dataclass(frozen=True)
class RunFile:
    """A file that can be fetched."""

    name: str
    bytes: int

    @property
    def size(self) -> str:
        """In words."""
        if self.bytes < 1000:
            return f"{self.bytes} B"
        if self.bytes < 1e6:
            return f"{self.bytes / 1e3:,.0f} kB"
        return f"{self.bytes / 1e6:,.1f} MB"


def files_of(run: Path) -> list[RunFile]:
    """The files of a run folder, those of its segments last; no links, and nothing that is being written."""
    found = []
    for place, folders, names in os.walk(run):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            try:
                about = path.lstat()
            except OSError:
                continue
            if _is_shown(name) and stat.S_ISREG(about.st_mode):
                found.append(RunFile(path.relative_to(run).as_posix(), about.st_size))
    found.sort(key=lambda file: ("/" in file.name, file.name))
    return found[:LISTED_MAX]


def open_file(run: Path, name: str) -> tuple[io.BufferedReader, int] | None:
    """A file of a run folder, opened, and its size; None where there is none that may be had.

    Parameters
    ----------
    name
        Path inside the folder, with ``/``; neither it nor any link leads out.
    """
    parts = PurePosixPath(name).parts
    if not parts or "\\" in name or "\0" in name or ":" in name or name.startswith("/"):
        return None
    if not all(map(_is_shown, parts)):
        return None
    path = run.joinpath(*parts)
    try:
        folder = run.resolve(strict=True)
        if path.resolve(strict=True) != folder.joinpath(*parts):
            return None
        stream = open_regular(path)
    except (OSError, ValueError, FileRefused):
        return None
    there, about = path.lstat(), os.fstat(stream.fileno())
    if (there.st_dev, there.st_ino) != (about.st_dev, about.st_ino):  # a link has just taken its place
        stream.close()
        return None
    return stream, about.st_size


def chunks(stream: io.BufferedReader, most: int) -> Iterator[bytes]:
    """``most`` bytes of a file, whatever is appended to it meanwhile; it is closed afterwards."""
    with stream:
        while most > 0 and (chunk := stream.read(min(CHUNK, most))):
            most -= len(chunk)
            yield chunk


def as_attachment(name: str) -> str:
    """The header that makes a browser save a file and not show it."""
    return f"attachment; filename*=UTF-8''{quote(PurePosixPath(name).name)}"


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and not name.endswith(".tmp")
