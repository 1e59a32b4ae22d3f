"""Choose matrix–vector products of a model at work, with their operands and exact results, for the bench to compute."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.errors import BadOperands
from calibration.frames.products import ProductGroup
from groundwork.nearest import did_you_mean
from simulation.conversion.quantise import ATTENTION_CLIP, LINEAR_CLIP, clip_scale
from simulation.models.gpt import Product

PAPER_STRATA = ("ffn.down", "attention.qk")
"""Ends of the names of the layers that the paper measured, in the first and in the last block."""
PER_GROUP = 33
"""Most products of attention with one matrix: each sequence and head has its own, which the SLM must be loaded with."""


def sample_products(
    model: nn.Module,
    sequences: Sequence[Sequence[int]],
    *,
    layers: Iterable[str] | None = None,
    per_stratum: int = 132,
    seed: int = 0,
) -> list[ProductGroup]:
    """Run a model over sequences and keep products at random tokens, the same number from every layer.

    A linear layer has one matrix, so that its products are one group. An attention product has another matrix for each
    sequence and head: there each group has at most 33 vectors, and the groups are spread evenly over the heads. For
    Q·Kᵀ a product is a query with all keys of its sequence, those that a causal mask hides included.

    Parameters
    ----------
    model
        A `GPT`, or any model of `torch.nn.Linear` layers that takes (1, T) tokens.
    sequences
        Tokens; the model runs over one sequence at a time.
    layers
        Names of linear layers and of attention products. If None, those that the paper measured: ``ffn.down`` and
        ``attention.qk`` of the first and of the last block.
    per_stratum
        How many products are kept of each layer.
    seed
        Decides which tokens, sequences and heads are chosen.

    Returns
    -------
    The groups, layer by layer; operands and results are float32, results without the layer's bias.

    Raises
    ------
    BadOperands
        When the model has no layer of that name, no products are asked for, there are too few tokens for so many, or a
        weight of the model is not finite.
    """
    _check_finite(model)
    sites = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Product)}
    asked = [layers] if isinstance(layers, str) else layers
    names = _paper_strata(sites) if asked is None else list(dict.fromkeys(asked))
    if per_stratum < 1 or not names:
        raise BadOperands(
            "no products are asked for",
            expected="a layer and a product of it at least",
            seen=f"{len(names)} layers, {per_stratum} products of each",
            hint="leave layers out, per_stratum=132",
        )
    for name in names:
        _check_known(name, sites)
    lengths = [len(sequence) for sequence in sequences]
    if min(lengths, default=0) < 1:
        raise _too_few("", per_stratum, f"{len(lengths)} sequences, the shortest of {min(lengths, default=0)} tokens")
    rng = np.random.default_rng(seed)
    picks: list[_Pick] = []
    for name in names:
        draw = _draw_tokens if isinstance(sites[name], nn.Linear) else _draw_rows
        picks.extend(draw(name, lengths, per_stratum, rng))

    drawn: dict[str, list[_Drawn]] = {name: [] for name in names}
    with _captured({name: sites[name] for name in names}) as calls, torch.inference_mode():
        for sequence in sorted({pick.sequence for pick in picks}):
            model(torch.tensor([list(sequences[sequence])]))
            for pick in (pick for pick in picks if pick.sequence == sequence):
                drawn[pick.layer].append(_read(pick, sites[pick.layer], *calls[pick.layer]))
    return [group for name in names for group in _groups(name, sites[name], drawn[name])]


@dataclass(frozen=True)
class _Pick:
    """Which products are kept of one layer while the model runs over one sequence.

    Attributes
    ----------
    layer
        Its name.
    sequence
        Number of the sequence.
    turn
        Which head of attention, as a share of all heads: 0 … 1, 1 excluded.
    rows
        (n,) which tokens of the sequence.
    """

    layer: str
    sequence: int
    turn: float
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class _Drawn:
    """The products of one `_Pick`: ``outputs = inputs @ matrix.T``.

    Attributes
    ----------
    source
        Name of the layer; for attention with the head and the sequence, for these have a matrix of their own.
    matrix, inputs, outputs
        (M, K), (n, K), (n, M).
    positions
        (n, 2) sequence and token of each product.
    """

    source: str
    matrix: Tensor
    inputs: Tensor
    outputs: Tensor
    positions: NDArray[np.int64]


def _draw_tokens(name: str, lengths: Sequence[int], count: int, rng: np.random.Generator) -> Iterator[_Pick]:
    """Choose ``count`` different tokens for a linear layer, every token of all sequences as likely as any other."""
    if count > sum(lengths):
        raise _too_few(name, count, f"{sum(lengths)} tokens")
    owner = np.repeat(np.arange(len(lengths)), lengths)
    row = np.concatenate([np.arange(length) for length in lengths])
    tokens = np.sort(rng.choice(len(owner), size=count, replace=False))
    for sequence in np.unique(owner[tokens]):
        yield _Pick(name, int(sequence), 0.0, row[tokens[owner[tokens] == sequence]])


def _draw_rows(name: str, lengths: Sequence[int], count: int, rng: np.random.Generator) -> Iterator[_Pick]:
    """Choose ``count`` tokens for an attention product, in groups of one sequence and head each.

    The groups take the sequences in turn, in a random order. The heads are sampled systematically: group j of g takes
    the head at the share (j + u) / g of all heads, with one random u in 0 … 1 for all groups.
    """
    groups = -(-count // min(PER_GROUP, *lengths))
    order = rng.permutation(len(lengths))
    phase = rng.random()
    for j in range(groups):
        sequence = int(order[j % len(order)])
        size = count * (j + 1) // groups - count * j // groups
        rows = np.sort(rng.choice(lengths[sequence], size=size, replace=False))
        yield _Pick(name, sequence, (j + phase) / groups, rows)


@contextmanager
def _captured(sites: Mapping[str, nn.Module]) -> Iterator[dict[str, tuple[tuple[Tensor, ...], Tensor]]]:
    """While the block lasts, note what each module was last called with and what it gave: name → operands, output."""
    calls: dict[str, tuple[tuple[Tensor, ...], Tensor]] = {}

    def recorder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, operands: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name] = (operands, output)

        return hook

    handles = [module.register_forward_hook(recorder(name)) for name, module in sites.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _read(pick: _Pick, site: nn.Module, operands: tuple[Tensor, ...], output: Tensor) -> _Drawn:
    """Take the products of a pick out of what its layer was called with and gave.

    A linear layer takes (1, T, K) and gives (1, T, M). An attention product takes a (1, h, T, K) and b (1, h, K, M),
    and gives (1, h, T, M).
    """
    positions = np.stack([np.full_like(pick.rows, pick.sequence), pick.rows], axis=1)
    if isinstance(site, nn.Linear):
        x, y = (tensor.flatten(0, -2)[pick.rows] for tensor in (operands[0], output))
        return _Drawn(pick.layer, site.weight.detach(), x, y if site.bias is None else y - site.bias, positions)
    a, b = operands
    head = int(pick.turn * a.shape[1])
    source = f"{pick.layer}/head{head}/seq{pick.sequence}"
    return _Drawn(source, b[0, head].T, a[0, head, pick.rows], output[0, head, pick.rows], positions)


def _groups(name: str, site: nn.Module, drawn: Sequence[_Drawn]) -> Iterator[ProductGroup]:
    """The products of one layer, those with the same matrix joined."""
    is_linear = isinstance(site, nn.Linear)
    sources = dict.fromkeys(item.source for item in drawn)
    if not is_linear and len(sources) < len(drawn):
        count = sum(len(item.positions) for item in drawn)
        raise _too_few(name, count, f"{len(sources)} pairs of sequence and head for {len(drawn)} groups")
    for source in sources:
        same = [item for item in drawn if item.source == source]
        matrix = same[0].matrix
        yield ProductGroup(
            name=source,
            operation="linear" if is_linear else name.rpartition(".")[2],
            block=_block(name),
            weight=_array(matrix),
            inputs=_array(torch.cat([item.inputs for item in same])),
            outputs=_array(torch.cat([item.outputs for item in same])),
            positions=np.concatenate([item.positions for item in same]),
            weight_scale=float(clip_scale(matrix, LINEAR_CLIP if is_linear else ATTENTION_CLIP)),
        )


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.array(tensor.numpy(), dtype=np.float32, order="C")


def _block(name: str) -> int:
    """Number of the block that a layer is in: the first number in its name; 0 where there is none."""
    index = re.search(r"\d+", name)
    return int(index.group()) if index else 0


def _paper_strata(sites: Mapping[str, nn.Module]) -> list[str]:
    """Names of the paper's layers in the first and in the last block that has them."""
    named = [name for name in sites if name.endswith(PAPER_STRATA)]
    if not named:
        raise BadOperands(
            "this model has none of the paper's layers",
            expected=" and ".join(PAPER_STRATA),
            seen=", ".join(list(sites)[:4]) + " …",
            hint="name the layers to sample: --layers " + ",".join(list(sites)[:2]),
        )
    ends = {min(map(_block, named)), max(map(_block, named))}
    return [name for name in named if _block(name) in ends]


def _check_known(name: str, sites: Mapping[str, nn.Module]) -> None:
    if name not in sites:
        raise BadOperands(
            f"the model has no layer {name}",
            device=name,
            expected="a linear layer or an attention product, as " + ", ".join(list(sites)[:4]),
            seen=f"{len(sites)} layers, none of that name",
            hint=did_you_mean(name, sites),
        )


def _check_finite(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        bad = int((~parameter.isfinite()).sum())
        if bad:
            raise BadOperands(
                f"weights of {name} are not finite",
                device=name,
                expected="finite numbers",
                seen=f"{bad} NaN or infinite",
                hint="load another checkpoint",
            )


def _too_few(name: str, count: int, seen: str) -> BadOperands:
    return BadOperands(
        "too few tokens for so many products",
        device=name,
        expected=f"at least {count} tokens",
        seen=seen,
        hint="give a longer text, or fewer products per layer",
    )
