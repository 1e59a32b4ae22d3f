"""Runs and calibrations as labelled arrays of xarray: in memory, and as a netCDF-4 file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from groundwork.hdf5_stream import hdf5_stream
from labctl.doors.naming import record_of
from labctl.doors.packages import require_package
from labctl.doors.record import Field, Record, Stream, plain_name

if TYPE_CHECKING:
    import xarray

    from labctl.archive.reader import RunReader

INSTALL = "'labctl[xarray]'"
_ENGINE = "h5netcdf"


def to_xarray(what: RunReader | str | Path = "latest", runs: str | Path = "runs") -> xarray.DataTree:
    """Read a run or a calibration as labelled arrays: every value with its axes, its unit and what it means.

    A run has a group for each scan that was measured, for the devices' settings, the monitors and what each node has
    found; at the top are all metrics, by name. A calibration has its arrays at the top. Needs the extra ``xarray``.

    Parameters
    ----------
    what
        A run from `open_run`, or what ``labctl export`` understands: the end of a run's id, its folder, a bench's name,
        ``"latest"``; the file of a calibration or the beginning of its id.
    runs
        The archive.

    Raises
    ------
    UsageError
        When xarray is not installed, or nothing goes by this name.
    RunDamaged, ArtefactError
        When the data were altered or are incomplete.

    Examples
    --------
    >>> import labctl
    >>> calibration = labctl.to_xarray("bench.calib.h5")
    >>> calibration["gain_dn"].dims, calibration["gain_dn"].attrs["units"]
    (('output', 'input'), 'DN')
    """
    return tree_of(record_of(what, Path(runs)))


def write_netcdf(record: Record, path: Path) -> None:
    """Write a record into a file that is not there yet; ``xarray.open_dataset(path, group=…)`` reads it."""
    require_package(_ENGINE, INSTALL)
    with hdf5_stream(path) as stream:
        tree_of(record).to_netcdf(stream, engine=_ENGINE)


def tree_of(record: Record) -> xarray.DataTree:
    """A record as a tree: a data set for each of its streams; all of it is in memory."""
    require_package("xarray", INSTALL)
    import xarray

    if [stream.name for stream in record.streams] == ["calibration"]:
        top, below = _data_set(record.streams[0]), {}
    else:
        top = _metrics(record)
        below = {stream.name: _data_set(stream) for stream in record.streams}
    # no attributes: HDF5 takes none of more than 64 kB
    texts = {plain_name(name): ((), np.array(text, object)) for name, text in record.texts.items()}
    top.attrs |= {
        "title": record.title,
        "id": record.id,
        "outcome": record.outcome,
        "reason": record.reason,
        "not_held": "; ".join(record.not_held) or "nothing",
        **{plain_name(name): _attribute(value) for name, value in record.about.items()},
    }
    return xarray.DataTree.from_dict({"/": top, **below, "texts": xarray.Dataset(texts)})


def _data_set(stream: Stream) -> xarray.Dataset:
    """The rows of a stream, one below the other."""
    import xarray

    parts = list(stream.parts())
    variables, row = {}, [stream.row] if stream.row else []
    for name, field in stream.fields.items():
        values = np.concatenate([part.arrays[name] for part in parts])
        dims = [*row, *field.axes]
        variables[name] = (dims, values if stream.row else values.reshape(values.shape[1:]), _attributes(field))
    times = np.round(1e9 * np.concatenate([part.time_s for part in parts])).astype("datetime64[ns]")
    coordinates = {"time": (row, times if stream.row else times[0], {"long_name": "UTC"})}
    attributes = {
        "title": stream.title,
        **{plain_name(name): _attribute(value) for name, value in stream.about.items()},
    }
    return xarray.Dataset(variables, coordinates, attributes)


def _metrics(record: Record) -> xarray.Dataset:
    """The numbers that the nodes of a run have found, by name, with errors and limits as far as there are any."""
    import xarray

    rows = list(_metric_rows(record))
    names = [name for name, _, _, _ in rows]
    numbers = np.array([values for _, _, _, values in rows], np.float64).reshape(-1, 4)
    columns = ("value", "stderr", "limit_min", "limit_max")
    variables: dict[str, Any] = {name: ("metric", numbers[:, i]) for i, name in enumerate(columns)}
    variables["unit"] = ("metric", np.array([unit for _, _, unit, _ in rows], object))
    variables["node"] = ("metric", np.array([node for _, node, _, _ in rows], object))
    return xarray.Dataset(variables, {"metric": np.array(names, object)})


def _metric_rows(record: Record) -> Iterator[tuple[str, str, str, list[float]]]:
    for stream in record.streams:
        if not stream.name.startswith("result_"):
            continue
        (part,) = stream.parts()
        for name, field in stream.fields.items():
            beside = [field.stderr or "", f"{name}_limit_min", f"{name}_limit_max"]
            is_metric = field.dtype.kind == "f" and not name.endswith(("_stderr", "_limit_min", "_limit_max"))
            if is_metric and name != "duration_s":
                values = [float(part.arrays[n][0]) if n in part.arrays else np.nan for n in (name, *beside)]
                yield name, stream.name.removeprefix("result_"), field.unit, values


def _attributes(field: Field) -> dict[str, Any]:
    found = {"units": field.unit, "long_name": field.words, "ancillary_variables": field.stderr}
    return {name: value for name, value in found.items() if value}


def _attribute(value: Any) -> Any:
    """What a file's attribute can hold."""
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, str | int | float) else json.dumps(value, sort_keys=True)
