"""Who is let in: own hosts and origins only, small requests only, and only those who know the token where there is one.

Stands before everything else of the page; what it refuses reaches no other code. It adds the headers by which browsers
load nothing from elsewhere and show the page in no other.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from http import cookies
from typing import Any, NamedTuple

from labctl.web.serving import Serving

Scope = Mapping[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "labctl-session"
SESSION_S = 12 * 3600
ADDRESS_MAX = 2048
HEADERS_MAX = 16384
BODY_MAX = 4096
"""Bytes of an address, of all headers, and of what a form sends."""
WRONG_MAX, WRONG_WITHIN_S = 10, 60.0
"""So many wrong tokens in so many seconds, and no further one is looked at."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class Refusal(NamedTuple):
    """Why a request goes no further, and where a person is sent instead."""

    status: int
    why: str
    to: str = ""


class Doorkeeper:
    """Knows the token and who has shown it.

    Parameters
    ----------
    token
        Empty where nothing is asked.
    clock
        Monotonic seconds.
    """

    def __init__(self, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._token, self._clock = token.encode(), clock
        self._sessions: dict[str, float] = {}
        self._wrong: deque[float] = deque(maxlen=WRONG_MAX)

    @property
    def asks(self) -> bool:
        """Whether a token is asked for."""
        return bool(self._token)

    @property
    def is_tired(self) -> bool:
        """Whether so many wrong tokens have come lately that none is looked at."""
        return len(self._wrong) == WRONG_MAX and self._clock() - self._wrong[0] < WRONG_WITHIN_S

    def accepts(self, token: str) -> bool:
        """Whether this is the token; a wrong one is remembered, and none is looked at after too many."""
        if self.is_tired:
            return False
        right = hmac.compare_digest(token.encode("utf-8", "replace"), self._token)
        if not right:
            self._wrong.append(self._clock())
        return right

    def open_session(self) -> str:
        """What the browser of somebody who knows the token shows from now on."""
        now_s = self._clock()
        self._sessions = {name: until_s for name, until_s in self._sessions.items() if until_s > now_s}
        name = secrets.token_urlsafe(32)
        self._sessions[name] = now_s + SESSION_S
        return name

    def close_session(self, name: str) -> None:
        """The browser is a stranger again."""
        self._sessions.pop(name, None)

    def knows(self, name: str) -> bool:
        """Whether a browser has shown the token not too long ago."""
        return self._sessions.get(name, 0.0) > self._clock()


class Guard:
    """The page, guarded.

    Parameters
    ----------
    app
        What answers those who are let in.
    serving
        The hosts that are this one.
    door
        Knows the token.
    """

    def __init__(self, app: App, serving: Serving, door: Doorkeeper) -> None:
        self._app, self._serving, self._door = app, serving, door
        self._hosts = serving.hosts
        self._origins = {f"{serving.scheme}://{host}" for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif refused := self._refusal(scope):
            await _refuse(refused, scope["method"], send)
        else:
            await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Refusal | None:
        raw: list[tuple[bytes, bytes]] = scope["headers"]
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}
        hosts = [value for name, value in raw if name.lower() == b"host"]
        post = scope["method"] == "POST" and scope["path"] in ("/login", "/logout")
        if len(scope.get("raw_path") or scope["path"]) + len(scope.get("query_string", b"")) > ADDRESS_MAX:
            return Refusal(414, "The address is too long.")
        if sum(len(name) + len(value) for name, value in raw) > HEADERS_MAX:
            return Refusal(431, "The headers are too long.")
        if len(hosts) != 1 or headers["host"].lower() not in self._hosts:
            return Refusal(421, "This page is not served by that name. To serve it so: labctl serve --name NAME")
        if not post and scope["method"] not in ("GET", "HEAD"):
            return Refusal(405, "The page is read-only.")
        if refused := _body_refused(headers, post) or self._origin_refused(headers, scope["method"]):
            return refused
        return self._token_refused(headers, scope)

    def _origin_refused(self, headers: Mapping[str, str], method: str) -> Refusal | None:
        """Whether another page makes this request; a link that a person follows is none."""
        elsewhere = Refusal(403, "Another page has asked for this.")
        if "origin" in headers and headers["origin"].lower() not in self._origins:
            return elsewhere
        followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        own = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        return None if own or (followed and method in ("GET", "HEAD")) else elsewhere

    def _token_refused(self, headers: Mapping[str, str], scope: Scope) -> Refusal | None:
        if not self._door.asks or scope["path"] == "/login" or scope["path"].startswith("/static/"):
            return None
        if self._door.knows(session_of(headers.get("cookie", ""))):
            return None
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            if self._door.accepts(token.strip()):
                return None
            if self._door.is_tired:
                return Refusal(429, "Too many wrong tokens. Wait a minute.")
            return Refusal(401, "That is not the token.")
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            return Refusal(303, "The token is asked for.", "/login")
        return Refusal(401, "A token is needed: Authorization: Bearer TOKEN")


def session_of(cookie: str) -> str:
    """What a browser shows of a session; empty where it shows none."""
    try:
        found = cookies.SimpleCookie(cookie).get(COOKIE)
    except cookies.CookieError:
        return ""
    return found.value if found else ""


def _body_refused(headers: Mapping[str, str], post: bool) -> Refusal | None:
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        return Refusal(400, "The length of the request is no number.")
    if int(length) > (BODY_MAX if post else 0) or (not post and "transfer-encoding" in headers):
        return Refusal(413, "The request is too large.")
    return None


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            more = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in there]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending


async def _refuse(refused: Refusal, method: str, send: Send) -> None:
    body = b"" if method == "HEAD" else f"{refused.why}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    headers += [(b"connection", b"close")] if refused.status in (400, 413) else []
    headers += [(b"location", refused.to.encode())] if refused.to else []
    headers += [(b"www-authenticate", b"Bearer")] if refused.status == 401 else []
    headers += [(b"allow", b"GET, HEAD")] if refused.status == 405 else []
    headers += [(b"retry-after", b"60")] if refused.status == 429 else []
    await _with_headers(send)({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
