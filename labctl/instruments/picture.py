"""A camera's frame in a terminal: gray half blocks with saturated pixels in red, and a histogram of counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.segment import Segment, Segments
from rich.style import Style
from rich.text import Text

_UPPER_HALF = "▀"
_SHADES = " ░▒▓█"
_BARS = " ▁▂▃▄▅▆▇█"
_SATURATED = (255, 40, 40)
_RED = Style(color=Color.from_rgb(*_SATURATED), bold=True)


@dataclass(frozen=True)
class Numbers:
    """What is to be known of a frame: ``Numbers(12, 103.4, 4095, 0.002)``.

    Attributes
    ----------
    low, mean, high
        Counts of its pixels [DN].
    saturated
        Fraction of pixels at full scale [1].
    """

    low: int
    mean: float
    high: int
    saturated: float


def numbers(frame: NDArray[np.uint16], full_scale_dn: int) -> Numbers:
    """Lowest, mean and highest counts of a frame, and the fraction of saturated pixels."""
    saturated = np.count_nonzero(frame >= full_scale_dn) / frame.size
    return Numbers(int(frame.min()), float(frame.mean()), int(frame.max()), saturated)


def shrunk(frame: NDArray[np.uint16], columns: int, rows: int) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
    """Mean and highest counts of the blocks of pixels that become one dot, at most (rows, columns) of them.

    The dots are square, as the pixels are. A frame that is smaller is enlarged by a whole number.
    """
    import cv2

    height, width = frame.shape
    enlarge = min(columns // width, rows // height)
    if enlarge >= 1:
        large = np.repeat(np.repeat(frame, enlarge, 0), enlarge, 1)
        return large.astype(np.float64), large
    scale = max(width / columns, height / rows)
    down = np.linspace(0, height, max(round(height / scale), 1) + 1).astype(int)
    across = np.linspace(0, width, max(round(width / scale), 1) + 1).astype(int)
    highest = np.maximum.reduceat(np.maximum.reduceat(frame, down[:-1], 0), across[:-1], 1)
    mean = cv2.resize(frame, (len(across) - 1, len(down) - 1), interpolation=cv2.INTER_AREA)
    return mean.astype(np.float64), highest


def draw(
    frame: NDArray[np.uint16], full_scale_dn: int, size: tuple[int, int], shown: tuple[float, float], *, colours: bool
) -> Segments:
    """The frame as lines of a terminal.

    Parameters
    ----------
    frame
        (H, W) counts [DN].
    full_scale_dn
        At which a pixel is saturated: a dot with one such pixel in it is red.
    size
        (columns, lines) that may be used.
    shown
        Counts that are black and white [DN].
    colours
        Two dots per character in 256 grays or more; else one shade per character, ``!`` where it is saturated.
    """
    columns, lines = size
    mean, highest = shrunk(frame, columns, 2 * lines)
    low, high = shown
    gray = np.clip((mean - low) / max(high - low, 1e-9), 0, 1)
    saturated = highest >= full_scale_dn
    if len(gray) % 2:
        gray, saturated = np.vstack([gray, gray[-1:]]), np.vstack([saturated, saturated[-1:]])
    return Segments(_half_blocks(gray, saturated) if colours else _shades(gray, saturated))


def _half_blocks(gray: NDArray[np.float64], saturated: NDArray[np.bool_]) -> list[Segment]:
    """Two rows of dots in each line: the upper one is the letter's colour, the lower one its ground."""
    level = np.round(gray * 63).astype(int) * 4 + 3 * (gray > 0)
    styles: dict[tuple[int, int], Style] = {}
    code = np.where(saturated, -1, level)
    segments = []
    for upper, lower in zip(code[::2].tolist(), code[1::2].tolist(), strict=True):
        for pair in zip(upper, lower, strict=True):
            style = styles.get(pair)
            if style is None:
                style = styles[pair] = Style(color=_colour(pair[0]), bgcolor=_colour(pair[1]))
            segments.append(Segment(_UPPER_HALF, style))
        segments.append(Segment.line())
    return segments


def _shades(gray: NDArray[np.float64], saturated: NDArray[np.bool_]) -> list[Segment]:
    index = np.round((gray[::2] + gray[1::2]) / 2 * (len(_SHADES) - 1)).astype(int)
    hot = saturated[::2] | saturated[1::2]
    segments = []
    for line, marks in zip(index.tolist(), hot.tolist(), strict=True):
        text = "".join("!" if mark else _SHADES[shade] for shade, mark in zip(line, marks, strict=True))
        segments += [Segment(text), Segment.line()]
    return segments


def _colour(level: int) -> Color:
    return Color.from_rgb(*(_SATURATED if level < 0 else (level, level, level)))


def histogram(frame: NDArray[np.uint16], full_scale_dn: int, columns: int, lines: int) -> Text:
    """How many pixels have how many counts, from 0 to full scale, on a logarithmic axis, with its counts below.

    A column with one pixel in it is one step high; that with full scale is red.
    """
    import cv2

    edges = np.linspace(0, full_scale_dn + 1, columns + 1)
    per_count = cv2.calcHist([frame], [0], None, [full_scale_dn + 1], [0, full_scale_dn + 1]).ravel()
    below = np.concatenate([[0], np.cumsum(per_count)])
    counted = np.diff(below[np.ceil(edges).astype(int)])
    heights = np.zeros(columns)
    some = counted > 0
    most = max(np.log10(max(counted.max(), 1)), 1.0)
    heights[some] = 1 + np.log10(counted[some]) / most * (8 * lines - 1)
    clipped = bool(per_count[-1])
    text = Text()
    for line in reversed(range(lines)):
        eighths = np.clip(np.round(heights - 8 * line), 0, 8).astype(int)
        row = "".join(_BARS[eighth] for eighth in eighths)
        text.append(row[:-1])
        text.append(row[-1], _RED if clipped else None)
        text.append("\n")
    return text.append(_axis(full_scale_dn, columns))


def _axis(full_scale_dn: int, columns: int) -> str:
    """Counts below the histogram: 0, a quarter, a half, three quarters, full scale."""
    line = [" "] * columns
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        label = f"{round(part * full_scale_dn)}" + (" DN" if part == 1.0 else "")
        at = min(max(round(part * columns - len(label) / 2), 0), columns - len(label))
        line[at : at + len(label)] = label
    return "".join(line)
