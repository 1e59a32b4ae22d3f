"""Which code made a number: a digest of the modules that it can depend on."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

ROOTS = (
    "simulation.conversion.optical",
    "simulation.evaluation.perplexity",
    "simulation.conversion.quantise",
    "simulation.scaling.expansion",
    "simulation.scaling.parts",
)
"""What a sweep point, a part of a simulation, or an expansion is computed with."""
_OURS = ("simulation", "calibration", "groundwork")


@cache
def code_version() -> str:
    """12 hexadecimal digits: equal as long as neither torch nor a module behind a simulated perplexity has changed.

    Modules are found by following the imports of `ROOTS`. Comments, formatting and docstrings do not count.
    """
    seen: dict[str, str] = {}
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            tree = ast.parse(_source(name))
            _drop_docstrings(tree)
            seen[name] = ast.dump(tree)
            waiting += _imports(tree)
    digest = hashlib.sha256(torch.__version__.partition("+")[0].encode())
    for name in sorted(seen):
        digest.update(f"\n{name}\n{seen[name]}".encode())
    return digest.hexdigest()[:12]


def _source(name: str) -> str:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


def _imports(tree: ast.AST) -> list[str]:
    """Modules of ours that are imported anywhere in it, also those imported as names of a package."""
    found = []
    for node in _statements(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in _OURS:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [node.module, *filter(_is_module, inside)]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in _OURS]
    return found


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _drop_docstrings(tree: ast.AST) -> None:
    for node in (tree, *_statements(tree)):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:]


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """What is inside, but for expressions: most of a tree, and neither imports nor docstrings are among them."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.expr):
            yield node
            yield from _statements(node)
