"""Expansions on the disk, each in a file whose name says what it was measured on; a damaged one counts as absent."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from groundwork.files import write_whole
from groundwork.opening.json_text import read_json
from simulation.scaling.expansion import KINDS, Cost, Expansion, ProductCost

SCHEMA = "labctl.scaling-expansion/1"


class ExpansionStore:
    """A folder of expansions; several sweeps may use it at once.

    Parameters
    ----------
    folder
        Made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, about: Mapping[str, Any]) -> Path:
        """Where the expansion of what ``about`` describes lies, or will: everything that it depends on, as JSON."""
        key = hashlib.sha256(json.dumps(dict(about), sort_keys=True).encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.expansion.json"

    def load(self, about: Mapping[str, Any]) -> Expansion | None:
        """The expansion, or None if it is not there or cannot be trusted."""
        try:
            document = read_json(self.path(about))
            is_whole = (
                document["schema"] == SCHEMA
                and document["about"] == dict(about)
                and document["sha256"] == _digest(document["expansion"])
            )
            return _expansion(document["expansion"]) if is_whole else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, about: Mapping[str, Any], found: Expansion) -> None:
        """Write it whole or not at all.

        Raises
        ------
        OSError
            Disk full, not writable.
        """
        expansion = asdict(found)
        document = {"schema": SCHEMA, "about": dict(about), "expansion": expansion, "sha256": _digest(expansion)}
        write_whole(self.path(about), (json.dumps(document) + "\n").encode())


def _digest(expansion: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(expansion, sort_keys=True).encode()).hexdigest()


def _expansion(document: Mapping[str, Any]) -> Expansion:
    products = []
    for product in document["products"]:
        if product["kind"] not in KINDS or not product["macs"] > 0:
            raise ValueError(product)
        products.append(
            ProductCost(str(product["name"]), product["kind"], int(product["macs"]), _cost(product["cost"]))
        )
    return Expansion(tuple(products), _cost(document["together"]), int(document["tokens"]), _finite(document["nats"]))


def _cost(document: Mapping[str, Any]) -> Cost:
    return Cost(**{name: _finite(document[name]) for name in ("kl", "kl_stderr", "loss", "loss_stderr")})


def _finite(value: Any) -> float:
    if not math.isfinite(value):
        raise ValueError(value)
    return float(value)
