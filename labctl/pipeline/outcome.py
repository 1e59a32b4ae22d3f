"""What a person reads when a run is over."""

from __future__ import annotations

from pathlib import Path

from labctl.summary import Summary


def closing_lines(summary: Summary, page: Path | None) -> str:
    """Verdict, the figures that decide it, and what to type next."""
    lines = [f"verdict {summary.verdict} (exit {summary.exit_code})"]
    lines += [f"  {node.name}: {node.reason}" for node in summary.nodes if node.check == "out_of_spec"]
    if v := summary.validation:
        lines.append(
            f"  {v.products} held-out products: {v.nrmse:.2%} rms of range ({v.effective_bits:.1f} effective bits), "
            f"χ²/dof {v.chi2_per_dof:.3f}, {v.coverage95:.1%} inside 95 %, {len(v.bad_frames)} bad frames"
        )
    if s := summary.simulation:
        p = s.perplexity
        lines.append(
            f"  perplexity: digital {p.digital:.2f}, 8 bit {p.int8:.2f}, optical {p.optical:.2f} "
            f"at this bench's {s.photons_per_mac:.0f} photons/MAC"
        )
        at = ", ".join(f"{x.perplexity:.2f} at {x.photons_per_mac:g}" for x in s.levels if x.perplexity is not None)
        lines += [f"  with other light: {at} photons/MAC"] if at else []
    if c := summary.calibration:
        lines.append(f"  calibration {c.id}, valid until {c.valid_until:%Y-%m-%d %H:%M} UTC:\n    {c.path}")
    if page:
        lines.append(f"  report: {page}")
    return "\n".join(lines)
