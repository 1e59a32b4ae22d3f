"""Models by their shape alone: published ones, and the width at which light begins to pay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from calibration.errors import OutOfDomain
from groundwork.errors import FileRefused
from groundwork.opening.toml_text import read_toml
from simulation.energy.decoders import Decoder
from simulation.energy.operations import Operations
from simulation.models.gpt import GPTConfig


@dataclass(frozen=True)
class Shape:
    """A decoder as its authors print it, priced as a GPT-2-like one: d, 4d feed-forward layer, learned positions.

    Attributes
    ----------
    name, source
        As in the table.
    config
        `GPTConfig`
    """

    name: str
    source: str
    config: GPTConfig

    @property
    def parameters(self) -> int:
        """Of the blocks: 12 per block and d² [1]."""
        return 12 * self.config.blocks * self.config.width**2


def load_shapes(path: Path) -> dict[str, Shape]:
    """By name, from a TOML table with one table per model.

    Raises
    ------
    OutOfDomain
        When the file is not TOML, or a shape has no source or impossible sizes.
    """
    try:
        table = read_toml(path)
    except FileRefused as error:
        raise OutOfDomain("the table of shapes is not TOML", device=str(path), seen=str(error)) from error
    shapes = {}
    for name, entry in table.items():
        if not isinstance(entry, dict):
            raise OutOfDomain(
                "a shape is no table", device=f"{path.name}: {name}", expected=f"[{name}]", seen=repr(entry)[:100]
            )
        source = str(entry.pop("source", "")).strip()
        try:
            shapes[name] = Shape(name, source, GPTConfig(**entry))
        except TypeError as error:
            raise OutOfDomain("no model has this shape", device=f"{path.name}: {name}", seen=str(error)) from error
        if not source:
            raise OutOfDomain("a shape has no source", device=f"{path.name}: {name}", expected="a citation")
    return shapes


@cache
def operations_of(config: GPTConfig) -> Operations:
    """Of one forward pass over a full context; a test holds it to what `count_operations` sees of the model itself."""
    return Decoder.of(config).forward(config.context)


def crossover_width(
    ratio: Callable[[GPTConfig], float], like: GPTConfig, head: int = 64, low: int = 1, high: int = 1 << 14
) -> int | None:
    """Smallest width, in steps of a head, at which light costs less than digital.

    Parameters
    ----------
    ratio
        Optical over digital energy of a model. It may rise again behind the first width that pays.
    like
        Blocks, context and vocabulary of the models.
    head
        Width of each attention head.
    low, high
        Range in heads; doubled until light pays, and then halved.

    Returns
    -------
    The width, or None when light does not pay up to ``high`` heads.
    """

    def at(heads: int) -> float:
        config = GPTConfig(like.vocabulary, like.context, heads * head, like.blocks, heads)
        return ratio(config)

    top = low
    while at(top) >= 1:
        low, top = top + 1, 2 * top
        if top > high:
            return None
    high = top
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle) < 1 else (middle + 1, high)
    return low * head
