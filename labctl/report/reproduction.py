"""The page of `labctl reproduce`: each figure of the article computed again, and what it says of each claim."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from labctl.colours import ACCENT, MEASURED, MODEL, QUIET
from labctl.report.document import headline, section, table, text, write_page
from labctl.report.energy import PARTS
from labctl.studies.reproduce.article import ARTICLE, Reproduction, Section
from labctl.studies.reproduce.experiment import KINDS
from labctl.studies.reproduce.form import FULL, Form
from labctl.studies.reproduce.judge import NEAR, TOLERANCE
from labctl.studies.reproduce.verdict import Judged, Word
from labctl.studies.second_order import PART_NAMES
from simulation.scaling.expansion import KINDS as KINDS_OF_PRODUCTS

Part = Mapping[str, Any]
BADGES: Mapping[Word, str] = {"agree": "ok", "differ": "bad", "cannot say": "open"}
COLOURS = (MEASURED, MODEL, ACCENT, QUIET)
PHOTONS = "photons at the weight plane, per MAC and pass"


def write_reproduction_page(path: Path, found: Reproduction) -> Path:
    """Write the page; it holds its figures and needs no network."""
    counted = found.counted()
    body = [
        "<h1>An article computed again</h1>",
        f"<p>{text(ARTICLE)}. {text(found.form.name.capitalize())} form: {found.form.tokens:,} tokens of text, and the "
        f"mock bench of the station ‘{text(found.form.station)}’. A claim <b>agrees</b> where our whole interval lies "
        "in it, <b>differs</b> where none of it does; else nobody can say, and so where the two are not of the same "
        "kind.</p>",
        headline([(str(counted[word]), word) for word in BADGES]),
        table(
            ("figure", *BADGES),
            [(s.title, *(sum(each.verdict == word for each in s.judged) for word in BADGES)) for s in found.sections],
        ),
        *(_section(each, found.parts[each.part]) for each in found.sections),
        "<h2>What to do next</h2>",
        f"<p>All numbers are in <code>reproduction.json</code> beside this page; they were {text(found.took)}."
        f"{_at_length(found.form)}</p>",
    ]
    return write_page(path, "Optical Transformers, computed again", body)


def _at_length(form: Form) -> str:
    command = "labctl reproduce optical-transformers --full"
    return "" if form == FULL else f" Everything at length: <code>{command}</code>"


def _section(found: Section, part: Part) -> str:
    return section(found.title, found.what, FIGURES[found.name](part)) + "".join(map(_claim, found.judged))


def _claim(found: Judged) -> str:
    return (
        f"<p><span class='verdict {BADGES[found.verdict]}'>{found.verdict}</span> <b>{text(found.claim)}.</b><br>"
        f"Ours: {text(found.ours)}; {text(found.why)}.</p>"
    )


def errors(part: Part) -> Figure:
    """Histograms of the errors, of all products of one kind in one block together."""
    together: dict[tuple[str, int], list[Part]] = {}
    for product in part["products"]:
        together.setdefault((product["kind"], product["block"]), []).append(product)
    figure = Figure(figsize=(9, 2.7 * math.ceil(len(together) / 2)), layout="constrained")
    panels = figure.subplots(math.ceil(len(together) / 2), 2, sharex=True, squeeze=False)
    middles = 100 * (np.array(part["bins"][1:]) + np.array(part["bins"][:-1])) / 2
    named = (("measured", "bench", MEASURED), ("simulated", "simulated bench", MODEL), ("article", "article's", QUIET))
    for axes, (kind, block) in zip(panels.flat, sorted(together), strict=False):
        products = together[kind, block]
        shares = np.array([each["products"] * each["outputs"] for each in products], float)
        shares /= shares.sum()
        for source, words, colour in named:
            if source in products[0]:
                rms = np.sqrt(shares @ [each[source]["rms"] ** 2 for each in products])
                density = shares @ np.array([each[source]["density"] for each in products])
                label = f"{words}: {-np.log2(rms):.1f} bits"
                axes.step(middles, density / 100, where="mid", color=colour, label=label)
        axes.set_title(f"{KINDS.get(kind, kind)}, block {block + 1}", fontsize=9)
        axes.legend(frameon=False, fontsize=7)
        axes.set_yticks([])
    for axes in panels[-1]:
        axes.set_xlabel("error [% of the output range]")
    return figure


def levels(part: Part) -> Figure:
    """Three bars for each width."""
    figure, axes = _axes()
    widths = part["widths"]
    places = np.arange(len(widths))
    rows = (
        ("float", [w["digital"] for w in widths], QUIET),
        ("8 bit", [w["int8"] for w in widths], ACCENT),
        ("optical", [w["curve"][-1]["perplexity"] for w in widths], MEASURED),
    )
    for shift, (words, heights, colour) in enumerate(rows):
        bars = axes.bar(places + 0.27 * (shift - 1), heights, 0.25, color=colour, label=words)
        axes.bar_label(bars, fmt="%.1f", fontsize=7)
    axes.set_xticks(places, [f"d = {w['width']}" for w in widths])
    axes.set_ylabel("perplexity per token")
    return _finished(figure, axes)


def light(part: Part) -> Figure:
    """Perplexity over that of 8 bits."""
    figure, axes = _axes()
    for width, colour in zip(part["widths"], COLOURS, strict=False):
        curve = width["curve"]
        photons = [each["photons_per_mac"] for each in curve]
        axes.plot(photons, [each["over_int8"] for each in curve], "o-", color=colour, label=f"d = {width['width']}")
        axes.fill_between(
            photons, [each["low"] for each in curve], [each["high"] for each in curve], color=colour, alpha=0.15, lw=0
        )
    axes.axhline(NEAR, color="black", lw=1, ls="--", label=f"{TOLERANCE:.0%} above 8 bit")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(PHOTONS)
    axes.set_ylabel("perplexity over that of 8 bits")
    return _finished(figure, axes)


def law(part: Part) -> Figure:
    """Photons needed, and the second order by kind, over d."""
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    x, y, low, high = [], [], [], []
    for width in part["widths"]:
        for need in width["requirements"]:
            photons = need["photons_per_mac"]
            if (need["reference"], need["tolerance"]) == ("int8", TOLERANCE) and photons is not None:
                x.append(width["width"])
                y.append(photons)
                low.append(need["low"] or photons)
                high.append(need["high"] or photons)
    if x:
        d, n = np.array(x, float), np.array(y)
        limits = np.maximum(n - np.array(low), 0), np.maximum(np.array(high) - n, 0)
        left.errorbar(d, n, limits, fmt="o", color=MEASURED, capsize=3, label=f"within {TOLERANCE:.0%} of 8 bit")
        left.plot(d, np.exp(np.mean(np.log(d * n))) / d, ":", color=QUIET, label="1/d")
    left.set_ylabel(f"{PHOTONS}, needed", fontsize=8)
    rows = part["second_order"]
    for kind, colour in zip(KINDS_OF_PRODUCTS, COLOURS, strict=True):
        known = [(r["width"], r[kind]) for r in rows if r[kind] and r[kind] > 0]
        if known:
            right.plot(*zip(*known, strict=True), "o-", color=colour, label=PART_NAMES[kind])
    right.plot([r["width"] for r in rows], [r["kl"] for r in rows], "s-", color="black", label="all")
    right.set_ylabel("KL divergence at one photon [nats per token]", fontsize=8)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([r["width"] for r in rows], [str(r["width"]) for r in rows])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("width d")
        _finished(figure, axes)
    right.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, columnspacing=1)
    return figure


def breakdown(part: Part) -> Figure:
    """Shares of the bill by component."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    for axes, unlimited in zip(figure.subplots(1, 2, sharey=True), (True, False), strict=True):
        bills = _bills(part, "today", unlimited)
        base = np.zeros(len(bills))
        for name, colour in PARTS:
            known = {n for n, _ in PARTS}
            energies = [
                sum(e for n, e in b["parts_j"].items() if (n if n in known else "digital") == name) for b in bills
            ]
            share = 100 * np.array(energies) / [sum(b["parts_j"].values()) for b in bills]
            axes.bar(range(len(bills)), share, bottom=base, color=colour, label=name)
            base += share
        axes.set_xticks(range(len(bills)), [b["model"] for b in bills], rotation=40, ha="right", fontsize=7)
        axes.set_title(f"arrays: {bills[0]['array']}" if bills else "", fontsize=9)
    figure.axes[0].set_ylabel("share of the optical bill [%]")
    figure.axes[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    return figure


def advantage(part: Part) -> Figure:
    """Digital over optical energy, over parameters."""
    figure, axes = _axes()
    for name, colour in zip(("today", "scaled-optics", "future"), COLOURS, strict=False):
        for unlimited, style in ((True, "o-"), (False, "s--")):
            bills = _bills(part, name, unlimited)
            size, ratio = [b["parameters"] for b in bills], [b["advantage"] for b in bills]
            axes.plot(size, ratio, style, ms=4, color=colour, label=name if unlimited else None)
            if unlimited:
                limits = [b["low"] for b in bills], [b["high"] for b in bills]
                axes.fill_between(size, *limits, color=colour, alpha=0.12, lw=0)
    sizes = {b["model"]: b["parameters"] for b in part["bills"]}
    for claim in (each for each in part["claims"] if each["light"] == "claimed"):
        low, high = claim["published"]
        place = sizes.get(claim["shape"], 1e15)
        top = high if high is not None else 3 * low
        axes.plot([place, place], [low, top], color="black", lw=4, alpha=0.5, solid_capstyle="butt")
        arrow = "about" if high is not None else ">"
        words = f"{arrow} {(low * high) ** 0.5:,.0f} ×" if high is not None else f"{arrow} {low:,.0f} ×"
        axes.annotate(f"published ({claim['scenario']}): {words}", (place, top), ha="right", va="bottom", fontsize=7)
    axes.axhline(1, color=QUIET, lw=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("parameters in the blocks")
    axes.set_ylabel("digital energy / optical energy")
    return _finished(figure, axes)


def four_bits(part: Part) -> Figure:
    """Perplexity over that of 8 digital bits, over width."""
    figure, axes = _axes()
    ways = list(dict.fromkeys((row["bits"], row["trained"]) for row in part["rows"]))
    for (bits, trained), colour in zip(ways, (*COLOURS, "black"), strict=False):
        rows = [row for row in part["rows"] if (row["bits"], row["trained"]) == (bits, trained)]
        d, y = np.array([r["width"] for r in rows]), np.array([r["over_int8"] for r in rows])
        limits = y - [r["low"] for r in rows], np.array([r["high"] for r in rows]) - y
        axes.errorbar(d, y, limits, fmt="o-", color=colour, capsize=3, label=f"{bits} bits, trained in {trained}")
    axes.axhline(NEAR, color="black", lw=1, ls="--", label=f"{TOLERANCE:.0%} above 8 bit")
    axes.set_xscale("log")
    axes.set_yscale("log")
    widths = sorted({row["width"] for row in part["rows"]})
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("width d")
    axes.set_ylabel("perplexity over that of 8 digital bits")
    return _finished(figure, axes)


def _bills(part: Part, scenario: str, unlimited: bool) -> list[Part]:
    return [b for b in part["bills"] if b["scenario"] == scenario and (b["array"] == "unlimited") == unlimited]


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.5, 4.4), layout="constrained")
    return figure, figure.subplots()


def _finished(figure: Figure, axes: Axes) -> Figure:
    axes.grid(alpha=0.3, which="both", lw=0.4)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=8)
    return figure


FIGURES: Mapping[str, Callable[[Part], Figure]] = {
    "experiment": errors,
    "levels": levels,
    "light": light,
    "law": law,
    "breakdown": breakdown,
    "advantage": advantage,
    "four-bits": four_bits,
}
"""By the name of a section."""
