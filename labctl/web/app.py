"""The page's addresses: what answers each, put together and guarded."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs

import anyio
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from groundwork.errors import CodedError, FileRefused
from labctl.archive.preview import read_preview, stamp_of
from labctl.archive.seal import REPORT
from labctl.web.camera import facts_of, picture_png, saturated_png
from labctl.web.catalogue import Catalogue
from labctl.web.files import as_attachment, chunks, open_file
from labctl.web.guard import BODY_MAX, COOKIE, SESSION_S, App, Doorkeeper, Guard, session_of
from labctl.web.hub import SPACING_S, Hub
from labctl.web.now import Now, Watcher
from labctl.web.serving import Serving
from labctl.web.views import Views

WORD_MAX = 200
"""Characters of a word that is asked for."""
PARTS = ("trouble", "jobs", "overlay", "camera", "events", "benches", "recent")
"""Of the live page, by their ids."""
THREADS = 4
"""That read files for all visitors together."""
REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox allow-popups allow-downloads"
)
"""A report is a file of the archive: whatever it holds, no script of it runs and nothing is loaded from elsewhere."""


def make_app(
    serving: Serving,
    door: Doorkeeper | None = None,
    spacing_s: float = SPACING_S,
    is_ending: Callable[[], bool] = lambda: False,
) -> App:
    """The whole page.

    Parameters
    ----------
    serving
        Where and to whom it is served.
    door
        Knows the token; made from ``serving`` if None.
    spacing_s
        Time between two looks at what goes on [s].
    is_ending
        Whether the page is being closed.
    """
    door = door or Doorkeeper(serving.token)
    guarded: App = Guard(_Pages(serving, door, spacing_s, is_ending).app, serving, door)
    return guarded


class _Pages:
    def __init__(self, serving: Serving, door: Doorkeeper, spacing_s: float, is_ending: Callable[[], bool]) -> None:
        self._serving, self._door = serving, door
        self._catalogue = Catalogue(serving.runs)
        self._watcher, self._views = Watcher(self._catalogue), Views(self._catalogue)
        self._hub = Hub(self._look, spacing_s, is_ending)
        self._looking, self._spacing_s = asyncio.Lock(), spacing_s
        self._of_its_own = anyio.CapacityLimiter(1)  # those who wait for a long page do not keep the live one waiting
        self._looked: tuple[float, Mapping[str, str]] = (-math.inf, {})
        self._pictures: dict[tuple[str, str, str], bytes] = {}
        self._common = {"asks_token": door.asks, "runs_folder": str(serving.runs)}
        self.app = Starlette(
            routes=[
                Route("/", self._live),
                Route("/events", self._events),
                Route("/runs", self._page("runs.html", self._views.runs)),
                Route("/runs/{run_id}", self._page("run.html", self._views.run)),
                Route("/runs/{run_id}/report", self._report),
                Route("/runs/{run_id}/camera.png", self._picture),
                Route("/runs/{run_id}/saturated.png", self._picture),
                Route("/runs/{run_id}/files/{name:path}", self._file),
                Route("/nights", self._page("nights.html", self._views.nights)),
                Route("/calibrations", self._page("calibrations.html", self._views.calibrations)),
                Route("/login", self._login, methods=["GET", "POST"]),
                Route("/logout", self._logout, methods=["POST"]),
                Mount("/static", StaticFiles(packages=[("labctl.web", "static")])),
            ],
            lifespan=self._living,
            exception_handlers={404: self._not_found, 500: self._broken},
        )
        self.app.router.redirect_slashes = False

    @asynccontextmanager
    async def _living(self, app: Any) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        try:
            yield
        finally:
            await self._hub.close()

    def _html(self, template: str, http_status: int = 200, /, **values: Any) -> Any:
        return HTMLResponse(self._render(template, **values), http_status)

    def _page(self, template: str, view: Any) -> Any:
        """A page that a view fills in a thread; what the view refuses becomes a page that says so."""

        def answer(request: Request) -> Any:
            asked = {name: value for name, value in request.query_params.items() if len(value) <= WORD_MAX}
            try:
                found = view({**asked, **request.path_params})
            except (CodedError, FileRefused) as error:
                what = f"{error.code}  {error.what}"
                return self._html("trouble.html", 422, title="That cannot be shown", what=what, hint=error.hint)
            return self._not_found(request, None) if found is None else self._html(template, **found)

        return answer

    async def _live(self, request: Request) -> Any:
        return self._html("live.html", parts={**dict.fromkeys(PARTS, ""), **await self._look()})

    async def _events(self, request: Request) -> Any:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if self._hub.is_full:
            return Response("Too many people watch.\n", 503, headers={"retry-after": "30"})
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._hub.watch(), media_type="text/event-stream", headers=headers)

    async def _look(self) -> Mapping[str, str]:
        """The parts of the live page, as they are now or were half a round ago."""
        async with self._looking:
            if time.monotonic() - self._looked[0] > self._spacing_s / 2:
                self._looked = (time.monotonic(), await anyio.to_thread.run_sync(self._parts, limiter=self._of_its_own))
            return self._looked[1]

    def _parts(self) -> dict[str, str]:
        """The parts of the live page, each rendered."""
        try:
            now = self._watcher.look()
            values = {"now": now, "picture": _picture_of(now), "camera": self._camera(now)}
            shown = {name: self._render(f"parts/{name}.html", **values) for name in PARTS if name != "trouble"}
        except Exception as error:  # the watch goes on for all: somebody may be mending the archive
            return {"trouble": self._render("parts/trouble.html", what=f"{type(error).__name__}: {error}")}
        return {"trouble": "", **shown}

    def _render(self, template: str, **values: Any) -> str:
        return str(_templates().get_template(template).render(**self._common, **values))

    def _camera(self, now: Now) -> Any:
        job = next((job for job in now.jobs if job.preview), None)
        folder = self._catalogue.folder(job.run_id) if job else None
        preview = read_preview(folder) if folder else None
        return None if preview is None or job is None else {"job": job, **dataclasses.asdict(facts_of(preview))}

    def _picture(self, request: Request) -> Any:
        run_id, kind = request.path_params["run_id"], request.url.path.rpartition("/")[2]
        folder = self._catalogue.folder(run_id)
        if folder is None:
            return self._not_found(request, None)
        key = (run_id, kind, stamp_of(folder))
        found = self._pictures.get(key)
        if found is None:
            preview = read_preview(folder)
            if preview is None:
                return self._not_found(request, None)
            found = picture_png(preview) if kind == "camera.png" else saturated_png(preview)
            if len(self._pictures) > 16:
                self._pictures.clear()
            self._pictures[key] = found
        return Response(found, media_type="image/png")

    def _report(self, request: Request) -> Any:
        headers = {"content-security-policy": REPORT_POLICY}
        return self._sent(request, REPORT, "text/html; charset=utf-8", headers)

    def _file(self, request: Request) -> Any:
        name = request.path_params["name"]
        return self._sent(request, name, "application/octet-stream", {"content-disposition": as_attachment(name)})

    def _sent(self, request: Request, name: str, kind: str, headers: Mapping[str, str]) -> Any:
        folder = self._catalogue.folder(request.path_params["run_id"])
        found = open_file(folder, name) if folder else None
        if found is None:
            return self._not_found(request, None)
        stream, size = found
        headers = {**headers, "content-length": str(size)}
        if request.method == "HEAD":
            stream.close()
            return Response(media_type=kind, headers=headers)
        return StreamingResponse(chunks(stream, size), media_type=kind, headers=headers)

    async def _login(self, request: Request) -> Any:
        if not self._door.asks:
            return RedirectResponse("/", 303)
        if request.method == "GET":
            return self._html("login.html", said="")
        body = await _body(request)
        if body is None:
            return Response("The request is too large, or was not sent whole.\n", 413)
        token = parse_qs(body.decode("utf-8", "replace"), max_num_fields=4).get("token", [""])[0]
        if not self._door.accepts(token.strip()):
            if self._door.is_tired:
                return self._html("login.html", 429, said="Too many wrong tokens. Wait a minute.")
            return self._html("login.html", 401, said="That is not the token.")
        answer = RedirectResponse("/", 303)
        is_tls = self._serving.scheme == "https"
        answer.set_cookie(
            COOKIE, self._door.open_session(), max_age=SESSION_S, httponly=True, samesite="strict", secure=is_tls
        )
        return answer

    async def _logout(self, request: Request) -> Any:
        self._door.close_session(session_of(request.headers.get("cookie", "")))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer

    def _not_found(self, request: Request, error: Any) -> Any:
        what = "There is nothing at this address, or it was removed."
        return self._html("trouble.html", 404, title="Not here", what=what, hint="")

    def _broken(self, request: Request, error: Any) -> Any:
        what = f"A bug in labctl: {type(error).__name__}. The traceback is where labctl serve was started."
        return self._html("trouble.html", 500, title="That did not work", what=what, hint="")


@lru_cache(maxsize=1)
def _templates() -> Any:
    """Compiled once for a process."""
    return Environment(
        loader=PackageLoader("labctl.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


async def _body(request: Request) -> bytes | None:
    """What a form sends; None where that is too much, whatever its headers said, or breaks off."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_MAX:
                return None
    except ClientDisconnect:
        return None
    return body


def _picture_of(now: Now) -> str:
    job = next((job for job in now.jobs if job.preview), None)
    return f"/runs/{job.run_id}/camera.png?v={job.preview}" if job else ""
