"""A picture that does not come back as it was shown is explained in words."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from drivers.libraries.readback import explain, patterns

SHAPE = 120, 160


def answer(change):
    """What is said when ``change`` happens to both pictures."""
    shown = patterns(SHAPE)
    problem = explain(shown, [np.ascontiguousarray(change(picture)) for picture in shown])
    return problem.what if problem else ""


def covered(picture, where, what):
    copy = picture.copy()
    copy[where] = what
    return copy


def flickering(picture):
    copy = picture.copy()
    copy[10:20, 5:50] = picture[10:20, 5:50] // 2 + np.arange(45)[None, :, None].astype(np.uint8)
    return copy


def table(picture):
    return np.round(255 * (picture / 255) ** 0.9).astype(np.uint8)


def warm(picture):
    copy = picture.copy()
    copy[:, :, 2] = picture[:, :, 2] // 2
    return copy


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda picture: picture, ""),
        (lambda picture: picture[::-1], "upside down"),
        (lambda picture: picture[:, ::-1], "mirrored left to right"),
        (lambda picture: picture[::-1, ::-1], "turned by 180°"),
        (lambda picture: picture[:, :, ::-1], "red and blue exchanged"),
        (lambda picture: np.roll(picture, (-3, 7), (0, 1)), "moved by 7 columns and -3 rows"),
        (table, "levels are changed on the way: red"),
        (warm, "blue 255 is shown as 127"),
        (
            lambda picture: covered(picture, np.s_[30:50, 40:80], 200),
            "covers the frames at columns 40 … 79, rows 30 … 49",
        ),
        (flickering, "covers the frames at columns 5 … 49, rows 10 … 19"),
        (lambda picture: covered(picture, np.s_[:], 0), "do not appear on this monitor: it is all of one colour"),
        (lambda picture: patterns(SHAPE)[0][::-1] // 2, "do not appear on this monitor: others do"),
        (lambda picture: cv2.GaussianBlur(picture, (3, 3), 0.6), "scaled, smoothed or dithered"),
        (lambda picture: cv2.resize(cv2.resize(picture, (128, 96)), SHAPE[::-1]), "scaled, smoothed or dithered"),
        (lambda picture: picture[::2, ::2], "80x60 pixels, the monitor 160x120: the desktop is scaled"),
        (lambda picture: picture & 0xF8, "levels are changed on the way: red 7 is shown as 0"),
    ],
)
def test_difference_is_named(change, words):
    said = answer(change)
    assert words in said
    assert bool(words) == bool(said)


def test_each_bit_of_each_channel_is_tried_both_ways():
    first, second = patterns(SHAPE)
    assert np.all(first ^ second == 255)
    assert all(len(np.unique(first[:, :, channel])) == 256 for channel in range(3))


def test_one_wrong_pixel_is_seen():
    assert "columns 159 … 159, rows 119 … 119" in answer(lambda p: covered(p, np.s_[119, 159, 1], p[119, 159, 1] ^ 1))
