"""The page of `labctl simulate`: perplexity against light, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labctl.report.document import section, table, text, write_page
from labctl.report.figures import perplexity
from labctl.summary import Simulation


def write_simulation_page(
    path: Path, machine: str, light: str, found: Simulation, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> Path:
    """Write the page.

    Parameters
    ----------
    path
        The page.
    machine
        Id of the calibration, or the preset.
    light
        What it runs in if no level is given.
    columns, rows
        The table, as on the terminal.
    """
    body = [
        f"<h1>{text(found.model)} in light</h1>",
        f"<p>{found.tokens:,} tokens of {text(found.text)} on {text(machine)}: every linear layer and attention "
        "product in light, the output head digital. Photons are counted <b>at the weight plane, per MAC and per "
        "pass</b>.</p>",
        section("Perplexity against light", "Lower is better.", perplexity(found, light)),
        table(columns, rows),
    ]
    return write_page(path, f"labctl simulate {found.model}", body)
