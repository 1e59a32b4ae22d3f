"""The calibration graph as a whole: its order, its names, the keys that it states, and who knows a node by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import labctl
from labctl.nodes.node import Node
from labctl.nodes.registry import GRAPH, shows_products, with_parents, without_products
from labctl.station.loading import load_station

PACKAGE = Path(labctl.__file__).parent
NODES = PACKAGE / "nodes"
NAMES = frozenset(node.name for node in GRAPH)

NOT_NODES = {
    ("cli/mock.py", "crosstalk"): "a key of the truth that the mock bench tells of itself",
    ("foreign/response_words.py", "gain"): "a number of each output of a foreign bench",
    ("hints.py", "export"): "the command",
    ("report/glossary.py", "crosstalk"): "a word that is explained",
    ("doors/calibrations.py", "crosstalk"): "an array of a calibration",
    ("doors/calibrations.py", "gain"): "an array of a calibration",
    ("doors/calibrations.py", "noise"): "an array of a calibration",
    ("doors/calibrations.py", "registration"): "a group of a calibration",
    ("report/glossary.py", "gain"): "a word that is explained",
    ("report/glossary.py", "registration"): "a word that is explained",
}
"""Strings that are spelt as a node is and mean something else: (file, string), and what it is."""


def test_graph_lists_nodes_and_parents_before_children() -> None:
    for i, node in enumerate(GRAPH):
        assert isinstance(node, Node)
        assert set(node.parents) <= set(GRAPH[:i])


def test_names_are_unique_and_each_file_of_a_node_is_in_the_graph() -> None:
    assert len(NAMES) == len(GRAPH)
    in_files = {
        f"labctl.nodes.{path.stem}"
        for path in NODES.glob("*.py")
        for statement in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]).endswith(("_NODE", "CANARY_START"))
    }
    assert in_files == {type(node).__module__ for node in GRAPH}


@pytest.mark.parametrize("node", GRAPH, ids=lambda node: node.name)
def test_keys_of_a_node_are_keys_of_the_station(node: Node) -> None:
    known = load_station().values()
    assert node.keys
    for key in node.keys:
        assert any(name == key or name.startswith(f"{key}.") for name in known), key


def test_nodes_without_products_rest_on_none_that_shows_them() -> None:
    chosen = without_products()
    assert with_parents(chosen) == chosen
    left = {node for node in GRAPH if node not in chosen}
    assert left == {node for node in GRAPH if node.at_night or shows_products([node])}
    assert [node for node in GRAPH if node.shows_products]


def test_nobody_outside_the_nodes_knows_one_by_name() -> None:
    """Documentation may name nodes; code asks the registry, or holds the object."""
    found = {
        (path.relative_to(PACKAGE).as_posix(), text)
        for path in PACKAGE.rglob("*.py")
        if not path.is_relative_to(NODES)
        for text in strings(ast.parse(path.read_text(encoding="utf-8")))
        if text in NAMES
    }
    assert found - NOT_NODES.keys() == set()
    assert NOT_NODES.keys() - found == set(), "allowed, but no longer there"


def strings(tree: ast.AST) -> Iterator[str]:
    """Strings of a module that are no documentation: a string that stands alone as a statement does nothing."""
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Constant) and isinstance(child.value, str) and not isinstance(node, ast.Expr):
                yield child.value
