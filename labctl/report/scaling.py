"""The page of a width sweep: perplexity against light, light against width, training, and the numbers as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from labctl.archive import atomic_write_text
from labctl.colours import ACCENT, MEASURED, MODEL, QUIET
from labctl.report.document import section, table, text, write_page
from labctl.studies.scaling import ERROR, UNIT, Law, Scaling
from labctl.studies.scaling_words import remarks
from labctl.studies.second_order import PART_NAMES, PARTS, SecondOrder, cost_of
from labctl.summary import number
from simulation.scaling.powerlaw import PowerLaw
from simulation.scaling.requirement import REFERENCES

PHOTONS = "photons at the weight plane, per MAC and pass"
NAMES = {"int8": "the 8-bit model", "digital": "the model in float"}
TOLERANCE_COLOURS = (MEASURED, MODEL, ACCENT, QUIET)


def write_scaling_report(path: Path, found: Scaling) -> None:
    """The page, and beside it ``curves.csv`` and ``requirements.csv``."""
    members = found.plan.members
    widths = ", ".join(str(member.width) for member in members)
    body = [
        "<h1>Photons against width</h1>",
        f"<p>d = {text(widths)} on {text(found.plan.machine)}; {int(found.sweeps[0].tokens.sum()):,} tokens of "
        f"{text(members[0].text.name)}, noise seeds: {len(found.plan.seeds)}. All photons are counted "
        f"<b>at the weight plane, per MAC and per pass</b>.</p>",
        _laws(found),
        *(section(*part) for part in _parts(found)),
        "<h2>What these numbers can bear</h2>",
        f"<p>{text(_range(found))}</p>",
        *(f"<p class=what>{text(remark)}</p>" for remark in remarks(found)),
    ]
    write_page(path, "labctl scaling", body)
    atomic_write_text(path.with_name("curves.csv"), _curves_csv(found))
    atomic_write_text(path.with_name("requirements.csv"), _requirements_csv(found))


def _parts(found: Scaling) -> Iterator[tuple[str, str, Figure]]:
    yield (
        "Perplexity against light",
        "Each width on the bench; bands are 95 % bootstrap intervals over documents and noise seeds. Dashed: the "
        "same model with 8-bit operands, clipped as the article clips them; dotted: in float.",
        perplexity_curves(found),
    )
    yield (
        "Perplexity above the digital model",
        "The same sweep relative to each model's own perplexity with 8-bit operands, and in float; points at or below "
        "it lie on the lower edge. What 8 bits cost, clipping with them, differs between widths, and the left figure "
        "leaves it out: it gives light that is not clipped so much for nothing.",
        excess_curves(found),
    )
    if any(r.photons is not None for r in found.requirements):
        yield (
            "Photons needed against width",
            "Where the monotone curve through each width's levels crosses the tolerance, with its 95 % interval; the "
            "fitted power law, and a 1/d guide through the middle of the points.",
            requirement_curve(found),
        )
    if found.second_order is not None:
        yield (
            "What each kind of product costs",
            "Second order: shot noise of n photons per MAC costs C/n nats per token. Points: KL divergence to the "
            "digital model, kind by kind, with its standard error; dashed: the loss of the next token, all products. "
            "Open diamonds: the loss as the bright side of the sweep has it, with its 95 % interval.",
            cost_curves(found, found.second_order),
        )
    if found.routes:
        yield (
            "The same exponent from operands alone",
            f"Photons for a {ERROR:.0%} relative error of one product. Lines: normal operands, closed form. Points: "
            "operands that the models really multiply in their linear layers. Only an error measured against the full "
            "light on the detector falls as 1/d.",
            operand_curves(found),
        )
    if any(member.record.get("curve") for member in found.plan.members):
        yield (
            "Training",
            "Equal text, tokens, tokenizer and recipe. Solid: held-out text; thin: training text.",
            training_curves(found),
        )


def perplexity_curves(found: Scaling) -> Figure:
    """Perplexity per token over photons per MAC, one curve per width."""
    figure, axes = _axes()
    for sweep, (low, high), colour in zip(found.sweeps, found.bands, _colours(found), strict=True):
        axes.fill_between(sweep.photons, low, high, color=colour, alpha=0.2, lw=0)
        axes.plot(sweep.photons, sweep.perplexity, "o-", ms=4, color=colour, label=f"d = {sweep.width}")
        axes.axhline(sweep.reference(), color=colour, lw=1, ls="--")
        axes.axhline(sweep.reference("digital"), color=colour, lw=1, ls=":")
    axes.set_ylabel("perplexity per token")
    return _finished(figure, axes)


def excess_curves(found: Scaling) -> Figure:
    """Perplexity over that of the digital model, less one: 8 bit on the left, float on the right."""
    figure, panels = _panels()
    floor = min(found.plan.tolerances) / 20
    for axes, reference in zip(panels, REFERENCES, strict=True):
        for sweep, colour in zip(found.sweeps, _colours(found), strict=True):
            above = np.maximum(np.expm1(sweep.excess(reference)), floor)
            axes.plot(sweep.photons, above, "o-", ms=4, color=colour, label=f"d = {sweep.width}")
        for tolerance in found.plan.tolerances:
            axes.axhline(tolerance, color=QUIET, lw=1, ls="--")
            where = found.plan.photons[0], tolerance
            axes.annotate(f"{tolerance:.0%}", where, color=QUIET, fontsize=8, va="bottom")
        axes.set_title(f"against {NAMES[reference]}", fontsize=9)
        axes.set_ylabel("perplexity above it, relative")
        _finished(figure, axes)
    return figure


def requirement_curve(found: Scaling) -> Figure:
    """Photons needed over d, log–log, with fit and guide: against 8 bit on the left, float on the right."""
    figure, panels = _panels()
    for axes, reference in zip(panels, REFERENCES, strict=True):
        laws = [law for law in found.laws if law.reference == reference]
        for law, colour in zip(laws, TOLERANCE_COLOURS, strict=False):
            _requirement(axes, found, law, colour)
        axes.plot([], [], color=QUIET, lw=0.8, ls=":", label="1/d guide")
        _width_ticks(axes, found)
        axes.set_title(f"against {NAMES[reference]}", fontsize=9)
        axes.set_ylabel(f"{PHOTONS}, needed", fontsize=9)
        _finished(figure, axes, "width d")
    return figure


def _requirement(axes: Axes, found: Scaling, law: Law, colour: str) -> None:
    known = [r for r in found.needs(law) if r.photons is not None]
    if not known:
        return
    x = np.array([r.width for r in known], float)
    y = np.array([r.photons for r in known], float)
    low = np.array([r.low if r.low is not None else r.photons for r in known], float)
    high = np.array([r.high if r.high is not None else r.photons for r in known], float)
    axes.errorbar(x, y, (np.maximum(y - low, 0), np.maximum(high - y, 0)), fmt="o", color=colour, capsize=3)
    line = np.geomspace(x.min() / 1.3, x.max() * 1.3, 50)
    if law.law is not None:
        axes.plot(line, law.law.photons(line), color=colour, label=f"within {law.tolerance:.0%}: {_exponent(law.law)}")
    middle = float(np.exp(np.mean(np.log(x * y))))
    axes.plot(line, middle / line, color=colour, lw=0.8, ls=":")


def cost_curves(found: Scaling, theory: SecondOrder) -> Figure:
    """C of every kind of product over d, log–log."""
    figure, axes = _axes(width_in=10.0)
    laws = {(t.kind, t.metric): t.law for t in theory.trends}
    x = np.array(theory.widths, float)
    for part, colour in zip(PARTS, ("black", *TOLERANCE_COLOURS), strict=False):
        costs = [cost_of(each, part) for each in theory.expansions]
        if not any(costs):
            continue
        y, error = np.array([(c.kl, c.kl_stderr) if c and c.kl > 0 else (np.nan, np.nan) for c in costs]).T
        law = laws[part, "kl"]
        label = f"KL: {PART_NAMES[part]} {'' if law is None else _power(law)}"
        axes.errorbar(x, y, error, fmt="o-", ms=4, lw=1 + (part == "all"), color=colour, capsize=3, label=label)
    total = np.array([c.total.loss if c.total.loss > 0 else np.nan for c in theory.expansions])
    law = laws["all", "loss"]
    axes.plot(x, total, "--", color="black", label=f"loss: all products {'' if law is None else _power(law)}")
    if theory.agreement:
        y, low, high = np.array([each.swept for each in theory.agreement]).T
        y = np.where(y > 0, y, np.nan)  # of a sweep too short to tell
        limits = (np.fmin(np.maximum(y - low, 0), y * 0.99), np.maximum(high - y, 0))
        axes.errorbar(x, y, limits, fmt="D", mfc="none", color="black", capsize=3, label="loss: the sweep")
    _width_ticks(axes, found)
    axes.set_ylabel("C: nats per token at one photon\nper MAC and pass")
    _finished(figure, axes, "width d")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def operand_curves(found: Scaling) -> Figure:
    """Photons for a stated error of one product over d: normal operands as lines, the models' own as points."""
    figure, axes = _axes(width_in=10.0)
    colours = dict(zip(dict.fromkeys(route.encoding for route in found.routes), TOLERANCE_COLOURS, strict=False))
    for route in found.routes:
        x, y = np.array(list(route.photons), float), np.array(list(route.photons.values()))
        colour = colours[route.encoding]
        if route.operands == "normal":
            axes.plot(x, y, color=colour, label=f"{route.encoding}: normal operands {_power(route.law)}")
        elif route.operands.startswith("linear"):
            axes.plot(x, y, "o", color=colour, label=f"{route.encoding}: models' linear layers {_power(route.law)}")
    _width_ticks(axes, found)
    axes.set_ylabel(f"{PHOTONS},\nfor {ERROR:.0%} error of a product")
    _finished(figure, axes, "width d")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def training_curves(found: Scaling) -> Figure:
    """Nats per token over the tokens seen."""
    figure, axes = _axes()
    for member, colour in zip(found.plan.members, _colours(found), strict=True):
        record = member.record
        if curve := record.get("curve"):
            config = record["config"]
            step, train, heldout = np.array(curve, float).T
            tokens = step * config["batch"] * config["context"]
            axes.plot(tokens, heldout, "o-", ms=3, color=colour, label=f"d = {member.width}")
            axes.plot(tokens, train, color=colour, lw=0.8)
    axes.set_yscale("linear")
    axes.set_xscale("linear")
    axes.set_ylabel("nats per token")
    return _finished(figure, axes, "tokens seen in training")


def _axes(width_in: float = 7.5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width_in, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    return figure, axes


def _panels() -> tuple[Figure, tuple[Axes, Axes]]:
    figure = Figure(figsize=(11.0, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
    return figure, (left, right)


def _width_ticks(axes: Axes, found: Scaling) -> None:
    axes.set_xticks([s.width for s in found.sweeps], [str(s.width) for s in found.sweeps])
    axes.xaxis.set_minor_locator(NullLocator())


def _finished(figure: Figure, axes: Axes, xlabel: str = PHOTONS) -> Figure:
    axes.set_xlabel(xlabel)
    axes.grid(alpha=0.3, which="both", lw=0.4)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _colours(found: Scaling) -> Sequence[tuple[float, ...]]:
    """From dark to light with the width; the same width has the same colour in every figure of a page."""
    return [tuple(colour) for colour in matplotlib.colormaps["viridis"](np.linspace(0.05, 0.85, len(found.sweeps)))]


def _exponent(law: PowerLaw) -> str:
    limits = law.scatter or law.bootstrap
    return _power(law) + ("" if limits is None else f", 95 % {limits[0]:+.2f} … {limits[1]:+.2f}")


def _power(law: PowerLaw) -> str:
    return f"d^({round(law.exponent, 2) + 0.0:+.2f})"  # −0.00 is 0.00


def _laws(found: Scaling) -> str:
    def between(limits: tuple[float, float] | None) -> str:
        return "–" if limits is None else f"{limits[0]:+.2f} … {limits[1]:+.2f}"

    rows = []
    for law in found.laws:
        fitted = law.law
        rows.append(
            (
                f"{law.tolerance:.0%} of {NAMES[law.reference]}",
                *(number(r.photons, ".3g") for r in found.needs(law)),
                "–" if fitted is None else f"{fitted.exponent:+.2f}",
                between(fitted.scatter if fitted else None),
                between(fitted.bootstrap if fitted else None),
                "" if fitted is None else ", ".join(f"{e:+.2f} without {d}" for d, e in fitted.without.items()),
            )
        )
    widths = [f"d = {sweep.width}" for sweep in found.sweeps]
    headers = ("within", *widths, "exponent", "95 %, scatter", "95 %, bootstrap", "leaving one out")
    remarks = [f"{law.tolerance:.0%} of {NAMES[law.reference]}: {law.reason}" for law in found.laws if law.reason]
    return table(headers, rows) + "".join(f"<p class=what>{text(remark)}</p>" for remark in remarks)


def _range(found: Scaling) -> str:
    first, last = found.sweeps[0].width, found.sweeps[-1].width
    return (
        f"The widths span a factor of {last / first:g} with one trained model each, on one text. The bootstrap "
        "interval holds text and noise, and takes the models as they are. The one from the scatter about the line also "
        "holds what another training would change, and is the one to quote. Neither says anything about other widths."
    )


def _curves_csv(found: Scaling) -> str:
    rows = [
        (sweep.width, photons, value, low, high, sweep.reference(), sweep.reference("digital"))
        for sweep, band in zip(found.sweeps, found.bands, strict=True)
        for photons, value, low, high in zip(sweep.photons, sweep.perplexity, *band, strict=True)
    ]
    return _csv(("width", "photons_per_mac", "perplexity", "low", "high", "int8", "digital"), rows)


def _requirements_csv(found: Scaling) -> str:
    rows = [(r.width, r.reference, r.tolerance, r.photons, r.low, r.high, r.reason) for r in found.requirements]
    return _csv(("width", "reference", "tolerance", "photons_per_mac", "low", "high", "reason"), rows)


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    out.write(f"# {UNIT}\n")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([header, *rows])
    return out.getvalue()
