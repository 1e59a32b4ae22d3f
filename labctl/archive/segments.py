"""Sealed segments: each a whole HDF5 file, listed with its hash in ``manifest.jsonl`` once it is on the disk."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundwork.errors import FileRefused
from groundwork.opening.hdf5 import parse_hdf5
from groundwork.opening.regular import read_regular
from labctl.archive.atomic import append_line, atomic_path, atomic_write_bytes, drop_torn_line, read_lines, storage
from labctl.archive.images import file_image, write_arrays
from labctl.archive.removal import read_removal
from labctl.errors import RunDamaged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic[Any]]

MANIFEST = "manifest.jsonl"
_NAME = re.compile(r"\d{6}\.h5")


@dataclass(frozen=True)
class SegmentRow:
    """One line of the manifest.

    Attributes
    ----------
    file
        Name inside ``segments/``: ``"000000.h5"``.
    kind
        What it holds, as the writer named it: ``"dark"``, ``"products"``.
    rows
        Length of the first array's first axis (0 when there is none).
    bytes, sha256
        Size and hash of the file.
    origin
        The run that measured it, where it was taken over from an earlier one.
    shift_s
        To be added to its device times, so that all of a run are on one clock [s].
    """

    file: str
    kind: str
    rows: int
    bytes: int
    sha256: str
    origin: str | None = None
    shift_s: float = 0.0


@dataclass(frozen=True)
class Segment:
    """A segment read back: its manifest row, arrays by name, and attributes."""

    row: SegmentRow
    arrays: Mapping[str, Array]
    attrs: Mapping[str, Any]


class SegmentWriter:
    """Appends segments to a run; opening it on an unfinished run goes on after the last listed segment.

    Parameters
    ----------
    folder
        The run's ``segments/``; made if absent.

    Attributes
    ----------
    shift_s
        To be added to the device times of what is written, so that all of a run are on one clock [s].
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.shift_s = folder, 0.0
        with storage(folder, "making the folder"):
            folder.mkdir(parents=True, exist_ok=True)
        self.settle()

    def write(self, kind: str, arrays: Mapping[str, Array], attrs: Mapping[str, Any] | None = None) -> Path:
        """Seal one segment: equal arguments give equal bytes.

        Parameters
        ----------
        kind
            What it holds.
        arrays
            Datasets by name, units in the names; numbers or fixed-length bytes.
        attrs
            Numbers, strings, lists of them, or mappings (kept as JSON text).

        Returns
        -------
        The file, synced, renamed and listed in the manifest.

        Raises
        ------
        StorageError
            Disk full or not writable; no file with the final name is left.
        """

        def fill(file: Any) -> None:
            file.attrs["schema"] = "labctl.segment/1"
            file.attrs["kind"] = kind
            write_arrays(file, arrays, attrs or {})

        data = file_image(fill)
        path = self.folder / f"{len(self.rows):06d}.h5"
        first = next(iter(arrays.values()), None)
        rows = len(first) if first is not None and first.ndim else 0
        row = SegmentRow(path.name, kind, rows, len(data), hashlib.sha256(data).hexdigest(), None, self.shift_s)
        self._require_folder()
        atomic_write_bytes(path, data)
        append_line(self.folder / MANIFEST, asdict(row), sync=True)
        self.rows.append(row)
        return path

    def _require_folder(self) -> None:
        """A run that was renamed or removed is not begun anew under its old name."""
        with storage(self.folder, "sealing a segment"):
            self.folder.stat()

    def adopt(self, segment: SegmentRow, folder: Path, origin: str, shift_s: float) -> SegmentRow:
        """List a segment of another run as one of this: the same file, linked where the file system can, else copied.

        Parameters
        ----------
        segment, folder
            Its row, and the ``segments/`` that it lies in.
        origin
            The run that measured it.
        shift_s
            To be added to its device times [s].
        """
        path = self.folder / f"{len(self.rows):06d}.h5"
        source = folder / segment.file
        read_segment(folder, segment)  # whole and unaltered
        self._require_folder()
        with atomic_path(path) as temporary:
            try:
                os.link(source, temporary)
            except OSError:
                shutil.copyfile(source, temporary)
        row = replace(segment, file=path.name, origin=origin, shift_s=shift_s)
        append_line(self.folder / MANIFEST, asdict(row), sync=True)
        self.rows.append(row)
        return row

    def settle(self) -> None:
        """Make folder and manifest agree after a stop at any moment.

        One between rename and manifest line leaves a segment that nobody acknowledged: it goes, and is measured again.
        """
        drop_torn_line(self.folder / MANIFEST)
        self.rows = read_manifest(self.folder)
        listed = {row.file for row in self.rows}
        for path in self.folder.iterdir():
            if path.name.endswith(".tmp") or (_NAME.fullmatch(path.name) and path.name not in listed):
                with storage(path, "removing an unlisted segment"):
                    path.unlink()


def read_manifest(folder: Path) -> list[SegmentRow]:
    """The rows of ``manifest.jsonl`` in ``folder``.

    Raises
    ------
    RunDamaged
        When a complete line is not a manifest row.
    """
    try:
        return [_row(record) for record in read_lines(folder / MANIFEST)]
    except (ValueError, TypeError) as error:
        raise RunDamaged(
            "the manifest cannot be read",
            device=str(folder / MANIFEST),
            expected="one JSON object per line: file, kind, rows, bytes, sha256",
            seen=str(error),
            hint="labctl run verify " + folder.parent.name,
        ) from error


def _row(record: Mapping[str, Any]) -> SegmentRow:
    """A line of the manifest; its file lies in the folder, and nowhere else."""
    row = SegmentRow(**record)
    counts = (row.rows, row.bytes)
    is_row = (
        isinstance(row.file, str)
        and _NAME.fullmatch(row.file)
        and isinstance(row.kind, str)
        and all(type(count) is int and count >= 0 for count in counts)
        and isinstance(row.sha256, str)
        and (row.origin is None or isinstance(row.origin, str))
        and type(row.shift_s) in (int, float)
    )
    if not is_row:
        raise ValueError(f"not a segment: {dict(record)!r:.200}")
    return row


def read_segments(folder: Path, kind: str | None = None) -> Iterator[Segment]:
    """Segments in the order written, one in memory at a time, each checked against its hash.

    Raises
    ------
    RunDamaged
        When a file is missing or is not what the manifest says.
    """
    for row in read_manifest(folder):
        if kind is None or row.kind == kind:
            yield read_segment(folder, row)


def read_segment(folder: Path, row: SegmentRow) -> Segment:
    """One segment, checked against its hash."""
    path = folder / row.file
    data = _read_bytes(path)
    if hashlib.sha256(data).hexdigest() != row.sha256:
        raise RunDamaged(
            "a segment is not what its manifest says",
            device=str(path),
            expected=f"{row.bytes} bytes, sha256 {row.sha256[:12]}…",
            seen=f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:12]}…",
            hint=f"labctl run verify {folder.parent.name}",
        )
    try:
        file = parse_hdf5(data, path)
    except FileRefused as error:
        raise RunDamaged("a segment is not what the suite writes", device=str(path), seen=str(error)) from error
    return Segment(row, {name: data.values for name, data in file.datasets.items()}, dict(file.attrs))


def _read_bytes(path: Path) -> bytes:
    if not path.exists():
        removal = read_removal(path.parent.parent)
        if removal and path.name in removal.files:
            raise RunDamaged(
                f"the raw data of this run were removed on {removal.at[:10]} by retention",
                device=path.parent.parent.name,
                action="reading a segment",
                expected="its segments",
                hint="take a run that still has them, or measure again; labctl run pin keeps those of a run",
            )
        raise RunDamaged("a segment is missing", device=str(path), hint=f"labctl run verify {path.parent.parent.name}")
    with storage(path, "reading"):
        return read_regular(path)
