"""Read ``*.tif``: a stack of gray images, one row of a recording each, called ``frames``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

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

    with open_regular(path) as stream:
        if stream.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            raise unreadable(path, "not a TIFF file", hint=_HINT)
    try:
        count = int(cv2.imcount(str(path), cv2.IMREAD_UNCHANGED))
        done, first = cv2.imreadmulti(str(path), 0, 1, flags=cv2.IMREAD_UNCHANGED)
        if not done or not count:
            raise unreadable(path, "no image in it can be read", hint=_HINT)
        if count * first[0].nbytes > MEMORY_LIMIT_BYTES:
            raise too_large(path, "the stack", count * first[0].nbytes)
        done, images = cv2.imreadmulti(str(path), flags=cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise unreadable(path, "the TIFF file is damaged", error, _HINT) from error
    shapes = {image.shape for image in images}
    if not done or len(images) != count or len(shapes) != 1:
        seen = f"{len(images)} of {count} images, of {len(shapes)} sizes"
        raise unreadable(path, "the images of the stack cannot all be read, or differ in size", seen, _HINT)
    if len(images[0].shape) != 2:
        raise unreadable(path, "the images are in colour", f"shape {images[0].shape}", "save one channel as gray")
    frames = np.stack(images)
    check_numbers(path, "frames", frames.dtype)
    yield Contents({"frames": frames})
