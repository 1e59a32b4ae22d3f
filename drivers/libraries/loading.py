"""Importing a vendor's library when a device is opened, and not before."""

from __future__ import annotations

import importlib
import warnings
from typing import Any


def load(target: str) -> Any:
    """A module, or what a dotted path names in it: ``load("pypylon.pylon")``, ``load("package.module:Class")``.

    The warnings that the import itself gives are dropped. They are the library's affair, and where warnings are
    errors, those of some compiled libraries end the process.
    """
    module, _, attributes = target.partition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Any = importlib.import_module(module)
    for attribute in filter(None, attributes.split(".")):
        found = getattr(found, attribute)
    return found
