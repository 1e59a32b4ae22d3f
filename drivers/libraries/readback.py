"""Is what a monitor shows what a program drew? A pattern, its complement, and what the differences mean in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.libraries.monitors import Problem

Picture = NDArray[np.uint8]

_SEED = 20180611
_CHANNELS = "red", "green", "blue"
_SOLID = 0.98


def patterns(shape: tuple[int, int]) -> tuple[Picture, Picture]:
    """Two pictures (rows, columns, 3): noise of all levels in each channel, and its complement.

    Noise has no symmetry and no constant part, so that each way of going wrong leaves another trace; between the two
    every bit of every pixel changes, so that what is left over from before is seen.
    """
    noise = np.random.default_rng(_SEED).integers(0, 256, (*shape, 3), np.uint8)
    return noise, ~noise


def explain(shown: Sequence[Picture], seen: Sequence[Picture]) -> Problem | None:
    """None where the pictures agree pixel by pixel in all channels; else what the matter is, in words.

    Parameters
    ----------
    shown
        The two `patterns`.
    seen
        Screenshots while each was shown.
    """
    if all(np.array_equal(drawn, read) for drawn, read in zip(shown, seen, strict=True)):
        return None
    rows, columns = shown[0].shape[:2]
    if seen[0].shape != shown[0].shape:
        size = f"{seen[0].shape[1]}x{seen[0].shape[0]}"
        return Problem(
            f"a screenshot has {size} pixels, the monitor {columns}x{rows}: the desktop is scaled",
            "set the scale of this monitor to 100 % in the display settings",
        )
    return _moved(shown[0], seen[0]) or _changed_levels(shown[0], seen[0]) or _covered(shown, seen)


def _moved(shown: Picture, seen: Picture) -> Problem | None:
    """The same pixels, elsewhere."""
    turned = {
        "upside down": shown[::-1],
        "mirrored left to right": shown[:, ::-1],
        "turned by 180°": shown[::-1, ::-1],
        "with red and blue exchanged": shown[:, :, ::-1],
    }
    for words, picture in turned.items():
        if np.array_equal(picture, seen):
            return Problem(f"the picture is shown {words}", "undo it in the display settings (xrandr --reflect normal)")
    crop = tuple(slice(0, size // 2 * 2) for size in shown.shape[:2])
    spectrum = np.fft.rfft2(shown[crop][:, :, 1] - 127.5).conj() * np.fft.rfft2(seen[crop][:, :, 1] - 127.5)
    peak = np.fft.irfft2(spectrum / (np.abs(spectrum) + 1.0))
    down, right = (int(i) for i in np.unravel_index(np.argmax(peak), peak.shape))
    if peak.max() < 0.5 or (down, right) == (0, 0):
        return None
    down -= peak.shape[0] if down > peak.shape[0] // 2 else 0
    right -= peak.shape[1] if right > peak.shape[1] // 2 else 0
    return Problem(
        f"the picture is moved by {right} columns and {down} rows",
        "switch panning and underscan off, and let no panel of the desktop push the window aside",
    )


def _changed_levels(shown: Picture, seen: Picture) -> Problem | None:
    """Each level is shown as one other level, everywhere."""
    worst = 0, ""
    for channel, word in enumerate(_CHANNELS):
        drawn, read = shown[:, :, channel].ravel(), seen[:, :, channel].ravel()
        pairs = np.flatnonzero(np.bincount(drawn.astype(np.uint16) * np.uint16(256) + read, minlength=65536))
        if len(pairs) > len(np.unique(drawn)) or len(np.unique(pairs % 256)) == 1:
            return None
        off = np.abs(pairs // 256 - pairs % 256)
        at = int(np.argmax(off))
        if off[at] > worst[0]:
            worst = int(off[at]), f"{word} {pairs[at] // 256} is shown as {pairs[at] % 256}"
    return Problem(
        f"levels are changed on the way: {worst[1]}",
        "switch colour management, night light, HDR and picture enhancement off for this monitor",
    )


def _covered(shown: Sequence[Picture], seen: Sequence[Picture]) -> Problem:
    """Something else is seen on a part of the monitor, or the whole is resampled."""
    wrong = np.any(shown[0] != seen[0], axis=2) | np.any(shown[1] != seen[1], axis=2)
    rows, columns = np.flatnonzero(wrong.any(axis=1)), np.flatnonzero(wrong.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    where = f"columns {left} … {right}, rows {top} … {bottom}"
    box = wrong[top : bottom + 1, left : right + 1]
    whole = box.shape == wrong.shape
    still = np.all(seen[0] == seen[1], axis=2)[wrong].mean() > _SOLID
    if whole and still:
        one_colour = bool(np.all(seen[0] == seen[0][0, 0]))
        return Problem(
            "the frames do not appear on this monitor: " + ("it is all of one colour" if one_colour else "others do"),
            "close the window, the screen lock or the screen saver that covers it",
        )
    if still or not whole:
        return Problem(
            f"something covers the frames at {where}",
            "close the window or the message there; keep messages, docks and the pointer off this monitor",
        )
    return Problem(
        f"{wrong.mean():.0%} of all pixels are wrong: the picture is scaled, smoothed or dithered",
        "set the scale of this monitor to 100 % and its mode to the panel's own size",
    )
