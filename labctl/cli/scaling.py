"""``labctl scaling``: perplexity against light for a family of widths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.completing import calibration_names
from labctl.cli.family_law import LAW, NUMBERS, LawOptions, show_law, write_law
from labctl.cli.handler import CALIBRATION, RUNS, TOKENS, LightOption, RunsOption, TextOption, TokensOption, command
from labctl.cli.workers import WorkerOptions
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.studies.scaling import Scaling
    from labctl.studies.second_order import SecondOrder, Trend


SHORT = {"all": "all", "ffn": "FFN", "qkvo": "QKVO", "qk": "Q·Kᵀ", "av": "att·V"}
NAMES = {"int8": "8 bit", "digital": "float"}


def register(app: typer.Typer) -> None:
    """Add the command to the top of the command line."""
    command(app)(scaling)


@dataclass(frozen=True)
class SweepOptions:
    """What is swept, and how near to the digital model a width must come."""

    photons: LightOption = None
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Noise seeds at every level.")] = 3
    tokens: TokensOption = TOKENS
    tolerance: Annotated[
        list[float] | None,
        typer.Option("--tolerance", help="Perplexity above the digital one; repeatable; 0.01 and 0.05 if left out."),
    ] = None


def scaling(
    lab: Lab,
    *,
    machine: Annotated[
        str,
        typer.Argument(
            metavar="CALIB", help=f"{CALIBRATION}; or a preset (labctl presets).", autocompletion=calibration_names
        ),
    ],
    model: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="MODEL", help="Checkpoints, folders, GGUF or llama2.c files, one of each width; the shipped family."
        ),
    ] = None,
    text: TextOption = None,
    sweep: SweepOptions,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of points, numbers and report.")] = Path(
        "scaling"
    ),
    report: Annotated[bool, typer.Option("--report", help="Write report.html and its numbers as CSV.")] = False,
    law: LawOptions,
    workers: WorkerOptions,
    runs: RunsOption = RUNS,
) -> None:
    """Perplexity against photons per MAC for each width.

    With the photons that each width needs, and the power law.

    Points that an earlier sweep computed are not computed again.
    """
    from labctl.archive.atomic import atomic_write_json
    from labctl.console import plain
    from labctl.report.scaling import write_scaling_report
    from labctl.resources import shipped_family
    from labctl.studies.scaling import Plan, load_members, scale, sweep_levels, tolerated
    from labctl.studies.simulate import any_machine_of
    from simulation.benches.opening import open_bench
    from simulation.scaling.points import PointStore

    _require_use(sweep, law, text)
    _require_models(model or [])
    _require_outputs(output, report, law, [*(model or []), text])
    bench = any_machine_of(machine, runs)
    if law.arms is not None:
        show_law(lab, bench, law, model or [], output, report=report)
        return
    levels, tolerances = sweep_levels(sweep.photons or ()), tolerated(sweep.tolerance)
    for level in levels:  # a light that the bench cannot have is refused before anything is read
        open_bench(bench, level, "exact")
    members = load_members(model or shipped_family(), text, sweep.tokens)
    plan = Plan(members, bench, levels, tuple(range(sweep.seeds)), sweep.tokens, tolerances)
    with lab.console.progress("sweeping", sum(len(list(plan.points(m))) + 1 for m in members)) as bar:
        found = scale(plan, PointStore(output / "points"), workers.compute(), bar.advance)
    document, numbers, page = found.document(), output / "scaling.json", output / "report.html"
    atomic_write_json(numbers, plain(document))
    if report:
        write_scaling_report(page, found)
    write_law(lab, bench, members, text, min(sweep.tokens, law.document_tokens), output)
    if not lab.console.json_mode:
        lab.console.say(f"{found.computed} points computed, {found.reused} from {output / 'points'}")
        _show(lab, found)
    written = str(page if report else numbers)
    lab.console.result(document, f"{lab.console.laid_out(*_needs(found))}\n{written}" if lab.console.quiet else written)


def _require_use(sweep: SweepOptions, law: LawOptions, text: Path | None) -> None:
    """Refuse options that would do nothing: those of a sweep where none is made, and the other way round."""
    from labctl.cli.unused import refuse_unused

    if law.arms is None:
        options: dict[str, object] = {"--beside": law.beside}
        owner, hint = "--arms", "--arms FOLDER --beside TEXT"
    else:
        owner, hint = "a sweep", "leave it out; --beside and --document-tokens say what models of arms read"
        options = {"--text": text, "--photons-per-mac": sweep.photons, "--tolerance": sweep.tolerance}
    refuse_unused(options, owner, hint)


def _require_models(named: list[Path]) -> None:
    """Refuse a page among the models: ``--report`` of other commands takes its name, and here stands a model."""
    from labctl.errors import UsageError

    for path in named:
        if path.suffix == ".html":
            folder = path.parent if path.parent.name else path.with_suffix("")
            raise UsageError(
                "a page is no model",
                expected="--report without a name: the page is report.html in the folder of -o",
                seen=str(path),
                hint=f"-o {folder} --report",
            )


def _require_outputs(output: Path, report: bool, law: LawOptions, read: list[Path | None]) -> None:
    """Refuse a folder that holds files of somebody else under the names that will be written."""
    from labctl.archive.outputs import PAGE, document, require_output, require_output_folder, table

    require_output_folder(output)
    made = {LAW: document("labctl.scaling-law/")}
    made |= {NUMBERS: document("labctl.family-law/")} if law.arms else {"scaling.json": document("labctl.scaling/")}
    if report:
        made |= {"report.html": PAGE}
    if report and not law.arms:
        made |= {"curves.csv": table("width,"), "requirements.csv": table("width,")}
    for name, kind in made.items():
        require_output(output / name, kind, read)


def _needs(found: Scaling) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headers and rows: the photons that each width needs, and the power law of each column."""
    columns = [[_need(r.photons, r.low, r.high) for r in found.needs(law)] for law in found.laws]
    rows = [(f"d = {sweep.width}", *cells) for sweep, *cells in zip(found.sweeps, *columns, strict=True)]
    fitted = [law.law for law in found.laws]
    rows.append(("power law", *("–" if law is None else f"d^({law.exponent:+.2f})" for law in fitted)))
    rows.append(("its 95 %", *(_limits(None if law is None else law.scatter or law.bootstrap) for law in fitted)))
    return ("within", *(f"{law.tolerance:.0%} of {NAMES[law.reference]}" for law in found.laws)), rows


def _show(lab: Lab, found: Scaling) -> None:
    from labctl.studies.scaling_words import remarks

    lab.console.say("photons per MAC and pass at the weight plane to stay near the digital perplexity:")
    lab.console.table(*_needs(found))
    for law in found.laws:
        if law.reason:
            lab.console.say(f"{law.tolerance:.0%} of {NAMES[law.reference]}: {law.reason}")
    for remark in remarks(found):
        lab.console.say(remark)
    if found.second_order is not None:
        _show_second_order(lab, found.second_order)


def _show_second_order(lab: Lab, found: SecondOrder) -> None:
    from labctl.studies.second_order import PART_NAMES, cost_of

    lab.console.say("shot noise alone, to second order: n photons cost C/n nats per token; C of the KL divergence:")
    laws = {(trend.kind, trend.metric): trend for trend in found.trends}
    parts = [part for part in PART_NAMES if any(cost_of(each, part) for each in found.expansions)]
    rows: list[tuple[str, ...]] = []
    for width, each in zip(found.widths, found.expansions, strict=True):
        costs = [cost_of(each, part) for part in parts]
        rows.append((f"d = {width}", *("–" if c is None else f"{c.kl:.3g}±{c.kl_stderr:.1g}" for c in costs)))
    trends = [_trend_words(laws[part, "kl"]) for part in parts]
    rows.append(("power law", *(power for power, _ in trends)))
    rows.append(("its 95 %", *(limits.replace(" … ", "…") for _, limits in trends)))
    lab.console.table(("C", *(SHORT[part] for part in parts)), rows)
    power, limits = _trend_words(laws["all", "loss"])
    known = f" {power}, 95 % {limits}" if laws["all", "loss"].law else ""
    lab.console.say(f"C of the loss, by theory and by the sweep:{known}")
    swept = {each.width: _between(each.swept) for each in found.agreement}
    lab.console.table(
        ("", "C of the loss", "by the sweep", "budget saves"),
        [
            (
                f"d = {width}",
                f"{each.total.loss:.3g} ± {each.total.loss_stderr:.1g}",
                swept.get(width, "–"),
                f"{each.gain_of_budget:.2f} ×",
            )
            for width, each in zip(found.widths, found.expansions, strict=True)
        ],
    )


def _between(value: tuple[float, float, float]) -> str:
    if math.isnan(value[0]):
        return "too dim"
    return f"{value[0]:.2g} (…)" if math.isnan(value[1]) else f"{value[0]:.2g} ({value[1]:.2g}–{value[2]:.2g})"


def _trend_words(trend: Trend) -> tuple[str, str]:
    if trend.law is None:
        return "–", "–"
    return f"d^({trend.law.exponent:+.2f})", _limits(trend.law.scatter or trend.law.bootstrap)


def _need(photons: float | None, low: float | None, high: float | None) -> str:
    if photons is None:
        return "–"
    return f"{photons:.3g} ({'…' if low is None else f'{low:.3g}'}–{'…' if high is None else f'{high:.3g}'})"


def _limits(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:+.2f} … {interval[1]:+.2f}"
