"""Expansions on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from simulation.scaling.expansion import KINDS, Cost, Expansion, ProductCost
from simulation.scaling.store import Format, Store, finite


class ExpansionStore(Store[Expansion]):
    """A folder of expansions by what they were measured on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _FORMAT)


def _unpack(document: Mapping[str, Any]) -> Expansion:
    found, products = document["expansion"], []
    for product in found["products"]:
        if product["kind"] not in KINDS or not product["macs"] > 0:
            raise ValueError(product)
        products.append(
            ProductCost(str(product["name"]), product["kind"], int(product["macs"]), _cost(product["cost"]))
        )
    return Expansion(tuple(products), _cost(found["together"]), int(found["tokens"]), finite(found["nats"]))


def _cost(document: Mapping[str, Any]) -> Cost:
    return Cost(**{name: finite(document[name]) for name in ("kl", "kl_stderr", "loss", "loss_stderr")})


_FORMAT = Format[Expansion](
    schema="labctl.scaling-expansion/1",
    suffix=".expansion.json",
    about="about",
    pack=lambda found: {"expansion": asdict(found)},
    unpack=_unpack,
    signed=lambda document: document["expansion"],
)
