"""The page of `labctl simulate`: perplexity against light, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
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
        section("Perplexity against light", "Lower is better.", perplexity(found, light)),
        table(columns, rows),
        *(f"<p>{text(words)}.</p>" for words in words_of(found)),
        *([] if found.budget is None else budget_parts(found.budget)),
        *(f"<p><b>Note:</b> {text(words)}.</p>" for words in found.remarks),
        *([f"<p>Batches: {text(found.batch)}.</p>"] if found.batch not in ("", *found.remarks) else []),
    ]
    return write_page(path, f"labctl simulate {found.model}", body)


def perplexity(simulation: Simulation, light: str = "the bench's own light") -> Figure:
    """Perplexity as bars (digital, 8 bit, in light), and beside them perplexity at each level of light.

    Parameters
    ----------
    light
        Words for the light in which the third bar stands.
    """
    figure = Figure(figsize=(8.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 4])
    p = simulation.perplexity
    values = {"digital": p.digital, "8 bit": p.int8, f"optical,\n{light}": p.optical}
    heights = [v if v is not None else np.nan for v in values.values()]
    bars = left.bar(list(values), heights, color=[QUIET, ACCENT, MEASURED])
    left.bar_label(bars, labels=[f"{height:.2f}" if height < 1e4 else f"{height:.2g}" for height in heights])
    left.margins(y=0.12)
    left.set_ylabel("perplexity per token")
    left.set_title(f"{simulation.tokens:,} tokens of {simulation.text}", fontsize=9)
    points = [(level.photons_per_mac, level.perplexity) for level in simulation.levels if level.perplexity is not None]
    if simulation.photons_per_mac and p.optical is not None:
        points.append((simulation.photons_per_mac, p.optical))
    if points:
        right.loglog(*zip(*sorted(points), strict=True), "o-", color=MEASURED, label="optical")
    if simulation.photons_per_mac:
        right.axvline(simulation.photons_per_mac, color=MEASURED, lw=0.8, ls=":", label="this bench's own light")
    for value, label, colour in ((p.digital, "digital", QUIET), (p.int8, "8 bit", ACCENT)):
        if value is not None:
            right.axhline(value, color=colour, lw=1, ls="--", label=label)
    right.set_xlabel("photons at the weight plane per MAC and pass")
    right.set_ylabel("perplexity per token")
    right.grid(alpha=0.3, which="both", lw=0.4)
    right.legend(frameon=False, fontsize=8)
    return figure
