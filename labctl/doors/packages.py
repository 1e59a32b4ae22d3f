"""Packages that only some doors lead to."""

from __future__ import annotations

import importlib.util

from labctl.errors import UsageError


def require_package(package: str, install: str) -> None:
    """Refuse at once, and say what to install, where a package that a door leads to is not there.

    Raises
    ------
    UsageError
        When it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise UsageError(
            f"{package} is not installed",
            expected=f"the package {package}",
            safe="nothing was begun",
            hint=f"python -m pip install {install}",
        )
