"""Read ``*.tif``: a stack of gray images, one row of a recording each, called ``frames``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from groundwork.errors import FileRefused
from groundwork.opening.pictures import picture_header
from groundwork.opening.regular import open_regular
from labctl.foreign.files.contents import MEMORY_LIMIT_BYTES, Contents, check_numbers, too_large, unreadable

_HINT = "save it again as an uncompressed gray stack, or as npz"


@contextmanager
def open_contents(path: Path) -> Iterator[Contents]:
    """The images of a TIFF file, (images, height, width).

    Raises
    ------
    CaptureUnreadable
        When it is not a whole TIFF file of gray images of one size.
    """
    import cv2

    try:
        with open_regular(path) as stream:
            header = picture_header(stream, path)
    except FileRefused as error:
        raise unreadable(path, error.what, error.seen, _HINT) from error
    if header.channels != 1:
        raise unreadable(path, "the images are in colour", f"{header.channels} channels", "save one channel as gray")
    if header.nbytes > MEMORY_LIMIT_BYTES:
        raise too_large(path, "the stack", header.nbytes)
    try:
        done, images = cv2.imreadmulti(str(path), flags=cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise unreadable(path, "the TIFF file is damaged", error, _HINT) from error
    if not done or len(images) != header.pages or {image.shape for image in images} != {header.shape}:
        seen = f"{len(images)} of {header.pages} images of {header.shape[1]} × {header.shape[0]}"
        raise unreadable(path, "the images of the stack cannot all be read", seen, _HINT)
    frames = np.stack(images)
    check_numbers(path, "frames", frames.dtype)
    yield Contents({"frames": frames})
