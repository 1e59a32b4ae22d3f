"""Look through the header of a GGUF model before a library believes it: counts, lengths and offsets fit the file."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from groundwork.errors import FileRefused
from groundwork.opening.regular import open_regular

MOST_HEADER_BYTES = 2**28
MOST_KEYS = 10_000
MOST_TENSORS = 100_000
MOST_TEXTS = 2_000_000
MOST_AXES = 4
_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)


@dataclass(frozen=True)
class GgufHeader:
    """What the header says.

    Attributes
    ----------
    values
        Key → number, text, or, of an array, how many entries it has.
    tensors
        Name → shape, in the order of the file.
    """

    values: Mapping[str, Any]
    tensors: Mapping[str, tuple[int, ...]]


def read_gguf_header(path: str | os.PathLike[str]) -> GgufHeader:
    """The header of a GGUF file; no tensor is read.

    Raises
    ------
    FileRefused
        No regular file, not GGUF, or a count, a length or an offset that does not fit the file.
    OSError
        There is nothing, or it may not be read.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        walk = _Walk(stream.read(min(size, MOST_HEADER_BYTES)), path)
    if walk.raw[:4] != b"GGUF":
        raise walk.refused("not a GGUF file", "the letters GGUF at its start", repr(walk.raw[:4]))
    walk.at = 4
    if (version := walk.number("<I")) not in _VERSIONS:
        raise walk.refused("a GGUF version that is not read", " or ".join(map(str, _VERSIONS)), str(version))
    tensors, keys = walk.count(MOST_TENSORS, "tensors"), walk.count(MOST_KEYS, "keys")
    values: dict[str, Any] = {}
    for _ in range(keys):
        name = walk.text()
        if name in values:
            raise walk.refused(f"the key {name!r} stands twice", "each key once", "two values")
        values[name] = walk.value()
    shapes, furthest = {}, 0
    for _ in range(tensors):
        name = walk.text()
        axes = walk.number("<I")
        if not 1 <= axes <= MOST_AXES or name in shapes:
            raise walk.refused(
                f"tensor {name!r} cannot be", f"one to {MOST_AXES} axes, and each name once", f"{axes} axes"
            )
        shape = tuple(int(walk.number("<Q")) for _ in range(axes))
        walk.number("<I")
        if min(shape) < 1 or math.prod(shape) > 16 * size:
            raise walk.refused(
                f"tensor {name!r} is larger than the file", f"{size} bytes", f"{math.prod(shape)} numbers"
            )
        shapes[name], furthest = shape, max(furthest, int(walk.number("<Q")))
    if walk.at + furthest > size:
        raise walk.refused("a tensor lies behind the end of the file", f"{size} bytes", f"{walk.at + furthest}")
    return GgufHeader(values, shapes)


class _Walk:
    """Goes through the bytes of a header, and never beyond its end."""

    def __init__(self, raw: bytes, path: str | os.PathLike[str]) -> None:
        self.raw, self.path, self.at = raw, path, 0

    def number(self, form: str) -> Any:
        size = struct.calcsize(form)
        if self.at + size > len(self.raw):
            raise self.refused("the GGUF file is truncated", "a whole header", f"its end at byte {len(self.raw)}")
        (found,) = struct.unpack_from(form, self.raw, self.at)
        self.at += size
        return found

    def count(self, most: int, what: str) -> int:
        found = int(self.number("<Q"))
        if found > most:
            raise self.refused(f"too many {what}", f"at most {most}", str(found))
        return found

    def text(self) -> str:
        length = int(self.number("<Q"))
        if length > len(self.raw) - self.at:
            raise self.refused("a text is longer than the file", f"{len(self.raw) - self.at} bytes", f"{length} bytes")
        self.at += length
        try:
            return self.raw[self.at - length : self.at].decode()
        except UnicodeDecodeError as error:
            raise self.refused("a text is not UTF-8", "UTF-8", str(error)) from error

    def value(self) -> Any:
        kind = int(self.number("<I"))
        if kind == _STRING:
            return self.text()
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind != _ARRAY:
            raise self.refused("a value of an unknown type", "a number, a text or an array", f"type {kind}")
        inner, length = int(self.number("<I")), int(self.number("<Q"))
        if inner == _STRING:
            if length > min(MOST_TEXTS, (len(self.raw) - self.at) // 8):
                raise self.refused("an array is longer than the file", "what the file holds", f"{length} texts")
            for _ in range(length):
                self.text()
        elif inner in _NUMBERS:
            nbytes = length * struct.calcsize(_NUMBERS[inner])
            if nbytes > len(self.raw) - self.at:
                raise self.refused("an array is longer than the file", "what the file holds", f"{nbytes} bytes")
            self.at += nbytes
        else:
            raise self.refused("an array of arrays, or of an unknown type", "numbers or texts", f"type {inner}")
        return length

    def refused(self, what: str, expected: str, seen: str) -> FileRefused:
        return FileRefused(what, device=str(self.path), expected=expected, seen=seen)
