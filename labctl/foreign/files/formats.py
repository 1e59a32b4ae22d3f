"""The kinds of files that are read. A new kind is one module beside this one, and one line in `FORMATS`.

The module has a function ``open_contents(path)``, a context manager that yields `Contents` and raises
`labctl.errors.CaptureUnreadable` at a file that is not what its name says. Where an array that lies in a file of its
own may be written in another way, it has ``open_matrix(path, name)``, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

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
    """

    name: str
    suffixes: tuple[str, ...]
    module: str

    @contextmanager
    def open(self, path: Path) -> Iterator[Contents]:
        """The arrays of a file; they may be sliced while the block lasts."""
        with storage(path, "reading the measurement"):
            opened = self._reader.open_contents(path)
        with opened as contents:
            yield contents

    @contextmanager
    def open_matrix(self, path: Path, name: str) -> Iterator[Contents]:
        """A file of one array, which is called ``name``, where the kind of file knows such; else as `open`."""
        opener = getattr(self._reader, "open_matrix", None)
        with storage(path, "reading the measurement"):
            opened = self._reader.open_contents(path) if opener is None else opener(path, name)
        with opened as contents:
            yield contents

    @property
    def has_matrices(self) -> bool:
        """Whether a file of one array is written in another way."""
        return hasattr(self._reader, "open_matrix")

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


def format_of(path: Path) -> FileFormat:
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
        some = ", ".join(f"*{form.suffixes[0]}" for form in FORMATS)
        raise UsageError("no such file", device=str(path), expected=f"a measurement: {some}")
    form = next((form for form in FORMATS if path.suffix.lower() in form.suffixes), None)
    if form is None:
        workbook = path.suffix.lower() in (".xlsx", ".xls", ".ods")
        raise UsageError(
            "no reader for this kind of file", device=str(path), expected=f"one of {', '.join(suffixes)}",
            seen=path.suffix or "no extension",
            hint="save the sheet as CSV" if workbook else "save it as one of these, or rename it if it is one",
        )  # fmt: skip
    with storage(path, "reading"):
        if path.stat().st_size == 0:
            raise CaptureUnreadable("the file is empty", device=str(path), hint="was it copied whole?")
    return form
