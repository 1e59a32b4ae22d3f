"""Messages of nights: of changes, once, to a program and to addresses that may hang, fail or not exist."""

from __future__ import annotations

import datetime as dt
import json
import sys
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from processes import LIMIT_S, wait_for

from labctl.__main__ import main
from labctl.errors import NotNotified, StorageError
from labctl.locks import is_taken
from labctl.night import notify as module
from labctl.night.ending import Ended, tell_the_switch
from labctl.night.notify import BenchState, after_night, notify, ping
from labctl.night.owed import NightBench
from labctl.station.model import Nightly
from labctl.summary import ChartState, FirstError, Metric, Summary
from labctl.verdicts import Verdict

DAY = dt.timedelta(days=1)
START = dt.datetime(2026, 11, 23, 2, tzinfo=dt.UTC)


ALARM = ChartState(metric="canary_signal", state="alarm", value=900.0, nights=30, z=-4.2, limit=3.5)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def told(*verdicts: str, apart: dt.timedelta = DAY, **more: Any) -> list[str]:
    """What is said after each night."""
    state, said = BenchState(), []
    for night, verdict in enumerate(verdicts):
        summary = Summary(bench="a", verdict=Verdict(verdict), **more)
        state, change = after_night(state, summary, START + night * apart)
        said.append(change)
    return said


@pytest.mark.parametrize(
    ("nights", "said"),
    [
        ("ok ok ok", ["", "", ""]),
        ("ok fault fault fault ok ok", ["", "new", "again", "", "recovered", ""]),
        ("fault out_of_spec fault", ["new", "new", "new"]),
        ("ok busy ok busy busy busy ok", ["", "", "", "", "busy again", "", "recovered"]),
        ("fault busy fault", ["new", "", "again"]),
        ("fault aborted fault ok", ["new", "", "again", "recovered"]),
        ("drift drift drift drift drift drift drift drift ok", ["told once a week", *[""] * 6, "told once a week", ""]),
        ("fault drift ok", ["new", "recovered", ""]),
        ("fault partial ok", ["new", "told once a week", "recovered"]),
        ("crashed storage interlock", ["new", "new", "new"]),
        (
            "out_of_spec partial out_of_spec partial out_of_spec ok",
            ["new", "told once a week", "again", "", "", "recovered"],
        ),
        ("ok partial ok", ["", "told once a week", ""]),
        ("fault partial fault", ["new", "told once a week", "again"]),
        ("partial drift partial drift", ["told once a week", "told once a week", "", ""]),
        ("partial error usage usage usage ok", ["told once a week", "new", "new", "again", "", "recovered"]),
    ],
)
def test_changes_are_told_once(nights: str, said: list[str]) -> None:
    assert told(*nights.split()) == said


@pytest.mark.parametrize("before", sorted(v for v in Verdict if v not in ("busy", "aborted")))
@pytest.mark.parametrize("after", ["error", "usage", "out_of_spec", "fault", "interlock", "storage", "crashed"])
def test_bench_that_is_ill_in_another_way_than_before_is_told_of(before: str, after: str) -> None:
    for nights in (1, 2, 3):
        if before != after:
            assert told(*[before] * nights, after)[-1] == "new"


def test_bench_found_in_use_twice_in_an_evening_was_so_on_one_night() -> None:
    assert told("busy", "busy", "busy", apart=dt.timedelta(minutes=10)) == ["", "", ""]


def test_charts_that_fire_are_told_of_once_a_week_without_strict_too() -> None:
    assert told(*["ok"] * 9, drift=[ALARM]) == ["told once a week", *[""] * 6, "told once a week", ""]


class Post(BaseHTTPRequestHandler):
    got: list[tuple[str, bytes]]

    def _take(self) -> None:
        self.got.append((self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0))))
        self.send_response(404 if "refuse" in self.path else 302 if "moved" in self.path else 200)
        self.send_header("Location", "/elsewhere")
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
        assert f"labctl run show k7f2 --runs {tmp_path}" in text
        assert "secret" not in text
    assert notify(tmp_path, Nightly(notify=["/does/not/exist"]), ill(verdict=Verdict.ABORTED, exit_code=130)) is None


def test_program_and_address_get_what_the_page_on_nights_promises(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = server
    monkeypatch.setenv("HOOK", address)
    monkeypatch.setenv("OF_THE_NIGHT", "inherited")
    script = (
        "import os, pathlib, sys; print('nobody reads this'); "
        "pathlib.Path(sys.argv[1]).write_text(os.environ['OF_THE_NIGHT'] + '|' + sys.argv[2] + '|' + sys.stdin.read())"
    )
    nightly = Nightly(notify=[sys.executable, "-c", script, str(tmp_path / "said"), "~ $HOME"], webhook_env="HOOK")
    notify(tmp_path, nightly, ill(metrics=[Metric.judge("nrmse", 0.07, "1", maximum=0.05)]))
    text = (
        "a: out_of_spec (new)\n"
        "valid measurement, the bench fails its limits\n"
        "nrmse 0.07, limit ≤ 0.05\n"
        "run 20261123T020003Z-nightly-k7f2\n"
        f"look further: labctl run show k7f2 --runs {tmp_path}\n"
    )
    assert (tmp_path / "said").read_text() == f"inherited|~ $HOME|{text}"
    subject, _, body = text.rstrip("\n").partition("\n")
    about = {"bench": "a", "verdict": "out_of_spec", "run_id": "20261123T020003Z-nightly-k7f2"}
    assert json.loads(got[0][1]) == {**about, "subject": subject, "body": body, "text": text}


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are of POSIX")
def test_what_a_program_leaves_behind_is_ended_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    holds = f"import fcntl, time; f = open({str(lock)!r}, 'w'); fcntl.flock(f, 2); print(flush=True); time.sleep(2000)"
    script = (
        "import subprocess, sys; "
        f"child = subprocess.Popen([sys.executable, '-c', {holds!r}], stdout=subprocess.PIPE); child.stdout.readline()"
    )
    notify(tmp_path, Nightly(notify=[sys.executable, "-c", script]), ill())
    assert lock.exists()
    wait_for(lambda: not is_taken(lock))


def test_an_error_is_told_by_its_code(tmp_path: Path) -> None:
    summary = ill(verdict=Verdict.FAULT, first_error=FirstError(code="E-CAM-004", message="no frame", device="camera"))
    message = notify(tmp_path, Nightly(), summary)
    assert message is not None
    assert "E-CAM-004  camera: no frame" in message.body


@pytest.mark.parametrize(
    ("command", "words"),
    [(["/does/not/exist"], "did not start"), ([sys.executable, "-c", "raise SystemExit(3)"], "exit code 3")],
)
def test_what_reached_nobody_is_told_after_the_next_night(command: list[str], words: str, tmp_path: Path) -> None:
    for _ in range(3):
        with pytest.raises(NotNotified) as caught:
            notify(tmp_path, Nightly(notify=command), ill())
        assert words in caught.value.seen
    message = notify(tmp_path, Nightly(), ill())
    assert message is not None
    assert message.subject == "a: out_of_spec (new)"


def test_where_the_archive_keeps_nothing_a_change_is_told_once_all_the_same(tmp_path: Path) -> None:
    (runs := tmp_path / "runs").mkdir()
    (blocks := runs / "nights").write_text("a file where the folder belongs")
    into = f"import sys; open({str(tmp_path / 'said')!r}, 'a').write(sys.stdin.readline())"
    nightly = Nightly(notify=[sys.executable, "-c", into])
    for _ in range(4):
        notify(runs, nightly, ill())
    notify(tmp_path / "another archive", nightly, ill())
    blocks.unlink()
    notify(runs, nightly, ill())
    assert json.loads((blocks / "a.json").read_text())["nights"] == 5
    assert not list((tmp_path / "state").rglob(f"told/a-{sha256(str(runs).encode()).hexdigest()[:12]}.json"))
    notify(runs, nightly, ill(verdict=Verdict.OK))
    new, again = "a: out_of_spec (new)", "a: out_of_spec (again)"
    assert (tmp_path / "said").read_text().splitlines() == [new, again, new, "a: ok (recovered)"]


def test_where_nothing_is_kept_anywhere_people_are_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (runs := tmp_path / "runs", tmp_path / "other"):
        folder.mkdir()
        (folder / "nights").write_text("")
    monkeypatch.setattr(module, "state_directory", lambda: tmp_path / "other")
    told = [sys.executable, "-c", f"import sys; open({str(tmp_path / 'said')!r}, 'a').write(sys.stdin.readline())"]
    for _ in range(2):
        with pytest.raises(StorageError):
            notify(runs, Nightly(notify=told), ill())
    assert (tmp_path / "said").read_text().count("(new)") == 2


def test_what_came_one_way_counts_as_told(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", server[0])
    with pytest.raises(NotNotified):
        notify(tmp_path, Nightly(notify=["/does/not/exist"], webhook_env="HOOK"), ill())
    assert json.loads((tmp_path / "nights" / "a.json").read_text())["ill"] == "out_of_spec"
    assert len(server[1]) == 1


def test_slow_address_and_slow_program_are_tried_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOOK_S", 0.5)
    monkeypatch.setattr(module, "SEND_S", 1.0)
    answers = threading.Event()
    monkeypatch.setattr(module, "_call", lambda *_: str(answers.wait(10 * LIMIT_S)))
    hangs = [sys.executable, "-c", f"import time; time.sleep({10 * LIMIT_S})"]
    began = time.monotonic()
    with pytest.raises(NotNotified, match="2 ways") as caught:
        notify(tmp_path, Nightly(notify=hangs, webhook_env="HOOK"), ill())
    assert "HOOK took longer" in caught.value.seen
    assert time.monotonic() - began < LIMIT_S
    answers.set()


@pytest.mark.parametrize("text", ["", "[]", '{"nights": "x"}', '{"digested": "soon"}', '{"busy_at": "2026-11-23"}'])
def test_state_that_is_damaged_counts_as_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "nights").mkdir()
    (tmp_path / "nights" / "a.json").write_text(text)
    for verdict in (Verdict.BUSY, Verdict.DRIFT):
        notify(tmp_path, Nightly(), ill(verdict=verdict))
    assert json.loads((tmp_path / "nights" / "a.json").read_text())["nights"] == 1


def test_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOOK_S", 0.3)
    began = time.monotonic()
    with pytest.raises(NotNotified, match="one way of telling people failed"):
        notify(tmp_path, Nightly(notify=[sys.executable, "-c", f"import time; time.sleep({10 * LIMIT_S})"]), ill())
    assert time.monotonic() - began < LIMIT_S


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "is not set"),
        ("file:///etc/passwd", "neither http"),
        ("http://127.0.0.1:1/token", "does not answer"),
        ("http://[", "does not answer"),
        ("http://127.0.0.1:1/a token", "does not answer"),
        ("http://127.0.0.1:token/", "does not answer"),
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


def test_message_goes_to_no_other_address(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", f"{server[0]}/moved")
    with pytest.raises(NotNotified) as caught:
        notify(tmp_path, Nightly(webhook_env="HOOK"), ill())
    assert "answered 302" in caught.value.seen
    assert "secret" not in str(vars(caught.value))
    assert [path for path, _ in server[1]] == ["/secret/moved"]


def test_dead_mans_switch_fires_where_somebody_has_to_be_woken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: dict[str, str] = {}
    for verdict in Verdict:
        monkeypatch.setattr("labctl.night.ending.ping", lambda _, words, name=str(verdict): heard.update({name: words}))
        tell_the_switch(Ended(tmp_path, NightBench("a"), Summary(bench="a", verdict=verdict)))
    assert "busy" not in heard  # the night that has the bench reports
    well = {name for name, words in heard.items() if words == ""}
    assert well == {"ok", "out_of_spec", "drift", "partial", "aborted"}
    assert {words for name, words in heard.items() if name not in well} == {"/fail"}


@pytest.mark.parametrize(("options", "path"), [([], "/secret/log"), (["--success"], "/secret")])
def test_test_message_is_no_night_that_went_well_unless_asked_for(
    options: list[str], path: str, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = server
    monkeypatch.setenv("PING", address)
    (station := tmp_path / "a.toml").write_text('[nightly]\nping_env = "PING"\n')
    assert main(["nightly", "test-notify", "--bench", str(station), *options]) == 0
    assert [seen for seen, _ in got] == [path]


def test_switch_that_does_not_know_of_tests_is_answered_with_what_to_type(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PING", f"{server[0]}/refuse")
    (station := tmp_path / "a.toml").write_text('[nightly]\nping_env = "PING"\n')
    assert main(["nightly", "test-notify", "--bench", str(station)]) == 20
    assert f"labctl nightly test-notify --bench {station} --success" in capsys.readouterr().err


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
    assert "secret" not in str(vars(caught.value))
    monkeypatch.setenv("PING", f"{address}/?create=1")
    ping(Nightly(ping_env="PING"), "/fail")
    assert got[-1][0] == "/secret/fail?create=1"
