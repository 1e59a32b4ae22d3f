"""For every test: a state folder of its process, and real file systems that are small or read-only."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

# Small matrices, two cores: more threads than one only wait for each other. Before numpy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

# Compiled modules are kept whatever the shell says: else each of the processes that the tests start, and each
# of pytest's own, compiles all of them again, which takes longer than many a test.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell that runs the suite in the background starts it deaf to Ctrl-C and Ctrl-\, and nohup to a terminal that is
# closed; so would be every command that it tests.
signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform != "win32":
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# What is imported and collected stays until the end: to go through it again and again while it grows costs seconds.
gc.disable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: where a test waits for a disk, a limit or another process, it computes."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """From now on there is garbage to collect, among what comes after this."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def state_of_this_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Locks of benches, and logs of errors, of this process and those that it starts; not of the user's own lab.

    The tests of several processes then use benches of one name side by side.
    """
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("XDG_STATE_HOME", "LOCALAPPDATA"):
            patch.setenv(variable, str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def power_that_stays_on() -> Iterator[None]:
    """Nobody pulls the plug of a test: this process waits for no disk, which it would a hundred times in each run.

    What is written when a process is killed is seen without, and commands that are started wait as they do for users.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def commit_that_stays() -> Iterator[None]:
    """Nobody commits while the tests run: git is asked once, and not twice for each of a thousand runs."""
    from labctl.archive import provenance

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "_git_state", functools.cache(provenance._git_state))
        yield


@pytest.fixture
def full_after() -> Callable[[int], AbstractContextManager[None]]:
    """A block in which no file grows beyond so many bytes: the system refuses, as on a full disk. Not on Windows."""
    resource = pytest.importorskip("resource", reason="how large a file may get is said to POSIX systems")

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs with the given options: a real full or read-only file system. Skips where that is not allowed."""
    mounted: list[Path] = []

    def make(options: str) -> Path:
        if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("mounting a small file system needs root on Linux")
        folder = tmp_path / f"mount{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"this container may not mount: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
