"""Expansions come back as they were measured, and damaged ones count as absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simulation.scaling.expansion import Cost, Expansion, ProductCost
from simulation.scaling.kept import ExpansionStore

ABOUT: dict[str, Any] = {"model": "a" * 64, "tokens": 512, "clip": [99.0, 98.0]}
COST = Cost(1.25, 0.5, -0.75, 0.25)
FOUND = Expansion((ProductCost("blocks.0.ffn.up", "ffn", 4096, COST),), COST, 512, 3.5)


def test_expansion_comes_back_exactly(tmp_path: Path) -> None:
    store = ExpansionStore(tmp_path)
    assert store.load(ABOUT) is None
    store.save(ABOUT, FOUND)
    assert store.load(ABOUT) == FOUND
    assert store.load({**ABOUT, "tokens": 513}) is None


def test_files_are_those_of_earlier_versions(tmp_path: Path) -> None:
    store = ExpansionStore(tmp_path)
    store.save(ABOUT, FOUND)
    path = store.path(ABOUT)
    assert path.name == "8441e5fb81c2950b43ce82dd1aa778563440a58c9c228dea69cfa9f012b8b405.expansion.json"
    assert '"sha256": "d979433c57ae6c783bbd7f1023bd594befd51ae8c8ea34fbe010506f14da7fa8"' in path.read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.25", "1.26"),
        ("1.25", "NaN"),
        ('"ffn"', '"fnf"'),
        ("4096", "0"),
        ('"tokens": 512', '"tokens": 511'),
        ("expansion/1", "expansion/2"),
        ('"products"', '"product"'),
        ("{", "["),
    ],
)
def test_damaged_expansion_counts_as_absent(tmp_path: Path, old: str, new: str) -> None:
    store = ExpansionStore(tmp_path)
    store.save(ABOUT, FOUND)
    path = store.path(ABOUT)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert store.load(ABOUT) is None
