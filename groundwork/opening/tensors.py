"""Read safetensors: the header is checked number by number against the length of the file before a tensor is read."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundwork.errors import FileRefused
from groundwork.opening.json_text import parse_json
from groundwork.opening.regular import MOST_BYTES, open_regular

MOST_TENSOR_BYTES = 2**34
"""The most that a file of model weights may have; it is read tensor by tensor."""
MOST_HEADER_BYTES = 2**25
MOST_TENSORS = 100_000
MOST_AXES = 8
DTYPES: Mapping[str, str] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
"""Types that are read, and what numpy calls them."""
_BYTES = {name: int(dtype[-1]) for name, dtype in DTYPES.items()} | {"BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}


@dataclass(frozen=True)
class Tensor:
    """What the header says of one tensor: its type, its shape, and where its bytes begin and end."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """The header of a safetensors file, whose tensors lie one behind the other and fill the file."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, Tensor]
    bytes: int


def read_header(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> Header:
    """The header, checked against the length of the file; no tensor is read.

    Raises
    ------
    FileRefused
        No regular file, too large, truncated, or a header that does not fit the file.
    OSError
        There is nothing, or it may not be read.
    """
    with open_regular(path) as stream:
        return _header(stream, path, most_bytes)


def read_safetensors(
    path: str | os.PathLike[str], most_bytes: int = MOST_BYTES
) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and tensors, as numpy arrays of the types in `DTYPES`.

    Raises
    ------
    FileRefused
        As of `read_header`, and for a type that is not among them.
    OSError
        There is nothing, or it may not be read.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with open_regular(path) as stream:
        header = _header(stream, path, most_bytes)
        for name, tensor in header.tensors.items():
            if tensor.dtype not in DTYPES:
                raise _refused(
                    path, f"tensor {name!r} is of a type that is not read", " or ".join(DTYPES), tensor.dtype
                )
            stream.seek(header.bytes + tensor.begin)
            data = stream.read(tensor.end - tensor.begin)
            if len(data) != tensor.end - tensor.begin:
                raise _refused(path, "the file became shorter while it was read", f"all of {name!r}", "its end")
            arrays[name] = np.frombuffer(bytearray(data), DTYPES[tensor.dtype]).reshape(tensor.shape)
    return dict(header.metadata), arrays


def _header(stream: io.BufferedReader, path: str | os.PathLike[str], most_bytes: int) -> Header:
    size = os.fstat(stream.fileno()).st_size
    if size > most_bytes:
        raise _refused(path, "the file is too large", f"at most {most_bytes / 1e6:.4g} MB", f"{size / 1e6:.4g} MB")
    length = int.from_bytes(stream.read(8), "little")
    if size < 10 or length > min(size - 8, MOST_HEADER_BYTES):
        seen = f"a header of {length} bytes in {size}"
        raise _refused(path, "not a whole safetensors file", "a header that lies in the file", seen)
    document = parse_json(stream.read(length), path)
    if not isinstance(document, dict):
        raise _refused(path, "not a safetensors file", "a JSON object as its header", type(document).__name__)
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _refused(path, "the metadata are none", "texts by name", str(metadata)[:100])
    if len(document) > MOST_TENSORS:
        raise _refused(path, "too many tensors", f"at most {MOST_TENSORS}", str(len(document)))
    tensors = {name: _tensor(name, entry, path) for name, entry in document.items()}
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != end:
            raise _refused(
                path, f"tensor {name!r} does not begin where the one before ends", str(end), str(tensor.begin)
            )
        end = tensor.end
    if 8 + length + end != size:
        raise _refused(path, "not as long as its header says", f"{8 + length + end} bytes", f"{size} bytes")
    return Header(metadata, tensors, 8 + length)


def _tensor(name: str, entry: Any, path: str | os.PathLike[str]) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _refused(path, f"tensor {name!r} is not described", "dtype, shape and data_offsets", str(entry)[:100])
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    whole = isinstance(shape, list) and isinstance(offsets, list) and len(shape) <= MOST_AXES and len(offsets) == 2
    if not whole or not all(type(n) is int and 0 <= n < 2**62 for n in (*shape, *offsets)) or dtype not in _BYTES:
        raise _refused(
            path, f"tensor {name!r} has no type and shape", "whole numbers and a known type", str(entry)[:100]
        )
    begin, end = offsets
    if end - begin != math.prod(shape) * _BYTES[dtype]:
        expected = f"{math.prod(shape) * _BYTES[dtype]} bytes for {dtype} {tuple(shape)}"
        raise _refused(path, f"tensor {name!r} is not as long as its shape says", expected, f"{end - begin} bytes")
    return Tensor(dtype, tuple(shape), begin, end)


def _refused(path: str | os.PathLike[str], what: str, expected: str, seen: str) -> FileRefused:
    return FileRefused(what, device=str(path), expected=expected, seen=seen)
