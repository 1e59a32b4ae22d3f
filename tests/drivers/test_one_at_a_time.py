"""What only one test of this machine can have goes from one to the other, and not to the quickest."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from processes import LIMIT_S, wait_for

from drivers.testing import one_at_a_time


def is_taken(path: Path) -> bool:
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def test_who_waits_has_its_turn_before_one_that_comes_back_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    order = []

    def wait() -> None:
        with one_at_a_time("port"):
            order.append("the one that waited")

    waits = threading.Thread(target=wait)
    with one_at_a_time("port"):
        order.append("first")
        waits.start()
        wait_for(lambda: is_taken(tmp_path / "labctl-tests-port-turn.lock"))
    with one_at_a_time("port"):
        order.append("first, again")
    waits.join(LIMIT_S)
    assert order == ["first", "the one that waited", "first, again"]
