"""Named arrays with a JSON header on disk, twice: HDF5 and safetensors. Nothing in either file is ever executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as safetensors_bytes

from calibration.errors import ArtefactError
from groundwork.files import whole_file, write_whole
from groundwork.hdf5_stream import hdf5_stream
from groundwork.opening.hdf5 import BROKEN, Hdf5, read_hdf5, root_attributes
from groundwork.opening.json_text import parse_json
from groundwork.opening.tensors import read_header as read_safetensors_header
from groundwork.opening.tensors import read_safetensors

Float = NDArray[np.float64]

UNREADABLE = BROKEN
"""What is raised at a file that is missing, truncated, or none of the two forms."""
REGISTRATIONS_SHA256 = "registrations_sha256"
_ATTRIBUTES = {"schema", "header", REGISTRATIONS_SHA256}


def content_id(prefix: str, document: Mapping[str, Any], arrays: Mapping[str, Float]) -> str:
    """``prefix-`` and 16 hexadecimal digits of the SHA-256 over header and arrays."""
    digest = hashlib.sha256(canonical(document).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}{array.shape}{array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return f"{prefix}-{digest.hexdigest()[:16]}"


def write_tensors(
    folder: Path,
    header: Mapping[str, Any],
    arrays: Mapping[str, Float],
    units: Mapping[str, str],
    more: Callable[[h5py.File], None] | None = None,
) -> tuple[Path, Path]:
    """Write ``<id>.calib.h5`` and ``<id>.calib.safetensors``, id and schema by the header; return both paths.

    Each file appears under its name only when it is complete.

    Parameters
    ----------
    units
        Unit of each array, by name; the HDF5 file states it as an attribute.
    more
        Writes into the open HDF5 file what only that file holds.
    """
    text = canonical(header)
    full, twin = (folder / f"{header['id']}.calib.{ending}" for ending in ("h5", "safetensors"))

    with (
        whole_file(full) as temporary,
        hdf5_stream(temporary) as stream,
        h5py.File(stream, "w", libver=("earliest", "v110")) as file,
    ):
        file.attrs["schema"] = header["schema"]
        # of fixed length: HDF5 can hang on a damaged heap of variable-length strings
        file.attrs["header"] = np.bytes_(text.encode())
        for name, array in arrays.items():
            file.create_dataset(name, data=array).attrs["unit"] = units[name]
        if more is not None:
            more(file)
    write_whole(twin, safetensors_bytes(dict(arrays), {"calibration": text}))
    return full, twin


@dataclass(frozen=True)
class Stored:
    """What a file of either form holds, as it is there.

    Attributes
    ----------
    header
        The JSON header.
    arrays
        Every array, float64.
    units
        Unit of each array that states one; those of the safetensors form do not.
    more
        The whole HDF5 file, for what only that form holds; None for the other.
    """

    header: dict[str, Any]
    arrays: dict[str, Float]
    units: Mapping[str, str] = field(default_factory=dict)
    more: Hdf5 | None = None


def read_tensors(path: Path, schema: str, hint: str) -> Stored:
    """Either form; schema, types and finiteness are checked, the id is the caller's to compare.

    Raises
    ------
    ArtefactError
        When the file is missing, truncated, of another schema, no regular file, leads out of itself, or holds what is
        no finite float64.
    """
    try:
        stored = _read_h5(path) if path.suffix == ".h5" else _read_safetensors(path)
    except UNREADABLE as error:
        raise _unreadable(path, error, hint) from error
    if stored.header.get("schema") != schema:
        raise ArtefactError(
            "calibration of another schema",
            device=str(path),
            expected=schema,
            seen=str(stored.header.get("schema")),
            hint=hint,
        )
    bad = [name for name, array in stored.arrays.items() if not np.isfinite(array).all()]
    if bad:
        raise ArtefactError(
            "arrays are not finite", device=str(path), expected="finite numbers", seen=", ".join(bad), hint=hint
        )
    return stored


def read_header(path: Path, hint: str) -> dict[str, Any]:
    """The JSON header of either form; no array is read.

    Raises
    ------
    ArtefactError
        When the file is missing or has no header.
    """
    try:
        if path.suffix == ".h5":
            return _header(root_attributes(path).get("header"), path)
        return _header(read_safetensors_header(path).metadata.get("calibration"), path)
    except UNREADABLE as error:
        raise _unreadable(path, error, hint) from error


def check_whole(path: Path, stored: Stored, header: Mapping[str, Any], units: Mapping[str, str], hint: str) -> None:
    """Refuse a file that holds anything but what was read from it, or whose content does not have its id.

    Parameters
    ----------
    header
        As it would be written again, id included.
    units
        Unit of each array that belongs there.

    Raises
    ------
    ArtefactError
    """
    names = set(units)
    if set(stored.arrays) != names:
        raise ArtefactError(
            "arrays that do not belong there, or are missing",
            device=str(path),
            expected=", ".join(sorted(names)),
            seen=", ".join(sorted(set(stored.arrays) ^ names)),
            hint=hint,
        )
    check_id(path, stored.header, str(header["id"]), hint)
    if canonical(stored.header) != canonical(header):
        other = sorted(key for key in stored.header.keys() | header.keys() if stored.header.get(key) != header.get(key))
        raise ArtefactError(
            "the header holds what does not belong there",
            device=str(path),
            expected="the keys of its schema",
            seen=", ".join(other),
            hint=hint,
        )
    if other := [f"{name}: {unit!r}" for name, unit in stored.units.items() if unit != units[name]]:
        raise ArtefactError(
            "units were altered", device=str(path), expected="those of its schema", seen=", ".join(other), hint=hint
        )


def check_id(path: Path, header: Mapping[str, Any], found: str, hint: str) -> None:
    """Refuse a file whose content does not have the id that its header states.

    Raises
    ------
    ArtefactError
    """
    if found != header.get("id"):
        raise ArtefactError(
            "content does not match its id: the file was altered",
            device=str(path),
            expected=str(header.get("id")),
            seen=found,
            hint=hint,
        )


def canonical(document: Mapping[str, Any]) -> str:
    """JSON text that equal documents share."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _unreadable(path: Path, error: BaseException, hint: str) -> ArtefactError:
    reason = "does not exist" if not path.exists() else "cannot be read as a calibration"
    return ArtefactError(f"{path.name} {reason}", device=str(path), seen=str(error), hint=hint)


def _header(text: object, path: Path) -> dict[str, Any]:
    header = parse_json(text, path) if isinstance(text, bytes | str) else None
    if not isinstance(header, dict):
        raise ValueError("it has no header")
    return header


def _read_h5(path: Path) -> Stored:
    file = read_hdf5(path)
    if bad := file.attrs.keys() - _ATTRIBUTES:
        raise ValueError(f"attributes that do not belong there: {', '.join(sorted(bad))}")
    header = _header(file.attrs.get("header"), path)
    if "schema" in file.attrs and file.attrs["schema"] != header.get("schema"):
        raise ValueError("its attribute schema is not that of its header")
    arrays, units = {}, {}
    for name, data in file.datasets.items():
        if "/" in name:
            continue
        if data.attrs.keys() - {"unit"} or data.values.dtype != np.float64:
            raise ValueError(f"{name} is {data.values.dtype} with {', '.join(data.attrs)}, not float64 with its unit")
        arrays[name] = data.values
        if data.attrs:
            units[name] = str(data.attrs["unit"])
    return Stored(header, arrays, units, file)


def _read_safetensors(path: Path) -> Stored:
    metadata, arrays = read_safetensors(path)
    if metadata.keys() != {"calibration"}:
        raise ValueError(f"metadata {', '.join(metadata) or 'missing'}, not calibration")
    if bad := [name for name, array in arrays.items() if array.dtype != np.float64]:
        raise ValueError(f"{', '.join(bad)}: not float64")
    return Stored(_header(metadata["calibration"], path), arrays)
