"""Calls into libraries that may never come back, and sources that are read all the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
from processes import wait_for

from drivers import DeviceLost, DeviceTimeout
from drivers.libraries.addresses import without_password
from drivers.libraries.drain import Drain
from drivers.libraries.worker import Job, Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("camera")
    yield made
    made.close()


def test_calls_are_made_in_one_thread_in_their_order(worker: Worker) -> None:
    order: list[tuple[int, int]] = []
    for number in range(5):
        worker.post(lambda number=number: order.append((number, threading.get_ident())))
    assert worker.call("wait", lambda: "done", 5.0) == "done"
    assert [number for number, _ in order] == list(range(5))
    assert len({thread for _, thread in order}) == 1


def test_what_a_call_raises_is_raised(worker: Worker) -> None:
    with pytest.raises(ZeroDivisionError):
        worker.call("divide", lambda: 1 / 0, 5.0)


def test_a_call_that_hangs_times_out_and_those_behind_it_are_not_made(worker: Worker) -> None:
    hangs, made = threading.Event(), []
    with pytest.raises(DeviceTimeout, match="show a frame"):
        worker.call("show a frame", lambda: hangs.wait(30.0), 0.05)
    with pytest.raises(DeviceTimeout):
        worker.call("show another", lambda: made.append("another"), 0.05)
    hangs.set()
    worker.call("show a third", lambda: made.append("third"), 5.0)
    assert made == ["third"]


def test_the_last_call_is_made_even_where_the_caller_has_given_up(worker: Worker) -> None:
    hangs, released = threading.Event(), threading.Event()
    worker.post(lambda: hangs.wait(30.0))
    with pytest.raises(DeviceTimeout):
        worker.end("close", released.set, 0.05)
    with pytest.raises(DeviceLost):
        worker.post(lambda: None)
    hangs.set()
    assert released.wait(5.0)


def test_a_call_that_is_posted_while_another_thread_closes_is_made_or_refused(worker: Worker) -> None:
    """Closing comes between the look whether the worker is closed and the posting, where nothing keeps it out."""
    put, closing = worker._jobs.put, threading.Thread(target=worker.close)

    class Jobs:
        get = staticmethod(worker._jobs.get)

        def put(self, job: Job | None) -> None:
            if job is not None:
                closing.start()
                closing.join(0.1)
            put(job)

    worker._jobs = Jobs()  # type: ignore[assignment]
    assert worker.call("look", lambda: "seen", 60.0) == "seen"
    closing.join(60.0)
    with pytest.raises(DeviceLost):
        worker.post(lambda: None)


def test_no_call_is_made_after_the_last_one_though_another_thread_posts_it_meanwhile(worker: Worker) -> None:
    """That thread comes between the last call and the closing, where there is something between them."""
    close, made = worker.close, []

    def post() -> None:
        with suppress(DeviceLost):
            worker.post(lambda: made.append("another")).done.wait(60.0)

    posting = threading.Thread(target=post)

    def close_late() -> None:
        posting.start()
        posting.join(60.0)
        close()

    worker.close = close_late  # type: ignore[method-assign]
    worker.end("close", lambda: made.append("the last"), 60.0)
    if not posting.ident:
        posting.start()
    posting.join(60.0)
    worker.close = close  # type: ignore[method-assign]
    assert made == ["the last"]


def test_a_drain_keeps_the_last_frames_and_their_numbers(worker: Worker) -> None:
    made = iter(range(100))
    go = threading.Semaphore(0)
    asked: list[int] = []

    def read() -> np.ndarray:
        asked.append(1)
        if not go.acquire(timeout=30.0):
            raise TimeoutError
        return np.full((1, 1), next(made))

    drain = Drain(worker, read)
    assert drain.next_frame(0.05, 0.0) is None
    for _ in range(70):
        go.release()
    wait_for(lambda: len(asked) > 70)  # for the next one; those before it are kept
    first = drain.next_frame(5.0, 0.5)
    assert first is not None
    assert (first.pixels[0, 0], first.device_sequence) == (6, 6)
    assert first.begins_s < time.monotonic() - 0.5
    drain.forget()
    assert drain.next_frame(0.0, 0.0) is None
    drain.close()
    go.release()


def test_what_ends_a_drain_is_raised_each_time_after_the_frames_before_it(worker: Worker) -> None:
    frames = iter([np.zeros((1, 1))])

    def read() -> np.ndarray:
        return next(frames)

    drain = Drain(worker, read)
    assert drain.next_frame(5.0, 0.0) is not None
    for _ in range(2):
        with pytest.raises(StopIteration):
            drain.next_frame(5.0, 0.0)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@camera.local/video", "http://camera.local/video"),
        ("rtsp://10.0.0.1:554/a@b", "rtsp://10.0.0.1:554/a@b"),
        ("0", "0"),
    ],
)
def test_passwords_are_left_out_of_addresses(address: str, shown: str) -> None:
    assert without_password(address) == shown
