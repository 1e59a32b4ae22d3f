"""The page of the law of a family: what noise costs each model, and how that goes with what its arms vary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from labctl.colours import ACCENT, MEASURED, MODEL, QUIET
from labctl.report.document import section, table, text, write_page
from labctl.studies import family_words as words
from labctl.studies.family_law import FACTOR_OF, ArmTrends, FamilyLaw
from labctl.studies.second_order import PART_NAMES, PARTS
from simulation.scaling.law import Factor
from simulation.scaling.lawfit import ALL, Measured

COLOURS = dict(zip(PARTS, ("black", MEASURED, MODEL, ACCENT, QUIET), strict=True))
AXIS: dict[Factor, str] = {
    "width": "width d",
    "blocks": "blocks L",
    "head_width": "width of a head",
    "tokens_per_parameter": "tokens per parameter",
}


def write_family_page(path: Path, found: FamilyLaw) -> None:
    """Write the page."""
    provenance, arms = found.law.provenance, words.fitted(found)
    body = [
        "<h1>What noise costs a family of models</h1>",
        f"<p>{text(words.read_words(found))} On {text(provenance.machine)}, shot noise of the signed four-pass "
        "product: n photons per MAC and pass, counted <b>at the weight plane</b>, cost C/n nats per token. C is that "
        "of the KL divergence from the digital model, measured to second order.</p>",
        *(f"<p>{text(remark)}.</p>" for remark in words.remarks(found)),
        *(section(*part) for part in _sections(found, arms)),
    ]
    if arms:
        body += [
            "<h2>Exponents, arm by arm</h2>",
            "<p class=what>C as a power of what an arm varies; 95 % from seeds, shapes and documents.</p>",
            table(("", *(words.VARIED[arm.arm] for arm in arms)), words.exponent_rows(found)),
        ]
    body += [
        "<h2>All arms together</h2>",
        "<p class=what>Each exponent with the others held; this is the law that labctl energy takes.</p>",
        table(words.JOINT_COLUMNS, words.joint_rows(found)),
        "<h2>Models</h2>",
        "<p class=what>Nats per token without noise, and C by kind of product; the loss beside it.</p>",
        table(words.COST_COLUMNS, words.cost_rows(found)),
    ]
    if found.beside:
        body += [
            "<h2>Models beside the law</h2>",
            f"<p class=what>{text(words.beside_words())}</p>",
            table(words.BESIDE_COLUMNS, words.beside_rows(found)),
        ]
    write_page(path, "labctl scaling --arms", body)


def _sections(found: FamilyLaw, arms: Sequence[ArmTrends]) -> Iterator[tuple[str, str, Figure]]:
    if not arms:
        return
    yield (
        "Cost of noise in each arm",
        "One point for each model and kind of product: C of the KL divergence against what the arm varies. Lines are "
        "the fitted powers, through the geometric mean of their points; a line that misses its points is no law.",
        cost_figure(found, arms),
    )
    yield (
        "How well the exponents are known",
        f"Exponents with their 95 % intervals. The grey band has the width ± {words.PRECISE} that is wanted of each, "
        "about the exponent of all products; 0 is a need that does not change, −1 the article's claim for the width.",
        exponent_figure(arms),
    )


def cost_figure(found: FamilyLaw, arms: Sequence[ArmTrends]) -> Figure:
    """C over what is varied, log–log: a panel for each arm, a colour for each kind of product."""
    known = {model.name: model for model in found.models}
    figure = Figure(figsize=(3.6 * len(arms) + 1.6, 3.9), layout="constrained")
    panels = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
    for axes, arm in zip(panels, arms, strict=True):
        _arm_panel(axes, arm, [known[name] for name in arm.models])
    panels[0].set_ylabel("C: nats per token at one photon\nper MAC and pass")
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside right center")
    return figure


def _arm_panel(axes: Axes, arm: ArmTrends, models: Sequence[Measured]) -> None:
    factor = FACTOR_OF[arm.arm]
    x = np.array([getattr(model.shape, factor) for model in models], float)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for part in PARTS:
        y = np.array([_cost(model, part) for model in models])
        lit = y > 0
        if not lit.any():
            continue
        axes.plot(x[lit], y[lit], "o", ms=5 if part == ALL else 3.5, color=COLOURS[part], label=PART_NAMES[part])
        trend = words.trend_of(arm, part)
        if trend is not None and arm.arm != "tokens":  # that arm varies the width as well
            line = np.array([x.min(), x.max()])
            middle = np.exp(np.log(x[lit]).mean()), np.exp(np.log(y[lit]).mean())
            axes.plot(line, middle[1] * (line / middle[0]) ** trend.exponent, lw=1, color=COLOURS[part])
    sizes = sorted(set(x.tolist()))
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(AXIS[factor])
    axes.set_title(f"arm: {arm.arm}", fontsize=9)
    axes.grid(alpha=0.3, which="both", lw=0.4)


def exponent_figure(arms: Sequence[ArmTrends]) -> Figure:
    """Exponents as points with intervals: a panel for each arm, a row for each kind of product."""
    figure = Figure(figsize=(3.2 * len(arms) + 1.6, 2.8), layout="constrained")
    panels = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
    for axes, arm in zip(panels, arms, strict=True):
        if (whole := words.trend_of(arm, ALL)) is not None:
            axes.axvspan(whole.exponent - words.PRECISE, whole.exponent + words.PRECISE, color=QUIET, alpha=0.25, lw=0)
        for row, part in enumerate(PARTS):
            if (trend := words.trend_of(arm, part)) is not None:
                axes.plot([trend.low, trend.high], [row, row], lw=1.5, color=COLOURS[part])
                axes.plot(trend.exponent, row, "o", ms=5, color=COLOURS[part])
        for value in (-1.0, 0.0):
            axes.axvline(value, color=QUIET, lw=0.8, ls=":")
        axes.set_xlabel(f"exponent of {words.VARIED[arm.arm]}")
        axes.grid(alpha=0.3, lw=0.4, axis="x")
    panels[0].set_yticks(range(len(PARTS)), [PART_NAMES[part] for part in PARTS])
    panels[0].invert_yaxis()
    return figure


def _cost(model: Measured, part: str) -> float:
    kinds = [kind for kind in model.costs.kinds if part in (ALL, kind)]
    return float(sum(model.costs.cost(kind) for kind in kinds))
