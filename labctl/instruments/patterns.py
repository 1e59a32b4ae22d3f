"""Patterns to put on a panel, by a word: ``checker=8``, ``level=128``, ``text=F``, or a file of gray levels."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundwork.nearest import did_you_mean
from groundwork.opening.pictures import picture_header
from groundwork.opening.regular import read_regular
from groundwork.opening.zipped import read_npy
from labctl.errors import UsageError

_MOST_BYTES = 2**28
Shape = tuple[int, int]


@dataclass(frozen=True)
class Kind:
    """One kind of pattern.

    Attributes
    ----------
    draw
        ``draw(shape, levels, value)``: (rows, columns) gray levels from 0 to ``levels − 1``.
    default
        Of the number after ``=``; None where there is none.
    lowest
        It may not be below.
    meaning
        For a person.
    """

    draw: Callable[[Shape, int, int], NDArray[np.integer]]
    default: int | None
    meaning: str
    lowest: int = 0


def _checker(shape: Shape, levels: int, size: int) -> NDArray[np.integer]:
    rows, columns = np.indices(shape) // size
    return _bright((rows + columns) % 2 == 1, levels)


def _grid(shape: Shape, levels: int, spacing: int) -> NDArray[np.integer]:
    rows, columns = np.indices(shape)
    return _bright((rows % spacing == 0) | (columns % spacing == 0), levels)


def _cross(shape: Shape, levels: int, width: int) -> NDArray[np.integer]:
    rows, columns = np.indices(shape)
    middle = (abs(2 * rows - shape[0] + 1) <= width) | (abs(2 * columns - shape[1] + 1) <= width)
    return _bright(middle, levels)


def _ramp(shape: Shape, levels: int, _: int) -> NDArray[np.integer]:
    return np.broadcast_to(np.arange(shape[1]) * levels // shape[1], shape).copy()


def _grating(shape: Shape, levels: int, period: int) -> NDArray[np.integer]:
    return np.broadcast_to(np.arange(shape[1]) % period * levels // period, shape).copy()


def _bright(where: NDArray[np.bool_], levels: int) -> NDArray[np.integer]:
    return np.where(where, levels - 1, 0)


KINDS: dict[str, Kind] = {
    "blank": Kind(lambda shape, levels, _: np.zeros(shape, np.int64), None, "gray level 0 everywhere"),
    "level": Kind(lambda shape, levels, value: np.full(shape, value), 128, "one gray level everywhere"),
    "checker": Kind(_checker, 8, "a chess board; size of a square [px]", 1),
    "ramp": Kind(_ramp, None, "all gray levels, rising from left to right"),
    "grating": Kind(_grating, 16, "a blazed grating, rising from left to right; its period [px]", 2),
    "grid": Kind(_grid, 64, "lines, with one at the left and one at the upper edge; their distance [px]", 2),
    "cross": Kind(_cross, 4, "through the middle of the panel; width of its lines [px]", 1),
}


def words() -> str:
    """Every pattern that there is: ``"blank, level=128, …, text=F, or a .png or .npy file"``."""
    named = [name if kind.default is None else f"{name}={kind.default}" for name, kind in KINDS.items()]
    return ", ".join([*named, "text=F", "or a .png or .npy file of gray levels"])


def pattern(text: str, shape: Shape, levels: int) -> NDArray[np.integer]:
    """The pattern that a person asks for.

    Parameters
    ----------
    text
        ``"checker=8"``, ``"checker 8"``, ``"text=F"``, or the path of a file.
    shape
        (rows, columns) of the panel [px].
    levels
        Gray levels of the panel.

    Returns
    -------
    (rows, columns) gray levels in ``0 … levels − 1``.

    Raises
    ------
    UsageError
        For a word that is no pattern, a number out of range, a file that does not fit the panel.
    """
    text = text.strip()
    if Path(text).suffix.lower() in (".png", ".npy"):
        return _from_file(Path(text), shape, levels)
    name, _, value = text.replace(" ", "=", 1).partition("=")
    if name == "text":
        return _letters(value.strip(" \"'") or "F", shape, levels)
    if name not in KINDS:
        hint = did_you_mean(name, [*KINDS, "text"])
        raise UsageError(f"no pattern {name!r}", expected=words(), seen=text, hint=hint)
    kind = KINDS[name]
    if kind.default is None:
        if value:
            raise UsageError(f"the pattern {name!r} takes no number", expected=name, seen=text)
        return kind.draw(shape, levels, 0)
    highest = levels - 1 if name == "level" else max(shape)
    number = _number(value, min(kind.default, highest))
    if number is None or not kind.lowest <= number <= highest:
        expected = f"{name}={kind.lowest} … {name}={highest}: {kind.meaning}"
        raise UsageError("the pattern's number is out of range", expected=expected, seen=text)
    return kind.draw(shape, levels, number)


def _number(value: str, default: int) -> int | None:
    if not value:
        return default
    return int(value) if value.isascii() and value.isdigit() else None


def _letters(text: str, shape: Shape, levels: int) -> NDArray[np.integer]:
    """Letters as large as the panel allows: an F shows whether a picture is mirrored or upside down."""
    import cv2

    if not text.isascii() or not text.isprintable():
        raise UsageError("only letters of ASCII can be shown", expected="text=F", seen=text)
    font, rows, columns = cv2.FONT_HERSHEY_SIMPLEX, *shape
    (width, height), base = cv2.getTextSize(text, font, 1.0, 1)
    scale = 0.8 * min(columns / width, rows / (height + base))
    thick = max(1, round(3 * scale))
    (width, height), _ = cv2.getTextSize(text, font, scale, thick)
    picture = np.zeros(shape, np.uint8)
    where = (columns - width) // 2, (rows + height) // 2
    cv2.putText(picture, text, where, font, scale, 1, thick)
    return _bright(picture > 0, levels)


def _from_file(path: Path, shape: Shape, levels: int) -> NDArray[np.integer]:
    """Gray levels from a file: what does not fit the panel pixel by pixel is refused, never scaled."""
    import cv2

    if not path.is_file():
        raise UsageError("no such file", device=str(path), expected=words())
    found: NDArray[Any] | None
    try:
        if path.suffix.lower() == ".npy":
            found = read_npy(path, _MOST_BYTES)
        else:
            _require_size(raw := read_regular(path, _MOST_BYTES), path, shape)
            found = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    except (ValueError, cv2.error) as error:
        raise UsageError("the file is no picture", device=str(path), seen=str(error).partition("\n")[0]) from error
    if found is None:
        raise UsageError("the file is no picture", device=str(path), expected="a PNG file")
    if found.shape != shape or found.dtype.kind not in "iu":
        raise UsageError(
            "the picture does not fit the panel",
            device=str(path),
            expected=f"{shape[1]} × {shape[0]} pixels of one channel, whole numbers",
            seen=f"{' × '.join(map(str, found.shape[1::-1]))} pixels, {_channels(found)}, {found.dtype}",
        )
    low, high = int(found.min()), int(found.max())
    if low < 0 or high >= levels:
        raise UsageError(
            "a gray level of the picture is out of range",
            device=str(path),
            expected=f"0 … {levels - 1}",
            seen=f"{low} … {high}",
        )
    return np.asarray(found)


def _require_size(raw: bytes, path: Path, shape: Shape) -> None:
    """Before a picture is unpacked: a few bytes can announce gigabytes."""
    found = picture_header(io.BytesIO(raw), path)
    if found.shape != shape or found.pages != 1:
        pages = f", {found.pages} pages" * (found.pages > 1)
        raise UsageError(
            "the picture does not fit the panel",
            device=str(path),
            expected=f"{shape[1]} × {shape[0]} pixels of one channel, whole numbers",
            seen=f"{found.shape[1]} × {found.shape[0]} pixels{pages}",
        )


def _channels(array: NDArray[np.generic]) -> str:
    return "one channel" if array.ndim == 2 else f"{array.shape[-1] if array.ndim > 2 else 0} channels"
