"""What a test of a real library needs, and what happens where that is not installed.

On a laptop such a test is skipped, and says what it lacks. Where the environment variable ``LABCTL_ENDPOINTS`` is
``required``, as in continuous integration, it fails instead: nothing is proven by a test that did not run.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from filelock import FileLock

VARIABLE = "LABCTL_ENDPOINTS"

WAIT_S = 300.0
"""For `one_at_a_time`: as long as other tests may hold it, one after the other [s]."""


def require_module(name: str, install: str) -> None:
    """Skip, or fail, unless a module is installed; it is not imported.

    Parameters
    ----------
    name
        ``"pypylon"``.
    install
        What to type to have it: ``"pip install labctl[basler]"``.
    """
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        lacking(f"{name} is not installed: {install}")


def require_program(name: str, install: str) -> str:
    """The path of a program; skip, or fail, where it is not installed. Parameters as `require_module`."""
    path = shutil.which(name)
    if path is None:
        lacking(f"{name} is not installed: {install}")
    return path


@contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """A block that only one test process of this machine is in, for what only one of them can have.

    Whoever waits has its turn before one that comes back for more: else a file of tests that all want it, and let go of
    it for a moment only, would keep the others out until their time is over.

    A test that takes it in a fixture says ``@pytest.mark.timeout(60, func_only=True)``: to wait is no fault of its own.

    Parameters
    ----------
    what
        Name of it: ``with one_at_a_time("udp-3956"):`` for the port at which every GigE Vision camera listens.
    """
    turn, lock = (
        FileLock(Path(tempfile.gettempdir()) / f"labctl-tests-{what}{part}.lock", timeout=WAIT_S, thread_local=False)
        for part in ("-turn", "")
    )
    with turn:
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def lacking(reason: str) -> NoReturn:
    """End the test for the reason that its endpoint is not there."""
    if os.environ.get(VARIABLE) == "required":
        pytest.fail(f"{reason} ({VARIABLE}=required)", pytrace=False)
    pytest.skip(reason)
