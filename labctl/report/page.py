"""The page: verdict first, then figures in the order of the chain, then provenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from labctl.archive.reader import read_code_json, read_run_json
from labctl.engine.analyst import Desk
from labctl.hints import completed
from labctl.nodes.node import Titled
from labctl.nodes.registry import GRAPH, shows_products
from labctl.report.document import headline, section, text, wide, write_page
from labctl.report.drift import drift_of
from labctl.report.simulation import perplexity
from labctl.summary import BadFrame, Metric, Summary, number, reasons_out_of_spec

BAD_FRAMES_SHOWN = 40
TITLES = {"nightly": "Night", "measure": "Measurement", "calibrate": "Calibration", "demo": "Demonstration"}
"""By what a run was for."""


def write_report(path: Path, run: Path, summary: Summary, desk: Desk, options: Mapping[str, str] | None = None) -> Path:
    """Write the page; it holds its figures and needs no network.

    Parameters
    ----------
    path
        The page, usually ``report.html`` in the run folder.
    run
        The run folder.
    desk
        What was measured and found.
    options
        What the command was called with, as `labctl.hints.given` has it: what is to be typed next repeats it.
    """
    said = options or {}
    reasons = [completed(reason, said) for reason in reasons_out_of_spec(summary.nodes)]
    has_limits = any(metric.limit for node in summary.nodes for metric in node.metrics)
    badge, verdict = ("bad", "out of spec") if reasons else ("ok", "in spec") if has_limits else ("open", "no limits")
    body = [
        f"<h1>{text(_title(run, summary))}</h1>",
        f"<p>run {text(summary.run_id)}, bench {text(summary.bench)} ({text(_mode(run, summary))}), "
        f"started {_started(summary)} &nbsp; "
        f"<span class='verdict {badge}'>{verdict}</span></p>",
        *(f"<p class=out>{text(reason)}</p>" for reason in reasons),
        f"<p>{text(in_plain_words(summary, said))}</p>",
        _next_steps(run, summary, said),
        _headline(summary),
        *_gate(summary),
        *_bad_frames(summary.bad_frames),
        *(section(*part) for part in drift_of(run, summary)),
        *(section(*part) for part in _parts(summary, desk)),
        "<h2>Every figure</h2>",
        _metrics(summary.metrics),
        "<h2>Where it comes from</h2>",
        _provenance(run, summary),
    ]
    return write_page(path, f"labctl report {summary.run_id}", body)


def _mode(run: Path, summary: Summary) -> str:
    """Hardware or mock, as the run was begun; a page that is made again is one of a replay, which is no news here."""
    return str(read_run_json(run).get("mode") or summary.mode)


def in_plain_words(summary: Summary, options: Mapping[str, str]) -> str:
    """Whether the bench can be trusted, and what to do now, for somebody who knows none of the words below."""
    v, c = summary.validation, summary.calibration
    if v is None:
        return "The bench was measured, and no products of a model were shown: the figures below say how it is."
    said = (
        f"The bench was calibrated and then asked for {v.products} products of a real model that the calibration had "
        f"not seen. Results were off by {number(v.nrmse, '.2%')} of the range of their output (root mean square). "
    )
    if reasons_out_of_spec(summary.nodes):
        said += "Do not trust it yet: what is out of the station's limits, and what to do, stands above. "
    else:
        said += "Every figure that has a limit is within it. "
    if c is None:
        return said + "There is no calibration to use."
    use = completed(f"labctl simulate {c.path}", options)
    now = "is in use from now on" if c.applied else "is kept, and not in use"
    return said + f"The calibration {now}. To run a whole model on it: {use}"


def _parts(summary: Summary, desk: Desk) -> Iterator[Titled]:
    """Products first, then the whole model, then the nodes that they rest on, in the order of the graph."""
    found = [node for node in GRAPH if node in desk.results]
    of_products = [node for node in found if shows_products([node])]
    for node in of_products:
        yield from node.figures(desk.evidence, desk.results, desk.setting)
    if summary.simulation is not None:
        yield Titled(
            "The whole Transformer in light",
            "Perplexity of the model with every linear layer and attention product on this bench, against the digital "
            "model and 8-bit operands. Lower is better.",
            perplexity(summary.simulation),
        )
    for node in found:
        if node not in of_products:
            yield from node.figures(desk.evidence, desk.results, desk.setting)


def _headline(summary: Summary) -> str:
    cells: list[tuple[str, str]] = []
    if v := summary.validation:
        cells += [
            (number(v.effective_bits, ".1f"), "effective bits, log₂(range / rms)"),
            (number(v.nrmse, ".2%"), "rms error, of the output range"),
            (number(v.chi2_per_dof, ".3f"), "χ² per degree of freedom (1: noise as predicted)"),
            (number(v.coverage95, ".1%"), "of outputs inside their 95 % interval"),
            (str(v.products), "held-out products"),
        ]
    if s := summary.simulation:
        p = s.perplexity
        cells.append(
            (
                f"{number(p.digital, '.2f')} → {number(p.optical, '.2f')}",
                f"perplexity, digital → optical at {number(s.photons_per_mac, '.0f')} photons/MAC",
            )
        )
    return headline(cells)


def _gate(summary: Summary) -> Iterator[str]:
    """Whether the bench uses the calibration from now on, and what decided it."""
    c = summary.calibration
    if c is None or c.applied is None:
        return
    yield f"<h2>Calibration {'applied' if c.applied else 'not applied'}</h2><p class=what>{text(c.why)}</p>"
    if v := c.compared:
        rows = (
            ("this calibration", c.id, number(v.chi2_per_dof, ".3f"), ""),
            ("the one before", v.id, number(v.chi2_per_dof_before, ".3f"), ""),
            ("before − this, of −2 log likelihood per reading", f"{v.products} products and probe frames in pairs",
             number(v.difference, "+.4f"), f"± {number(v.stderr, '.4f')}"),
        )  # fmt: skip
        cells = "".join(f"<tr><td>{text(a)}<td>{text(b)}<td class=n>{text(x)}<td>{text(e)}" for a, b, x, e in rows)
        yield wide(f"<tr><td><td><th>held-out χ²/dof<td></tr>{cells}")


def _bad_frames(frames: list[BadFrame]) -> Iterator[str]:
    """Each frame that was not what was asked for, and what it was."""
    if not frames:
        return
    yield (
        "<h2>Bad frames</h2><p class=what>Frames that are not what was asked for, by the likelihood of what else they "
        "could be. Of probe scans they are left out of the fit; their products are left out while they are few.</p>"
    )
    rows = "".join(
        f"<tr><td>{text(f.scan)}<td class=n>{f.index}<td>{text(f.reason)}"
        f"<td class=n>{number(f.chi2_per_dof, '.4g')}<td>{text(f.evidence)}"
        for f in frames[:BAD_FRAMES_SHOWN]
    )
    yield wide(f"<tr><th>scan<th>frame<th>reason<th>χ²/dof<th>evidence</tr>{rows}")
    if len(frames) > BAD_FRAMES_SHOWN:
        yield f"<p>… and {len(frames) - BAD_FRAMES_SHOWN} more, in summary.json.</p>"


def _metrics(metrics: list[Metric]) -> str:
    rows = "".join(
        f"<tr><td>{text(m.name)}<td class=n>{text(value)}<td class=n>{text(error)}<td>{text(unit)}"
        f"<td>{text(m.limit or '')}"
        f"<td>{'<span class=out>out of spec</span>' if m.verdict == 'out_of_spec' else 'ok' if m.limit else ''}"
        for m, (value, error, unit) in ((m, m.parts) for m in metrics)
    )
    return wide(f"<tr><th>figure<th>value<th>standard error<th>unit<th>limit<td></tr>{rows}")


def _provenance(run: Path, summary: Summary) -> str:
    info, code = read_run_json(run), read_code_json(run)
    git = code.get("git") or {}
    rows = {
        "run folder": run,
        "calibration": summary.calibration.id if summary.calibration else "none exported",
        "its parent": summary.calibration.parent if summary.calibration else "",
        "valid until": summary.calibration.valid_until if summary.calibration else "",
        "station (SHA-256)": info.get("config_sha256"),
        "workload (SHA-256)": info.get("workload_sha256"),
        "code": f"labctl {code.get('labctl')}, commit {git.get('commit') or 'unknown'}"
        + (" with local changes" if git.get("dirty") else ""),
        "python": f"{code.get('python')} on {code.get('platform')}",
        "packages": ", ".join(f"{name} {version}" for name, version in code.get("packages", {}).items() if version),
        "host": f"{code.get('user')}@{code.get('host')}",
    }
    return wide("".join(f"<tr><th>{text(k)}<td>{text(v)}" for k, v in rows.items() if v))


def _next_steps(run: Path, summary: Summary, options: Mapping[str, str]) -> str:
    short = run.name.rpartition("-")[2]
    steps = [f"labctl run verify {short}", f"labctl fit {short}"]
    if summary.calibration:
        steps.append(f"labctl simulate {summary.calibration.path}")
    else:
        steps.append("labctl devices list")
    return "<p>Next: " + " &nbsp; ".join(f"<code>{text(completed(step, options))}</code>" for step in steps) + "</p>"


def _title(run: Path, summary: Summary) -> str:
    """``Night of 2026-11-29, bench-a``"""
    purpose = str(read_run_json(run).get("purpose", "run"))
    what = TITLES.get(purpose, f"Run of labctl {purpose}")
    return f"{what} of {summary.started:%Y-%m-%d}, {summary.bench}" if summary.started else f"{what}, {summary.bench}"


def _started(summary: Summary) -> str:
    return f"{summary.started:%Y-%m-%d %H:%M:%S} UTC" if summary.started else "–"
