"""Has a tensor changed, however it was written?"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, uint8

from groundwork.compiled import kernel

Array = Any  # numba compiles these for the types it meets

BLOCK = 512
"""Words of eight bytes that are summed up before the sum is shifted on."""


def checksum(tensor: Tensor) -> tuple[int, int]:
    """Two numbers that are others once any number of a tensor is another, or stands elsewhere.

    Torch's count of changes says nothing of those through NumPy or ``.data``, nor of parameters that share a storage.
    A change within eight bytes is never missed; any other is by chance alone, of about 2⁻⁶⁰.
    """
    tensor = tensor.detach()
    if not tensor.is_contiguous():
        tensor = tensor.mT if tensor.ndim == 2 and tensor.mT.is_contiguous() else tensor.contiguous()
    raw = tensor.cpu().view(-1).view(uint8).numpy()
    whole = raw.size & ~7
    if tensor.data_ptr() & 7:
        raw = raw.copy()
    return int(_sum(raw[:whole].view(np.uint64), _FACTORS)), int.from_bytes(raw[whole:].tobytes())


_FACTORS = np.random.default_rng(35).integers(0, 1 << 64, BLOCK, np.uint64) | np.uint64(1)

_ODD = np.uint64(0x9E3779B97F4A7C15)


@kernel
def _sum(words: Array, factors: Array) -> np.uint64:
    """Σ of mixed words by odd factors, a polynomial of an odd number over blocks.

    Every step can be undone, so no change of a single word is lost. Words are mixed first: signs alone are top bits, of
    which an even number cancels in a sum.
    """
    total = np.uint64(0)
    for start in range(0, len(words), BLOCK):
        part, block = words[start : start + BLOCK], np.uint64(0)
        for i in range(len(part)):
            word = (part[i] ^ (part[i] >> np.uint64(29))) * _ODD
            block += (word ^ (word >> np.uint64(32))) * factors[i]
        total = total * _ODD + block
    return total
