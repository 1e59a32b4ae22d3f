"""Python reads this first where PYTHONPATH names its folder: commands that tests start draw no figures either."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class Undrawing(MetaPathFinder, Loader):
    """Finds ``matplotlib.figure`` where it is, and puts another `Figure` into it."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "matplotlib.figure":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        self.loader, spec.loader = spec.loader, self
        return spec

    def exec_module(self, module: ModuleType) -> None:
        from undrawn_figures import Undrawn

        assert self.loader is not None
        self.loader.exec_module(module)
        module.Figure = Undrawn  # type: ignore[attr-defined]


sys.meta_path.insert(0, Undrawing())
