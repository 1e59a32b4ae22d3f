"""``labctl serve``: the live page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.handler import RUNS, RunsOption, command
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.web.serving import Serving


def register(app: typer.Typer) -> None:
    """Add the command to the top of the command line."""
    command(app)(serve)


def serve(
    lab: Lab,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; others need a token and TLS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8642,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="A name by which browsers reach this computer; repeatable.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="FILE", help="Holds what every visitor is asked for.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", metavar="FILE", help="A PEM file, for TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its key.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show it in a browser at once.")] = False,
    runs: RunsOption = RUNS,
) -> None:
    """Show benches, jobs, camera, nights and runs in a browser.

    Only for this computer, unless a token and TLS are given. Reads run folders, writes nothing, holds no bench: it
    can be started and stopped at any time. Ctrl-C ends it.
    """
    from labctl.web.server import serve as serve_until_stopped
    from labctl.web.serving import Serving, host_names, read_token

    asked = Serving(runs.absolute(), host, port, host_names(name or ()), read_token(token_file), tls_cert, tls_key)

    def ready(serving: Serving) -> None:
        lab.console.result({"url": serving.url, "runs": str(serving.runs)}, f"{serving.url}   ·   Ctrl-C ends it")
        if open_:
            import webbrowser

            webbrowser.open(serving.url)

    try:
        serve_until_stopped(asked, ready)
    except KeyboardInterrupt:
        lab.console.say("the page is closed")
