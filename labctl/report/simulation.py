"""The page of `labctl simulate`: perplexity against light, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labctl.colours import ACCENT, MEASURED, QUIET
from labctl.report.document import section, table, text, write_page
from labctl.report.light_budget import budget_parts
from labctl.studies.simulate_words import words_of
from labctl.summary import Simulation


def write_simulation_page(
    path: Path,
    machine: str,
    light: str,
    found: Simulation,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
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
        f"<p>{found.tokens:,} tokens of {text(found.text)} on {text(machine)}. "
        "Photons are counted <b>at the weight plane, per MAC and per pass</b>.</p>",
        section(*_headed(found), perplexity(found, light)),
        table(columns, rows),
        *(f"<p>{text(words)}.</p>" for words in words_of(found)),
        *([] if found.budget is None else budget_parts(found.budget)),
        *(f"<p><b>Note:</b> {text(words)}.</p>" for words in found.remarks),
        *([f"<p>Batches: {text(found.batch)}.</p>"] if found.batch not in ("", *found.remarks) else []),
    ]
    return write_page(path, f"labctl simulate {found.model}", body)


def _headed(found: Simulation) -> tuple[str, str]:
    """Title and words of the figure."""
    if _at_levels(found):
        return "Perplexity against light", "Lower is better."
    return "Perplexity", "Lower is better. How it depends on light, beside it: with --photons-per-mac 1,10,100."


def _at_levels(found: Simulation) -> list[tuple[float, float]]:
    """Photons per MAC and perplexity of every level that there is, the bench's own among them."""
    points = [(level.photons_per_mac, level.perplexity) for level in found.levels if level.perplexity is not None]
    if found.photons_per_mac and found.perplexity.optical is not None:
        points.append((found.photons_per_mac, found.perplexity.optical))
    return sorted(points)


def perplexity(simulation: Simulation, light: str = "the bench's own light") -> Figure:
    """Perplexity as bars (digital, 8 bit, in light), and beside them at each level of light, where there is one.

    Parameters
    ----------
    light
        Words for the light in which the third bar stands.
    """
    points = _at_levels(simulation)
    figure = Figure(figsize=(8.5 if points else 4.2, 3.6), layout="constrained")
    left, *beside = figure.subplots(1, 2, width_ratios=[3, 4]) if points else [figure.subplots()]
    _bars(left, simulation, light)
    for axes in beside:
        _curve(axes, simulation, points)
    return figure


def _bars(left: Axes, simulation: Simulation, light: str) -> None:
    p = simulation.perplexity
    values = {"digital": p.digital, "8 bit": p.int8, f"optical,\n{light}": p.optical}
    heights = [v if v is not None else np.nan for v in values.values()]
    bars = left.bar(list(values), heights, color=[QUIET, ACCENT, MEASURED])
    left.bar_label(bars, labels=[f"{height:.2f}" if height < 1e4 else f"{height:.2g}" for height in heights])
    left.margins(y=0.12)
    left.set_ylabel("perplexity per token")
    left.set_title(f"{simulation.tokens:,} tokens of {simulation.text}", fontsize=9)


def _curve(right: Axes, simulation: Simulation, points: Sequence[tuple[float, float]]) -> None:
    p = simulation.perplexity
    right.loglog(*zip(*points, strict=True), "o-", color=MEASURED, label="optical")
    if simulation.photons_per_mac:
        right.axvline(simulation.photons_per_mac, color=MEASURED, lw=0.8, ls=":", label="this bench's own light")
    for value, label, colour in ((p.digital, "digital", QUIET), (p.int8, "8 bit", ACCENT)):
        if value is not None:
            right.axhline(value, color=colour, lw=1, ls="--", label=label)
    right.set_xlabel("photons at the weight plane per MAC and pass")
    right.set_ylabel("perplexity per token")
    right.grid(alpha=0.3, which="both", lw=0.4)
    right.legend(frameon=False, fontsize=8)
