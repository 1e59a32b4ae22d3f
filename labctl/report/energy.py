"""The page of `labctl energy`: what a model costs, where the joules go, what the answer hangs on, and how it scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from labctl.colours import ACCENT, MEASURED, MODEL, QUIET
from labctl.report.document import headline, section, text, write_page
from labctl.report.energy_tables import energy_tables
from labctl.report.energy_talk import conversation_tables, talks_figure
from labctl.studies.energy import CROSSOVER_LIKE, GALLERY_TALK, Cost, Gallery
from labctl.studies.light import DARK
from labctl.studies.quantities import amount, joules, scale, times
from labctl.studies.resolution import in_bits
from simulation.energy.decoders import HEAD

PARTS = (
    ("DAC", "#1f6fb2"), ("ADC", "#7db3dd"), ("modulator", "#0f766e"), ("detector", "#5eead4"),
    ("memory", "#c2410c"), ("weight load", "#fdba74"), ("weight hold", "#a16207"), ("light", "#facc15"),
    ("scales", "#be185d"), ("weight fetch", "#7c3aed"), ("cache read", "#c4b5fd"),
    ("digital MAC", "#374151"), ("digital", "#9ca3af"),
)  # fmt: skip
CONSTANTS_SHOWN = 12
SHOWN_BELOW = 100
"""How far below the smallest advantage the figure reaches; the band may go on."""


def write_energy_page(path: Path, cost: Cost, shapes: Gallery) -> Path:
    """Write the page.

    Parameters
    ----------
    path
        The page.
    cost
        Of the model asked for.
    shapes
        `Gallery`, of all shapes of the tables on the same machine.
    """
    work = "one step of a conversation" if cost.served else f"a forward pass of {cost.bill.operations.tokens} tokens"
    body = [
        f"<h1>Energy of {text(cost.model)}{'' if cost.light is DARK else ' in light'}</h1>",
        f"<p>{text(cost.built_of)}; {text(work)}</p>",
        *([f"<p>{text('; '.join(cost.scaled))}</p>"] if cost.scaled else ()),
        f"<p>{text(_photons(cost))}</p>",
        _headline(cost),
        f"<p>Other models by width, each of {CROSSOVER_LIKE.blocks} blocks, a pass of {CROSSOVER_LIKE.context:,} "
        f"tokens: this machine costs less than 300 fJ/MAC {cost.paying_words}.</p>",
        *(conversation_tables(cost.served) if cost.served else ()),
        *(section(*part) for part in _parts(cost, shapes)),
        *energy_tables(cost),
        "<h2>What to do next</h2>",
        "<p><code>labctl energy --scenario future</code> &nbsp; <code>labctl energy --shape gpt3-175b</code> &nbsp; "
        "<code>labctl energy --shape llama-3.1-8b --generate 256</code> &nbsp; "
        "other constants: <code>labctl energy --table COMPONENTS.toml</code></p>",
    ]
    return write_page(path, f"Energy of {cost.model}", body)


def _photons(cost: Cost) -> str:
    """How much light, and where that comes from."""
    notes = cost.light.notes(cost.width, cost.bill.components, cost.bits)
    return "; ".join((f"Light: {cost.light.words}", *notes)) + "."


def _headline(cost: Cost) -> str:
    bill, best = cost.bill, cost.against[0]
    low, high = (joules(end / bill.operations.macs) for end in cost.interval_j)
    published = [] if cost.light is DARK else [(times(cost.claimed), "the same with the published 1/d of light")]
    return headline(
        [
            (joules(bill.per_token_j), "per token"),
            (joules(bill.per_mac_j), f"per MAC (90 %: {low} … {high})"),
            (times(best.advantage), f"digital at 300 fJ/MAC over light (90 %: {times(best.low)} … {times(best.high)})"),
            *published,
        ]
    )


def _parts(cost: Cost, shapes: Gallery) -> Iterator[tuple[str, str, Figure]]:
    """Title, a sentence and a figure of each section."""
    yield (
        "Against digital, by size",
        "Digital over optical energy of one forward pass for published shapes and hypothetical ones (10¹² … 10¹⁵), "
        "digital at 300 fJ per MAC. The band spans 90 % of draws with every constant of both log-uniform in its "
        "range, and the light in the interval of its law.",
        _advantage(shapes.published),
    )
    talk = GALLERY_TALK
    yield (
        "A generated token, by model",
        f"Open decoders of 2023 to 2026, token by token with a cache: prompts of {talk.prompt} tokens, "
        f"{talk.generated} generated, {talk.sequences} sequences together. Digital at 300 fJ per MAC, and every matrix "
        "and the cache are fetched from memory for each step; the digital head of the optical machine is fetched, too.",
        talks_figure(shapes.talks),
    )
    yield (
        "Where the joules go, by size",
        "Conversions amortise over the width; what stays digital, and attention, whose operands are new for every "
        "token, do not.",
        _shares(shapes.published),
    )
    kinds = ", ".join(
        f"{kind} {share / cost.bill.total_j:.0%}" for kind, share in cost.bill.by(lambda r: r.kind).items()
    )
    yield f"Layers of {cost.model}", f"Layers with the largest bills, by component; by kind: {kinds}.", _layers(cost)
    yield (
        "What the answer hangs on",
        "Total with one constant at the low and at the high end of its range, all others at their value.",
        _tornado(cost),
    )


def _part(component: str) -> str:
    names = [name for name, _ in PARTS]
    return component if component in names else "digital"


def _advantage(published: Sequence[Cost]) -> Figure:
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.subplots()
    size = [c.parameters for c in published]
    against = [c.against[0] for c in published]
    axes.fill_between(size, [a.low for a in against], [a.high for a in against], color=MEASURED, alpha=0.15, lw=0)
    light = published[0].light
    kind = "measured" if light.low < light.high else "stated"
    drawn = "a machine without light" if light is DARK else f"light as {kind}"
    axes.loglog(size, [a.advantage for a in against], "o-", color=MEASURED, label=f"{drawn}, 90 % band")
    if light is not DARK:
        published_law = "published: 1 photon per MAC at 12,288, falling as 1/d"
        axes.loglog(size, [c.claimed for c in published], "s--", color=MODEL, label=published_law)
    axes.axhline(1, color=QUIET, lw=1)
    axes.annotate(
        "as much as digital", (size[0], 1), textcoords="offset points", xytext=(0, -12), color=QUIET, fontsize=8
    )
    for i, (cost, a) in enumerate(zip(published, against, strict=True)):
        place, side = ((-4, -11), "right") if i % 2 or i == len(published) - 1 else ((4, 6), "left")
        axes.annotate(
            cost.model, (cost.parameters, a.advantage), textcoords="offset points", xytext=place, ha=side, fontsize=7
        )
    seen = [a.advantage for a in against] + [c.claimed for c in published]
    axes.set_ylim(min(seen) / SHOWN_BELOW, 3 * max(*seen, *(a.high for a in against)))
    axes.set_xlabel("parameters in the blocks")
    axes.set_ylabel("digital energy / optical energy")
    words = f"components of {published[0].scenario!r}, words of {in_bits(published[0].bits)}"
    axes.set_title(f"{words}, digital at 300 fJ per MAC", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _shares(published: Sequence[Cost]) -> Figure:
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    base = np.zeros(len(published))
    for name, colour in PARTS:
        share = np.array(
            [c.bill.by(lambda row: _part(row.component)).get(name, 0.0) / c.bill.total_j for c in published]
        )
        axes.bar(range(len(published)), 100 * share, bottom=100 * base, color=colour, label=name)
        base += share
    axes.set_xticks(range(len(published)), [c.model for c in published], rotation=30, ha="right", fontsize=8)
    axes.set_ylabel("share of the optical total [%]")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    return figure


def _layers(cost: Cost) -> Figure:
    bill = cost.bill
    layers = list(bill.by(lambda row: row.layer))[:CONSTANTS_SHOWN][::-1]
    names = ["output head" if layer == HEAD else layer for layer in layers]
    largest = max(bill.by(lambda row: row.layer).values()) / bill.operations.tokens
    power, prefix = scale(largest)
    figure = Figure(figsize=(9, 0.8 + 0.3 * len(layers)), layout="constrained")
    axes = figure.subplots()
    base = np.zeros(len(layers))
    sums = bill.by(lambda row: f"{row.layer}\0{_part(row.component)}")
    tokens = bill.operations.tokens
    for name, colour in PARTS:
        width = np.array([sums.get(f"{layer}\0{name}", 0.0) for layer in layers]) / tokens / 10.0**power
        axes.barh(names, width, left=base, color=colour, label=name)
        base += width
    axes.set_xlabel(f"energy per token [{prefix}J]")
    axes.tick_params(axis="y", labelsize=8)
    axes.legend(loc="lower right", frameon=False, fontsize=7, ncols=2)
    return figure


def _tornado(cost: Cost) -> Figure:
    found = [item for item in cost.bill.sensitivity() if item[1] != item[2]][:CONSTANTS_SHOWN][::-1]
    total = cost.bill.total_j
    figure = Figure(figsize=(9, 0.8 + 0.3 * len(found)), layout="constrained")
    axes = figure.subplots()
    for i, (name, low, high) in enumerate(found):
        c = cost.bill.components[name]
        axes.barh(i, low / total - 1, left=1, color=ACCENT, label="at the low end" if i == 0 else None)
        axes.barh(i, high / total - 1, left=1, color=MODEL, label="at the high end" if i == 0 else None)
        axes.annotate(
            f"{c.low:.3g} … {amount(c.high, c.unit)}", (1.0, i),
            xycoords=("axes fraction", "data"), xytext=(4, -3), textcoords="offset points", fontsize=7, color=QUIET,
        )  # fmt: skip
    axes.axvline(1, color="black", lw=0.8)
    ends = [end / total for _, *both in found for end in both]
    axes.set_xscale("log")
    axes.set_xlim(min(ends) / 1.1, 1.1 * max(ends))
    axes.set_yticks(range(len(found)), [name for name, _, _ in found], fontsize=8)
    axes.set_xlabel("total energy, relative to the table's values")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure
