"""Stands in for matplotlib in commands that tests start: to load it takes longer than many of them live."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class Undrawing(MetaPathFinder, Loader):
    """Finds every module of matplotlib; each has whatever is asked of it, and nothing of that draws."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] == "matplotlib" else None

    def exec_module(self, module: ModuleType) -> None:
        from undrawn_figures import Undrawn

        def anything(name: str) -> type[Undrawn]:
            if name.startswith("__"):
                raise AttributeError(name)
            return Undrawn

        module.__getattr__ = anything  # type: ignore[method-assign]


sys.meta_path.insert(0, Undrawing())
