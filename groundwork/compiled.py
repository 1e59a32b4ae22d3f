"""Loops compiled once per machine by numba, kept on disk, and run without the interpreter's lock (the GIL).

Floating-point rules are loosened where that makes loops faster, never so that NaN or infinity lose their meaning.
Functions marked `inline` become part of the kernel that calls them and follow that kernel's rules.

numba compiles a kernel again when the file in which it stands has changed. It does not notice a change in a function
that the kernel calls from another file: after such a change, delete the ``__pycache__`` folder beside the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_IN_ORDER = {"contract", "nsz", "arcp"}
_ANY_ORDER = _IN_ORDER | {"reassoc"}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop over arrays whose sums are added in the order in which they are written."""
    return _compiled(function, _IN_ORDER)


def summing_kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop over arrays whose sums may be added in any order, many at once."""
    return _compiled(function, _ANY_ORDER)


def rounding_kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop over arrays each of whose operations is rounded by itself, as NumPy's and torch's are."""
    return _compiled(function, set())


def _compiled(function: Callable[..., Any], fastmath: set[str]) -> Any:
    """Kept on the disk beside its module or in the user's cache; where neither can be written, compiled every time."""
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except (RuntimeError, OSError):
        return numba.njit(**options)(function)


def inline(function: Callable[..., Any]) -> Any:
    """Compile a function of scalars for use inside kernels."""
    return numba.njit(inline="always", fastmath=_IN_ORDER, error_model="numpy")(function)


@intrinsic
def _rotate_left(typing_context, word, bits):  # type: ignore[no-untyped-def]
    """The one processor instruction; spelt as two shifts of 32-bit words, it would be vectorised as 64-bit ones."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        i32 = ir.IntType(32)
        funnel = builder.module.declare_intrinsic("llvm.fshl", [i32], ir.FunctionType(i32, [i32, i32, i32]))
        return builder.call(funnel, [arguments[0], arguments[0], arguments[1]])

    return types.uint32(types.uint32, types.uint32), generate


rotate_left: Any = _rotate_left
"""``rotate_left(word, bits)``: a 32-bit word, turned by that many bits; for use in kernels."""
