"""Draw real matrix–vector products from a running model: what the bench will be asked to compute."""

from __future__ import annotations

import difflib
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
from simulation.conversion.quantise import ATTENTION_CLIP, LINEAR_CLIP, clip_scale
from simulation.models.gpt import Product

PAPER_STRATA = ("ffn.down", "attention.qk")  # of the first and the last block
PER_GROUP = 33  # attention: most products per (sequence, head), each of which is one reload of the weights


def sample_products(
    model: nn.Module,
    sequences: Sequence[Sequence[int]],
    *,
    layers: Iterable[str] | None = None,
    per_stratum: int = 132,
    seed: int = 0,
) -> list[ProductGroup]:
    """Products at random tokens, the same number from every layer.

    A linear layer gives one group; an attention product gives one per (sequence, head), spread evenly over the heads,
    with at most 33 vectors in each. Attention outputs are whole rows, the masked ones included.

    Parameters
    ----------
    model
        A `GPT`, or any model of `torch.nn.Linear` layers that takes (1, T) tokens.
    sequences
        Token sequences, each run through the model on its own.
    layers
        Names of linear layers and attention products; if None the paper's: ``ffn.down`` and ``attention.qk`` of the
        first and of the last block.
    per_stratum
        Products per layer.
    seed
        Of the choice of tokens, sequences and heads.

    Raises
    ------
    BadOperands
        If a layer is unknown, there are too few tokens for so many products, or the model holds a NaN.
    """
    _check_finite(model)
    sites = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Product)}
    names = _paper_strata(sites) if layers is None else list(dict.fromkeys(layers))
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
    """Rows of one sequence at one layer; `turn` in [0, 1) chooses the head."""

    layer: str
    sequence: int
    turn: float
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class _Drawn:
    """What was computed at a pick: ``outputs = inputs @ matrix.T``."""

    source: str  # the layer; for attention also the head and the sequence
    matrix: Tensor  # (M, K)
    inputs: Tensor  # (n, K)
    outputs: Tensor  # (n, M)
    positions: NDArray[np.int64]  # (n, 2)


def _draw_tokens(name: str, lengths: Sequence[int], count: int, rng: np.random.Generator) -> Iterator[_Pick]:
    """`count` different tokens of all sequences."""
    if count > sum(lengths):
        raise _too_few(name, count, f"{sum(lengths)} tokens")
    owner = np.repeat(np.arange(len(lengths)), lengths)
    row = np.concatenate([np.arange(length) for length in lengths])
    tokens = np.sort(rng.choice(len(owner), size=count, replace=False))
    for sequence in np.unique(owner[tokens]):
        yield _Pick(name, int(sequence), 0.0, row[tokens[owner[tokens] == sequence]])


def _draw_rows(name: str, lengths: Sequence[int], count: int, rng: np.random.Generator) -> Iterator[_Pick]:
    """Systematic sampling: group j takes the sequence after group j-1's, and the head at (j + u) / groups."""
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
    """Operands and output of the last call of each module."""
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
    """Linear: x (1, T, in), output (1, T, out). Attention: a (1, h, T, K), b (1, h, K, M), output (1, h, T, M)."""
    positions = np.stack([np.full_like(pick.rows, pick.sequence), pick.rows], axis=1)
    if isinstance(site, nn.Linear):
        x, y = (tensor.flatten(0, -2)[pick.rows] for tensor in (operands[0], output))
        return _Drawn(pick.layer, site.weight.detach(), x, y if site.bias is None else y - site.bias, positions)
    a, b = operands
    head = int(pick.turn * a.shape[1])
    source = f"{pick.layer}/head{head}/seq{pick.sequence}"
    return _Drawn(source, b[0, head].T, a[0, head, pick.rows], output[0, head, pick.rows], positions)


def _groups(name: str, site: nn.Module, drawn: Sequence[_Drawn]) -> Iterator[ProductGroup]:
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
    index = re.search(r"\d+", name)
    return int(index.group()) if index else 0


def _paper_strata(sites: Mapping[str, nn.Module]) -> list[str]:
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
        close = difflib.get_close_matches(name, sites, n=4) or list(sites)[:4]
        raise BadOperands(
            f"the model has no layer {name}",
            device=name,
            expected="a linear layer or an attention product",
            seen=f"{len(sites)} layers, none of that name",
            hint="did you mean " + ", ".join(close) + "?",
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
