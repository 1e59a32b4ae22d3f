"""What a person reads when a run is over."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from labctl.archive.retention import NIGHTLY
from labctl.console import WIDTH_MAX, wrapped
from labctl.summary import Summary, number, reasons_out_of_spec

SHOWN = 5


def closing_lines(summary: Summary, page: Path | None, width: int = WIDTH_MAX) -> str:
    """Verdict, the figures that decide it, and what to type next; words in lines of at most ``width`` columns."""
    lines = [f"verdict {summary.verdict} (exit {summary.exit_code})"]
    lines += [wrapped(f"  {reason}", width, " " * 4) for reason in reasons_out_of_spec(summary.nodes)]
    for name, choice in summary.structure.items():
        lines += [
            f"  {name}: {choice.chosen}",
            *(wrapped(f"    {reason}", width, " " * 6) for reason in choice.reason.split("; ")),
        ]
    if v := summary.validation:
        error, bits = number(v.nrmse, ".2%"), number(v.effective_bits, ".1f")
        chi2, inside = number(v.chi2_per_dof, ".3f"), number(v.coverage95, ".1%")
        lines.append(f"  {v.products} held-out products: {error} rms of range ({bits} effective bits),")
        lines.append(f"    χ²/dof {chi2}, {inside} inside 95 %")
    lines += [f"  {line}" for line in bad_frame_lines(summary)]
    lines += [f"  {line}" for line in drift_lines(summary)]
    if s := summary.simulation:
        p = s.perplexity
        lines.append(
            f"  perplexity: digital {number(p.digital, '.2f')}, 8 bit {number(p.int8, '.2f')}, "
            f"optical {number(p.optical, '.2f')} "
            f"at this bench's {number(s.photons_per_mac, '.0f')} photons/MAC"
        )
        at = ", ".join(f"{x.perplexity:.2f} at {x.photons_per_mac:g}" for x in s.levels if x.perplexity is not None)
        lines += [f"  with other light: {at} photons/MAC"] if at else []
    if c := summary.calibration:
        until = f", valid until {c.valid_until:%Y-%m-%d %H:%M} UTC" if c.valid_until else ""
        lines.append(f"  calibration {c.id}{until}:\n    {c.path}")
        if c.applied is not None:
            lines.append(f"  {'applied' if c.applied else 'not applied'}: {c.why}")
    if page:
        lines.append(f"  report: {page}")
    if summary.run_id and f"-{NIGHTLY}-" in summary.run_id:
        lines.append("  next: labctl nightly status")
    elif c:
        lines.append(f"  next: labctl simulate {c.path}")
    elif summary.run_id:
        lines.append(f"  next: labctl run show {summary.run_id.rpartition('-')[2]}")
    return "\n".join(lines)


def drift_lines(summary: Summary) -> list[str]:
    """One line for each control chart that fires."""
    return [
        f"drift: {chart.metric} {number(chart.value, '.4g')} {'' if chart.unit == '1' else chart.unit}".rstrip()
        + f", its average {number(chart.z, '+.1f')} σ from the centre (alarm at {number(chart.limit, 'g')})"
        + f"   ·   labctl drift show {chart.metric}"
        for chart in summary.drift
        if chart.state == "alarm"
    ]


def bad_frame_lines(summary: Summary) -> list[str]:
    """``bad frames in products: 2 stale (90, 170), 1 garbage (333)``, one line for each scan that has any."""
    lines = []
    for scan in dict.fromkeys(frame.scan for frame in summary.bad_frames):
        frames = [frame for frame in summary.bad_frames if frame.scan == scan]
        kinds = Counter(frame.reason for frame in frames)
        parts = []
        for reason, count in kinds.most_common():
            at = [str(frame.index) for frame in frames if frame.reason == reason]
            shown = ", ".join(at[:SHOWN]) + (", …" if len(at) > SHOWN else "")
            parts.append(f"{count} {reason} ({shown})")
        lines.append(f"bad frames in {scan}: {', '.join(parts)}")
    return lines
