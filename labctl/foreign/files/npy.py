"""Read ``*.npy``: one array, called by the file's name, mapped into memory so that it may be larger than that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from labctl.foreign.files.contents import Contents, check_numbers, unreadable

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
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            _, _, dtype = read(stream)
        check_numbers(path, path.stem, dtype)
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except _BROKEN as error:
        raise unreadable(path, "not an npy file, or only part of one", error, "np.save(FILE, array)") from error
    yield Contents({path.stem: values})
