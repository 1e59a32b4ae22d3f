"""Messages of nights: of changes, once, to a program and to addresses that may hang, fail or not exist."""

from __future__ import annotations

import datetime as dt
import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import NotNotified
from labctl.night import notify as module
from labctl.night.notify import BenchState, after_night, notify, ping
from labctl.station.model import Nightly
from labctl.summary import FirstError, Metric, Summary
from labctl.verdicts import Verdict

DAY = dt.timedelta(days=1)
START = dt.datetime(2026, 11, 23, 2, tzinfo=dt.UTC)


def told(*verdicts: str) -> list[str]:
    """What is said after each night."""
    state, said = BenchState(), []
    for night, verdict in enumerate(verdicts):
        state, change = after_night(state, Summary(bench="a", verdict=Verdict(verdict)), START + night * DAY)
        said.append(change)
    return said


@pytest.mark.parametrize(
    ("nights", "said"),
    [
        ("ok ok ok", ["", "", ""]),
        ("ok fault fault fault ok ok", ["", "new", "again", "", "recovered", ""]),
        ("fault out_of_spec fault", ["new", "new", "new"]),
        ("ok busy ok busy busy busy", ["", "", "", "", "busy again", ""]),
        ("fault busy fault", ["new", "", "again"]),
        ("fault aborted fault ok", ["new", "", "again", "recovered"]),
        ("drift drift drift drift drift drift drift drift ok", ["noticed", *[""] * 6, "noticed", ""]),
        ("fault drift ok", ["new", "noticed", ""]),
        ("crashed storage interlock", ["new", "new", "new"]),
    ],
)
def test_changes_are_told_once(nights: str, said: list[str]) -> None:
    assert told(*nights.split()) == said


class Post(BaseHTTPRequestHandler):
    got: list[tuple[str, bytes]]

    def _take(self) -> None:
        self.got.append((self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0))))
        self.send_response(404 if "refuse" in self.path else 200)
        self.end_headers()

    do_GET = do_POST = _take

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    got: list[tuple[str, bytes]] = []
    listening = HTTPServer(("127.0.0.1", 0), type("Handler", (Post,), {"got": got}))
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}/secret", got
    listening.shutdown()
    listening.server_close()


def ill(**more: Any) -> Summary:
    return Summary(bench="a", run_id="20261123T020003Z-nightly-k7f2", **{"verdict": Verdict.OUT_OF_SPEC, **more})


def test_program_and_address_get_the_failing_number(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = server
    monkeypatch.setenv("HOOK", address)
    into = f"import sys; open({str(tmp_path / 'said')!r}, 'w').write(sys.stdin.read())"
    nightly = Nightly(notify=[sys.executable, "-c", into], webhook_env="HOOK")
    summary = ill(metrics=[Metric.judge("nrmse", 0.07, "1", maximum=0.05)])
    message = notify(tmp_path, nightly, summary)
    assert message is not None
    for text in ((tmp_path / "said").read_text(), json.loads(got[0][1])["text"]):
        assert "a: out_of_spec (new)" in text
        assert "nrmse 0.07, limit ≤ 0.05" in text
        assert "labctl run show k7f2" in text
        assert "secret" not in text
    assert notify(tmp_path, Nightly(notify=["/does/not/exist"]), ill(verdict=Verdict.ABORTED, exit_code=130)) is None


def test_an_error_is_told_by_its_code(tmp_path: Path) -> None:
    summary = ill(verdict=Verdict.FAULT, first_error=FirstError(code="E-CAM-004", message="no frame", device="camera"))
    message = notify(tmp_path, Nightly(), summary)
    assert message is not None
    assert "E-CAM-004  camera: no frame" in message.body


@pytest.mark.parametrize(
    ("command", "words"),
    [(["/does/not/exist"], "did not start"), ([sys.executable, "-c", "raise SystemExit(3)"], "exit code 3")],
)
def test_program_that_fails_is_told_and_the_state_kept(command: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(NotNotified) as caught:
        notify(tmp_path, Nightly(notify=command), ill())
    assert words in caught.value.seen
    assert json.loads((tmp_path / "nights" / "a.json").read_text())["verdict"] == "out_of_spec"


def test_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOOK_S", 0.3)
    began = time.monotonic()
    with pytest.raises(NotNotified, match="nobody could be told"):
        notify(tmp_path, Nightly(notify=[sys.executable, "-c", "import time; time.sleep(60)"]), ill())
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "is not set"),
        ("file:///etc/passwd", "neither http"),
        ("http://127.0.0.1:1/token", "does not answer"),
        ("http://[", "does not answer"),
    ],
)
def test_address_that_is_none_is_refused_without_saying_it(
    address: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", address)
    with pytest.raises(NotNotified) as caught:
        notify(tmp_path, Nightly(webhook_env="HOOK"), ill())
    assert words in caught.value.seen
    assert "token" not in str(vars(caught.value))


def test_dead_mans_switch_hears_start_end_and_failure(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address, got = server
    monkeypatch.setenv("PING", address)
    for ending in ("/start", "", "/fail"):
        ping(Nightly(ping_env="PING"), ending)
    assert [path for path, _ in got] == ["/secret/start", "/secret", "/secret/fail"]
    monkeypatch.setenv("PING", f"{address}/refuse")
    with pytest.raises(NotNotified) as caught:
        ping(Nightly(ping_env="PING"), "")
    assert "answered 404" in caught.value.seen
