"""Loops compiled once per machine by numba, kept on disk, and run without the interpreter's lock (the GIL).

Floating-point rules are loosened where that makes loops faster, never so that NaN or infinity lose their meaning.
Functions marked `inline` become part of the kernel that calls them and follow that kernel's rules.

numba keeps a kernel until the file in which it stands has changed, although it has become one with the functions that
it calls and the constants that it names, wherever those stand. What is kept here is therefore marked by all files of
the suite from which a kernel's own takes anything, however far away.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_IN_ORDER = {"contract", "nsz", "arcp"}
_ANY_ORDER = _IN_ORDER | {"reassoc"}
_OURS = ("calibration", "drivers", "groundwork", "labctl", "mock_hardware", "simulation")
_IMPORT = re.compile(r"^(?:from ([\w.]+) import (\([^)]*\)|[^\n]+)|import ([\w.]+))", re.MULTILINE)


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
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath, "error_model": "numpy", "forceinline": True}
    try:
        made = numba.njit(cache=True, **options)(function)
        file = Path(function.__code__.co_filename).resolve()
        kept = made._cache._cache_file  # numba has no other way to say what else a kernel is made of
        kept._source_stamp = kept._source_stamp, _digest_of_sources(file, function.__module__)
        return made
    except (RuntimeError, OSError, AttributeError):  # the last: of a numba that keeps kernels in another way
        return numba.njit(**options)(function)


@cache
def _digest_of_sources(own: Path, module: str) -> str:
    """Of the file of a module, and of all files of ours from which that takes anything."""
    package, *inside = module.split(".")
    roots = {name: Path(__file__).resolve().parents[1] for name in _OURS} | {package: own.parents[len(inside)]}
    met: set[Path] = set()
    waiting = [own]
    while waiting:
        path = waiting.pop()
        if path not in met:
            met.add(path)
            waiting += (found for name in _read(path)[1] for found in _files(name, path, roots))
    return hashlib.sha256("".join(_read(path)[0] for path in sorted(met)).encode()).hexdigest()


@cache
def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """The digest of a file, and by what names it imports: modules, and things that may be modules."""
    source = path.read_bytes()
    names: list[str] = []
    for module, things, alone in _IMPORT.findall(source.decode(errors="replace")):
        names += [alone] if alone else [module]
        names += [f"{module}.{thing}".replace("..", ".") for thing in re.findall(r"\w+", things)]
    return hashlib.sha256(source).hexdigest(), tuple(names)


def _files(name: str, path: Path, roots: dict[str, Path]) -> Iterator[Path]:
    """The files of a module of ours; ``path`` is that of the file which names it."""
    package, *inside = name.lstrip(".").split(".")
    dots = len(name) - len(name.lstrip("."))
    root = path.parents[dots - 1] if dots else roots.get(package)
    if root is not None:
        place = root.joinpath(package, *inside)
        yield from (found for found in (place.with_suffix(".py"), place / "__init__.py") if found.is_file())


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
