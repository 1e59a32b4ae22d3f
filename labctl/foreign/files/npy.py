"""Read ``*.npy``: one array, called by the file's name, mapped into memory so that it may be larger than that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from groundwork.opening.regular import open_regular
from groundwork.opening.zipped import npy_header, require_length
from labctl.foreign.files.contents import Contents, check_numbers, unreadable
from labctl.foreign.files.times import from_datetime64, is_datetime

_BROKEN = (OSError, EOFError, ValueError, TypeError, SyntaxError, MemoryError, OverflowError)


@contextmanager
def open_contents(path: Path) -> Iterator[Contents]:
    """The array of an npy file.

    Raises
    ------
    CaptureUnreadable
        When it is not a whole npy file.
    CaptureValues
        When it holds pickled objects, or no real numbers.
    """
    try:
        with open_regular(path) as stream:
            header = npy_header(stream, path)
        if not is_datetime(header.dtype):
            check_numbers(path, path.stem, header.dtype)
        require_length(header, path.stat().st_size, path)
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except _BROKEN as error:
        raise unreadable(path, "not an npy file, or only part of one", error, "np.save(FILE, array)") from error
    if is_datetime(header.dtype):
        seconds, words = from_datetime64(path.stem, values)
        yield Contents({path.stem: seconds}, notes=(words,))
    else:
        yield Contents({path.stem: values})
