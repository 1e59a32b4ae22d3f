"""Texts of variable length in an HDF5 file, looked at byte by byte before the library reads them.

The library believes the length that an attribute states and makes room for it, up to 4 GB; and in a damaged heap of
texts it searches for ever. Offsets are those of the HDF5 file format specification, version 3.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator

from groundwork.errors import FileRefused

Texts = dict[tuple[int, int], int]
"""(address of the heap, number in it) → length [B]."""

_HEAP = b"GCOL\x01\0\0\0"
_CONTINUATION, _ATTRIBUTE, _ATTRIBUTE_INFO = 0x10, 0x0C, 0x15
_NOWHERE = 2**64 - 1
_VARIABLE = 9


def require_whole_heaps(raw: bytes, path: str | os.PathLike[str]) -> Texts:
    """What the heaps of a file hold.

    Raises
    ------
    FileRefused
        When the entries of a heap do not fill it.
    """
    texts: Texts = {}
    at = raw.find(_HEAP)
    while at >= 0:
        end = at + int.from_bytes(raw[at + 8 : at + 16], "little")
        place = at + 16
        while place + 16 <= end <= len(raw):
            number = int.from_bytes(raw[place : place + 2], "little")
            size = int.from_bytes(raw[place + 8 : place + 16], "little")
            step = 16 + (size + 7) // 8 * 8 if number else size
            if step < 16:
                break
            texts[at, number] = size
            place += step
        if end > len(raw) or not end - 16 < place <= end:
            raise _damaged(path, "the heap of the file's texts is damaged", f"byte {place}")
        at = raw.find(_HEAP, end)  # never inside of it: what is hidden there has no texts
    return texts


def require_texts(raw: bytes, objects: Iterable[int], texts: Texts, path: str | os.PathLike[str]) -> None:
    """Refuse an attribute whose text is longer than what its heap holds under that number.

    Parameters
    ----------
    objects
        Addresses of the headers of all groups and datasets.
    texts
        As of `require_whole_heaps`.

    Raises
    ------
    FileRefused
    """
    try:
        for message in _attributes(raw, objects):
            _require_text(message, texts, path)
    except FileRefused:
        raise
    except (struct.error, IndexError, ValueError) as error:
        what = "the attributes of the file are damaged, or kept in a way that is not read here"
        raise _damaged(path, what, str(error)) from error


def _require_text(message: bytes, texts: Texts, path: str | os.PathLike[str]) -> None:
    version, flags, name, kind, space = struct.unpack_from("<BBHHH", message)
    if version not in (1, 2, 3) or (flags & 1 and version > 1):
        raise ValueError(f"version {version}, flags {flags}")
    start = 9 if version == 3 else 8
    name, kind_padded, space = ((n + 7) // 8 * 8 if version == 1 else n for n in (name, kind, space))
    if message[start + name] & 0x0F != _VARIABLE:
        return
    values = message[start + name + kind_padded + space :]
    for at in range(0, len(values) - 15, 16):
        length, heap, number = struct.unpack_from("<IQI", values, at)
        if length > texts.get((heap, number), 0):
            raise _damaged(path, "a text is longer than what is stored", f"{length} bytes")


def _attributes(raw: bytes, objects: Iterable[int]) -> Iterator[bytes]:
    """The attribute messages of the objects whose headers lie at these addresses; no byte is looked at twice."""
    left = len(raw)
    for address in objects:
        second = raw[address : address + 4] == b"OHDR"
        waiting = [_first_chunk(raw, address, second)]
        tracked = second and raw[address + 5] & 0x04
        form, extra = ("<BHB", 2 if tracked else 0) if second else ("<HHB", 3)
        head = struct.calcsize(form) + extra
        while waiting:
            at, end = waiting.pop()
            left -= max(0, end - at)
            if end > len(raw) or left < 0:
                raise ValueError(f"a header ends at byte {end}, or headers overlap")
            while at + head <= end:
                kind, size, _ = struct.unpack_from(form, raw, at)
                message = raw[at + head : at + head + size]
                at += head + size
                if kind == _CONTINUATION:
                    further, longer = struct.unpack_from("<QQ", message)
                    waiting.append((further + 4, further + longer - 4) if second else (further, further + longer))
                elif kind == _ATTRIBUTE:
                    yield message
                elif kind == _ATTRIBUTE_INFO:
                    (heap,) = struct.unpack_from("<Q", message, 4 if message[1] & 1 else 2)
                    if heap != _NOWHERE:
                        raise ValueError("attributes that are kept in a heap of their own")


def _first_chunk(raw: bytes, address: int, second: bool) -> tuple[int, int]:
    """Where the messages of a header begin and end; ``second`` is the younger of its two versions."""
    if not second:
        start = address + 16
        return start, start + int(struct.unpack_from("<I", raw, address + 8)[0])
    flags = raw[address + 5]
    start = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    return start + width, start + width + int.from_bytes(raw[start : start + width], "little")


def _damaged(path: str | os.PathLike[str], what: str, seen: str) -> FileRefused:
    return FileRefused(what, device=str(path), expected="a whole HDF5 file", seen=seen)
