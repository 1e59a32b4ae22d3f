"""``labctl drift``: the control charts of a bench, and what people decide about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.cli.handler import RUNS, ForceOption, RunsOption, command
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.night.charts import Chart

app = typer.Typer(help="Control charts of nights: show, acknowledge, begin anew.", no_args_is_help=True)

DRAWN_FROM = 3
"""Nights from which on a chart shows more than its table."""

MetricArgument = Annotated[str, typer.Argument(metavar="METRIC", help="As labctl drift show names it.")]
MetricOrAll = Annotated[
    str | None, typer.Argument(metavar="METRIC", help="As labctl drift show names it; all if left out.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for whoever reads the chart next year.")]


@command(app)
def show(
    lab: Lab,
    metric: MetricOrAll = None,
    figure: Annotated[
        Path | None, typer.Option("--figure", metavar="FILE", help="Draw the charts: a .png, .svg or .pdf.")
    ] = None,
    force: ForceOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Show where the charts stand, night by night. Opens no device."""
    from calibration.statistics.control_chart import ALARM_AT
    from labctl.night.charts import chart_of, charts
    from labctl.night.textchart import LEGEND, text_chart

    bench = lab.station().bench
    found = [chart_of(runs, bench, metric)] if metric else charts(runs, bench)
    if figure is not None:
        _draw(found, figure, force)
    if not lab.console.json_mode:
        lab.console.say(f"bench {bench}\n")
        columns = ("metric", "value", "centre", "z", "state", "night", "since")
        lab.console.table(columns, [_row(chart) for chart in found])
        lab.console.say(f"\nz: moving average from the centre, in its own sigmas; alarm beyond {ALARM_AT:g}")
        for chart in found:
            if len(chart.points) >= DRAWN_FROM:
                lab.console.say(f"\n{chart.metric}{_unit(chart)}: {chart.title}")
                lab.console.say("\n".join(text_chart(chart)))
        if any(len(chart.points) >= DRAWN_FROM for chart in found):
            lab.console.say(f"\n{LEGEND[: LEGEND.index('   - ')]}\n{LEGEND[LEGEND.index('- centre') :]}")
        elif any(chart.points for chart in found):
            lab.console.say(f"charts are drawn from {DRAWN_FROM} nights on")
        else:
            lab.console.say("\nno night has been measured   ·   labctl nightly run")
        if figure is not None:
            lab.console.say(f"figure: {figure}")
    lab.console.result({"bench": bench, "charts": [_document(chart) for chart in found]})


@command(app)
def ack(lab: Lab, metric: MetricArgument, reason: ReasonOption = "", runs: RunsOption = RUNS) -> None:
    """Acknowledge an alarm. It is silent until the chart has returned and fires anew."""
    from labctl.errors import UsageError
    from labctl.night.charts import gated_chart
    from labctl.night.decisions import decide

    bench = lab.station().bench
    state = gated_chart(runs, bench, metric).state()
    if state.state != "alarm":
        raise UsageError(
            f"the chart of {metric} shows no alarm",
            device=bench,
            action="acknowledging it",
            expected="an alarm",
            seen=state.state.replace("_", " "),
            safe="nothing was written",
            hint=f"labctl drift show {metric}",
        )
    decision = decide(runs, bench, "ack", metric, reason)
    lab.console.result(decision, f"{metric} of {bench}: acknowledged; it fires anew after it has returned")


@command(app)
def rebaseline(lab: Lab, metric: MetricOrAll = None, reason: ReasonOption = "", runs: RunsOption = RUNS) -> None:
    """Begin a new phase with the next night. What the chart has learned counts no more."""
    from labctl.night.charts import gated_chart
    from labctl.night.decisions import decide

    bench = lab.station().bench
    if metric is not None:
        gated_chart(runs, bench, metric)
    decision = decide(runs, bench, "rebaseline", metric, reason)
    lab.console.result(decision, f"{metric or 'all charts'} of {bench}: a new phase begins with the next night")


def _draw(found: list[Chart], path: Path, force: bool) -> None:
    from labctl.archive.outputs import PICTURE, require_output
    from labctl.errors import UsageError
    from labctl.report.document import save_figure
    from labctl.report.drift import drift_figure

    kinds = (".png", ".svg", ".pdf")
    if path.suffix.lower() not in kinds:
        raise UsageError("no such kind of figure", expected=f"a file that ends in {', '.join(kinds)}", seen=str(path))
    require_output(path, PICTURE, force=force)
    if not any(chart.points for chart in found):
        raise UsageError("there is nothing to draw: no night has been measured", hint="labctl nightly run")
    save_figure(path, drift_figure([chart for chart in found if chart.points]), path.suffix.lower())


def _row(chart: Chart) -> tuple[str, ...]:
    from calibration.statistics.control_chart import LEARNING_NIGHTS
    from labctl.summary import number

    state = chart.state()
    said = state.state.replace("_", " ") if chart.is_gated else "not gated"
    if said == "learning":
        said += f" {state.nights} of {LEARNING_NIGHTS}"
    since = state.phase_since[:10] if state.phase_since and chart.is_gated else "–"
    return (
        chart.metric,
        number(state.value, ".6g"),
        number(state.centre, ".6g"),
        number(state.z, "+.1f"),
        said,
        str(state.nights),
        since,
    )


def _unit(chart: Chart) -> str:
    return "" if chart.unit in ("", "1") else f" [{chart.unit}]"


def _document(chart: Chart) -> dict[str, Any]:
    points = [
        {
            "run_id": night.run_id,
            "started": night.started.isoformat(),
            "value": point.value,
            "stderr": night.stderr or None,
            "phase": point.phase,
            "state": point.state if chart.is_gated else None,
            "average": point.average,
            "centre": point.baseline.centre if point.baseline else None,
            "sigma": point.baseline.sigma if point.baseline else None,
            "spread": point.spread,
            "z": point.z,
            "begins": night.begins or None,
            "calibration": night.calibration,
        }
        for night, point in zip(chart.nights, chart.points, strict=True)
    ]
    return {"gated": chart.is_gated, "title": chart.title, **chart.state().model_dump(mode="json"), "points": points}
