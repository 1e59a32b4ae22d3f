"""Serve the page until somebody stops it, as the last in line for the processor."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from labctl.errors import NotServed
from labctl.web.guard import HEADERS_MAX
from labctl.web.serving import Serving, listening, require_archive

CONNECTIONS_MAX = 200
PARTING_S = 2
NICE = 19


def serve(serving: Serving, ready: Callable[[Serving], None]) -> None:
    """Listen, and answer until Ctrl-C or SIGTERM.

    Parameters
    ----------
    serving
        Where, to whom, and what is asked of them.
    ready
        Called with the address as it is, once a browser finds it open.

    Raises
    ------
    NotServed
        When the page may not or cannot be opened there.
    """
    require_archive(serving.runs)
    serving.require_allowed()
    uvicorn, make_app = _library()
    socket = listening(serving.host, serving.port)
    with socket:
        serving = replace(serving, port=socket.getsockname()[1])
        running: list[Any] = []
        config = uvicorn.Config(
            make_app(serving, is_ending=lambda: any(server.should_exit for server in running)),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            http="h11",
            ws="none",
            lifespan="on",
            timeout_keep_alive=10,
            timeout_graceful_shutdown=PARTING_S,
            limit_concurrency=CONNECTIONS_MAX,
            h11_max_incomplete_event_size=HEADERS_MAX + 4096,
            ssl_certfile=serving.certificate,
            ssl_keyfile=serving.key,
        )
        _load(config, serving)
        if hasattr(os, "nice"):
            os.nice(NICE)  # an acquisition on the same computer comes first
        ready(serving)
        running.append(uvicorn.Server(config))
        running[0].run(sockets=[socket])


def _load(config: Any, serving: Serving) -> None:
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise NotServed(
            "certificate and key cannot be used",
            device=f"{serving.certificate}, {serving.key}",
            action="opening the page",
            expected="a certificate and its key, as PEM files",
            seen=str(error),
            safe="nothing was opened",
            hint="openssl req -x509 -newkey rsa:2048 -nodes -days 365 -keyout key.pem -out cert.pem makes a pair",
        ) from error


def _library() -> tuple[Any, Any]:
    try:
        import uvicorn

        from labctl.web.app import make_app
    except ImportError as error:
        raise NotServed(
            "the page needs the extra 'web'",
            action="opening the page",
            expected="starlette, uvicorn and jinja2",
            seen=str(error),
            hint="python -m pip install 'labctl[web]'",
        ) from error
    return uvicorn, make_app
