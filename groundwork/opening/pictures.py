"""Look at the header of a PNG or TIFF picture before a library unpacks it: a few bytes can announce gigabytes."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import IO

from groundwork.errors import FileRefused

MOST_PAGES = 100_000
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 4: 2, 2: 3, 6: 4}
_TIFF = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
"""First bytes of a TIFF file → its byte order, and whether its numbers are long ones (BigTIFF)."""
_MOST_TAGS = 4096
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _CHANNELS = 256, 257, 258, 259, 277
_LOSSY = {6: "JPEG", 7: "JPEG", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000"} | {
    50001: "WebP"
}
_JPEG = b"\xff\xd8\xff"
_FORMS = {1: "B", 3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True)
class Header:
    """What a picture says of itself: shape (rows, columns) [px], bits of a channel, channels, pages of that kind."""

    shape: tuple[int, int]
    bits: int
    channels: int = 1
    pages: int = 1

    @property
    def nbytes(self) -> int:
        """What all pages unfold to [B]."""
        return self.pages * self.shape[0] * self.shape[1] * self.channels * max(1, self.bits // 8)


def picture_header(stream: IO[bytes], path: str | os.PathLike[str] = "") -> Header:
    """The header of the picture that a stream begins with; of several pages, all have to be alike.

    Raises
    ------
    FileRefused
        No PNG or TIFF file, only part of one, a ring of pages, or pages that differ.
    """
    start = stream.read(26)
    try:
        if start.startswith(_PNG):
            columns, rows, bits, colour = struct.unpack(">IIBB", start[16:])
            _require_whole_chunks(stream, path)
            return Header((rows, columns), bits, _PNG_CHANNELS.get(colour, 3))
        if start.startswith(_JPEG):
            raise _lossy(path, "JPEG")
        if start[:4] not in _TIFF:
            raise _refused(path, "not a PNG or TIFF file", repr(start[:8]))
        return _tiff(stream, *_TIFF[start[:4]], path)
    except struct.error as error:
        raise _refused(path, "only part of a picture", str(error)) from error


def _require_whole_chunks(stream: IO[bytes], path: str | os.PathLike[str]) -> None:
    """A library makes room for as many bytes as a piece of a PNG file says that it has."""
    size, at = stream.seek(0, os.SEEK_END), len(_PNG)
    while at < size:
        stream.seek(at)
        length, kind = struct.unpack(">I4s", stream.read(8))
        at += 12 + length
        if at > size:
            raise _refused(path, "only part of a picture", f"{length} bytes of {kind!r}, {at - size} of them missing")
        if kind == b"IEND":
            return


def _tiff(stream: IO[bytes], order: str, large: bool, path: str | os.PathLike[str]) -> Header:
    pointer, count, size = ("Q", "Q", 20) if large else ("I", "H", 12)
    page: Header | None = None
    seen: set[int] = set()
    size_of_file = stream.seek(0, os.SEEK_END)
    stream.seek(8 if large else 4)
    while at := _number(stream, order + pointer):
        if at in seen or len(seen) >= MOST_PAGES:
            raise _refused(path, "its pages never end", f"more than {len(seen)}")
        if at >= size_of_file:
            raise _refused(path, "only part of a picture", f"a page at byte {at} of {size_of_file}")
        seen.add(at)
        stream.seek(at)
        tags = _number(stream, order + count)
        if tags > _MOST_TAGS:
            raise _refused(path, "not a TIFF file, or only part of one", f"{tags} tags")
        found = _page(stream.read(tags * size), order, size, path)
        if page is not None and found != page:
            raise _refused(path, "the pages of the picture differ", f"{found} after {page}")
        page = found
    if page is None:
        raise _refused(path, "no picture in it", "no page")
    return Header(page.shape, page.bits, page.channels, len(seen))


def _page(entries: bytes, order: str, size: int, path: str | os.PathLike[str]) -> Header:
    tags = {}
    for at in range(0, len(entries), size):
        tag, kind = struct.unpack_from(order + "HH", entries, at)
        tags[tag] = struct.unpack_from(order + _FORMS.get(kind, "I"), entries, at + (12 if size == 20 else 8))[0]
    if (compression := _LOSSY.get(tags.get(_COMPRESSION, 1))) is not None:
        raise _lossy(path, compression)
    channels = tags.get(_CHANNELS, 1)
    # the bits of several channels stand elsewhere
    return Header((tags.get(_HEIGHT, 0), tags.get(_WIDTH, 0)), tags.get(_BITS, 1) if channels == 1 else 16, channels)


def _number(stream: IO[bytes], form: str) -> int:
    return int(struct.unpack(form, stream.read(struct.calcsize(form)))[0])


def _lossy(path: str | os.PathLike[str], compression: str) -> FileRefused:
    return FileRefused(
        f"{compression} compression has altered every pixel: such a picture is no measurement",
        device=str(path),
        expected="a PNG or TIFF file that holds the pixels as they were",
        seen=compression,
    )


def _refused(path: str | os.PathLike[str], what: str, seen: str) -> FileRefused:
    return FileRefused(what, device=str(path), expected="a whole PNG or TIFF file", seen=seen)
