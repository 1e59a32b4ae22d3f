"""What a person reads when a run is over."""

from __future__ import annotations

from pathlib import Path

from labctl.summary import Summary, number, reasons_out_of_spec


def closing_lines(summary: Summary, page: Path | None) -> str:
    """Verdict, the figures that decide it, and what to type next."""
    lines = [f"verdict {summary.verdict} (exit {summary.exit_code})"]
    lines += [f"  {reason}" for reason in reasons_out_of_spec(summary.nodes)]
    for name, choice in summary.structure.items():
        lines += [f"  {name}: {choice.chosen}", *(f"    {reason}" for reason in choice.reason.split("; "))]
    if v := summary.validation:
        error, bits = number(v.nrmse, ".2%"), number(v.effective_bits, ".1f")
        chi2, inside = number(v.chi2_per_dof, ".3f"), number(v.coverage95, ".1%")
        lines.append(f"  {v.products} held-out products: {error} rms of range ({bits} effective bits),")
        lines.append(f"    χ²/dof {chi2}, {inside} inside 95 %, {len(v.bad_frames)} bad frames")
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
        lines.append(f"  calibration {c.id}, valid until {c.valid_until:%Y-%m-%d %H:%M} UTC:\n    {c.path}")
    if page:
        lines.append(f"  report: {page}")
    return "\n".join(lines)
