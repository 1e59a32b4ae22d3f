"""How many multiply–accumulates torch's operations take that are no plain matrix product, and what to call them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.flop_counter import flop_registry

Count = Callable[..., float]

PER_FOURIER = 2.5
"""A Fourier transform of N complex numbers takes 5 N log₂ N operations, as everybody counts them; half that if real."""


def _rows(x: Tensor, *_: Any) -> int:
    return math.prod(x.shape[:-2])


def _fourier(x: Tensor, axes: list[int], *_: Any, out: Tensor) -> float:
    larger = max(x, out, key=Tensor.numel)
    length = math.prod(larger.shape[axis] for axis in axes)
    each = float(PER_FOURIER * math.log2(max(length, 1)) * larger.numel())
    return each if x.is_complex() and out.is_complex() else each / 2


def _elimination(a: Tensor, *_: Any, out: Any, **__: Any) -> float:
    return float(_rows(a)) * min(a.shape[-2:]) ** 2 * (max(a.shape[-2:]) - min(a.shape[-2:]) / 3) / 2


def _solution(a: Tensor, b: Tensor, *_: Any, left: bool = True, out: Any, **__: Any) -> float:
    """Elimination of each matrix, then two substitutions for each column, or row if the matrix is on the right."""
    n, solved = a.shape[-1], out[0].numel()
    columns = 1 if b.ndim < max(a.ndim, 2) else b.shape[-1 if left else -2]
    return float(solved / max(n * columns, 1) * n**3 / 3 + n * solved)


def _substitution(factor: Tensor, b: Tensor, *_: Any, out: Any, **__: Any) -> float:
    return float(factor.shape[-1] * b.numel())


def _bag(table: Tensor, indices: Tensor, *_: Any, out: Any, **__: Any) -> float:
    return float(indices.numel() * table.shape[1])


def _trilinear(
    a: Tensor, w: Tensor, b: Tensor, expand_a: list[int], expand_w: list[int], expand_b: list[int], *_: Any, out: Any
) -> float:
    shapes = []
    for tensor, axes in ((a, expand_a), (w, expand_w), (b, expand_b)):
        shape = list(tensor.shape)
        for axis in axes:
            shape.insert(axis, 1)
        shapes.append(shape)
    return float(math.prod(np.broadcast_shapes(*shapes)))


def _each(*args: Any, out: Any, **_: Any) -> float:
    """One for each number of the result."""
    return float(sum(t.numel() for t in (out if isinstance(out, list | tuple) else [out])))


def _per_number(x: Tensor | list[Tensor], *_: Any, **__: Any) -> float:
    """One for each number of the first operand."""
    return float(sum(t.numel() for t in (x if isinstance(x, list) else [x])))


def _interpolation(taps: int) -> Count:
    """As many points of the image, each with a weight of its own, along each of its axes."""
    return lambda x, *_, out, **__: float(out.numel() * taps ** (x.ndim - 2))


def _factors(a: Any, b: Any = None, *_: Any, out: Any, **__: Any) -> float:
    """Numbers of the result of a multiplication of two tensors."""
    if isinstance(a, list):
        return sum(_factors(x, y, out=z) for x, y, z in zip(a, b, out or a, strict=True)) if isinstance(b, list) else 0
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return 0
    if not (a.is_floating_point() or a.is_complex()) or not (b.is_floating_point() or b.is_complex()):
        return 0  # a mask, or whole numbers
    return float(out.numel())


def _gain(x: Tensor, *more: Any, out: Any, **__: Any) -> float:
    """Normalisation with a gain for each element; without one, nothing is multiplied by another number."""
    return float(x.numel()) if any(isinstance(value, Tensor) for value in more) else 0.0


ELEMENTWISE: dict[str, Count] = {
    "mul": _factors,
    "_foreach_mul": _factors,
    "lerp": _each,
    "_foreach_lerp": _per_number,
    "glu": _each,
    "_prelu_kernel": _each,
    "linalg_cross": lambda *_, out, **__: 2.0 * out.numel(),
    "native_layer_norm": _gain,
    "native_group_norm": _gain,
    "native_batch_norm": _gain,
    "_native_batch_norm_legit": _gain,
    "_native_batch_norm_legit_no_training": _gain,
    "_fused_rms_norm": _gain,
}
"""Operation → multiplications of two numbers each, of which none is summed with another."""

COUNTS: dict[str, Count] = {
    "mv": lambda a, *_, **__: a.numel(),
    "dot": lambda a, *_, **__: a.numel(),
    "vdot": lambda a, *_, **__: a.numel(),
    "addmv": lambda _, a, *__, **___: a.numel(),
    "mm": lambda a, b, **_: a.numel() * b.shape[-1],
    "_int_mm": lambda a, b, **_: a.numel() * b.shape[-1],
    "linear": lambda x, w, *_, **__: x.numel() * w.shape[0],
    "addbmm": lambda _, a, b, **__: a.numel() * b.shape[-1],
    "_grouped_mm": lambda a, b, *_, **__: a.numel() * b.shape[-1],
    "_trilinear": _trilinear,
    "_embedding_bag": _bag,
    "_embedding_bag_forward_only": _bag,
    "_cdist_forward": lambda x, *_, out, **__: out.numel() * x.shape[-1],
    "_euclidean_dist": lambda x, *_, out, **__: out.numel() * x.shape[-1],
    "_pdist_forward": lambda x, *_, out, **__: out.numel() * x.shape[-1],
    "_sparse_addmm": lambda _, a, b, **__: a._nnz() * b.shape[-1],
    "_sparse_sparse_matmul": lambda a, b, **__: a._nnz() * b._nnz() / max(b.shape[0], 1),
    "conv_tbc": lambda x, w, *_, out, **__: out.numel() * w.shape[0] * w.shape[1],
    "addr": _each,
    "addcmul": _per_number,
    "addcdiv": _per_number,
    "_foreach_addcmul": _per_number,
    "_foreach_addcdiv": _per_number,
    "prod": _per_number,
    "cumprod": _per_number,
    "logcumsumexp": _per_number,
    "scatter_reduce": lambda x, _, __, source, *___, **____: source.numel(),
    "index_reduce": lambda x, _, __, source, *___, **____: source.numel(),
    **{f"upsample_{kind}": _interpolation(2) for kind in ("linear1d", "bilinear2d", "trilinear3d")},
    "_upsample_bilinear2d_aa": _interpolation(2),
    **{f"{kind}upsample_bicubic2d{end}": _interpolation(4) for kind, end in (("", ""), ("_", "_aa"))},
    "grid_sampler_2d": lambda x, _, mode, *__, out, **___: _interpolation(4 if mode == 2 else 2)(x, out=out),
    "grid_sampler_3d": _interpolation(2),
    "_fft_c2c": _fourier,
    "_fft_r2c": _fourier,
    "_fft_c2r": _fourier,
    "linalg_inv_ex": lambda a, *_, **__: _rows(a) * a.shape[-1] ** 3,
    "linalg_cholesky_ex": lambda a, *_, **__: _rows(a) * a.shape[-1] ** 3 / 6,
    "linalg_lu": _elimination,
    "linalg_lu_factor_ex": _elimination,
    "_linalg_det": _elimination,
    "_linalg_slogdet": _elimination,
    "_linalg_solve_ex": _solution,
    "linalg_lu_solve": lambda factors, _, b, **__: _substitution(factors, b, out=None),
    "cholesky_solve": lambda b, factor, *_, **__: factor.shape[-1] * b.numel(),
    "linalg_solve_triangular": lambda a, b, **__: _substitution(a, b, out=None) / 2,
}
"""Operation → multiply–accumulates, from its operands and its result ``out``."""

_WORDS = (
    (re.compile(r"^fft_"), "a Fourier transform"),
    (re.compile(r"upsample|grid_sampler"), "interpolation: each point has weights of its own"),
    (re.compile(r"trilinear"), "bilinear: three operands"),
    (re.compile(r"^addr$"), "an outer product: nothing is summed"),
    (re.compile(r"addcmul|addcdiv"), "{}: multiplied and added element by element"),
    (re.compile(r"prod$|_reduce$"), "{}: a product of many numbers"),
    (re.compile(r"logcumsumexp"), "{}: sums of exponentials"),
    (re.compile(r"sparse"), "a product of sparse operands"),
    (re.compile(r"embedding_bag"), "embedding_bag: rows of a table, with a weight for each"),
    (re.compile(r"cdist|pdist|euclidean_dist"), "distances between vectors"),
    (
        re.compile(r"linalg|cholesky|^lu_|qr|qrf$|householder|triangular_solve|^svd|^eig|lstsq|matrix_exp"),
        "{}: algebra of whole matrices",
    ),
)


def why_digital(name: str) -> str:
    """Why an operation stays digital that is none of those that light takes."""
    plain = name.strip("_").removesuffix("_ex").removeprefix("foreach_")
    words = next((words for pattern, words in _WORDS if pattern.search(plain)), "{}: what it multiplies is not seen")
    return words.format(plain)


def count_macs(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int | None:
    """Multiply–accumulates of an operation; None where nobody can tell from its operands."""
    space, _, name = func._schema.name.partition("::")
    own = COUNTS.get(name.removesuffix("_"))
    if own is not None and space == "aten":
        return round(own(*args, **{**kwargs, "out": out}))
    count = flop_registry.get(func._overloadpacket)
    return None if count is None else int(count(*args, **kwargs, out_val=out)) // 2


def count_nested(func: Any, a: Any, b: Any = None, *_: Any) -> int | None:
    """Multiply–accumulates of a product of nested tensors; None where nobody can tell.

    Such tensors have no shape, but a table of shapes: a row for each of their tensors.
    """
    name = func._schema.name.partition("::")[2]
    if name not in ("matmul", "bmm", "linear") or not isinstance(b, Tensor) or not a.is_nested:
        return None
    rows = b._nested_tensor_size()[:, -1] if b.is_nested else b.shape[0 if name == "linear" else -1]
    return int((a._nested_tensor_size().prod(1) * rows).sum())


def multiplies(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Does this call multiply at all? The sum of a table's rows does not, unless each has a weight.

    Nor do products of sizes and other whole numbers, and the nearest point of an image is copied.
    """
    if name.startswith(("scatter_reduce", "index_reduce")):
        return "prod" in args
    if name.rstrip("_").endswith("prod"):
        return bool(args[0].is_floating_point() or args[0].is_complex())
    if "upsample" in name or "grid_sampler" in name:
        is_nearest = "nearest" in name or ("grid_sampler" in name and args[2] == 1)
        return not is_nearest
    if "embedding_bag" not in name:
        return True
    return any(isinstance(value, Tensor) and value.is_floating_point() for value in (*args[1:], *kwargs.values()))
