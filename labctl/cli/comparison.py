"""Two runs side by side, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labctl.console import Console
    from labctl.engine.compare import Changed, Comparison


def show_comparison(console: Console, found: Comparison) -> None:
    """Print a comparison: the figures as a table, then only what differs."""
    console.say(f"A  {found.a}  {found.status.a}\nB  {found.b}  {found.status.b}\n")
    rows = [(f.name, _number(f.a), _number(f.b), "" if f.z is None else f"{f.z:+.1f}", f.unit) for f in found.figures]
    if rows:
        console.table(("figure", "A", "B", "(B − A)/std. error", "unit"), rows)
        console.say("")
    for name, changes in (("nodes", found.nodes), ("station", found.station), ("code", found.code)):
        _list(console, name, changes)
    console.say(f"calibration: {found.calibrations.a or 'none'} → {found.calibrations.b or 'none'}")
    if found.changed is None:
        console.say(f"  not compared: {found.why_not}")
    else:
        console.say(f"  changed: {', '.join(found.changed) or 'nothing'}")


def _list(console: Console, name: str, changes: Sequence[Changed]) -> None:
    if not changes:
        console.say(f"{name}: the same")
        return
    console.say(f"{name}:")
    for change in changes:
        console.say(f"  {change.name}: {_word(change.a)} → {_word(change.b)}")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.5g}"


def _word(value: Any) -> str:
    text = "–" if value is None else str(value)
    return text if len(text) <= 40 else text[:39] + "…"
