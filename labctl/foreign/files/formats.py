"""The kinds of files that are read. A new kind is one module beside this one, and one line in `FORMATS`.

The module has a function ``open_contents(path)``, a context manager that yields `Contents` and raises
`labctl.errors.CaptureUnreadable` at a file that is not what its name says. Where an array that lies in a file of its
own may be written in another way, it has ``open_matrix(path, name)``, too.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import ModuleType

from groundwork.opening.regular import kind_of
from labctl.archive.atomic import storage
from labctl.errors import CaptureUnreadable, UsageError
from labctl.foreign.files.contents import Contents


@dataclass(frozen=True)
class FileFormat:
    """One kind of file.

    Attributes
    ----------
    name
        As documents call it.
    suffixes
        Endings of file names, with their dot, in small letters.
    module
        Where its reader is; imported when the first such file is opened.
    decimal
        What was said of the decimal mark, point or comma: asked only of texts.
    """

    name: str
    suffixes: tuple[str, ...]
    module: str
    decimal: str | None = None

    @contextmanager
    def open(self, path: Path) -> Iterator[Contents]:
        """The arrays of a file; they may be sliced while the block lasts."""
        with storage(path, "reading the measurement"):
            opened = self._reader.open_contents(path, *self._said)
        with opened as contents:
            yield contents

    @contextmanager
    def open_matrix(self, path: Path, name: str) -> Iterator[Contents]:
        """A file of one array, which is called ``name``, where the kind of file knows such; else as `open`."""
        opener = getattr(self._reader, "open_matrix", None)
        with storage(path, "reading the measurement"):
            opened = self._reader.open_contents(path) if opener is None else opener(path, name, *self._said)
        with opened as contents:
            yield contents

    @property
    def has_matrices(self) -> bool:
        """Whether a file of one array is written in another way."""
        return hasattr(self._reader, "open_matrix")

    @property
    def _said(self) -> tuple[str | None, ...]:
        return (self.decimal,) if self.has_matrices else ()

    @property
    def _reader(self) -> ModuleType:
        return import_module(self.module)


FORMATS = (
    FileFormat("npz", (".npz",), "labctl.foreign.files.npz"),
    FileFormat("hdf5", (".h5", ".hdf5"), "labctl.foreign.files.hdf5"),
    FileFormat("csv", (".csv", ".tsv", ".txt", ".dat"), "labctl.foreign.files.delimited"),
    FileFormat("npy", (".npy",), "labctl.foreign.files.npy"),
    FileFormat("matlab", (".mat",), "labctl.foreign.files.matlab"),
    FileFormat("json", (".json",), "labctl.foreign.files.json_text"),
    FileFormat("tiff", (".tif", ".tiff"), "labctl.foreign.files.tiff"),
    FileFormat("parquet", (".parquet", ".pq"), "labctl.foreign.files.parquet"),
)

LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".webp", ".avif", ".heic")
_LOOKED_AT = 2000
_NEAREST = 3


def no_such_file(path: Path, expected: str = "") -> UsageError:
    """The error for what is no file: it says what it is, or names what lies in that folder under a name like it."""
    some = ", ".join(f"*{form.suffixes[0]}" for form in FORMATS)
    near = _alike(path)
    seen = kind_of(path)
    if str(path) == "-":
        hint = "a pipe is not read: save what it gives, then labctl import FILE"
    elif seen == "a folder":
        hint = f"that is a folder; in it: {', '.join(near)}" if near else "that is a folder: name a file in it"
    elif seen:
        hint = "name the file that holds the measurement; what comes out of a pipe or a device: save it first"
    elif path.is_symlink():
        hint = f"a link that leads nowhere, to {path.readlink()}"
    elif path.parent.exists() and not path.parent.is_dir():
        hint = f"{path.parent} is no folder"
    elif not path.parent.is_dir():
        hint = f"there is no folder {path.parent}"
    elif near:
        hint = f"in that folder: {', '.join(near)}"
    else:
        hint = "no measurement in that folder; once it is there: labctl import FILE --name BENCH"
    what = {"": "no such file", "a folder": "a folder is no measurement"}.get(seen, "not a regular file")
    return UsageError(what, device=str(path), expected=expected or f"a measurement: {some}", seen=seen, hint=hint)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _alike(path: Path) -> list[str]:
    """Measurements in the folder of a file, or in the folder that it is, the one with the most similar name first."""
    folder = path if path.is_dir() else path.parent
    suffixes = {suffix for form in FORMATS for suffix in form.suffixes}
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _LOOKED_AT)]
    except OSError:
        return []
    names = sorted(name for name in names if Path(name).suffix.lower() in suffixes)
    lower = {name.lower(): name for name in names}
    close = [lower[name] for name in difflib.get_close_matches(path.name.lower(), lower, n=_NEAREST, cutoff=0.5)]
    return [str(folder / name) for name in (close or names)[:_NEAREST]]


def format_of(path: Path, decimal: str | None = None) -> FileFormat:
    """The format of a file that is there and not empty, by its name.

    Raises
    ------
    UsageError
        No such file, or an ending that no format has.
    CaptureUnreadable
        When it is empty.
    """
    suffixes = [suffix for form in FORMATS for suffix in form.suffixes]
    if not path.is_file():
        raise no_such_file(path)
    if not _is_text(str(path)):
        raise UsageError(
            "the file's name is no UTF-8 text: no record can hold it",
            device=str(path),
            hint="rename the file, or link it",
        )
    form = next((form for form in FORMATS if path.suffix.lower() in form.suffixes), None)
    if form is None:
        if path.suffix.lower() in LOSSY:
            raise UsageError(
                "a JPEG picture is no measurement: its compression has altered every pixel", device=str(path),
                expected="pixels as the camera gave them: tif, npz, h5", seen=path.suffix,
                hint="record again, and save as an uncompressed TIFF stack; saving the JPEG as one brings nothing back",
            )  # fmt: skip
        workbook = path.suffix.lower() in (".xlsx", ".xls", ".ods")
        raise UsageError(
            "no reader for this kind of file", device=str(path), expected=f"one of {', '.join(suffixes)}",
            seen=path.suffix or "no extension",
            hint="save the sheet as CSV" if workbook else "save it as one of these, or rename it if it is one",
        )  # fmt: skip
    with storage(path, "reading"):
        if path.stat().st_size == 0:
            raise CaptureUnreadable("the file is empty", device=str(path), hint="was it copied whole?")
    return form if decimal is None else replace(form, decimal=decimal)
