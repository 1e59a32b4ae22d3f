"""The page of `labctl adapt`: perplexity while the model adapts, and the table before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from labctl.colours import ACCENT, MEASURED, QUIET
from labctl.report.document import section, table, text, write_page
from labctl.studies.adapt import Adaptation


def write_adaptation_page(
    path: Path, words: str, found: Adaptation, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> Path:
    """Write the page.

    Parameters
    ----------
    words
        What was adapted to what.
    columns, rows
        The table, as on the terminal.
    """
    body = [
        f"<h1>{text(found.model)} adapted to {text(found.machine)}</h1>",
        f"<p>{text(words)}.</p>",
        section(
            "Held-out perplexity while it adapts",
            "In light, on text that it does not learn from; lower is better. The lines are the digital model as it "
            "was, which was scored on more tokens, and 1.5 times that.",
            curve(found),
        ),
        table(columns, rows),
    ]
    return write_page(path, f"labctl adapt {found.model}", body)


def curve(found: Adaptation) -> Figure:
    """Perplexity in light and the loss, against steps."""
    figure = Figure(figsize=(8.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps, loss, heldout = zip(*found.curve, strict=True)
    left.plot(steps, [math.exp(nats) for nats in heldout], "o-", color=MEASURED, label="in light")
    digital = found.scores[0].ppl
    left.axhline(digital, color=QUIET, lw=1, ls="--", label="digital")
    left.axhline(1.5 * digital, color=ACCENT, lw=1, ls=":", label="1.5 × digital")
    left.set_yscale("log")
    left.set_ylabel("perplexity per token")
    right.plot(steps, loss, "o-", color=MEASURED)
    right.set_ylabel("loss [nats/token]")
    for axes in (left, right):
        axes.set_xlabel("steps")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3, which="both", lw=0.4)
    left.legend(frameon=False, fontsize=8)
    return figure
