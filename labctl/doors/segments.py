"""The segments of a run as streams: what was read frame by frame, what the panels showed, what the monitors said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from labctl.archive.reader import RunReader
from labctl.archive.seal import SEGMENTS
from labctl.archive.segments import Segment, SegmentRow, read_segment
from labctl.bench.steps import AT_S, MONITOR, PANELS, VALUE
from labctl.doors.record import Array, Field, Part, Stream, column, described, free_name, plain_name, rows_of, unit_of
from labctl.errors import RunDamaged

CHANGES = ("changes", "changes_device_time_s")
_OF_ONE_SEGMENT = frozenset(
    {"block", "step", "device_s", "retried", "next_sequence", "next_device_time_s", "first_row", "schema", "kind"}
)
"""Attributes that differ from one segment of a stream to the next."""
_WHICH = ("check", "moment", "scan", "panel", "group", "tile")
"""Attributes that say of what the readings of a segment are."""
_LAST_S = 1e11
"""No clock of a run comes near the year 5000."""
_AXES = {
    "frames": ("row", "column"),
    "readings_dn": ("output",),
    "readings": ("output",),
    "display_levels": ("input",),
    "inputs": ("input",),
    "slm_levels": ("output", "input"),
    "weights": ("input",),
}
_SIGNALS = ("readings_dn", "readings", "frames", "rise_dn", "weights", "slm_levels")
_WORDS = {
    "readings_dn": "sum of the camera's counts over the region of each output",
    "display_levels": "gray level of each column of the display",
    "slm_levels": "gray level of each macropixel of the SLM",
    "slm_index": "row of the stream of SLM patterns that was on the SLM",
    "reference": "1 where the frame is a reference frame",
    "sequence": "number of the camera's frame, counted over the run",
    "saturated_fraction": "part of the pixels at full scale",
    "device_time_s": "start of exposure on the clock of the run",
    "rise_dn": "counts of the window, frame by frame, after the panel was given the second picture",
    "fall_dn": "the same after it was given the first one again",
}


@dataclass
class _Found:
    """What the segments of one stream have in common, gathered while they are read for the first time."""

    name: str
    title: str
    row: str
    fields: Mapping[str, Field]
    about: dict[str, Any]
    segments: list[SegmentRow] = field(default_factory=list)
    rows: int = 0
    patterns: list[int] = field(default_factory=list)


class Segments:
    """Reads a run's segments once, for what is small, and again for each stream that is asked for its rows.

    Parameters
    ----------
    run
        Of any kind, sealed or crashed.

    Raises
    ------
    RunDamaged
        When a segment is missing or altered, or retention has removed it.
    """

    def __init__(self, run: RunReader) -> None:
        self._run, self._folder = run, run.path / SEGMENTS
        self._found: dict[tuple[Any, ...], _Found] = {}
        self._names: set[str] = set()
        self._listed: list[dict[str, Any]] = []
        self._times: list[float] = []
        self._changes: list[tuple[str, Segment]] = []
        self._monitors: dict[tuple[str, str], tuple[list[Array], list[Array]]] = {}
        self._started_s = run.clock_epoch_s
        for segment in run.segments():
            self._look(segment)

    def streams(self) -> Iterator[Stream]:
        """Readings and frames in the order measured, then monitors, changes of the panels, and the list of segments."""
        for found in self._found.values():
            signal = next((name for name in _SIGNALS if name in found.fields), "") if found.row == "frame" else ""
            yield Stream(
                found.name,
                found.title,
                found.row,
                found.fields,
                found.rows,
                partial(self._parts, found),
                found.about,
                signal,
            )
        yield from self._monitor_streams()
        if any(len(segment.arrays[CHANGES[0]]) for _, segment in self._changes):
            yield self._change_stream()
        if self._listed:
            arrays = {name: column([line[name] for line in self._listed]) for name in self._listed[0]}
            fields = {name: described(array, unit=unit_of(name)) for name, array in arrays.items()}
            yield rows_of(
                free_name("segments", self._names),
                "the sealed files that the readings are from",
                "segment",
                arrays,
                fields,
                np.array(self._times),
            )

    def _look(self, segment: Segment) -> None:
        """Note of a segment what is small, and which stream each of its arrays belongs to."""
        names = []
        for part in _separated(segment):
            found = self._stream_of(segment, part)
            found.segments.append(segment.row)
            found.rows += len(next(iter(part.values())))
            for key in [key for key, value in found.about.items() if _plain(segment.attrs.get(key)) != value]:
                del found.about[key]  # not the same in all of its segments
            names.append(found.name)
            if "slm_levels" not in part:
                found.patterns.append(len(segment.arrays.get("slm_levels", ())))
        if CHANGES[0] in segment.arrays:
            kept = {name: segment.arrays[name] for name in CHANGES}
            self._changes.append((names[0] if names else "", replace(segment, arrays=kept)))
        self._note_monitors(segment)
        attrs, row = segment.attrs, segment.row
        self._times.append(self._end_s(segment))
        self._listed.append(
            {
                "file": row.file,
                "stream": names[0] if names else "",
                "rows": row.rows,
                "bytes": row.bytes,
                "sha256": row.sha256,
                "origin": row.origin or "",
                "shift_s": float(row.shift_s),
                "step": str(attrs.get("step", "")),
                "lit": str(attrs["lit"]).lower() if "lit" in attrs else "",
                "retried": int(attrs.get("retried", 0)),
            }
        )

    def _stream_of(self, segment: Segment, part: Mapping[str, Array]) -> _Found:
        attrs = segment.attrs
        which = {name: _plain(attrs[name]) for name in _WHICH if name in attrs}
        shapes = tuple((name, array.dtype.str, array.shape[1:]) for name, array in sorted(segment.arrays.items()))
        key = (segment.row.kind, repr(which), shapes, *sorted(part))
        if key not in self._found:
            words = [str(which.get("scan", segment.row.kind))]
            words += [f"{name}_{which[name]}" for name in ("check", "moment", "panel") if name in which]
            words += [f"group_{which['group']}"] if "group" in which else []
            patterns = set(part) == {"slm_levels"}
            name = free_name("_".join([*words, *(["slm"] if patterns else [])]), self._names)
            self._names.add(name)
            fields = {
                n: described(
                    a,
                    _AXES.get(n, ()),
                    _unit(n, attrs),
                    words=_WORDS.get(n, ""),
                    filed=n != "slm_index" and segment.arrays[n].dtype == a.dtype,
                )
                for n, a in part.items()
            }
            about = {
                n: _plain(v)
                for n, v in attrs.items()
                if n not in _OF_ONE_SEGMENT and not n.startswith(MONITOR) and n != "unit"
            }
            title = f"{'patterns on the SLM during ' if patterns else ''}{' '.join(words).replace('_', ' ')}"
            row = "pattern" if patterns else "output" if set(part) == {"weights"} else "frame"
            self._found[key] = _Found(name, title, row, fields, about)
        return self._found[key]

    def _parts(self, found: _Found) -> Iterator[Part]:
        """The rows of a stream, segment by segment, each checked against its hash again."""
        offset = 0
        for i, row in enumerate(found.segments):
            segment = read_segment(self._folder, row)
            arrays = dict(next(part for part in _separated(segment) if part.keys() == found.fields.keys()))
            if "slm_index" in arrays:
                arrays["slm_index"] = arrays["slm_index"] + offset
                offset += found.patterns[i]
            yield Part(self._row_times(segment, arrays), arrays, self._folder / row.file)

    def _row_times(self, segment: Segment, arrays: Mapping[str, Array]) -> Array:
        """When each row was read; the end of its segment where the frames have no times of their own."""
        if "device_time_s" in arrays:
            return self._epoch_s(np.asarray(arrays["device_time_s"], np.float64), segment.row)
        return np.full(len(next(iter(arrays.values()))), self._end_s(segment))

    def _end_s(self, segment: Segment) -> float:
        at_s = float(segment.attrs.get("next_device_time_s", 0.0))
        return float(self._epoch_s(np.array(at_s), segment.row))

    def _epoch_s(self, device_time_s: Array, row: SegmentRow) -> Array:
        at_s = self._started_s + device_time_s + row.shift_s
        if at_s.ndim > 1 or not (np.abs(at_s) < _LAST_S).all():
            raise RunDamaged(
                "a segment has frames of no time",
                device=str(self._folder / row.file),
                expected="seconds of the run's clock",
                seen=f"{np.max(np.abs(at_s), initial=0.0):g} s since 1970, shape {at_s.shape}",
                hint=f"labctl run verify {self._run.run_id.rpartition('-')[2]}",
            )
        return at_s

    def _note_monitors(self, segment: Segment) -> None:
        for name, values in segment.arrays.items():
            if name.startswith(MONITOR) and name.endswith(VALUE):
                monitor = name.removeprefix(MONITOR).removesuffix(VALUE)
                unit = str(segment.attrs.get(f"{MONITOR}{monitor}_unit", "1"))
                times, kept = self._monitors.setdefault((monitor, unit), ([], []))
                times.append(self._epoch_s(segment.arrays[f"{MONITOR}{monitor}{AT_S}"], segment.row))
                kept.append(values)

    def _monitor_streams(self) -> Iterator[Stream]:
        for (monitor, unit), (times, values) in self._monitors.items():
            name = free_name(f"{MONITOR}{monitor}", self._names)
            self._names.add(name)
            arrays = {plain_name(monitor): np.concatenate(values)}
            fields = {key: described(array, unit=unit) for key, array in arrays.items()}
            title = f"readings of the monitor {monitor}"
            yield rows_of(name, title, "reading", arrays, fields, np.concatenate(times), signal=plain_name(monitor))

    def _change_stream(self) -> Stream:
        """What the panels were given, and before which frame."""
        rows = [(name, segment) for name, segment in self._changes if len(segment.arrays[CHANGES[0]])]
        changes = np.concatenate([segment.arrays[CHANGES[0]] for _, segment in rows])
        times = [self._epoch_s(segment.arrays[CHANGES[1]], segment.row) for _, segment in rows]
        arrays = {
            "panel": column([PANELS[panel] for panel in changes[:, 0]]),
            "picture": changes[:, 1],
            "before_sequence": changes[:, 2],
            "stream": column([name for name, segment in rows for _ in segment.arrays[CHANGES[0]]]),
            "file": column([segment.row.file for _, segment in rows for _ in segment.arrays[CHANGES[0]]]),
        }
        words = {
            "picture": "number of the picture among those of the step that the file holds",
            "before_sequence": "number of the first frame that could show it",
        }
        fields = {name: described(array, words=words.get(name, "")) for name, array in arrays.items()}
        title = "pictures that the panels were given"
        return rows_of(free_name("changes", self._names), title, "change", arrays, fields, np.concatenate(times))


def _separated(segment: Segment) -> Iterator[dict[str, Array]]:
    """The arrays of a segment that have a row for each of its frames; and those that have not, each by itself."""
    arrays = {
        name: _usual(name, array)
        for name, array in segment.arrays.items()
        if name not in CHANGES and not name.startswith(MONITOR)
    }
    frames = _frames(arrays)
    of_frames = {name: array for name, array in arrays.items() if name != "slm_levels" and len(array) == frames}
    if of_frames:
        yield of_frames
    yield from ({name: array} for name, array in arrays.items() if name not in of_frames)


def _usual(name: str, array: Array) -> Array:
    """With a row at least, bytes as text, and indices with room for those of all segments together."""
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace").astype(object)
    return np.atleast_1d(array.astype(np.int64) if name == "slm_index" else array)


def _frames(arrays: Mapping[str, Array]) -> int:
    first = next((arrays[name] for name in _SIGNALS if name in arrays), None)
    return len(first if first is not None else next(iter(arrays.values()), ()))


def _unit(name: str, attrs: Mapping[str, Any]) -> str:
    """Of an array; imported readings have the unit that the import was told."""
    return str(attrs["unit"]) if name == "readings" and "unit" in attrs else unit_of(name)


def _plain(value: Any) -> Any:
    """An attribute of HDF5 as a JSON type."""
    if isinstance(value, bytes):
        return value.decode()
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
