"""``labctl devices``: backends and instruments."""

from __future__ import annotations

import typer

from labctl.cli.handler import command
from labctl.lab import Lab

app = typer.Typer(help="The instruments and the backends that open them.", no_args_is_help=True)


@command(app, "list")
def list_(lab: Lab) -> None:
    """List the installed backends; one that does not import is listed with the reason. Opens no device."""
    from drivers.registry import available

    backends = available(probe=True)
    if not lab.console.json_mode:
        rows = [
            (b.name, "broken" if b.broken else "ok", ", ".join(b.roles), b.distribution, b.broken or b.target)
            for b in backends
        ]
        lab.console.table(("backend", "state", "roles", "from", "opens with"), rows)
    lab.console.result({"backends": backends})
