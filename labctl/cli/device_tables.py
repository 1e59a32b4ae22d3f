"""What ``labctl devices`` shows of backends and of what they found, as tables of rich."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from drivers.backend import Proof
from drivers.probe import Outcome, ProbeResult
from drivers.registry import BackendInfo
from labctl.instruments.listing import families_named, label, state

_STATE_STYLES = {"ok": "green", "not installed": "yellow", "broken": "red"}
_PROOF_STYLES = {Proof.LIVE: "green", Proof.EMULATOR: "green", Proof.FAKE: "bold yellow", Proof.NOT_RUN: "dim"}
_OUTCOME_STYLES = {
    Outcome.FOUND: "green",
    Outcome.NOT_INSTALLED: "yellow",
    Outcome.BROKEN: "red",
    Outcome.CRASHED: "red",
    Outcome.NO_ANSWER: "red",
}


def overview(backends: Sequence[BackendInfo]) -> RenderableType:
    """A few lines for each backend: state, roles, what it lacks, the names of what it reaches by proof."""
    table = _table("backend", "state", "roles", "reaches")
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    table.columns[2].max_width = 12
    table.columns[3].ratio = 1
    for backend in backends:
        table.add_row(backend.name, _state(backend), ", ".join(backend.roles) or "–", _reaches(backend))
    return table


def details(backends: Sequence[BackendInfo], words: Sequence[str]) -> RenderableType:
    """Everything about a few backends, each family with what proves it."""
    parts: list[RenderableType] = []
    for backend in backends:
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim", no_wrap=True)
        facts.add_column(ratio=1)
        facts.add_row("state", _state(backend))
        if backend.broken:
            facts.add_row("why", Text(backend.broken))
        facts.add_row("roles", ", ".join(backend.roles) or "none: not for the bench")
        facts.add_row("from", f"{backend.distribution}, {backend.target}")
        if backend.install:
            facts.add_row("install", backend.install)
        facts.add_row("finds devices", "yes: labctl devices probe " + backend.name if backend.discovers else "no")
        if backend.warning:
            facts.add_row("warning", Text(backend.warning, "yellow"))
        parts += [Text(backend.name, "bold"), Padding(facts, (0, 0, 0, 2))]
        if backend.families:
            parts.append(Padding(_families(backend, words), (1, 0, 0, 2)))
        parts.append(Text())
    return Group(*parts[:-1])


def outcomes(results: Sequence[ProbeResult], asked_for: Collection[str]) -> RenderableType:
    """One line for each backend that looked; those that cannot look share one unless they were asked for by name."""
    silent = [one.backend for one in results if one.outcome is Outcome.CANNOT_LOOK and one.backend not in asked_for]
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for result in results:
        if result.backend not in silent:
            table.add_row(result.backend, Text(_words(result), _OUTCOME_STYLES.get(result.outcome, "dim")))
    if not silent:
        return table
    line = Text("cannot look for devices, which are named by hand: " + ", ".join(silent), "dim")
    return Group(table, line) if table.row_count else line


def _words(result: ProbeResult) -> str:
    if result.outcome is Outcome.FOUND:
        return f"{len(result.devices)} found"
    if result.outcome in (Outcome.NOT_INSTALLED, Outcome.BROKEN):
        return f"{result.outcome}: {result.detail}"
    return result.detail or result.outcome.value


def _families(backend: BackendInfo, words: Sequence[str]) -> Table:
    """Each family with its proof, and below it by what that is proven."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for family in families_named(backend, words) or backend.families:
        by = "; ".join(filter(None, (family.proven_by, family.test)))
        table.add_row(_proof(family.proof), Text.assemble(family.name, (f"\n{by}" if by else "", "dim")))
    return table


def _reaches(backend: BackendInfo) -> RenderableType:
    lines: list[RenderableType] = []
    if backend.broken:
        lines.append(Text(backend.broken, _STATE_STYLES[state(backend)]))
    for proof in Proof:
        names = [family.name for family in backend.families if family.proof is proof]
        if names:
            lines.append(Text.assemble(_proof(proof), ": ", "; ".join(names)))
    if backend.warning:
        lines.append(Text(f"warning: {backend.warning}", "yellow"))
    return Group(*lines) if lines else Text("–", "dim")


def _state(backend: BackendInfo) -> Text:
    return Text(state(backend), _STATE_STYLES[state(backend)])


def _proof(proof: Proof) -> Text:
    return Text(label(proof), _PROOF_STYLES[proof])


def _table(*headers: str) -> Table:
    table = Table(*headers, box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", expand=False)
    for column in table.columns:
        column.overflow = "fold"
    return table
