"""Which code a node depends on: what its module imports, and what that imports, read from the sources themselves."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from labctl.nodes.node import Node
from labctl.nodes.registry import GRAPH

ROOT = Path(__file__).parents[2]
FOLLOWED = ("groundwork", "calibration", "labctl.nodes", "labctl.bench.steps")
"""Where what a node shows and computes is written; the rest of the suite carries it out, and changes no result."""
DRAWING = "labctl.nodes.figures"
"""Draws results, and changes none."""


def source_hashes() -> dict[str, str]:
    """``calibration.machine.lut`` → first 16 hexadecimal digits of its source's SHA-256, for all that is followed."""
    names = set[str]()
    for start in FOLLOWED:
        path = _path(start)
        folder = path.parent if path and path.name == "__init__.py" else None
        names |= {_name(file) for file in folder.rglob("*.py")} if folder else {start}
    return {name: _hash(path) for name in sorted(names) if _followed(name) and (path := _path(name))}


@cache
def modules_of(node: Node[Any]) -> frozenset[str]:
    """Names of the modules that a node's result depends on.

    The modules of other nodes are left out: where one of them changes, that node is due, and so are its children.
    """
    others = {type(other).__module__ for other in GRAPH} - {type(node).__module__}
    found: set[str] = set()
    waiting = [type(node).__module__]
    while waiting:
        name = waiting.pop()
        if name in found or name in others or not _followed(name):
            continue
        found.add(name)
        waiting += _imports(name)
    return frozenset(found)


@cache
def _imports(name: str) -> tuple[str, ...]:
    """Modules that a module imports anywhere; of a package's own names, the package."""
    path = _path(name)
    if path is None:
        return ()
    found: list[str] = []
    for statement in _statements(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(statement, ast.Import):
            found += [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            for alias in statement.names:
                inner = f"{statement.module}.{alias.name}"
                found.append(inner if _path(inner) else statement.module)
    return tuple(module for module in dict.fromkeys(found) if _followed(module))


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Every statement, those inside of others included; nothing of what they are made of, which is most of a module."""
    for statement in body:
        yield statement
        for field in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, field, []))
        for branch in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from _statements(branch.body)


def _followed(name: str) -> bool:
    return name != DRAWING and any(name == start or name.startswith(f"{start}.") for start in FOLLOWED)


def _path(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:16]
