"""Stands in for matplotlib in commands that tests start: to load it takes longer than many of them live.

So does numba's look for extensions, where the packages are installed with which the endpoints are tested: it imports
awkward and sparse, which no kernel of ours knows. And numpy's door to Fortran, which SciPy takes along with all other
names of numpy.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

EXTENSIONS = "numba.core.entrypoints"
UNUSED = frozenset({EXTENSIONS, "numpy.f2py"})


class Undrawing(MetaPathFinder, Loader):
    """Finds every module of matplotlib; each has whatever is asked of it, and nothing of that draws."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        found = name in UNUSED or name.partition(".")[0] == "matplotlib"
        return ModuleSpec(name, self, is_package=True) if found else None

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ in UNUSED:
            module.init_all = lambda: None  # type: ignore[attr-defined]
            return
        from undrawn_figures import Undrawn

        def anything(name: str) -> type[Undrawn]:
            if name.startswith("__"):
                raise AttributeError(name)
            return Undrawn

        module.__getattr__ = anything  # type: ignore[method-assign]


sys.meta_path.insert(0, Undrawing())
