"""Headers of pictures, compared with what OpenCV wrote; what announces more than it can be is refused."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from groundwork.errors import FileRefused
from groundwork.opening.pictures import Header, picture_header


def header_of(path: Path) -> Header:
    with path.open("rb") as stream:
        return picture_header(stream, path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_header_is_that_of_the_picture(tmp_path: Path, ending: str, dtype: type) -> None:
    gray = np.zeros((6, 8), dtype)
    cv2.imwrite(str(tmp_path / f"gray.{ending}"), gray)
    found = header_of(tmp_path / f"gray.{ending}")
    assert found == Header((6, 8), 8 * gray.itemsize)
    assert found.nbytes == gray.nbytes
    cv2.imwrite(str(tmp_path / f"colour.{ending}"), np.zeros((6, 8, 3), dtype))
    assert header_of(tmp_path / f"colour.{ending}").channels == 3


def test_piece_of_a_picture_that_is_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), np.zeros((6, 8), np.uint8))
    raw = bytearray((tmp_path / "p.png").read_bytes())
    struct.pack_into(">I", raw, raw.index(b"IDAT") - 4, 2**31 - 1)
    with pytest.raises(FileRefused, match="only part"):
        picture_header(io.BytesIO(raw))


def stack(tmp_path: Path, *shapes: tuple[int, int]) -> bytearray:
    path = tmp_path / "stack.tif"
    cv2.imwritemulti(str(path), [np.zeros(shape, np.uint8) for shape in shapes])
    return bytearray(path.read_bytes())


def test_pages_of_a_stack_are_counted(tmp_path: Path) -> None:
    raw = stack(tmp_path, *[(6, 8)] * 5)
    assert picture_header(io.BytesIO(raw)) == Header((6, 8), 8, 1, 5)


def test_pages_that_differ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="differ"):
        picture_header(io.BytesIO(stack(tmp_path, (6, 8), (60, 80))))


def large(pages: list[bytes]) -> bytes:
    """A BigTIFF file of pages whose tags are given; each points to the next."""
    raw = b"II+\0" + struct.pack("<HHQ", 8, 0, 16)
    for number, tags in enumerate(pages):
        end = len(raw) + 8 + len(tags) + 8
        raw += struct.pack("<Q", len(tags) // 20) + tags + struct.pack("<Q", end if number + 1 < len(pages) else 0)
    return raw


def tag(code: int, kind: int, value: int) -> bytes:
    return struct.pack("<HHQQ", code, kind, 1, value)


def test_long_numbers_of_a_large_file_are_read() -> None:
    page = tag(256, 4, 60_000) + tag(257, 16, 50_000) + tag(258, 3, 16)
    found = picture_header(io.BytesIO(large([page, page])))
    assert found == Header((50_000, 60_000), 16, 1, 2)
    assert found.nbytes == 2 * 2 * 50_000 * 60_000


def test_ring_of_pages_is_refused(tmp_path: Path) -> None:
    raw = stack(tmp_path, (6, 8))
    page = struct.unpack_from("<I", raw, 4)[0]
    tags = struct.unpack_from("<H", raw, page)[0]
    struct.pack_into("<I", raw, page + 2 + 12 * tags, page)
    with pytest.raises(FileRefused, match="never end"):
        picture_header(io.BytesIO(raw))


@pytest.mark.parametrize(
    "raw",
    [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"II*\0", b"II*\0" + bytes(8), b"II*\0\xff\xff\xff\xff", large([b""])[:20],
     b"II+\0" + b"\xff" * 20],
)  # fmt: skip
def test_what_is_no_whole_picture_is_refused(raw: bytes) -> None:
    with pytest.raises(FileRefused):
        picture_header(io.BytesIO(raw))
