"""``labctl serve`` as a process: it says where it is, answers, and ends when it is asked to."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from processes import LIMIT_S

pytest.importorskip("uvicorn", reason="the live page needs labctl[web]")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and where it listens."""
    command = [sys.executable, "-m", "labctl", "serve", "--port", "0", "--json", "--runs", str(tmp_path / "runs")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = ""
        while not said.endswith("}\n"):
            line = process.stdout.readline()
            assert line, "it has ended"
            said += line
        yield process, urlsplit(json.loads(said)["url"]).netloc
    finally:
        process.kill()
        process.communicate()


def refused(address: str, sent: bytes) -> bytes:
    """The first line that the server answers to bytes that no browser sends."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=LIMIT_S) as connection:
        connection.sendall(sent)
        with connection.makefile("rb") as answer:
            return answer.readline()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_page_answers_refuses_garbage_and_is_closed_by_ctrl_c_while_somebody_watches(
    served: tuple[subprocess.Popen[str], str],
) -> None:
    process, address = served
    watching = http.client.HTTPConnection(address, timeout=LIMIT_S)
    watching.request("GET", "/events")
    events = watching.getresponse()
    assert events.status == 200
    while not events.readline().startswith(b"data: {"):
        pass
    assert b" 400 " in refused(address, b"GET / HTTP/1.1\r\nHost" + b"\x00" * 40 + b"\r\n\r\n")
    assert b" 400 " in refused(address, b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n")
    assert b" 421 " in refused(address, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert b" 405 " in refused(address, b"DELETE / HTTP/1.1\r\nHost: " + address.encode() + b"\r\n\r\n")
    slash = b"GET //../../etc/passwd HTTP/1.1\r\nHost: " + address.encode() + b"\r\n\r\n"
    assert b" 404 " in refused(address, slash)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT_S)
    events.close()
    watching.close()
    assert process.returncode == 0
    assert "Traceback" not in err
    assert "the page is closed" in err
