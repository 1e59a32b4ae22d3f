"""A NeXus file (HDF5): each stream is an ``NXdata`` that any viewer of HDF5 plots; the file says which one first.

The chain ``@default`` leads from the file to the entry, from there to the group that is drawn; ``@signal`` and
``@axes`` say what against what; standard errors are ``NAME_errors`` (https://manual.nexusformat.org).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from groundwork.hdf5_stream import hdf5_stream
from labctl.doors.record import Array, Field, Part, Record, Stream, plain_name

_TEXT = h5py.string_dtype()
_CHUNK_BYTES = 2**16
_CLASSES = {"source": "NXsource", "camera": "NXdetector", "monitor": "NXsensor"}
"""Of the instrument's parts, by role. NeXus has no base class for a panel: an ``NXcollection`` holds any fields."""
_OTHERS = "NXcollection"


def write_nexus(record: Record, path: Path) -> None:
    """Write a record into a file that is not there yet."""
    with hdf5_stream(path) as stream, h5py.File(stream, "w", libver=("earliest", "v110")) as file:
        file.attrs["NX_class"] = "NXroot"
        file.attrs["creator"] = "labctl"
        file.attrs["default"] = "entry"
        entry = _group(file, "entry", "NXentry")
        if record.default:
            entry.attrs["default"] = record.default.name
        _say_what(entry, record)
        instrument = _group(entry, "instrument", "NXinstrument")
        instrument["name"] = record.bench or "a bench"
        for each in record.streams:
            _write_stream(entry, each, stream.require_taken)
            if each.name == "baseline":
                _write_devices(instrument, each)
        for role in ("source", "slm", "camera"):  # a reader finds them, be their settings known or not
            if not any(group.attrs.get("role") == role for group in instrument.values()):
                _part(instrument, role, role)


def _say_what(entry: h5py.Group, record: Record) -> None:
    entry["title"] = record.title
    entry["entry_identifier"] = record.id
    entry["start_time"], entry["end_time"] = _iso(record.started_s), _iso(record.ended_s)
    software = record.about["software"]
    entry["program_name"] = "labctl"
    entry["program_name"].attrs["version"] = software["version"]
    process = _group(entry, "process", "NXprocess")
    process["program"], process["version"] = "labctl", software["version"]
    process["date"] = _iso(record.ended_s)
    process["outcome"], process["reason"] = record.outcome, record.reason
    process["not_held"] = "; ".join(record.not_held) or "nothing"
    about = _group(entry, "about", "NXcollection")
    for name, value in record.about.items():
        about[plain_name(name)] = value if isinstance(value, str | bool | int | float) else json.dumps(value)
    for name, text in record.texts.items():
        note = _group(entry, plain_name(name), "NXnote")
        note["file_name"], note["data"] = name, text
        note["type"] = "application/json" if name.endswith("json") else "text/plain"


def _write_devices(instrument: h5py.Group, stream: Stream) -> None:
    """Each device's settings as they were read back first, under the name that the station gives it."""
    part = next(iter(stream.parts()))
    roles: Mapping[str, str] = stream.about["roles"]
    for device in sorted(roles, key=len):
        group = _part(instrument, device, roles[device])
        for name, field in stream.fields.items():
            if name.startswith(f"{device}_") and not any(
                name.startswith(f"{other}_") for other in roles if len(other) > len(device)
            ):
                _whole(group, name.removeprefix(f"{device}_"), part.arrays[name][0], field)


def _part(instrument: h5py.Group, name: str, role: str) -> h5py.Group:
    """A device of the instrument."""
    group = _group(instrument, name, _CLASSES.get(role, _OTHERS))
    group.attrs["role"] = role
    if role == "source":
        group["probe"] = "visible light"
    return group


def _write_stream(entry: h5py.Group, stream: Stream, require_taken: Callable[[], None]) -> None:
    """The rows as one group: datasets that grow part by part, or single values where there is one row."""
    group = _group(entry, stream.name, "NXdata")
    group["title"] = stream.title
    for name, value in stream.about.items():
        group.attrs[plain_name(name)] = value if not isinstance(value, dict) else json.dumps(value)
    names = {field.stderr: f"{name}_errors" for name, field in stream.fields.items() if field.stderr}
    written = 0
    for part in stream.parts():
        _append(group, stream, part, names, written)
        require_taken()
        written += len(part.time_s)
    if stream.signal and written:
        field = stream.fields[stream.signal]
        axes = ([stream.row] if stream.row else []) + list(field.axes)
        sizes = ([written] if stream.row else []) + list(field.shape)
        for axis, size in zip(axes, sizes, strict=True):
            if axis not in group:
                group.create_dataset(axis, data=np.arange(size)).attrs["long_name"] = f"number of the {axis}"
            group.attrs[f"{axis}_indices"] = axes.index(axis)
        group.attrs["signal"], group.attrs["axes"] = stream.signal, axes


def _append(group: h5py.Group, stream: Stream, part: Part, names: Mapping[str, str], written: int) -> None:
    arrays: dict[str, tuple[Array, Field]] = {
        names.get(name, name): (part.arrays[name], field) for name, field in stream.fields.items()
    }
    time = Field(np.dtype(np.float64), (), "s", (), words="seconds since 1970-01-01T00:00:00Z")
    arrays["time"] = (part.time_s, time)
    for name, (array, field) in arrays.items():
        if not stream.row:
            _whole(group, name, array[0], field)
        elif name in group:
            group[name].resize(written + len(array), axis=0)
            group[name][written:] = array
        else:
            rows = max(1, min(len(array), _CHUNK_BYTES // max(1, array[:1].nbytes)))
            options = {"maxshape": (None, *array.shape[1:]), "chunks": (rows, *array.shape[1:])}
            _described(group.create_dataset(name, data=array, dtype=_dtype(array), **options), field)


def _whole(group: h5py.Group, name: str, value: Any, field: Field) -> None:
    is_text = field.dtype.kind == "O"
    _described(group.create_dataset(name, data=value, dtype=_TEXT if is_text else field.dtype), field)


def _dtype(array: Array) -> Any:
    return _TEXT if array.dtype.kind == "O" else array.dtype


def _described(dataset: h5py.Dataset, field: Field) -> None:
    if field.unit:
        dataset.attrs["units"] = "" if field.unit == "1" else field.unit
    if field.words:
        dataset.attrs["long_name"] = field.words


def _group(parent: h5py.Group, name: str, kind: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    return group


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()
