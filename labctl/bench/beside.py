"""What needs no device, done beside the camera: while it exposes, the last frames are summed and the next made.

It begins when the camera has begun: a thread that computes while pictures are handed over would delay them.
"""

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
        self._most, self._next = 1, pictures
        self._work: list[Callable[[], object]] = []
        self._pending: list[Future[object]] = []

    def picture(self, index: int) -> Array:
        """The picture of this number, made already if it was among the next ones."""
        made = self._ahead.get(index)
        picture = made.result() if made else self._make(index)
        self._most = max(1, AHEAD_BYTES_MAX // picture.nbytes)
        return picture

    def next_picture(self, index: int) -> None:
        """Pictures from this number on are the next ones; those before it are not kept any more."""
        self._next = index
        self._ahead = {i: made for i, made in self._ahead.items() if i >= index}

    def do(self, work: Callable[[], object]) -> None:
        """Do this when the camera has begun; what was given before is finished first, so that little is in memory."""
        self.finish()
        self._work.append(work)

    def start(self) -> None:
        """The camera has begun: do what there is to do."""
        self._pending += [self._pool.submit(work) for work in self._work]
        self._work.clear()
        for i in range(self._next, min(self._next + self._most, self._pictures)):
            if i not in self._ahead:
                self._ahead[i] = self._pool.submit(self._make, i)

    def finish(self) -> None:
        """Wait until all that was given to `do` is done; what went wrong in it is raised here."""
        for work in self._work:
            work()
        self._work.clear()
        while self._pending:
            self._pending.pop().result()


@contextmanager
def beside(picture: Callable[[int], Array], pictures: int) -> Iterator[Beside]:
    """A thread for the length of the block, which ends with it."""
    with ThreadPoolExecutor(1, "beside the camera") as pool:
        yield Beside(pool, picture, pictures)
