"""One command for every format: which there are, what a file of each is called, and how it comes to be there whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

from groundwork.nearest import did_you_mean
from labctl.archive.atomic import atomic_path
from labctl.archive.outputs import EXPORTED, require_output
from labctl.doors.record import Record
from labctl.errors import UsageError


@dataclass(frozen=True)
class Format:
    """A format of somebody else's.

    Attributes
    ----------
    ending
        Of its files.
    writer
        ``module:function``: writes a `Record` into a file that is not there yet.
    lacks
        What this format holds less than the others, and refers to where it lies; empty for nothing.
    """

    ending: str
    writer: str
    lacks: str = ""


FORMATS = {
    "events": Format(
        ".events.jsonl",
        "labctl.doors.events:write_events",
        "arrays (readings, levels, frames): the documents say in which sealed files, which have to stay where they are",
    ),
    "nexus": Format(".nxs", "labctl.doors.nexus:write_nexus"),
    "xarray": Format(".nc", "labctl.doors.labelled:write_netcdf"),
}


def require_format(name: str) -> Format:
    """The format of this name.

    Raises
    ------
    UsageError
        When there is none.
    """
    if name not in FORMATS:
        hint = did_you_mean(name, FORMATS, "labctl export --help")
        raise UsageError(f"no format {name!r}", expected=", ".join(FORMATS), seen=name, hint=hint)
    return FORMATS[name]


def export_record(record: Record, format_: Format, folder: Path) -> Path:
    """Write a record into ``folder``, whole or not at all; return the file.

    Raises
    ------
    UsageError
        When the file is there already: it may be somebody's, and an export never takes its place.
    StorageError
        When it cannot be written.
    """
    path = folder / f"{record.id}{format_.ending}"
    require_output(path, EXPORTED)
    write: Callable[[Record, Path], None] = resolve_name(format_.writer)
    with atomic_path(path) as temporary:
        write(record, temporary)
    return path


def not_held(record: Record, format_: Format) -> str:
    """What the file does not hold, in words."""
    has_filed = any(field.filed for stream in record.streams for field in stream.fields.values())
    return "; ".join([*record.not_held, *([format_.lacks] if format_.lacks and has_filed else [])])
