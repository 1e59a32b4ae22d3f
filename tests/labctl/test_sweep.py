"""Sweeps on processes and on a cluster: workers die, schedulers are silent, disks are full; points stay whole."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from processes import LIMIT_S, gone, wait_for
from sweep_material import Counting, Deadly, Named, points

from labctl.errors import DiskFull, SchedulerSilent, UsageError, WorkerLost
from labctl.studies.sweep import in_this_process, on_cluster, on_processes, score, sweep
from simulation.scaling.evaluate import Material
from simulation.scaling.points import Point, PointStore, Windows


def ignore(_: int) -> None:
    pass


def test_only_what_is_missing_is_computed(tmp_path: Path) -> None:
    store, advanced = PointStore(tmp_path), []
    first, computed = sweep(Counting({}, "ideal"), points(3), store, in_this_process, ignore)
    assert computed == 3
    store.path(points(3)[1]).write_text("damaged")
    again, computed = sweep(Counting({}, "ideal"), points(5), store, in_this_process, advanced.append)
    assert computed == 3  # the damaged one and two new ones
    assert sum(advanced) == 5
    assert [again[p].nats_per_token for p in points(3)] == [first[p].nats_per_token for p in points(3)]


def test_stopped_sweep_keeps_what_was_finished(tmp_path: Path) -> None:
    def stopping(material: Material, missing: Sequence[Point]) -> Iterator[tuple[Point, Windows]]:
        yield missing[0], material.score(missing[0])
        raise KeyboardInterrupt

    store = PointStore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        sweep(Counting({}, "ideal"), points(3), store, stopping, ignore)
    assert sweep(Counting({}, "ideal"), points(3), store, in_this_process, ignore)[1] == 2


def test_full_disk_is_said_and_leaves_whole_points_only(mount: Callable[[str], Path]) -> None:
    store = PointStore(mount("size=64k") / "points")
    with pytest.raises(DiskFull):
        sweep(Counting({}, "ideal"), points(100), store, in_this_process, ignore)
    written = [point for point in points(100) if store.path(point).exists()]
    assert 0 < len(written) < 100
    assert all(store.load(point) is not None for point in written)
    assert not list(store.folder.rglob("*.tmp"))


def test_killed_worker_costs_its_point_another_try_and_one_that_always_dies_ends_the_sweep(tmp_path: Path) -> None:
    material, store = Deadly({}, "ideal", folder=str(tmp_path), once=1, always=3), PointStore(tmp_path / "points")
    with pytest.raises(WorkerLost) as error:
        sweep(material, points(4), store, on_processes(1), ignore)
    assert error.value.exit_code == 30
    assert (tmp_path / "died").exists()
    found = [store.load(point) for point in points(4)]
    assert [None if windows is None else windows.nats[0] for windows in found] == [0.5, 1.5, 2.5, None]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_workers_of_a_sweep_die_with_it(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from sweep_material import ending\n"
        "if __name__ == '__main__': ending(sys.argv[2])"
    )
    (tmp_path / "sweeps.py").write_text(program)
    begun = tmp_path / "begun"
    begun.mkdir()
    command = [sys.executable, str(tmp_path / "sweeps.py"), str(Path(__file__).parent), str(begun)]
    process = subprocess.Popen(command)
    try:
        wait_for(lambda: len(list(begun.iterdir())) == 2 or process.poll() is not None)
        workers = [int(path.name) for path in begun.iterdir()]
        assert len(workers) == 2
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: all(gone(pid) for pid in workers))


def test_worker_of_another_version_is_refused() -> None:
    with pytest.raises(UsageError, match="another version"):
        score(Counting({}, "ideal"), replace(points(1)[0], code="0" * 12))


def test_cluster_without_dask_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match="Dask") as error:
        list(on_cluster("tcp://localhost:1")(Counting({}, "ideal"), points(1)))
    assert "labctl[cluster]" in error.value.hint


@pytest.mark.skipif(os.name != "posix", reason="signals to processes")
def test_ctrl_c_ends_the_points_of_workers_and_lets_none_speak(capfd: pytest.CaptureFixture[str]) -> None:
    results = on_processes(1)(Named({}, "ideal"), points(1))
    _, waits = next(results)
    os.kill(int(waits), signal.SIGINT)  # type: ignore[call-overload]
    assert list(results) == []
    with pytest.raises(KeyboardInterrupt):
        list(on_processes(1)(Named({}, "ideal", interrupted=0), points(1)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("address", ["nonsense", "tcp://", "tcp://host", "tcp://host:port", "tcp://host:99999", ""])
def test_what_is_no_address_of_a_scheduler_is_refused_at_once(address: str) -> None:
    with pytest.raises(UsageError, match="not the address"):
        on_cluster(address)


@pytest.mark.cluster
@pytest.mark.parametrize("listens", [True, False], ids=["accepts and is silent", "nobody there"])
def test_silent_scheduler_is_given_up_in_time(listens: bool) -> None:
    pytest.importorskip("distributed")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(SchedulerSilent) as error:
            list(on_cluster(address, answer_s=1.0)(Counting({}, "ideal"), points(1)))
    assert time.monotonic() - began < LIMIT_S
    assert error.value.exit_code == 75


@pytest.mark.cluster
def test_cluster_computes_every_point_though_one_of_two_workers_is_killed(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    count = 12
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        compute = on_cluster(cluster.scheduler_address, answer_s=30.0, stall_s=60.0)
        victims = [worker.pid for worker in cluster.workers.values()]

        def killing(material: Material, missing: Sequence[Point]) -> Iterator[tuple[Point, Windows]]:
            for done, result in enumerate(compute(material, missing)):
                if done == 2:
                    os.kill(victims[0], signal.SIGKILL)
                yield result

        store = PointStore(tmp_path)
        found, computed = sweep(Counting({}, "ideal", takes_s=0.1), points(count), store, killing, ignore)
    assert computed == count
    assert [found[point].nats[0] for point in points(count)] == [seed + 0.5 for seed in range(count)]
    assert sweep(Counting({}, "ideal"), points(count), store, in_this_process, ignore)[1] == 0


@pytest.mark.cluster
def test_cluster_whose_workers_finish_nothing_is_given_up() -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster,
        pytest.raises(SchedulerSilent, match="does not answer"),
    ):
        list(on_cluster(cluster.scheduler_address, answer_s=2.0, stall_s=1.0)(Counting({}, "ideal"), points(1)))
