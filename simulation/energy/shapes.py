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


def widths_that_pay(
    ratio: Callable[[GPTConfig], float], like: GPTConfig, head: int = 64, most: int = 1 << 14
) -> tuple[int, int | None] | None:
    """Between which widths, in steps of a head, light costs less than digital.

    Parameters
    ----------
    ratio
        Optical over digital energy of a model; below 1 over one range of widths at most.
    like
        Blocks, context and vocabulary of the models.
    head
        Width of each attention head.
    most
        Heads that are tried.

    Returns
    -------
    The narrowest, found by doubling, and the widest, which is None where light still pays with ``most`` heads; None
    where it never does.
    """

    def pays(heads: int) -> bool:
        return ratio(GPTConfig(like.vocabulary, like.context, heads * head, like.blocks, heads)) < 1

    tried = [1 << i for i in range(most.bit_length())]
    first = next((i for i, heads in enumerate(tried) if pays(heads)), None)
    if first is None:
        return None
    narrowest = _edge(lambda heads: not pays(heads), tried[first - 1], tried[first]) if first else tried[0]
    last = next((i for i in range(first + 1, len(tried)) if not pays(tried[i])), None)
    widest = None if last is None else _edge(pays, tried[last - 1], tried[last]) - 1
    return narrowest * head, None if widest is None else widest * head


def _edge(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The first number above ``low`` for which it no longer holds, as it does not for ``high``."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high
