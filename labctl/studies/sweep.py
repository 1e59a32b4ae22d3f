"""Compute points on processes of this machine, or on a cluster; each is on the disk as soon as it is known.

A stopped sweep loses the points in work and no more. A worker that dies takes its point with it, which another one then
computes. The points are those of a sweep (`simulation.scaling.points`), or parts of a simulation
(`simulation.scaling.parts`).
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, Protocol, TypeVar
from urllib.parse import urlsplit

import torch

from labctl.archive.atomic import storage
from labctl.engine.fresh import stops_blocked, unblock_stops
from labctl.errors import SchedulerSilent, UsageError, WorkerLost
from labctl.osal import die_with_parent
from simulation.scaling.fingerprint import code_version

ANSWER_S = 20.0
"""How long a scheduler may take to answer."""
STALL_S = 900.0
"""How long a cluster may take for the next point."""
KEPT = "every finished point is on the disk, where points are kept"


class AnyPoint(Protocol):
    """What is computed. Points are told apart, and hashed, by all that is in them."""

    @property
    def code(self) -> str:
        """The `code_version` that it is to be computed with."""


Point = TypeVar("Point", bound=AnyPoint)
Result = TypeVar("Result")
Found = TypeVar("Found", covariant=True)
To = TypeVar("To", contravariant=True)


class Material(Protocol[To, Found]):
    """What all points refer to; it travels to workers once."""

    def score(self, point: To, /) -> Found:
        """The result of a point."""


class PointStore(Protocol[To, Result]):
    """Where results are kept, each whole or not at all."""

    def path(self, point: To, /) -> Path:
        """Where the result lies, or will."""

    def load(self, point: To, /) -> Result | None:
        """The result, or None if it is not there or cannot be trusted."""

    def save(self, point: To, result: Result, /) -> None:
        """Write it."""


class Compute(Protocol):
    """Yields every point with its result, in any order."""

    def __call__(
        self, material: Material[Point, Result], points: Sequence[Point], /
    ) -> Iterator[tuple[Point, Result]]: ...


def sweep(
    material: Material[Point, Result],
    points: Sequence[Point],
    store: PointStore[Point, Result] | None,
    compute: Compute,
    advance: Callable[[int], None],
) -> tuple[dict[Point, Result], int]:
    """Results of all points, and how many of them had to be computed. Without a store none is kept.

    Raises
    ------
    StorageError
        When a result cannot be written; none is ever half-written.
    WorkerLost, SchedulerSilent
        See `on_processes` and `on_cluster`.
    """
    kept = {} if store is None else {point: store.load(point) for point in points}
    known = {point: result for point, result in kept.items() if result is not None}
    advance(len(known))
    missing = [point for point in points if point not in known]
    found = compute(material, missing) if missing else iter(())
    for point, result in found:
        if store is not None:
            with storage(store.path(point), "writing a sweep point"):
                store.save(point, result)
        known[point] = result
        advance(1)
    return known, len(missing)


def in_this_process(material: Material[Point, Result], points: Sequence[Point]) -> Iterator[tuple[Point, Result]]:
    """One after the other, without a worker."""
    for point in points:
        yield point, material.score(point)


def on_processes(jobs: int) -> Compute:
    """``jobs`` processes of one thread each; broken pools are started again as long as there is progress.

    Raises
    ------
    WorkerLost
        When a pool breaks before it has finished a single point.
    """

    def compute(material: Material[Point, Result], points: Sequence[Point]) -> Iterator[tuple[Point, Result]]:
        waiting = list(points)
        while waiting:
            before = len(waiting)
            try:
                for point, result in _one_pool(material, waiting, jobs):
                    waiting.remove(point)
                    yield point, result
            except BrokenProcessPool as error:
                if len(waiting) == before:
                    raise WorkerLost(
                        "a worker of the sweep died, and again when it was started anew",
                        action=f"{len(waiting)} points are left",
                        seen=str(error),
                        safe=KEPT,
                        hint="the same command goes on; with less memory at hand: --jobs 1",
                    ) from error

    return compute


def on_cluster(address: str, *, answer_s: float = ANSWER_S, stall_s: float = STALL_S) -> Compute:
    """Workers of a Dask scheduler at ``tcp://host:port``; they need this version of the suite and no shared disk.

    Parameters
    ----------
    answer_s, stall_s
        Longest wait for the scheduler, and for the next point [s].

    Raises
    ------
    UsageError
        When this is no address, or Dask is not installed.
    SchedulerSilent
        When the scheduler does not answer, goes away, or no point is finished in time.
    WorkerLost
        When workers die repeatedly on one point.
    """

    if not _is_address(address):
        raise UsageError(
            "not the address of a scheduler",
            device=address,
            expected="tcp://HOST:PORT",
            hint="dask scheduler prints its address when it starts",
        )

    def compute(material: Material[Point, Result], points: Sequence[Point]) -> Iterator[tuple[Point, Result]]:
        with _client(address, answer_s) as client, client.as_current():
            import distributed

            try:
                shared = client.scatter(material, broadcast=True, hash=False)
                futures = {client.submit(score, shared, point, pure=False): point for point in points}
                while futures:
                    done, _ = distributed.wait(list(futures), timeout=stall_s, return_when="FIRST_COMPLETED")
                    for future in done:
                        yield futures.pop(future), future.result()
            except distributed.KilledWorker as error:
                raise WorkerLost(
                    "workers of the cluster died on the same point",
                    device=address,
                    seen=str(error),
                    safe=KEPT,
                    hint="give the workers more memory; the same command goes on",
                ) from error
            except (TimeoutError, OSError, distributed.CancelledError) as error:
                _silent(address, f"no point within {stall_s:g} s, or the connection went: {error!r}", error)

    return compute


def _is_address(address: str) -> bool:
    """As Dask takes it, which waits for an answer from what is none; without a scheme it is tcp's."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    try:
        return bool(parts.hostname) and (parts.scheme not in ("tcp", "tls") or bool(parts.port))
    except ValueError:  # a port that is no number, or out of range
        return False


def score(material: Material[Point, Result], point: Point) -> Result:
    """`Material.score` on a worker.

    Raises
    ------
    UsageError
        When the worker runs another version of the simulation than the one the point is named after.
    """
    if point.code != code_version():
        raise UsageError(
            "a worker runs another version of the simulation",
            expected=f"code {point.code}",
            seen=f"code {code_version()}",
            hint="install the same labctl and torch on every worker",
        )
    torch.set_num_threads(1)
    return material.score(point)


_material: Any = None


def _start(material: Any) -> None:
    global _material
    parent = multiprocessing.parent_process()
    die_with_parent(parent.pid if parent else None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    unblock_stops()
    _material = material


def _score(point: Any) -> Any:
    """Ctrl-C, which comes to workers too, ends a point; one that waits or begins would print where it was."""
    assert _material is not None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return score(_material, point)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _one_pool(material: Material[Point, Result], points: Sequence[Point], jobs: int) -> Iterator[tuple[Point, Result]]:
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(points)), spawn, initializer=_start, initargs=(material,))
    try:
        with stops_blocked():  # until a worker has begun
            futures = {pool.submit(_score, point): point for point in points}
        while futures:
            done, _ = wait(futures, return_when=FIRST_COMPLETED)
            for future in done:
                yield futures.pop(future), future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _client(address: str, answer_s: float) -> Iterator[Any]:
    try:
        import distributed
    except ImportError as error:
        raise UsageError(
            "a cluster needs Dask distributed",
            seen=str(error),
            hint="pip install 'labctl[cluster]', or leave --scheduler",
        ) from error
    answers: SimpleQueue[Any] = SimpleQueue()

    def connect() -> None:
        try:
            answers.put(distributed.Client(address, timeout=answer_s, set_as_default=False))
        except Exception as error:
            answers.put(error)

    # In a thread: against a port that accepts and never speaks, Dask's own limit of time does not hold.
    threading.Thread(target=connect, daemon=True).start()
    try:
        client = answers.get(timeout=1.5 * answer_s)
    except Empty as error:
        _silent(address, f"no answer within {1.5 * answer_s:g} s", error)
    if isinstance(client, Exception):
        _silent(address, str(client) or f"no answer within {answer_s:g} s", client)
    try:
        yield client
    finally:
        client.close(timeout=answer_s)


def _silent(address: str, seen: str, error: BaseException) -> NoReturn:
    raise SchedulerSilent(
        "the scheduler does not answer",
        device=address,
        action="sweeping on a cluster",
        expected="a Dask scheduler with workers",
        seen=seen,
        safe=KEPT,
        hint="check that dask scheduler and dask worker run, or leave --scheduler",
    ) from error
