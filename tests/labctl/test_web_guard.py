"""Who is let in to the live page: hosts, origins, sizes, methods, tokens; and where it may be opened at all."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the live page needs labctl[web]")
from starlette.testclient import TestClient

from labctl.errors import NotServed
from labctl.web.app import make_app
from labctl.web.guard import COOKIE, SESSION_S, WRONG_MAX, WRONG_WITHIN_S, Doorkeeper
from labctl.web.serving import Serving, host_names, listening, read_token

HERE = "http://localhost:8642"
TOKEN = "correct-horse-battery-staple"
Invoke = Callable[..., tuple[int, str, str]]


class Clock:
    """A clock that a test sets."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def page(runs: Path) -> TestClient:
    return TestClient(make_app(Serving(runs)), base_url=HERE, follow_redirects=False)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def locked(runs: Path, clock: Clock) -> TestClient:
    """A page that asks for a token."""
    app = make_app(Serving(runs, token=TOKEN), Doorkeeper(TOKEN, clock))
    return TestClient(app, base_url=HERE, follow_redirects=False)


def asked(
    runs: Path, path: str, headers: list[tuple[bytes, bytes]], method: str = "GET", body: tuple[bytes, ...] = (b"",)
) -> int:
    """The status of a request that no client would send."""
    answers: list[dict[str, Any]] = []
    parts = [{"type": "http.request", "body": part, "more_body": i + 1 < len(body)} for i, part in enumerate(body)]

    async def receive() -> dict[str, Any]:
        return parts.pop(0) if parts else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
             "headers": headers, "http_version": "1.1", "scheme": "http", "root_path": "",
             "server": ("localhost", 8642), "client": ("127.0.0.1", 1)}  # fmt: skip
    asyncio.run(make_app(Serving(runs, token=TOKEN) if method == "POST" else Serving(runs))(scope, receive, send))
    return int(answers[0]["status"]) if answers else 0


HOST = (b"host", b"localhost:8642")


def test_page_of_this_computer_is_shown_and_takes_nothing_from_elsewhere(page: TestClient) -> None:
    for path in ("/", "/runs", "/nights", "/calibrations", "/nowhere"):
        answer = page.get(path)
        assert answer.status_code == (404 if path == "/nowhere" else 200)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert (answer.headers["x-content-type-options"], answer.headers["x-frame-options"]) == ("nosniff", "DENY")
        assert not re.search(r"""(src|href|action)=["']?(https?:)?//""", answer.text)
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=", answer.text)


@pytest.mark.parametrize("host", ["evil.example:8642", "localhost:8643", "localhost", "127.0.0.1.evil.example:8642"])
def test_another_name_for_this_address_is_refused(page: TestClient, host: str) -> None:
    assert page.get("/", headers={"host": host}).status_code == 421


def test_names_that_were_given_are_answered_to(runs: Path) -> None:
    page = TestClient(make_app(Serving(runs, names=("bench-pc",))), base_url="http://Bench-PC:8642")
    assert page.get("/").status_code == 200


def test_two_hosts_or_none_are_refused(runs: Path) -> None:
    assert asked(runs, "/", [HOST]) == 200
    assert asked(runs, "/", [HOST, (b"host", b"evil.example")]) == 421
    assert asked(runs, "/", []) == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://localhost:8642"},
        {"origin": "http://localhost:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    ],
)
def test_requests_that_another_page_makes_are_refused(page: TestClient, headers: dict[str, str]) -> None:
    assert page.get("/runs", headers=headers).status_code == 403


def test_a_link_that_a_person_follows_is_none_of_them(page: TestClient) -> None:
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert page.get("/", headers=followed).status_code == 200
    assert page.get("/", headers={"origin": HERE, "sec-fetch-site": "same-origin"}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(page: TestClient, method: str) -> None:
    answer = page.request(method, "/runs")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_oversized_requests_are_refused(page: TestClient, locked: TestClient, runs: Path) -> None:
    assert page.get("/runs?part=" + "x" * 3000).status_code == 414
    assert page.get("/" + "x" * 3000).status_code == 414
    assert page.get("/", headers={"x-more": "x" * 20_000}).status_code == 431
    assert page.request("GET", "/", content=b"x").status_code == 413
    assert locked.post("/login", content=b"token=" + b"x" * 5000).status_code == 413
    assert asked(runs, "/", [HOST, (b"transfer-encoding", b"chunked")]) == 413
    assert asked(runs, "/", [HOST, (b"content-length", b"-1")]) == 400


def test_body_that_is_longer_than_it_said_reaches_nobody(runs: Path) -> None:
    sent = (b"token=", b"x" * 3000, b"x" * 3000)
    assert asked(runs, "/login", [HOST, (b"transfer-encoding", b"chunked")], "POST", sent) == 413


def test_without_the_token_nothing_is_shown(locked: TestClient) -> None:
    for path in ("/", "/runs", "/events", "/nights", "/calibrations", "/runs/x/files/run.json"):
        assert locked.get(path).status_code == 401
    browser = locked.get("/runs", headers={"accept": "text/html"})
    assert (browser.status_code, browser.headers["location"]) == (303, "/login")
    assert locked.get("/static/page.css").status_code == 200
    assert "Token" in locked.get("/login").text


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "ü" * 20, "\x00"])
def test_wrong_tokens_are_refused(locked: TestClient, token: str) -> None:
    assert locked.get("/", headers={"authorization": b"Bearer " + token.encode()}).status_code == 401
    answer = locked.post("/login", data={"token": token}, headers={"origin": HERE})
    assert answer.status_code == 401
    assert "That is not the token" in answer.text
    assert COOKIE not in answer.cookies


def test_who_shows_the_token_once_is_known_for_half_a_day(locked: TestClient, clock: Clock) -> None:
    answer = locked.post("/login", data={"token": TOKEN}, headers={"origin": HERE})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    said = answer.headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=strict" in said
    assert TOKEN not in said
    assert locked.get("/").status_code == 200
    clock.now_s += SESSION_S + 1
    assert locked.get("/").status_code == 401


def test_who_signs_out_is_a_stranger_again(locked: TestClient) -> None:
    locked.post("/login", data={"token": TOKEN})
    cookie = locked.cookies[COOKIE]
    assert locked.post("/logout").status_code == 303
    assert locked.get("/", headers={"cookie": f"{COOKIE}={cookie}"}).status_code == 401


def test_program_shows_the_token_with_each_request(locked: TestClient) -> None:
    assert locked.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_after_many_wrong_tokens_none_is_looked_at_for_a_minute(locked: TestClient, clock: Clock) -> None:
    for _ in range(WRONG_MAX):
        assert locked.get("/", headers={"authorization": "Bearer guess"}).status_code in (401, 429)
    right = {"authorization": f"Bearer {TOKEN}"}
    assert locked.get("/", headers=right).status_code == 429
    assert locked.post("/login", data={"token": TOKEN}).status_code == 429
    clock.now_s += WRONG_WITHIN_S + 1
    assert locked.get("/", headers=right).status_code == 200


def test_login_from_another_page_is_refused(locked: TestClient) -> None:
    answer = locked.post("/login", data={"token": TOKEN}, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "bench-pc"])
@pytest.mark.parametrize(
    ("more", "missing"),
    [({}, "a token and without TLS"), ({"token": TOKEN}, "TLS"),
     ({"certificate": Path("c"), "key": Path("k")}, "a token")],
)  # fmt: skip
def test_other_computers_need_both_token_and_tls(runs: Path, host: str, more: dict[str, Any], missing: str) -> None:
    with pytest.raises(NotServed, match=f"without {missing}"):
        Serving(runs, host, **more).require_allowed()


def test_with_both_the_page_may_be_open_to_others(runs: Path) -> None:
    serving = Serving(runs, "0.0.0.0", 443, ("bench-pc",), TOKEN, Path("c"), Path("k"))
    serving.require_allowed()
    assert serving.url == "https://bench-pc:443/"
    assert {"bench-pc", "bench-pc:443", "localhost:443"} <= serving.hosts


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost", "0.0.0.0", "192.0.2.1", "::"])
def test_address_that_is_told_is_answered_to(runs: Path, host: str) -> None:
    serving = Serving(runs, host, 8642)
    assert serving.url.removeprefix("http://").rstrip("/").lower() in serving.hosts


def test_half_a_pair_of_tls_and_short_tokens_are_refused(runs: Path) -> None:
    with pytest.raises(NotServed, match="its key"):
        Serving(runs, certificate=Path("c")).require_allowed()
    with pytest.raises(NotServed, match="too short"):
        Serving(runs, token="short").require_allowed()


def test_token_is_what_its_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert (read_token(path), read_token(None)) == (TOKEN, "")
    for text in ("", "\n", "two words of a sentence", "ü" * 30):
        path.write_text(text)
        with pytest.raises(NotServed, match="no token"):
            read_token(path)


def test_names_are_names_and_no_addresses_of_pages() -> None:
    assert host_names(["bench-pc.lab.example"]) == ("bench-pc.lab.example",)
    for name in ("https://bench-pc", "bench-pc:8642", "", "a b"):
        with pytest.raises(NotServed, match="not the name"):
            host_names([name])


def test_port_that_is_taken_is_named(runs: Path, labctl: Invoke) -> None:
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        code, _, said = labctl("serve", "--runs", runs, "--port", port)
    assert code == 2
    assert "E-WEB-001  127.0.0.1:" in said
    assert re.search(r"labctl serve .*--port 0$", said, re.MULTILINE)


def test_command_refuses_the_network_without_token_and_tls(runs: Path, labctl: Invoke) -> None:
    code, _, said = labctl("serve", "--runs", runs, "--host", "0.0.0.0")
    assert code == 2
    assert "E-WEB-001" in said
    assert "nothing was opened" in said


def test_archive_that_is_a_file_is_refused(tmp_path: Path, labctl: Invoke) -> None:
    (tmp_path / "notes.txt").write_text("x")
    code, _, said = labctl("serve", "--runs", tmp_path / "notes.txt", "--port", 0)
    assert code == 2
    assert "not a folder of runs" in said


def test_certificate_that_is_none_is_named(runs: Path, tmp_path: Path, labctl: Invoke) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("not PEM")
    pair = ("--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem")
    code, _, said = labctl("serve", "--runs", runs, "--port", 0, *pair)
    assert code == 2
    assert "certificate and key cannot be used" in said
