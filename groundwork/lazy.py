"""Package fronts whose names are imported when they are first used (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_front(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make ``__getattr__`` and ``__dir__`` of a package that hands on names of its modules without importing them.

    A name is imported on first use and then is an ordinary attribute of the package. For type checkers the package
    imports the same names under ``if TYPE_CHECKING:``.

    Parameters
    ----------
    package
        The package's ``__name__``.
    homes
        The module in which each public name is defined.

    Returns
    -------
    ``__getattr__`` and ``__dir__``, to be assigned at the top of the package's ``__init__``.

    Examples
    --------
    >>> __getattr__, __dir__ = lazy_front(__name__, {"OrderedDict": "collections", "Fraction": "fractions"})
    >>> __getattr__("Fraction")
    <class 'fractions.Fraction'>
    >>> __dir__()
    ['Fraction', 'OrderedDict']
    """

    def resolve(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return resolve, lambda: sorted(homes)
