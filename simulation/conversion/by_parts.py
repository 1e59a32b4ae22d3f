"""Have torch compute by its parts what it has single functions for, so that the products in them are seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import wraps
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class Shared:
    """A state of the whole process, which lasts as long as any thread needs it.

    Parameters
    ----------
    make
        Gives a context manager that makes the state, and puts back what was before.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[object]]) -> None:
        self._make, self._lock, self._users = make, threading.Lock(), 0
        self._opened = ExitStack()

    @contextmanager
    def held(self) -> Iterator[None]:
        """The state is so while this is open."""
        with self._lock:
            if not self._users:
                self._opened.enter_context(self._make())
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._opened.close()


@contextmanager
def _without_fused() -> Iterator[None]:
    """Torch's attention and encoder layers call their parts, and not one function for all of them."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _padding_empty() if before else nullcontext():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _padding_empty() -> Iterator[None]:
    """Encoders answer for padding what they do where torch leaves it out: zeros, through their last normalisation.

    In its one function for all layers torch computes nothing for tokens at the end of a row that are padding; by its
    parts it computes for them as for others. Whoever averages over a row sees the difference.
    """
    forward = nn.TransformerEncoder.forward

    @wraps(forward)
    def padded(self: nn.TransformerEncoder, src: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        answer = forward(self, src, *args, **kwargs)
        given = signature(forward).bind(self, src, *args, **kwargs).arguments
        padding: Tensor | None = given.get("src_key_padding_mask")
        if padding is None or given.get("mask") is not None or not _is_left_out(self, src, padding):
            return answer
        nothing = answer.new_zeros(1, 1, answer.shape[-1])
        return torch.where(padding.ne(0)[..., None], nothing if self.norm is None else self.norm(nothing), answer)

    nn.TransformerEncoder.forward = padded  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.TransformerEncoder.forward = forward  # type: ignore[method-assign]


def _is_left_out(encoder: nn.TransformerEncoder, src: Tensor, padding: Tensor) -> bool:
    """Whether torch leaves the padding out: the conditions of its own forward."""
    first = encoder.layers[0]
    if src.dim() != 3 or src.is_nested or first.training or torch.is_autocast_enabled():
        return False
    if not getattr(encoder, "use_nested_tensor", False):
        return False
    attention = first.self_attn
    parts = (attention.out_proj, first.norm1, first.norm2, first.linear1, first.linear2)
    held = [src, attention.in_proj_weight, attention.in_proj_bias, *(p for part in parts for p in part.parameters())]
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in held):
        return False
    return bool(torch._nested_tensor_from_mask_left_aligned(src, padding.eq(0)))


@contextmanager
def _without_onednn() -> Iterator[None]:
    """Torch's recurrent layers call their parts, too."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Functions that somebody has given to `torch.compile` run as they are written."""
    with torch.compiler.set_stance("force_eager"):
        yield


by_parts = Shared(_without_fused).held
"""While open, attention and encoder layers show their products."""
recurrent_by_parts = Shared(_without_onednn).held
"""While open, recurrent layers do."""
uncompiled = Shared(_without_compiler).held
"""While open, compiled functions do."""
