"""Attention whose two matrix products, Q·Kᵀ and A·V, are computed by functions that the caller gives.

Models compute attention in three ways, and each has a part here that puts the given functions in: `FusedAttention` for
modules that call torch's fused function, `use_hugging_face` for models of the transformers library, and
`PackedAttention` in place of `torch.nn.MultiheadAttention`. All three end in `attend`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Pair = Callable[[Tensor, Tensor], Tensor]
"""Multiplies (…, n, k) by (…, k, m), as `torch.matmul` does."""
Pairs = tuple[Pair, Pair]
"""The functions for Q·Kᵀ and for A·V, in this order."""

SDPA = "scaled_dot_product_attention"
HF_INTERFACE = "ALL_ATTENTION_FUNCTIONS"
HF_NAME = "labctl_optical"

EXACT: Pairs = (torch.matmul, torch.matmul)
"""Both products as torch computes them, not in light."""


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pairs: Pairs,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    grouped: bool = False,
) -> tuple[Tensor, Tensor]:
    """``softmax(Q Kᵀ · scale + mask) V``: ``pairs`` compute both products, torch computes the rest.

    Parameters
    ----------
    query, key, value
        (…, h, n, d), (…, h, t, d), (…, h, t, e) for h heads, n queries and t keys. With ``grouped``, key and value may
        have fewer heads than the query.
    pairs
        The functions for Q·Kᵀ and for A·V.
    mask
        (…, n, t), or what broadcasts to it. Numbers are added to the scores; of a bool mask, a query sees the keys at
        which it is True.
    causal
        Whether query i sees only the keys 0 … i. Both are counted from their first, as torch counts them, also where
        there are more keys than queries.
    scale
        Factor of the scores; 1/√d if None.
    dropout
        Probability with which an attention weight is set to 0.
    grouped
        Whether each head of key and value serves several neighbouring heads of the query.

    Returns
    -------
    The result (…, h, n, e), and the attention weights (…, h, n, t) as they are after softmax and dropout.
    """
    if grouped and key.shape[-3] != query.shape[-3]:
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    scores = pairs[0](query, key.mT) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(hidden, -math.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    weights = nn.functional.dropout(scores.softmax(-1), dropout)
    return pairs[1](weights, value), weights


class FusedAttention:
    """Takes the place of a module's ``forward`` that calls `torch.nn.functional.scaled_dot_product_attention`.

    While the module's own ``forward`` runs, each of these calls goes to `attend` with the given products instead.

    Parameters
    ----------
    module
        The module whose ``forward`` it is.
    pairs
        The functions for Q·Kᵀ and for A·V.

    Attributes
    ----------
    digital
        Whether the calls are left to torch; False at first.
    """

    def __init__(self, module: nn.Module, pairs: Pairs) -> None:
        self.module, self.pairs, self.digital = module, pairs, False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        forward = type(self.module).forward
        if self.digital:
            return forward(self.module, *args, **kwargs)
        with _Intercept(self.pairs):
            return forward(self.module, *args, **kwargs)


class _Intercept(TorchFunctionMode):
    """While it is active, torch's fused attention is computed by `attend`, and every other function as always."""

    def __init__(self, pairs: Pairs) -> None:
        super().__init__()
        self._pairs = pairs

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.scaled_dot_product_attention:
            return _scaled_dot_product(self._pairs, *args, **kwargs)
        return func(*args, **kwargs)


def _scaled_dot_product(
    pairs: Pairs,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    return attend(
        query, key, value, pairs,
        mask=attn_mask, causal=is_causal, scale=scale, dropout=dropout_p, grouped=enable_gqa,
    )[0]  # fmt: skip


def use_hugging_face(module: nn.Module, pairs: Pairs) -> None:
    """Have an attention module of a Hugging Face model compute its two products with ``pairs``.

    The way to compute attention is registered with the transformers library under a name of ours, and the module's
    configuration is set to that name. The library is loaded already, since the module is one of its own, so that
    nothing is imported here.
    """
    functions = sys.modules["transformers.modeling_utils"].ALL_ATTENTION_FUNCTIONS
    masks = sys.modules["transformers.masking_utils"].ALL_MASK_ATTENTION_FUNCTIONS
    functions.register(HF_NAME, _hugging_face)
    masks.register(HF_NAME, masks["eager"])
    module.optical_pairs, module.digital = pairs, False  # type: ignore[assignment]
    config: Any = module.config
    config._attn_implementation = HF_NAME


def _hugging_face(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attention as the transformers library calls it.

    It gives query, key and value as (batch, h, n, d), and takes the result as (batch, n, h, d) with the attention
    weights (batch, h, n, t). A module that was never told to use light is computed exactly.
    """
    pairs: Pairs = getattr(module, "optical_pairs", EXACT)
    exact = getattr(module, "digital", True)
    out, weights = attend(
        query, key, value, EXACT if exact else pairs,
        mask=attention_mask, scale=scaling, dropout=dropout if module.training else 0.0, grouped=True,
    )  # fmt: skip
    return out.transpose(1, 2).contiguous(), weights


class PackedAttention(nn.Module):
    """Takes the place of a `torch.nn.MultiheadAttention`, and computes all of its products in light.

    Torch keeps the weights of the query, key and value projections as one matrix. On the bench they are three layers,
    and the output projection is a fourth. The parameters are those of the module that is replaced, under the same
    names, so that its checkpoints load.

    Parameters
    ----------
    name
        Of the module in the model; the layers are named ``NAME.query``, ``NAME.key``, ``NAME.value``, ``NAME.out_proj``
        and the two attention products ``NAME.qk`` and ``NAME.av``.
    module
        The module that is replaced.
    light
        Gives a function that multiplies in light: ``light.matrix(name, weight)`` for a layer, ``light.pair(name)`` for
        an attention product.

    Attributes
    ----------
    digital
        Whether torch computes all products; False at first.
    """

    in_proj_weight: Tensor
    in_proj_bias: Tensor | None
    q_proj_weight: Tensor | None
    k_proj_weight: Tensor | None
    v_proj_weight: Tensor | None

    def __init__(self, name: str, module: nn.MultiheadAttention, light: Any) -> None:
        super().__init__()
        self.embed_dim, self.num_heads, self.head_dim = module.embed_dim, module.num_heads, module.head_dim
        self.batch_first, self.dropout = module.batch_first, module.dropout
        self._qkv_same_embed_dim = False  # keeps torch's encoder layers from the fused kernel that bypasses modules
        for parameter in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias"):
            self.register_parameter(parameter, getattr(module, parameter))
        self.out_proj: nn.Linear = module.out_proj
        self.digital = False
        self._pairs = light.pair(f"{name}.qk"), light.pair(f"{name}.av")
        parts = ("query", "key", "value", "out_proj")
        self._matrices = {part: light.matrix(f"{name}.{part}", self._weight(part)[0]) for part in parts}

    @staticmethod
    def refusal(module: nn.MultiheadAttention) -> str:
        """Why a module cannot be replaced, in words; empty when it can."""
        if module.bias_k is not None or module.add_zero_attn:
            return "attention with extra keys (bias_k or add_zero_attn)"
        return ""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `torch.nn.MultiheadAttention.forward`, with the same parameters and results."""
        batched = query.dim() == 3
        inputs = (query, key, value) if self.batch_first and batched else tuple(
            t.transpose(0, 1) if batched else t.unsqueeze(0) for t in (query, key, value)
        )  # fmt: skip
        q, k, v = (self._heads(part, x) for part, x in zip(("query", "key", "value"), inputs, strict=True))
        mask = _joined_mask(attn_mask, key_padding_mask, q, k)
        causal = is_causal and attn_mask is None
        pairs = EXACT if self.digital else self._pairs
        dropout = self.dropout if self.training else 0.0
        out, weights = attend(q, k, v, pairs, mask=mask, causal=causal, dropout=dropout)
        y: Tensor = self._project("out_proj", out.transpose(1, 2).flatten(-2))
        if not batched:
            y, weights = y[0], weights[0]
        elif not self.batch_first:
            y = y.transpose(0, 1)
        if not need_weights:
            return y, None
        return y, weights.mean(-3) if average_attn_weights else weights

    def _heads(self, part: str, x: Tensor) -> Tensor:
        """Project (batch, n, d), and split the result by head: (batch, heads, n, d_head)."""
        y = self._project(part, x)
        return y.view(*y.shape[:-1], self.num_heads, self.head_dim).transpose(1, 2)

    def _weight(self, part: str) -> tuple[Tensor, Tensor | None]:
        if part == "out_proj":
            return self.out_proj.weight, self.out_proj.bias
        i = ("query", "key", "value").index(part)
        d = self.embed_dim
        bias = self.in_proj_bias
        own = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)[i]
        weight = self.in_proj_weight[i * d : (i + 1) * d] if own is None else own
        return weight, None if bias is None else bias[i * d : (i + 1) * d]

    def _project(self, part: str, x: Tensor) -> Tensor:
        multiply = nn.functional.linear if self.digital else self._matrices[part]
        out: Tensor = multiply(x, *self._weight(part))
        return out


def _joined_mask(attn_mask: Tensor | None, padding: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    """torch's two masks as one that is added to the scores (batch, h, n, t); None where there is none.

    In torch's masks, True means that a query does not see the key; in `attend` it means that it does.
    """
    batch, heads = query.shape[:2]
    joined = None
    if attn_mask is not None:
        joined = _additive(attn_mask, query.dtype)
        if joined.dim() == 3:
            joined = joined.view(batch, heads, *joined.shape[1:])
    if padding is not None:
        hidden = _additive(padding.view(-1, 1, 1, key.shape[-2]), query.dtype)
        joined = hidden if joined is None else joined + hidden
    return joined


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask that is added to the scores: −∞ where a bool mask is True; other masks as they are."""
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(mask, -math.inf) if mask.dtype == torch.bool else mask
