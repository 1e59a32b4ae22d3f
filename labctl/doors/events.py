"""Documents of bluesky's event model, a JSON object on each line: ``{"name": "start", "doc": {…}}``, as bluesky has it.

Single numbers and texts are in the documents. Arrays (readings of all outputs, levels of the panels, frames) stay in
the sealed segments of the run, and stream resources say where: catalogues serve them as the arrays that they are, while
an array inside of an event may come out of a catalogue as a text with its middle left out. A value that is not a finite
number becomes null.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from groundwork.opening.regular import read_regular
from labctl.doors.record import Array, Field, Part, Record, Stream, plain_name

Document = dict[str, Any]

_NAMESPACE = uuid.UUID("6f0d2a60-6f0e-5b0c-9a53-8a1f0c9d2b17")
"""Documents of one record have the same ids whenever they are made: a catalogue takes them once."""
_JSON_TYPES = {"f": "number", "i": "integer", "u": "integer", "b": "boolean", "O": "string"}


def write_events(record: Record, path: Path) -> None:
    """Write the documents of a record into a file that is not there yet."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for name, document in documents(record):
            stream.write(json.dumps({"name": name, "doc": document}, allow_nan=False) + "\n")


def documents(record: Record) -> Iterator[tuple[str, Document]]:
    """The documents of a record, in an order that any consumer takes."""
    start = _uid(record, "start")
    yield (
        "start",
        {
            "uid": start,
            "time": record.started_s,
            "plan_name": str(record.about.get("purpose", "labctl_calibration")),
            **record.about,
            "texts": {plain_name(name): text for name, text in record.texts.items()},
            "not_held": list(record.not_held),
        },
    )
    counts = {}
    for stream in record.streams:
        yield "descriptor", _descriptor(record, stream, start)
        yield from _rows(record, stream, start)
        counts[stream.name] = stream.rows
    yield (
        "stop",
        {
            "uid": _uid(record, "stop"),
            "run_start": start,
            "time": record.ended_s,
            "exit_status": record.outcome,
            "reason": record.reason,
            "num_events": counts,
        },
    )


def _descriptor(record: Record, stream: Stream, start: str) -> Document:
    thing = plain_name(record.bench or "bench")
    about = {plain_name(key): _json_text_if_mapping(value) for key, value in stream.about.items()}
    drawn = [name for name, field in stream.fields.items() if field.shape == () and field.dtype.kind in "fiu"]
    return {
        "uid": _uid(record, stream.name),
        "run_start": start,
        "time": record.started_s,
        "name": stream.name,
        "data_keys": {name: _data_key(record, stream, name, field) for name, field in stream.fields.items()},
        "object_keys": {thing: list(stream.fields)},
        "configuration": {
            thing: {
                "data": about,
                "timestamps": dict.fromkeys(about, record.started_s),
                "data_keys": {key: _configured(record, key, value) for key, value in about.items()},
            }
        },
        "hints": {thing: {"fields": [stream.signal] if stream.signal in drawn else drawn[:1]}},
    }


def _data_key(record: Record, stream: Stream, name: str, field: Field) -> Document:
    key: Document = {
        "source": f"labctl:{record.id}/{stream.name}/{name}" + (f" ({field.words})" if field.words else ""),
        "dtype": "array" if field.shape else _JSON_TYPES[field.dtype.kind],
        "shape": list(field.shape),
    }
    if field.axes:
        key["dims"] = list(field.axes)
    if field.unit:
        key["units"] = field.unit
    if field.dtype.kind != "O":
        key["dtype_numpy"] = field.dtype.str
    if is_external(field):
        key["external"] = "STREAM:"
        if stream.row:  # a row of the dataset, which consumers put one below the other
            key |= {"shape": [1, *field.shape], "dims": [stream.row, *field.axes]}
    return key


def is_external(field: Field) -> bool:
    """Whether a field's rows stay in the files in which they lie."""
    return bool(field.shape) and field.filed


def _configured(record: Record, name: str, value: Any) -> Document:
    """The data key of something that is the same for all rows of a stream."""
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    shape = list(np.shape(value)) if isinstance(value, list) else []
    return {"source": f"labctl:{record.id}", "dtype": kinds[type(value)], "shape": shape}


def _json_text_if_mapping(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | list) else json.dumps(value, sort_keys=True)


def _rows(record: Record, stream: Stream, start: str) -> Iterator[tuple[str, Document]]:
    """Event pages, a page for each part; and for what stays in a file, where it is."""
    first, descriptor = 0, _uid(record, stream.name)
    inside = {name for name, field in stream.fields.items() if not is_external(field)}
    for part in stream.parts():
        n = len(part.time_s)
        if inside:
            yield "event_page", _page(record, stream, part, sorted(inside), first)
        if outside := sorted(stream.fields.keys() - inside):
            assert part.file is not None  # what is filed lies in a file
            digest = hashlib.sha256(read_regular(part.file)).hexdigest()
            for name in outside:
                uid = _uid(record, f"{stream.name}/{name}/{part.file.name}")
                yield "stream_resource", _resource(uid, start, name, part.file, digest)
                yield "stream_datum", _datum(uid, descriptor, first, n)
        first += n


def _page(record: Record, stream: Stream, part: Part, names: list[str], first: int) -> Document:
    n, times = len(part.time_s), part.time_s.tolist()
    return {
        "descriptor": _uid(record, stream.name),
        "uid": [_uid(record, f"{stream.name}/{first + i}") for i in range(n)],
        "seq_num": list(range(first + 1, first + n + 1)),
        "time": times,
        "data": {name: json_rows(part.arrays[name]) for name in names},
        "timestamps": dict.fromkeys(names, times),
    }


def _resource(uid: str, start: str, name: str, file: Path, sha256: str) -> Document:
    return {
        "uid": uid,
        "run_start": start,
        "data_key": name,
        "mimetype": "application/x-hdf5",
        "uri": file_uri(file),
        "parameters": {"dataset": name, "swmr": False, "sha256": sha256},
    }


def _datum(resource: str, descriptor: str, first: int, n: int) -> Document:
    return {
        "uid": f"{resource}/0",
        "stream_resource": resource,
        "descriptor": descriptor,
        "indices": {"start": first, "stop": first + n},
        "seq_nums": {"start": first + 1, "stop": first + n + 1},
    }


def file_uri(file: Path) -> str:
    """The address of a file as catalogues write it: ``file://localhost/…``, what is special in it escaped."""
    return "file://localhost/" + quote(file.resolve().as_posix().lstrip("/"), safe="/:")


def json_rows(array: Array) -> list[Any]:
    """An array as JSON has it: null for what is not a finite number."""
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        values = array.astype(object)
        values[~finite] = None
        return list(values.tolist())
    return list(array.tolist())


def _uid(record: Record, what: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{record.id}/{what}"))
