"""Named arrays with a JSON header on disk, twice: HDF5 and safetensors. Nothing in either file is ever executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from calibration.errors import ArtefactError
from groundwork.files import whole_file, write_whole

Float = NDArray[np.float64]

UNREADABLE = (OSError, RuntimeError, SafetensorError, KeyError, TypeError, ValueError)
"""What the libraries raise at a file that is missing, truncated, or none of theirs."""


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

    with whole_file(full) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["schema"] = header["schema"]
        # of fixed length: HDF5 can hang on a damaged heap of variable-length strings
        file.attrs["header"] = np.bytes_(text.encode())
        for name, array in arrays.items():
            file.create_dataset(name, data=array).attrs["unit"] = units[name]
        if more is not None:
            more(file)
    write_whole(twin, safetensors_bytes(dict(arrays), {"calibration": text}))
    return full, twin


def read_tensors(path: Path, schema: str, hint: str) -> tuple[dict[str, Any], dict[str, Float]]:
    """Header and arrays of either form; schema and finiteness are checked, the id is the caller's to compare.

    Raises
    ------
    ArtefactError
        When the file is missing, truncated, of another schema, or holds numbers that are not finite.
    """
    try:
        header, arrays = _read_h5(path) if path.suffix == ".h5" else _read_safetensors(path)
    except UNREADABLE as error:
        raise _unreadable(path, error, hint) from error
    if not isinstance(header, dict) or header.get("schema") != schema:
        raise ArtefactError(
            "calibration of another schema",
            device=str(path),
            expected=schema,
            seen=str(header.get("schema") if isinstance(header, dict) else header),
            hint=hint,
        )
    bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if bad:
        raise ArtefactError(
            "arrays are not finite", device=str(path), expected="finite numbers", seen=", ".join(bad), hint=hint
        )
    return header, arrays


def read_schema(path: Path, hint: str) -> str:
    """Schema of either form; no array is read, and empty where the header names none.

    Raises
    ------
    ArtefactError
        When the file is missing or has no header.
    """
    try:
        if path.suffix == ".h5":
            with h5py.File(path, "r") as file:
                header = json.loads(file.attrs["header"])
        else:
            with safe_open(path, framework="numpy") as twin:
                header = json.loads((twin.metadata() or {})["calibration"])
    except UNREADABLE as error:
        raise _unreadable(path, error, hint) from error
    return str(header.get("schema", "")) if isinstance(header, dict) else ""


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


def _read_h5(path: Path) -> tuple[dict[str, Any], dict[str, Float]]:
    with h5py.File(path, "r") as file:
        arrays = {n: np.asarray(d[()], np.float64) for n, d in file.items() if isinstance(d, h5py.Dataset)}
        return json.loads(file.attrs["header"]), arrays


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Float]]:
    with safe_open(path, framework="numpy") as file:
        arrays = {name: np.asarray(file.get_tensor(name), np.float64) for name in file.keys()}  # noqa: SIM118
        return json.loads((file.metadata() or {})["calibration"]), arrays
