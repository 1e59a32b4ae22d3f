"""The kinds of files that are read. A new kind is one module beside this one, and one line in `FORMATS`.

The module has a function ``open_contents(path)``, a context manager that yields `Contents` and raises
`labctl.errors.CaptureUnreadable` at a file that is not what its name says. Where weights that lie in a file of their
own are written in another way, it has ``read_weights(path)``, too, which returns them as (M, N).
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
    def open_weights(self, path: Path) -> Iterator[Contents]:
        """The arrays of a file of weights, among which there should be one named ``weights``."""
        if hasattr(self._reader, "read_weights"):
            yield Contents({"weights": self._reader.read_weights(path)})
            return
        with self.open(path) as contents:
            yield contents

    @property
    def _reader(self) -> ModuleType:
        return import_module(self.module)


FORMATS = (
    FileFormat("npz", (".npz",), "labctl.foreign.files.npz"),
    FileFormat("hdf5", (".h5", ".hdf5"), "labctl.foreign.files.hdf5"),
    FileFormat("csv", (".csv", ".tsv"), "labctl.foreign.files.delimited"),
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
        some = " or ".join(f"*{form.suffixes[0]}" for form in FORMATS)
        raise UsageError("no such file", device=str(path), expected=f"a measurement: {some}")
    form = next((form for form in FORMATS if path.suffix.lower() in form.suffixes), None)
    if form is None:
        raise UsageError(
            "no reader for this kind of file", device=str(path), expected=f"one of {', '.join(suffixes)}",
            seen=path.suffix or "no extension", hint="save it as one of these, or rename it if it is one",
        )  # fmt: skip
    with storage(path, "reading"):
        if path.stat().st_size == 0:
            raise CaptureUnreadable("the file is empty", device=str(path), hint="was it copied whole?")
    return form
