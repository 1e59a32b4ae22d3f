"""The part of a simulation's page about light that is shared out between the products of a model."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure

from labctl.colours import ACCENT, MEASURED, MODEL, QUIET
from labctl.report.document import section, table, text
from labctl.studies.simulate_words import (
    BUDGET_COLUMNS,
    KIND_NAMES,
    PRODUCT_COLUMNS,
    budget_rows,
    budget_words,
    product_rows,
)
from labctl.summary import LightBudget

COLOURS = {"ffn": ACCENT, "qkvo": MEASURED, "qk": MODEL, "av": QUIET}


def budget_parts(found: LightBudget) -> Iterator[str]:
    """The figure and both tables."""
    yield section(
        "Light shared out",
        "Photons per MAC and pass that each product gets, in the order in which they run; the line is equal light for "
        "all. The total of photons is the same.",
        shares(found),
    )
    yield table(BUDGET_COLUMNS, budget_rows(found))
    yield f"<p>{text(budget_words(found))}.</p>"
    yield table(PRODUCT_COLUMNS, product_rows(found))


def shares(found: LightBudget) -> Figure:
    """A bar for each product."""
    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    axes = figure.subplots()
    for kind, words in KIND_NAMES.items():
        places = [i for i, p in enumerate(found.products) if p.kind == kind]
        heights = [found.products[i].photons_per_mac for i in places]
        if places:
            axes.bar(places, heights, color=COLOURS[kind], label=words)
    axes.axhline(found.photons_per_mac, color="black", lw=1)
    axes.set_yscale("log")
    axes.set_xlabel("product, from the first to the last")
    axes.set_ylabel("photons per MAC and pass")
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure
