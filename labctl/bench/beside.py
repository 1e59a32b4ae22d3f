"""What needs no device, done beside the camera: while it exposes, the last frames are summed and the next made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

AHEAD_BYTES_MAX = 1 << 26
"""Pictures that are made before they are asked for [B]."""

Array = NDArray[Any]


class Beside:
    """One thread that works through what it is given, in order, while the caller waits for the camera.

    Parameters
    ----------
    pool
        Of one thread.
    picture
        Makes the picture of this number.
    pictures
        How many there are.
    """

    def __init__(self, pool: ThreadPoolExecutor, picture: Callable[[int], Array], pictures: int) -> None:
        self._pool, self._make, self._pictures = pool, picture, pictures
        self._ahead: dict[int, Future[Array]] = {}
        self._most = 1
        self._pending: Future[object] | None = None

    def picture(self, index: int) -> Array:
        """The picture of this number, made already if `prepare` was asked to."""
        made = self._ahead.get(index)
        picture = made.result() if made else self._make(index)
        self._most = max(1, AHEAD_BYTES_MAX // picture.nbytes)
        return picture

    def prepare(self, first: int, count: int) -> None:
        """Make these pictures while something else goes on; those before them are not kept any more."""
        self._ahead = {i: made for i, made in self._ahead.items() if i >= first}
        for i in range(first, min(first + min(count, self._most), self._pictures)):
            if i not in self._ahead:
                self._ahead[i] = self._pool.submit(self._make, i)

    def do(self, work: Callable[[], object]) -> None:
        """Do this; what was given before is finished first, so that no more than two are in memory."""
        self.finish()
        self._pending = self._pool.submit(work)

    def finish(self) -> None:
        """Wait until all that was given by `do` is done; what went wrong in it is raised here."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


@contextmanager
def beside(picture: Callable[[int], Array], pictures: int) -> Iterator[Beside]:
    """A thread for the length of the block, which ends with it."""
    with ThreadPoolExecutor(1, "beside the camera") as pool:
        yield Beside(pool, picture, pictures)
